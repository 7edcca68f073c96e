//! Throughput of each operation, forward and forward with backward, on every device; how the cost of a token depends on the length; and
//! large problems for real GPUs.

mod common;

use clap::ValueEnum;
use scanrnn::benchmark::{Benchmark, Shape, build, product};
use scanrnn::cpu::Cpu;
use scanrnn::reference::Reference;

const DIRECTIONS: [(&str, bool); 2] = [("forward", false), ("forward and backward", true)];

fn main() {
    let mut criterion = common::criterion();
    let exact = Reference::<f64>::new();
    let devices: Vec<_> = std::iter::once(common::reference()).chain(common::devices(false)).collect();
    let scans = [(8, 1024), (32, 32), (1, 16384)];
    let others = [(32, 32), (32, 256)];
    for &op in Benchmark::value_variants() {
        let (lengths, channels): (&[_], _) = if op == Benchmark::SelectiveScan { (&scans, 256) } else { (&others, 128) };
        for &(batch, length) in lengths {
            let shape = Shape { batch, length, channels, state: 16 };
            for (direction, backward) in DIRECTIONS {
                let measured = build(op, shape, backward).expect("the shape fits");
                let name = format!("{} {batch} x {length} x {channels}, {direction}", op.name());
                common::group(&mut criterion, &devices, &exact, &name, batch * length, &measured);
            }
        }
    }

    // a token must not cost more in a longer sequence
    let devices = common::devices(false);
    for op in [Benchmark::SelectiveScan, Benchmark::MinGruScan] {
        for length in [256, 4096, 65_536, 262_144] {
            let measured = build(op, Shape { batch: 1, length, channels: 64, state: 16 }, true).expect("the shape fits");
            let name = format!("{} 1 x {length} x 64, by length", op.name());
            common::group(&mut criterion, &devices, &exact, &name, length, &measured);
        }
    }

    // what fills a real GPU is compared with the CPU backend, itself compared above: the reference would take minutes
    let devices = common::devices(true);
    if devices.len() > 1 {
        let scans = [(Benchmark::SelectiveScan, 8, 4096, 2048), (Benchmark::SelectiveScan, 64, 256, 1024)];
        let gates = [(Benchmark::MinGruScan, 16, 16_384, 128), (Benchmark::MinGruScan, 8, 65_536, 1536)];
        for (op, batch, length, channels) in scans.into_iter().chain(gates) {
            for (direction, backward) in DIRECTIONS {
                let measured = build(op, Shape { batch, length, channels, state: 16 }, backward).expect("the shape fits");
                let name = format!("{} {batch} x {length} x {channels}, {direction}, hardware", op.name());
                common::group(&mut criterion, &devices, &Cpu, &name, batch * length, &measured);
            }
        }
        let measured = product([4096; 3]).expect("the shape fits");
        common::group(
            &mut criterion,
            &devices,
            &Cpu,
            "linear 4096 x 4096 x 4096, multiplications, hardware",
            4096 * 4096 * 4096,
            &measured,
        );
    }
    criterion.final_summary();
}
