//! Criterion groups over every device, each compared with the reference before it is timed.
#![allow(dead_code, reason = "each bench uses a part")]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use scanrnn::backend::Backend;
use scanrnn::benchmark::{Measured, compare, results};
use scanrnn::cpu::Cpu;
use scanrnn::gpu::{Gpu, Selection, list_adapters};
use scanrnn::reference::Reference;

/// Few samples: a slow device takes seconds for one.
pub fn criterion() -> Criterion {
    let criterion = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    criterion.configure_from_args()
}

/// A device by the name of its groups.
pub type Device = (String, Box<dyn Backend>);

/// The reference in `f32` as the baseline.
pub fn reference() -> Device {
    ("reference".into(), Box::new(Reference::<f32>::new()))
}

/// The CPU backend and every adapter, or only those that are no software; no adapter where `SCANRNN_NO_GPU=1`.
pub fn devices(only_hardware: bool) -> Vec<Device> {
    let mut devices: Vec<Device> = vec![("cpu".into(), Box::new(Cpu))];
    if std::env::var("SCANRNN_NO_GPU").is_ok_and(|value| value == "1") {
        return devices;
    }
    for (index, adapter) in pollster::block_on(list_adapters()).into_iter().enumerate() {
        if !(only_hardware && adapter.software) {
            let gpu = pollster::block_on(Gpu::open(&Selection::Named(index.to_string()))).expect("the adapter opens");
            devices.push((gpu.name(), Box::new(gpu)));
        }
    }
    devices
}

/// Times one measurement on every device, in tokens (batch x length) or other `elements` a second, once its results are those of `oracle`.
pub fn group(criterion: &mut Criterion, devices: &[Device], oracle: &dyn Backend, name: &str, elements: usize, measured: &Measured) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements as u64));
    let mut wanted = None;
    for (device, backend) in devices {
        group.bench_function(BenchmarkId::from_parameter(device), |bencher| {
            // only here, so that a filter on the command line leaves out the work
            let wanted = wanted.get_or_insert_with(|| pollster::block_on(results(measured, oracle)).expect("the oracle runs"));
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
