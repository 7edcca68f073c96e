//! The roofline of a device (Williams et al. 2009, doi 10.1145/1498765.1498785): how fast it copies and calculates, and so the least time
//! that work takes.

use crate::backend::Backend;
use crate::benchmark::{Measured, Samples, median_ms};
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::{Elementwise, Iterate, Iterated};
use crate::profile::Work;

/// What a device does in a millisecond where nothing else keeps it busy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Bytes of a plain copy, read and written.
    pub bytes_per_ms: f64,
    /// Floating-point operations of multiply-adds, two each.
    pub flops_per_ms: f64,
    /// Exponentials.
    pub exponentials_per_ms: f64,
}

/// Elements of the copy: 64 MiB read, 64 MiB written.
const COPIED: usize = 1 << 24;

/// Columns of [`Iterate`]: a million elements.
const COLUMNS: usize = 87_040;

const SAMPLES: Samples = Samples { count: 5, seconds: 0.05 };

impl Roofline {
    /// Measures a device, a second or a few.
    ///
    /// # Errors
    /// The backend's own.
    pub async fn measure(backend: &dyn Backend) -> Result<Self> {
        let rate = async |measured: Measured, amount: fn(Work) -> f64| -> Result<f64> {
            Ok(amount(measured.work()) / median_ms(&measured, backend, SAMPLES).await?)
        };
        Ok(Roofline {
            bytes_per_ms: rate(copy(), |work| work.bytes).await?,
            flops_per_ms: rate(iterate(Iterated::MultiplyAdd, 16)?, |work| work.flops).await?,
            exponentials_per_ms: rate(iterate(Iterated::Exponential, 8)?, |work| work.exponentials).await?,
        })
    }

    /// The least milliseconds that work takes: the longest of moving, calculating, and exponentials.
    pub fn floor_ms(&self, work: Work) -> f64 {
        let moving = work.bytes / self.bytes_per_ms;
        let calculating = work.flops / self.flops_per_ms;
        moving.max(calculating).max(work.exponentials / self.exponentials_per_ms)
    }
}

fn copy() -> Measured {
    let mut graph = Graph::new();
    let x = graph.input("x", &[COPIED]);
    let y = graph.tensor("y", &[COPIED]);
    graph.push(Elementwise::Copy { x, y });
    let program = graph.finish("copy");
    Measured { graph, program, results: vec![y], inputs: vec![(x, vec![1.0; COPIED])], bytes: 8.0 * COPIED as f64 }
}

fn iterate(function: Iterated, n_pass: usize) -> Result<Measured> {
    let mut graph = Graph::new();
    let len = Iterate::ROWS * COLUMNS;
    let x = graph.input("x", &[Iterate::ROWS, COLUMNS]);
    let y = graph.iterate("y", x, function, n_pass)?;
    let program = graph.finish("iterate");
    Ok(Measured { graph, program, results: vec![y], inputs: vec![(x, vec![0.5; len])], bytes: 8.0 * len as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_part_is_the_floor() {
        let roofline = Roofline { bytes_per_ms: 10.0, flops_per_ms: 100.0, exponentials_per_ms: 5.0 };
        let work = |bytes, flops, exponentials| Work { bytes, flops, exponentials };
        assert_eq!(roofline.floor_ms(work(20.0, 50.0, 1.0)), 2.0);
        assert_eq!(roofline.floor_ms(work(20.0, 300.0, 1.0)), 3.0);
        assert_eq!(roofline.floor_ms(work(20.0, 300.0, 20.0)), 4.0);
    }

    #[test]
    fn work_is_counted() {
        let work = iterate(Iterated::Exponential, 8).expect("12 rows").work();
        assert_eq!(work.exponentials, 64.0 * 12.0 * COLUMNS as f64);
        assert_eq!((work.bytes, work.flops), (8.0 * 12.0 * COLUMNS as f64, work.exponentials));
    }
}
