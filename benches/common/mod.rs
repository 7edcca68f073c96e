//! Criterion groups over every device, each compared with the reference before it is timed.
#![allow(dead_code, clippy::print_stdout, reason = "each bench uses a part, and shows what it measured")]

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use scanrnn::backend::Backend;
use scanrnn::benchmark::{Measured, compare, results};
use scanrnn::cpu::Cpu;
use scanrnn::gpu::{Gpu, Selection, list_adapters};
use scanrnn::reference::Reference;
use scanrnn::roofline::Roofline;

/// Few samples: a slow device takes seconds for one.
pub fn criterion() -> Criterion {
    let criterion = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    criterion.configure_from_args()
}

/// What is measured.
pub struct Device {
    /// Name in its groups.
    name: String,
    backend: Box<dyn Backend>,
    /// Measured where it is first asked for; the reference has none.
    roofline: Option<OnceCell<Roofline>>,
}

impl Device {
    fn new(name: String, backend: impl Backend + 'static) -> Self {
        Device { name, backend: Box::new(backend), roofline: Some(OnceCell::new()) }
    }

    fn roofline(&self) -> Option<&Roofline> {
        let measure = || pollster::block_on(Roofline::measure(&*self.backend)).expect("the device runs");
        self.roofline.as_ref().map(|roofline| roofline.get_or_init(measure))
    }
}

/// The reference in `f32` as the baseline.
pub fn reference() -> Device {
    Device { name: "reference".into(), backend: Box::new(Reference::<f32>::new()), roofline: None }
}

/// The CPU backend and every adapter, or only those that are no software; no adapter where `SCANRNN_NO_GPU=1`.
pub fn devices(only_hardware: bool) -> Vec<Device> {
    let mut devices = vec![Device::new("cpu".into(), Cpu)];
    if std::env::var("SCANRNN_NO_GPU").is_ok_and(|value| value == "1") {
        return devices;
    }
    for (index, adapter) in pollster::block_on(list_adapters()).into_iter().enumerate() {
        if !(only_hardware && adapter.software) {
            let gpu = pollster::block_on(Gpu::open(&Selection::Named(index.to_string()))).expect("the adapter opens");
            devices.push(Device::new(gpu.name(), gpu));
        }
    }
    devices
}

/// Times one measurement on every device, in tokens (batch x length) or other `elements` a second, once its results are those of `oracle`;
/// shows the least time that the device's roofline allows, and its share of the fastest sample.
pub fn group(criterion: &mut Criterion, devices: &[Device], oracle: &dyn Backend, name: &str, elements: usize, measured: &Measured) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(elements as u64));
    let mut wanted = None;
    for device @ Device { name: device_name, backend, .. } in devices {
        let mut least_ms = f64::INFINITY;
        group.bench_function(BenchmarkId::from_parameter(device_name), |bencher| {
            // only here, so that a filter on the command line leaves out the work
            let wanted = wanted.get_or_insert_with(|| pollster::block_on(results(measured, oracle)).expect("the oracle runs"));
            for checked in pollster::block_on(compare(measured, &**backend, wanted)).expect("the device runs") {
                assert!(checked.passed(), "{name} on {device_name} is wrong: {checked:?}");
            }
            let mut session = pollster::block_on(measured.load(&**backend)).expect("the device runs");
            bencher.iter_custom(|times| {
                let clock = Instant::now();
                session.run(measured.program, times as usize).expect("the device runs");
                pollster::block_on(session.wait()).expect("the device runs");
                let elapsed = clock.elapsed();
                least_ms = least_ms.min(1e3 * elapsed.as_secs_f64() / times as f64);
                elapsed
            });
        });
        if least_ms.is_finite()
            && let Some(roofline) = device.roofline()
        {
            let floor_ms = roofline.floor_ms(measured.work());
            let share = 100.0 * floor_ms / least_ms;
            println!("{name}/{device_name}: floor {floor_ms:.3} ms, {share:.0} % of the fastest sample, {least_ms:.3} ms\n");
        }
    }
    group.finish();
}
