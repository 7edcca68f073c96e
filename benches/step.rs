//! One step of a stream on the CPU, which is to take less than 40 microseconds for one Mamba layer of 128 channels.

use criterion::{Criterion, criterion_group, criterion_main};
use scanrnn::cpu::Cpu;
use scanrnn::model::{ForecasterConfig, ModelKind, StepGraph, initial_values};

/// Models whose steps all take the same time, and their layers: the hybrid's grow with its cache.
const MODELS: [(ModelKind, usize); 5] =
    [(ModelKind::MinGru, 1), (ModelKind::MinGruScan, 1), (ModelKind::MambaLab, 1), (ModelKind::Mamba, 1), (ModelKind::Mamba, 3)];

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for (kind, layers) in MODELS {
        let config = ForecasterConfig { layers, ..ForecasterConfig::new(kind, 128) };
        let steps = StepGraph::new(&config, 1).expect("sizes fit");
        let parameters: Vec<_> = initial_values(steps.graph(), 0).into_iter().map(|(_, values)| values).collect();
        let mut stream = pollster::block_on(steps.load(&Cpu, &parameters)).expect("a processor");
        let mut x = 0.0f32;
        group.bench_function(format!("{kind}, {layers} x 128"), |bencher| {
            bencher.iter(|| {
                x += 0.1;
                pollster::block_on(stream.step(&[x.sin()])).expect("a forecast")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
