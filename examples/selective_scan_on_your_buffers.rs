//! A wgpu application runs the selective scan and its gradients on buffers of its own, then compares them with the reference.
//!
//! `cargo run --release --example selective_scan_on_your_buffers`
#![allow(clippy::print_stdout, reason = "an example's output")]

use std::error::Error;

use scanrnn::backend::{Backend, Session};
use scanrnn::gpu::Gpu;
use scanrnn::graph::{Graph, Tensor};
use scanrnn::ops::{Recurrence, SelectiveScanInputs};
use scanrnn::reference::Reference;
use scanrnn::wgpu;

const N_BATCH: usize = 2;
const N_STEP: usize = 100;
const N_CHANNEL: usize = 24;
const N_STATE: usize = 16;

/// The application's device, with no more than WebGPU's default limits and no feature.
async fn open() -> Result<(wgpu::Device, wgpu::Queue), Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = wgpu::util::initialize_adapter_from_env_or_default(&instance, None).await?;
    println!("{}", adapter.get_info().name);
    // Mesa's OpenGL driver must stay loaded until the process has ended.
    std::mem::forget(instance);
    Ok(adapter.request_device(&wgpu::DeviceDescriptor::default()).await?)
}

/// A buffer of the application's with values in it.
fn buffer(device: &wgpu::Device, queue: &wgpu::Queue, values: &[f32]) -> wgpu::Buffer {
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4 * values.len() as u64,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    queue.write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    buffer
}

/// Runs everything; an error where the device and the reference differ.
pub fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    // what is computed: y = selective_scan(..), and the gradients of sum(grad_y * y)
    let mut graph = Graph::new();
    let sequence = [N_BATCH, N_STEP, N_CHANNEL];
    let inputs = SelectiveScanInputs {
        u: graph.variable("u", &sequence),
        delta: graph.variable("delta", &sequence),
        a: graph.variable("a", &[N_CHANNEL, N_STATE]),
        b: graph.variable("b", &[N_BATCH, N_STEP, N_STATE]),
        c: graph.variable("c", &[N_BATCH, N_STEP, N_STATE]),
        d: None,
        z: None,
        delta_bias: None,
        delta_softplus: true,
        recurrence: Recurrence::default(),
    };
    let (y, _) = graph.selective_scan("y", &inputs)?;
    let grad_y = graph.input("grad_y", &sequence);
    let gradients = graph.backward(&[(y, grad_y)])?;
    let program = graph.finish("scan");
    let given = [inputs.u, inputs.delta, inputs.a, inputs.b, inputs.c, grad_y];
    let mut results = vec![y];
    results.extend([inputs.u, inputs.delta, inputs.a, inputs.b, inputs.c].into_iter().filter_map(|x| gradients.of(&mut graph, x)));

    // the application's buffers: one a tensor that it gives or takes
    let (device, queue) = open().await?;
    let values = |tensor: Tensor| -> Vec<f32> {
        let wave = |index: usize| (0.37 * index as f32 + graph.spec(tensor).label.len() as f32).sin();
        (0..graph.spec(tensor).len()).map(|index| if tensor == inputs.a { -1.5 + wave(index) } else { wave(index) }).collect()
    };
    let zeros = |tensor: Tensor| vec![0.0; graph.spec(tensor).len()];
    let mut buffers = Vec::new();
    buffers.extend(given.map(|tensor| (tensor, buffer(&device, &queue, &values(tensor)))));
    buffers.extend(results.iter().map(|&tensor| (tensor, buffer(&device, &queue, &zeros(tensor)))));

    // the scan, in a compute pass of the application's
    let gpu = Gpu::from_device(device.clone(), queue.clone());
    let pairs: Vec<_> = buffers.iter().map(|(tensor, buffer)| (*tensor, buffer)).collect();
    let session = gpu.load_with(&graph, &pairs).await?;
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    session.encode(program, &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()))?;
    queue.submit([encoder.finish()]);

    // the same graph on the reference
    let reference = Reference::<f64>::new();
    let mut exact = reference.load(&graph).await?;
    for tensor in given {
        exact.write(tensor, &values(tensor))?;
    }
    exact.run(program, 1)?;
    for tensor in results {
        let (got, want) = (session.read(tensor).await?, exact.read(tensor).await?);
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let difference: Vec<f32> = got.iter().zip(&want).map(|(got, want)| got - want).collect();
        let error = largest(&difference) / largest(&want);
        println!("{:10} {:?}: largest difference {error:.1e} of the largest value", graph.spec(tensor).label, graph.shape(tensor));
        if error.is_nan() || error > 1e-5 {
            return Err(format!("{} is wrong", graph.spec(tensor).label).into());
        }
    }
    Ok(())
}
