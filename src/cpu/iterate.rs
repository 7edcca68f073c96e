//! A function of each element, again and again: as many vectors beside one another as a row has elements.

use pulp::{Simd, WithSimd};

use super::rows::Rows;
use super::simd::{Lanes, dispatch, each};
use super::threads::parallel;
use crate::memory::Memory;
use crate::ops::{Iterate, Iterated};

/// Elements of a task.
const BLOCK: usize = 1 << 12;

/// `y`.
pub fn run(op: &Iterate, memory: &mut Memory<f32>) {
    let [x, y] = [op.x, op.y].map(|tensor| Rows::of(memory, tensor).row_of_all());
    parallel(y.columns.div_ceil(BLOCK), |task| {
        let columns = task * BLOCK..((task + 1) * BLOCK).min(y.columns);
        let (from, to) = (x.part(0, columns.clone()), y.part_mut(0, columns));
        dispatch(Block { function: op.function, times: Iterate::UNROLLED * op.n_pass, from, to });
    });
}

struct Block<'a> {
    function: Iterated,
    times: usize,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.function {
            Iterated::MultiplyAdd => self.run::<S, false>(simd),
            Iterated::Exponential => self.run::<S, true>(simd),
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn run<S: Simd, const EXPONENTIAL: bool>(self, simd: S) {
        let width = S::F32_LANES;
        let [factor, term] = [0.75, 0.25].map(|value| Lanes::splat(simd, value));
        for (from, to) in self.from.chunks(Iterate::CHAINS * width).zip(self.to.chunks_mut(Iterate::CHAINS * width)) {
            let mut chains: [_; Iterate::CHAINS] = each(|chain| Lanes::load_partial(simd, from.get(chain * width..).unwrap_or(&[])));
            for _ in 0..self.times {
                for chain in &mut chains {
                    *chain = if EXPONENTIAL { (-*chain).exp() } else { chain.mul_add(factor, term) };
                }
            }
            for (to, chain) in to.chunks_mut(width).zip(chains) {
                chain.store_partial(to);
            }
        }
    }
}
