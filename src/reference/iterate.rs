//! A function of each element, again and again.

use ndarray::{Array2, ArrayView2};

use super::Float;
use crate::memory::Memory;
use crate::ops::{Iterate, Iterated};

/// `f(f(.. f(x)))`, `times` times, of any shape.
pub fn iterate<T: Float>(x: ArrayView2<T>, function: Iterated, times: usize) -> Array2<T> {
    let [factor, term] = [0.75, 0.25].map(T::from_f64);
    x.mapv(|x| {
        (0..times).fold(x, |x, _| match function {
            Iterated::MultiplyAdd => factor * x + term,
            Iterated::Exponential => (-x).exp(),
        })
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
    fn once_twice_and_to_the_fixed_points() {
        let x = array![[5.0f64, 0.0]];
        assert_eq!(iterate(x.view(), Iterated::MultiplyAdd, 1), array![[4.0, 0.25]]);
        assert_eq!(iterate(x.view(), Iterated::MultiplyAdd, 2), array![[3.25, 0.4375]]);
        assert_eq!(iterate(x.view(), Iterated::Exponential, 1), array![[(-5.0f64).exp(), 1.0]]);
        let [line, omega] = [Iterated::MultiplyAdd, Iterated::Exponential].map(|function| iterate(x.view(), function, 200));
        assert!(line.iter().all(|y| (y - 1.0).abs() < 1e-12));
        // the omega constant, exp(-w) = w
        assert!(omega.iter().all(|y| (y - 0.567_143_290_409_783_8).abs() < 1e-12));
    }
}
