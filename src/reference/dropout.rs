//! Dropout (Srivastava et al. 2014) with masks that are a hash of where they are used: the same on every device, forward and backward.
//!
//! ```text
//! y = x / (1 - rate)   where hash(stream, step, element) >= rate 2^32,   else 0
//! ```
//! The gradient of `x` is that of `y` under the same mask. [`mix`] is the 32-bit mixing function "lowbias32" of C. Wellons (2018).

use ndarray::{ArrayD, ArrayViewD};

use super::Float;
use super::session::index;
use crate::memory::Memory;
use crate::ops::Dropout;

/// Which elements are dropped in one step of one place of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    key: u32,
    threshold: u32,
}

/// Every bit of the result depends on every bit of the argument, one to one.
pub fn mix(bits: u32) -> u32 {
    let bits = (bits ^ bits >> 16).wrapping_mul(0x7feb_352d);
    let bits = (bits ^ bits >> 15).wrapping_mul(0x846c_a68b);
    bits ^ bits >> 16
}

impl Mask {
    /// The mask of a place (`stream`, drawn from the seed) in a training step.
    pub fn new(stream: u32, step: u32, threshold: u32) -> Self {
        Mask { key: mix(stream ^ mix(step)), threshold }
    }

    /// Whether an element, counted row-major, is kept.
    #[inline(always)]
    pub fn keeps(self, element: u32) -> bool {
        mix(mix(element ^ self.key).wrapping_add(self.key)) >= self.threshold
    }
}

/// `y`, of `x`'s shape.
pub fn forward<T: Float>(x: ArrayViewD<T>, mask: Mask, scale: f32) -> ArrayD<T> {
    let scale = T::from_f64(f64::from(scale));
    let masked = x.iter().enumerate().map(|(element, &x)| if mask.keeps(element as u32) { x * scale } else { T::zero() });
    ArrayD::from_shape_vec(x.raw_dim(), masked.collect()).expect("as many elements")
}

pub(super) fn run<T: Float>(op: &Dropout, memory: &mut Memory<T>) {
    let mask = Mask::new(op.stream, index(memory, op.counter, 1) as u32, op.threshold());
    let y = forward(memory.view(op.x), mask, op.scale());
    memory.store(op.y, &y);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of what is kept, over elements, over steps, and of both of two steps, are those of independent draws.
    #[test]
    fn masks_are_as_good_as_random() {
        const N: u32 = 1 << 16;
        let rate = 0.3f64;
        let threshold = (rate * 4_294_967_296.0) as u32;
        let near = |count: usize, share: f64| {
            let deviation = (f64::from(N) * share * (1.0 - share)).sqrt();
            assert!((count as f64 - f64::from(N) * share).abs() < 5.0 * deviation, "{count} of {N}, expected {share}");
        };
        let kept = |stream, step| move |element: &u32| Mask::new(stream, step, threshold).keeps(*element);
        for (stream, step) in [(0, 0), (1, 0), (0, 1), (0xdead_beef, 1000)] {
            near((0..N).filter(kept(stream, step)).count(), 1.0 - rate);
            near((0..N).filter(|&step| kept(stream, step)(&7)).count(), 1.0 - rate);
            for (other_stream, other_step) in [(stream, step + 1), (stream + 1, step)] {
                let both = (0..N).filter(kept(stream, step)).filter(kept(other_stream, other_step)).count();
                near(both, (1.0 - rate) * (1.0 - rate));
            }
            let neighbours = (0..N).filter(|element| kept(stream, step)(element) && kept(stream, step)(&(element + 1))).count();
            near(neighbours, (1.0 - rate) * (1.0 - rate));
        }
    }
}
