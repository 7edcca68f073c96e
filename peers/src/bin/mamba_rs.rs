//! Forward and backward of one layer of mamba-rs of 128 channels on two threads, loss on the last step: `mamba_rs BATCH LENGTH [flush]`,
//! which takes subnormal floats for 0. Head, clipping and optimizer are left out.

use mamba_rs::MambaWeights;
use mamba_rs::mamba1::MambaConfig;
use mamba_rs::mamba1::cpu::flat::MambaBackboneFlat;
use mamba_rs::mamba1::cpu::parallel::{parallel_mamba_backward, parallel_mamba_forward};
use mamba_rs::mamba1::cpu::weights::{TrainMambaLayerWeights, TrainMambaWeights};
use mamba_rs::ops::dims::{MambaDims, MambaRecurrentState};

fn main() {
    let (n_batch, n_step) = peers::shape();
    let flushed = std::env::args().nth(3).is_some_and(|option| option == "flush");
    let set = move || {
        if flushed {
            flush_subnormals()
        }
    };
    rayon::ThreadPoolBuilder::new().num_threads(2).start_handler(move |_| set()).build_global().expect("the only pool");
    set();
    let config = MambaConfig { d_model: 128, d_state: 16, n_layers: 1, ..MambaConfig::default() };
    let dims = MambaDims::from_config(&config, n_step, 1);
    let weights = weights(&config);
    let a_neg: Vec<f32> = weights.layers[0].a_log.iter().map(|a_log| -a_log.exp()).collect();
    let inputs: Vec<f32> = (0..n_batch * n_step).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut activations: Vec<_> = (0..n_batch).map(|_| MambaBackboneFlat::zeros(dims)).collect();
    let row = config.d_model;
    peers::measure(&format!("mamba-rs {n_batch} x {n_step}{}", if flushed { ", flushed" } else { "" }), || {
        let mut y = vec![0.0f32; n_batch * n_step * row];
        let mut conv = vec![0.0f32; n_batch * dims.d_inner * config.d_conv];
        let mut ssm = vec![0.0f32; n_batch * dims.d_inner * dims.d_state];
        let mut state = MambaRecurrentState { conv: &mut conv, ssm: &mut ssm, a_neg: &a_neg };
        parallel_mamba_forward(&mut y, &mut activations, &mut state, &weights, &inputs, &dims, n_batch);
        let of_last = |y: &[f32]| {
            let mut gradient = vec![0.0f32; n_step * row];
            let last = (n_step - 1) * row;
            for (gradient, y) in gradient[last..].iter_mut().zip(&y[last..]) {
                *gradient = 2.0 * y / (n_batch * row) as f32;
            }
            gradient
        };
        let mut grad_y: Vec<_> = y.chunks(n_step * row).map(of_last).collect();
        let mut gradients = TrainMambaWeights::zeros_from_dims(&dims);
        parallel_mamba_backward(&mut grad_y, &mut gradients, &activations, &weights, &a_neg, &dims);
        std::hint::black_box(&gradients);
    });
}

/// The weights for inference as those for training.
fn weights(config: &MambaConfig) -> TrainMambaWeights {
    let MambaWeights { input_proj_w, input_proj_b, layers, norm_f_weight, norm_f_bias, mlp, .. } = MambaWeights::init(config, 1, 42);
    let layers = layers
        .iter()
        .map(|layer| TrainMambaLayerWeights {
            norm_weight: layer.norm_weight.clone(),
            norm_bias: layer.norm_bias.clone(),
            in_proj_w: layer.in_proj_w.clone(),
            in_proj_b: layer.in_proj_b.clone(),
            conv1d_weight: layer.conv1d_weight.clone(),
            conv1d_bias: layer.conv1d_bias.clone(),
            x_proj_w: layer.x_proj_w.clone(),
            dt_proj_w: layer.dt_proj_w.clone(),
            dt_proj_b: layer.dt_proj_b.clone(),
            a_log: layer.a_log.clone(),
            d_param: layer.d_param.clone(),
            out_proj_w: layer.out_proj_w.clone(),
            out_proj_b: layer.out_proj_b.clone(),
        })
        .collect();
    TrainMambaWeights { input_proj_w, input_proj_b, layers, norm_f_weight, norm_f_bias, mlp }
}

/// The processor's flags "flush to zero" and "denormals are zero", of the calling thread.
fn flush_subnormals() {
    let flags: u32 = 0x8040;
    let mut control = 0u32;
    // SAFETY: reads and writes the thread's control register of vector units, to which the two flags are added.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control);
        control |= flags;
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control);
    }
}
