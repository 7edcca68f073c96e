//! The global norm of all gradients.

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch};
use super::threads::parallel;
use crate::graph::Graph;
use crate::memory::Memory;
use crate::ops::GradNorm;
use crate::reference::grad_norm::clip_factor;

/// Elements whose squares one task sums.
const BLOCK: usize = 1 << 12;

/// Floats of scratch memory.
pub fn scratch(op: &GradNorm, graph: &Graph) -> usize {
    graph.spec(op.gradients).len().div_ceil(BLOCK)
}

/// The norm and the factor that brings it down to the largest one allowed.
pub fn run(op: &GradNorm, memory: &mut Memory<f32>, mut free: Rows) {
    let [gradients, clip] = [op.gradients, op.clip].map(|tensor| Rows::of(memory, tensor));
    let sums = Rows::scratch(&mut free, gradients.columns.div_ceil(BLOCK), 1);
    parallel(sums.rows, |task| {
        let block = gradients.part(0, task * BLOCK..((task + 1) * BLOCK).min(gradients.columns));
        sums.row_mut(task)[0] = dispatch(SumSquares(block));
    });
    let norm = (0..sums.rows).map(|task| sums.row(task)[0]).sum::<f32>().sqrt();
    clip.row_mut(0).copy_from_slice(&[norm, clip_factor(norm, op.max_norm)]);
}

struct SumSquares<'a>(&'a [f32]);

impl WithSimd for SumSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [Lanes::splat(simd, 0.0); 4];
        for parts in self.0.chunks(4 * S::F32_LANES) {
            for (sum, part) in sums.iter_mut().zip(parts.chunks(S::F32_LANES)) {
                let g = Lanes::load_partial(simd, part);
                *sum = g.mul_add(g, *sum);
            }
        }
        ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
    }
}
