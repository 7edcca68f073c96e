//! A training step of burn's `Gru` of 128 channels, loss on the last step: `burn_gru BATCH LENGTH`, on its CPU backend, or with the
//! feature `gpu` on the first Vulkan adapter.

use burn::module::Module;
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Tensor};

const CHANNELS: usize = 128;

#[derive(Module, Debug)]
struct Model {
    embedding: Linear,
    gru: Gru,
    head: Linear,
}

#[cfg(not(feature = "gpu"))]
fn device() -> Device {
    Device::flex()
}

#[cfg(feature = "gpu")]
fn device() -> Device {
    Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)
}

fn main() {
    let (n_batch, n_step) = peers::shape();
    let device = device().autodiff();
    let mut model = Model {
        embedding: LinearConfig::new(1, CHANNELS).init(&device),
        gru: GruConfig::new(CHANNELS, CHANNELS, true).init(&device),
        head: LinearConfig::new(CHANNELS, 1).init(&device),
    };
    let mut optimizer = SgdConfig::new().init();
    let x = Tensor::<3>::random([n_batch, n_step, 1], Distribution::Uniform(-1.0, 1.0), &device);
    let target = Tensor::<2>::random([n_batch, 1], Distribution::Uniform(-1.0, 1.0), &device);
    peers::measure(&format!("burn {n_batch} x {n_step}"), || {
        let h = model.gru.forward(model.embedding.forward(x.clone()), None);
        let last = h.slice([0..n_batch, n_step - 1..n_step, 0..CHANNELS]).reshape([n_batch, CHANNELS]);
        let error = model.head.forward(last) - target.clone();
        let gradients = (error.clone() * error).mean().backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(0.001, model.clone(), gradients);
        device.sync().expect("the device works");
    });
}
