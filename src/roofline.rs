//! The roofline of a device (Williams et al. 2009, doi 10.1145/1498765.1498785): how fast it copies and calculates, and so the least time
//! that work takes.

use crate::backend::Backend;
use crate::benchmark::{Checked, Measured, Samples, compare, median_ms};
use crate::error::{Error, Result};
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

/// Columns of [`Iterate`], from 1 to 64 MiB.
const COLUMNS: [usize; 4] = [21_760, 87_040, 348_160, 1_392_640];

/// Passes of [`Iterate`], in whose time a column's memory counts for little.
const PASSES: usize = 64;

/// The least milliseconds of a run beside which a dispatch counts for little.
const LEAST_MS: f64 = 2.0;

const SAMPLES: Samples = Samples { count: 5, seconds: 0.05 };

impl Roofline {
    /// Measures a device, a second or a few.
    ///
    /// # Errors
    /// The backend's own, and [`Error::Gpu`] where what it computes is wrong.
    pub async fn measure(backend: &dyn Backend) -> Result<Self> {
        let copy = copy();
        Ok(Roofline {
            bytes_per_ms: copy.bytes / checked_ms(backend, &copy, 1.0).await?,
            flops_per_ms: iterated(backend, Iterated::MultiplyAdd).await?.flops,
            exponentials_per_ms: iterated(backend, Iterated::Exponential).await?.exponentials,
        })
    }

    /// The least milliseconds that work takes: the longest of moving, calculating, and exponentials.
    pub fn floor_ms(&self, work: Work) -> f64 {
        let moving = work.bytes / self.bytes_per_ms;
        let calculating = work.flops / self.flops_per_ms;
        moving.max(calculating).max(work.exponentials / self.exponentials_per_ms)
    }
}

/// The median time of what writes the same value everywhere, once it has done so.
async fn checked_ms(backend: &dyn Backend, measured: &Measured, value: f32) -> Result<f64> {
    let expected = measured.results.iter().map(|result| vec![value; measured.graph.spec(*result).len()]).collect::<Vec<_>>();
    match compare(measured, backend, &expected).await?.iter().find(|checked| !checked.passed()) {
        Some(Checked { tensor, error }) => {
            let what = message!("`{}` is off by {}: no rate is measured", tensor, format!("{error:.1e}"));
            Err(Error::Gpu { adapter: backend.name(), what })
        }
        None => median_ms(measured, backend, SAMPLES).await,
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

/// What a device does of a function in a millisecond: on more and more columns, until it takes long enough.
async fn iterated(backend: &dyn Backend, function: Iterated) -> Result<Work> {
    let mut rate = Work::default();
    for n_column in COLUMNS {
        let measured = iterate(function, n_column)?;
        let (work, ms) = (measured.work(), checked_ms(backend, &measured, function.fixed_point()).await?);
        rate = Work { bytes: work.bytes / ms, flops: work.flops / ms, exponentials: work.exponentials / ms };
        if ms >= LEAST_MS {
            break;
        }
    }
    Ok(rate)
}

fn iterate(function: Iterated, n_column: usize) -> Result<Measured> {
    let mut graph = Graph::new();
    let len = Iterate::ROWS * n_column;
    let x = graph.input("x", &[Iterate::ROWS, n_column]);
    let y = graph.iterate("y", x, function, PASSES)?;
    let program = graph.finish("iterate");
    Ok(Measured { graph, program, results: vec![y], inputs: vec![(x, vec![0.5; len])], bytes: 8.0 * len as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    #[test]
    fn the_slowest_part_is_the_floor() {
        let roofline = Roofline { bytes_per_ms: 10.0, flops_per_ms: 100.0, exponentials_per_ms: 5.0 };
        let work = |bytes, flops, exponentials| Work { bytes, flops, exponentials };
        assert_eq!(roofline.floor_ms(work(20.0, 50.0, 1.0)), 2.0);
        assert_eq!(roofline.floor_ms(work(20.0, 300.0, 1.0)), 3.0);
        assert_eq!(roofline.floor_ms(work(20.0, 300.0, 20.0)), 4.0);
    }

    #[test]
    fn what_computes_something_else_is_not_timed() {
        let measured = iterate(Iterated::MultiplyAdd, 10).expect("12 rows");
        pollster::block_on(async {
            assert!(checked_ms(&Cpu, &measured, 1.0).await.is_ok_and(|ms| ms > 0.0));
            let error = checked_ms(&Cpu, &measured, 2.0).await.expect_err("half of that").message().to_string();
            assert!(error.ends_with("`y` is off by 5.0e-1: no rate is measured"), "{error}");
        });
    }

    #[test]
    fn work_is_counted() {
        let work = iterate(Iterated::Exponential, 10).expect("12 rows").work();
        assert_eq!(work.exponentials, 8.0 * 64.0 * 120.0);
        assert_eq!((work.bytes, work.flops), (8.0 * 120.0, work.exponentials));
        assert_eq!(iterate(Iterated::MultiplyAdd, 10).expect("12 rows").work().flops, 8.0 * work.flops);
    }
}
