//! Work on a device and on buffers of the caller's.

mod common;

use common::without_gpu;
use scanrnn::backend::{Backend, Session};
use scanrnn::cpu::Cpu;
use scanrnn::gpu::Gpu;
use scanrnn::graph::{Graph, Init, Program, Tensor};
use scanrnn::ops::{Recurrence, SelectiveScanInputs};
use scanrnn::wgpu;
use scanrnn::wgpu::BufferUsages;

/// A device with the given limits; none where `SCANRNN_NO_GPU=1` says so.
fn open(required_limits: wgpu::Limits) -> Option<(wgpu::Device, wgpu::Queue)> {
    if without_gpu() {
        return None;
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(wgpu::util::initialize_adapter_from_env_or_default(&instance, None)).expect("an adapter");
    // Mesa's OpenGL driver must stay loaded until the process has ended.
    std::mem::forget(instance);
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    Some(pollster::block_on(adapter.request_device(&descriptor)).expect("a device"))
}

fn buffer(device: &wgpu::Device, size: u64, usage: BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

/// `y = -exp(x)`, 3 elements.
fn graph() -> (Graph, Tensor, Tensor, Program) {
    let mut graph = Graph::new();
    let x = graph.input("x", &[3]);
    let y = graph.neg_exp("y", x);
    let program = graph.finish("work");
    (graph, x, y, program)
}

const ALL: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

#[test]
fn given_buffers_keep_what_is_in_them_and_take_the_results() {
    let Some((device, queue)) = open(wgpu::Limits::default()) else { return };
    let gpu = Gpu::from_device(device.clone(), queue.clone());
    let (graph, x, y, program) = graph();
    let (input, output) = (buffer(&device, 12, ALL), buffer(&device, 32, ALL));
    queue.write_buffer(&input, 0, bytemuck::cast_slice(&[0.0f32, 1.0, 2.0]));
    let mut session = pollster::block_on(gpu.load_with(&graph, &[(x, &input), (y, &output)])).expect("fits");
    session.run(program, 1).expect("runs");
    let values = pollster::block_on(session.read(y)).expect("read");
    for (value, x) in values.iter().zip([0.0f32, 1.0, 2.0]) {
        assert!((value + x.exp()).abs() < 1e-5, "{values:?}");
    }
    // another graph reads the same buffer
    let (other, x, y, program) = self::graph();
    let mut second = pollster::block_on(gpu.load_with(&other, &[(x, &output)])).expect("fits");
    second.run(program, 1).expect("runs");
    let values = pollster::block_on(second.read(y)).expect("read");
    assert!((values[0] + (-1.0f32).exp()).abs() < 1e-5, "{values:?}");
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let Some((device, queue)) = open(wgpu::Limits::default()) else { return };
    let gpu = Gpu::from_device(device.clone(), queue);
    let (mut graph, x, y, _) = graph();
    let parameter = graph.parameter("w", &[2, 3], Init::Constant(0.0));
    let fits = buffer(&device, 12, ALL);
    let refused = |given: &[(Tensor, &wgpu::Buffer)]| pollster::block_on(gpu.load_with(&graph, given)).expect_err("refused").to_string();
    assert_eq!(refused(&[(x, &buffer(&device, 8, ALL))]), "buffer: the buffer of `x` has 8 bytes, of 12");
    assert_eq!(refused(&[(x, &buffer(&device, 12, BufferUsages::COPY_DST))]), "buffer: the buffer of `x` was made without STORAGE");
    assert_eq!(refused(&[(x, &fits), (y, &fits)]), "buffer: the buffer of `y` is given twice");
    assert_eq!(refused(&[(x, &fits), (x, &buffer(&device, 12, ALL))]), "buffer: the buffer of `x` is given twice");
    assert_eq!(refused(&[(parameter, &fits)]), "buffer: the buffer of `w` cannot be given: it is a part of another tensor");
    let bare = buffer(&device, 12, BufferUsages::STORAGE);
    let mut session = pollster::block_on(gpu.load_with(&graph, &[(x, &bare)])).expect("fits");
    let message = session.write(x, &[0.0; 3]).expect_err("refused").to_string();
    assert!(message.starts_with("buffer: the buffer of `x` was made without") && message.contains("COPY_DST"), "{message}");
    let message = pollster::block_on(session.read(x)).expect_err("refused").to_string();
    assert!(message.contains("COPY_SRC"), "{message}");
}

#[test]
fn a_device_with_too_few_storage_buffers_is_told_so() {
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..Default::default() };
    let Some((device, queue)) = open(limits) else { return };
    let gpu = Gpu::from_device(device, queue);
    assert_eq!(gpu.traits().max_storage_buffers, 4);
    let mut graph = Graph::new();
    let inputs = SelectiveScanInputs {
        u: graph.input("u", &[1, 20, 4]),
        delta: graph.input("delta", &[1, 20, 4]),
        a: graph.input("a", &[4, 16]),
        b: graph.input("b", &[1, 20, 16]),
        c: graph.input("c", &[1, 20, 16]),
        d: None,
        z: None,
        delta_bias: None,
        delta_softplus: true,
        recurrence: Recurrence::default(),
    };
    graph.selective_scan("y", &inputs).expect("fits");
    graph.finish("scan");
    let message = pollster::block_on(gpu.load_with(&graph, &[])).expect_err("refused").to_string();
    assert!(message.contains("storage buffers, at most 4"), "{message}");
}

/// A driver holds a kernel to the device's limits: nothing larger is bound.
#[test]
fn tensors_larger_than_a_binding_are_worked_on_window_by_window() {
    let limits = wgpu::Limits { max_storage_buffer_binding_size: 16 << 10, ..Default::default() };
    let Some((device, queue)) = open(limits) else { return };
    let gpu = Gpu::from_device(device, queue);
    let mut graph = Graph::new();
    let x = graph.input("x", &[600, 20]);
    let weight = graph.parameter("weight", &[20, 20], Init::Constant(0.01));
    let scale = graph.parameter("scale", &[20], Init::Constant(1.0));
    let projected = graph.linear("projected", x, weight, None).expect("fits");
    let y = graph.rms_norm("y", projected, scale, 1e-5).expect("fits");
    let cotangent = graph.input("cotangent", &[600, 20]);
    let gradients = graph.backward(&[(y, cotangent)]).expect("differentiable");
    let results = [y, gradients.of(&mut graph, weight).expect("reached"), gradients.of(&mut graph, scale).expect("reached")];
    let program = graph.finish("work");
    let values = |step: f32| (0..12_000).map(|index| (index as f32 * step).sin()).collect::<Vec<_>>();
    let run = |backend: &dyn Backend| -> Vec<Vec<f32>> {
        pollster::block_on(async {
            let mut session = backend.load(&graph).await.expect("fits");
            session.write(x, &values(0.7)).expect("as many");
            session.write(cotangent, &values(0.3)).expect("as many");
            session.write(weight, &values(0.9)[..400]).expect("as many");
            session.write(scale, &[1.0; 20]).expect("as many");
            session.run(program, 1).expect("runs");
            let mut read = Vec::new();
            for tensor in results {
                read.push(session.read(tensor).await.expect("read"));
            }
            read
        })
    };
    for (got, want) in run(&gpu).iter().flatten().zip(run(&Cpu).iter().flatten()) {
        assert!((got - want).abs() < 1e-3 * want.abs().max(1.0), "{got} is not {want}");
    }
}
