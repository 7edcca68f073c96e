//! A function of some elements, again and again.

use ndarray::{Array2, ArrayView2};

use super::Float;
use crate::memory::Memory;
use crate::ops::{Iterate, Iterated};

/// `f(f(.. f(x)))`, `times` times, of `x (row, column)`:
///
/// ```text
/// multiply-add: of every four rows, f(x)[i] = sum_j M[i, j] x[j] + t
/// exponential:  f(x) = exp(-x)
/// ```
pub fn iterate<T: Float>(x: ArrayView2<T>, function: Iterated, times: usize) -> Array2<T> {
    (0..times).fold(x.to_owned(), |x, _| match function {
        Iterated::MultiplyAdd => Array2::from_shape_fn(x.dim(), |(row, column)| {
            let factors = Iterate::MATRIX[row % 4].iter().map(|&factor| T::from_f64(f64::from(factor)));
            let of_four = factors.enumerate().map(|(index, factor)| factor * x[[row / 4 * 4 + index, column]]);
            of_four.sum::<T>() + T::from_f64(f64::from(Iterate::TERM))
        }),
        Iterated::Exponential => x.mapv(|x| (-x).exp()),
    })
}

pub(super) fn run<T: Float>(op: &Iterate, memory: &mut Memory<T>) {
    let y = iterate(memory.rows(op.x), op.function, Iterate::UNROLLED * op.n_pass);
    memory.store(op.y, &y);
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn once_and_to_the_fixed_points() {
        let x = array![[1.0f64], [0.0], [0.0], [0.0]];
        let near = |got: Array2<f64>, want: [f64; 4]| got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-7);
        assert!(near(iterate(x.view(), Iterated::MultiplyAdd, 1), [0.55, 0.45, 0.4, 0.35]));
        assert!(near(iterate(x.view(), Iterated::Exponential, 1), [(-1.0f64).exp(), 1.0, 1.0, 1.0]));
        assert!(near(iterate(x.view(), Iterated::MultiplyAdd, 200), [1.0; 4]));
        // the omega constant, exp(-w) = w
        assert!(near(iterate(x.view(), Iterated::Exponential, 200), [0.567_143_290_4; 4]));
    }
}
