//! Criterion groups over every device, each compared with the reference before it is timed.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use scanrnn::backend::Backend;
use scanrnn::benchmark::{Measured, Shape, compare, expected};
use scanrnn::cpu::Cpu;
use scanrnn::gpu::{Gpu, Selection, list_adapters};
use scanrnn::reference::Reference;

/// Few samples: a slow device takes seconds for one.
pub fn criterion() -> Criterion {
    let criterion = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    criterion.configure_from_args()
}

/// The reference in `f32` as the baseline, the CPU backend, every adapter unless `SCANRNN_NO_GPU=1`.
pub fn devices() -> Vec<(String, Box<dyn Backend>)> {
    let mut devices: Vec<(String, Box<dyn Backend>)> =
        vec![("reference".into(), Box::new(Reference::<f32>::new())), ("cpu".into(), Box::new(Cpu))];
    if std::env::var("SCANRNN_NO_GPU").is_ok_and(|value| value == "1") {
        return devices;
    }
    for index in 0..pollster::block_on(list_adapters()).len() {
        let gpu = pollster::block_on(Gpu::open(&Selection::Named(index.to_string()))).expect("the adapter opens");
        devices.push((gpu.name(), Box::new(gpu)));
    }
    devices
}

/// Times one measurement on every device, in tokens (batch x length) a second.
pub fn group(criterion: &mut Criterion, devices: &[(String, Box<dyn Backend>)], name: &str, shape: Shape, measured: &Measured) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements((shape.batch * shape.length) as u64));
    let mut wanted = None;
    for (device, backend) in devices {
        group.bench_function(BenchmarkId::from_parameter(device), |bencher| {
            // only here, so that a filter on the command line leaves out the work
            let wanted = wanted.get_or_insert_with(|| pollster::block_on(expected(measured)).expect("the reference runs"));
            for checked in pollster::block_on(compare(measured, &**backend, wanted)).expect("the device runs") {
                assert!(checked.passed(), "{name} on {device} is wrong: {checked:?}");
            }
            let mut session = pollster::block_on(measured.load(&**backend)).expect("the device runs");
            bencher.iter_custom(|times| {
                let clock = Instant::now();
                session.run(measured.program, times as usize).expect("the device runs");
                pollster::block_on(session.wait()).expect("the device runs");
                clock.elapsed()
            });
        });
    }
    group.finish();
}
