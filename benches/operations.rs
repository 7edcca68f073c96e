//! Throughput of each operation, forward and forward with backward, on every device.

mod common;

use scanrnn::benchmark::{Benchmark, Shape, build};

fn main() {
    let mut criterion = common::criterion();
    let devices = common::devices();
    let scans = [(8, 1024), (32, 32), (1, 16384)];
    let others = [(32, 32), (32, 256)];
    for op in Benchmark::ALL {
        let (lengths, channels): (&[_], _) = if op == Benchmark::SelectiveScan { (&scans, 256) } else { (&others, 128) };
        for &(batch, length) in lengths {
            let shape = Shape { batch, length, channels, state: 16 };
            for (direction, backward) in [("forward", false), ("forward and backward", true)] {
                let measured = build(op, shape, backward).expect("the shape fits");
                let name = format!("{} {batch} x {length} x {channels}, {direction}", op.name());
                common::group(&mut criterion, &devices, &name, shape, &measured);
            }
        }
    }
    criterion.final_summary();
}
