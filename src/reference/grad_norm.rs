//! Clipping by the global norm (Pascanu et al. 2013, arXiv 1211.5063), as PyTorch's `clip_grad_norm_`.

use ndarray::{ArrayView1, Ix1, array};

use super::Float;
use crate::memory::Memory;
use crate::ops::GradNorm;

/// Added to the norm before it divides, as in PyTorch.
pub const NORM_EPS: f64 = 1e-6;

/// The L2 norm of all gradients, laid flat.
pub fn norm<T: Float>(grad: ArrayView1<T>) -> T {
    grad.iter().map(|&g| g * g).sum::<T>().sqrt()
}

/// What every gradient is multiplied by: `min(1, max_norm / (norm + 1e-6))`; not a number where the norm is not.
pub fn clip_factor<T: Float>(norm: T, max_norm: T) -> T {
    let factor = max_norm / (norm + T::from_f64(NORM_EPS));
    if factor > T::one() { T::one() } else { factor }
}

pub(super) fn run<T: Float>(op: &GradNorm, memory: &mut Memory<T>) {
    let norm = norm(memory.axes::<Ix1>(op.gradients));
    let factor = clip_factor(norm, T::from_f64(f64::from(op.max_norm)));
    memory.store(op.clip, &array![norm, factor]);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn only_a_larger_norm_is_clipped() {
        let norm = norm(array![3.0f64, -4.0].view());
        assert_eq!(norm, 5.0);
        assert_eq!(clip_factor(norm, 10.0), 1.0);
        assert_eq!(clip_factor(norm, 2.5), 2.5 / (5.0 + 1e-6));
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
        assert!(clip_factor(f64::NAN, 1.0).is_nan());
    }
}
