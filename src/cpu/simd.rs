//! Vectors of whatever width the processor has, and the functions of gates on them.
//!
//! Instructions are chosen when the program runs (AVX-512, AVX2, NEON, or one element at a time), never by compiler flags. Subnormal results
//! are 0 here, as they are throughout the CPU backend. Errors are stated in units in the last place (ulp) and tested over the whole range.

#![allow(clippy::excessive_precision, reason = "coefficients are printed so that they round to the fitted bits")]

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

use pulp::{Arch, Simd, WithSimd};

/// Runs a kernel with the widest vectors that the processor has.
pub fn dispatch<K: WithSimd>(kernel: K) -> K::Output {
    Arch::new().dispatch(kernel)
}

/// `[of(0), of(1), ..]`. The standard library's constructor and map for arrays hide the closure from the inliner, without which vectors
/// pass through memory.
#[inline(always)]
pub fn each<T: Copy, const N: usize>(mut of: impl FnMut(usize) -> T) -> [T; N] {
    let mut values = [of(0); N];
    for (index, value) in values.iter_mut().enumerate().skip(1) {
        *value = of(index);
    }
    values
}

/// One vector of `S::F32_LANES` floats.
#[derive(Clone, Copy)]
pub struct Lanes<S: Simd>(pub S, pub S::f32s);

impl<S: Simd> Lanes<S> {
    /// Floats in a vector.
    pub const COUNT: usize = S::F32_LANES;

    /// The same value everywhere.
    #[inline(always)]
    pub fn splat(simd: S, value: f32) -> Self {
        Lanes(simd, simd.splat_f32s(value))
    }

    /// The first elements of a slice that has at least [`Lanes::COUNT`].
    #[inline(always)]
    pub fn load(simd: S, from: &[f32]) -> Self {
        assert!(from.len() >= Self::COUNT);
        // SAFETY: the slice is long enough, and `f32s` is plain old data; the read need not be aligned.
        Lanes(simd, unsafe { from.as_ptr().cast::<S::f32s>().read_unaligned() })
    }

    /// The first elements of a slice, then zeros where it is shorter than a vector.
    #[inline(always)]
    pub fn load_partial(simd: S, from: &[f32]) -> Self {
        if from.len() >= Self::COUNT { Self::load(simd, from) } else { Lanes(simd, simd.partial_load_f32s(from)) }
    }

    /// Writes the first elements of a slice that has at least [`Lanes::COUNT`].
    #[inline(always)]
    pub fn store(self, to: &mut [f32]) {
        assert!(to.len() >= Self::COUNT);
        // SAFETY: the slice is long enough, and `f32s` is plain old data; the write need not be aligned.
        unsafe { to.as_mut_ptr().cast::<S::f32s>().write_unaligned(self.1) }
    }

    /// Writes the first elements of a slice, fewer than a vector where it is shorter.
    #[inline(always)]
    pub fn store_partial(self, to: &mut [f32]) {
        if to.len() >= Self::COUNT {
            self.store(to);
        } else {
            self.0.partial_store_f32s(to, self.1);
        }
    }

    /// `self * factor + term`, rounded once where the processor can.
    #[inline(always)]
    pub fn mul_add(self, factor: Self, term: Self) -> Self {
        Lanes(self.0, self.0.mul_add_e_f32s(self.1, factor.1, term.1))
    }

    /// The larger of each pair; NaN where `self` is.
    #[inline(always)]
    pub fn at_least(self, bound: f32) -> Self {
        let bound = Self::splat(self.0, bound);
        self.select_less(bound, bound, self)
    }

    /// The smaller of each pair; NaN where `self` is.
    #[inline(always)]
    pub fn at_most(self, bound: f32) -> Self {
        let bound = Self::splat(self.0, bound);
        bound.select_less(self, bound, self)
    }

    /// `yes` where `self < other`, `no` elsewhere and where either is NaN.
    #[inline(always)]
    pub fn select_less(self, other: Self, yes: Self, no: Self) -> Self {
        let mask = self.0.less_than_f32s(self.1, other.1);
        Lanes(self.0, self.0.select_f32s(mask, yes.1, no.1))
    }

    /// Absolute values.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Lanes(self.0, self.0.abs_f32s(self.1))
    }

    /// `1 / self`.
    #[inline(always)]
    pub fn recip(self) -> Self {
        Lanes(self.0, self.0.div_f32s(self.0.splat_f32s(1.0), self.1))
    }

    /// `self / other`.
    #[inline(always)]
    pub fn over(self, other: Self) -> Self {
        Lanes(self.0, self.0.div_f32s(self.1, other.1))
    }

    /// The sum of all elements, in an order that the width fixes.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        self.0.reduce_sum_f32s(self.1)
    }

    /// `c[0] + c[1] self + ..`, by Horner's rule.
    #[inline(always)]
    fn polynomial<const N: usize>(self, c: [f32; N]) -> Self {
        let mut sum = Self::splat(self.0, c[N - 1]);
        for &c in c[..N - 1].iter().rev() {
            sum = sum.mul_add(self, Self::splat(self.0, c));
        }
        sum
    }

    /// `self * 2^n`, where `magic` is [`MAGIC`]` + n` and the result is a normal number.
    #[inline(always)]
    fn scaled(self, magic: Self) -> Self {
        let s = self.0;
        let exponent = s.wrapping_dyn_shl_u32s(s.transmute_u32s_f32s(magic.1), s.splat_u32s(23));
        Lanes(s, s.transmute_f32s_u32s(s.add_u32s(s.transmute_u32s_f32s(self.1), exponent)))
    }

    /// `2^self` within 2.2 ulp from -126 to 128, for decays: `2^-126` below, infinity above. NaN gives no particular value.
    #[inline(always)]
    pub fn exp2_bounded(self) -> Self {
        let s = self.0;
        let x = Lanes(s, s.min_f32s(s.splat_f32s(128.0), s.max_f32s(s.splat_f32s(-126.0), self.1)));
        let magic = x + Self::splat(s, MAGIC);
        let f = x - (magic - Self::splat(s, MAGIC));
        f.polynomial([1.0, 0.693_146_98, 0.240_222_42, 0.055_507_337, 0.009_671_513, 0.001_326_472_9]).scaled(magic)
    }

    /// `e^self` within 1.2 ulp; 0 where that is below `2^-126`, infinity above `f32::MAX`.
    #[inline(always)]
    pub fn exp(self) -> Self {
        let s = self.0;
        let magic = self.mul_add(Self::splat(s, std::f32::consts::LOG2_E), Self::splat(s, MAGIC));
        let n = magic - Self::splat(s, MAGIC);
        let r = n.mul_add(Self::splat(s, -LN_2_HIGH), self);
        let r = n.mul_add(Self::splat(s, -LN_2_LOW), r);
        let q = r.polynomial([0.499_999_93, 0.166_665_21, 0.041_668_387, 0.008_368_71, 0.001_381_461_4]);
        let value = (r * r).mul_add(q, r) + Self::splat(s, 1.0);
        let value = value.scaled(magic);
        let value = self.select_less(Self::splat(s, EXP_LEAST), Self::splat(s, 0.0), value);
        let beyond = self + Self::splat(s, f32::INFINITY);
        self.select_less(Self::splat(s, EXP_MOST), value, beyond)
    }

    /// `(sigmoid(x), sigmoid(-x))`, each within 4 ulp.
    #[inline(always)]
    pub fn sigmoids(self) -> (Self, Self) {
        let zero = Self::splat(self.0, 0.0);
        let e = (-self.abs()).exp();
        let large = (e + Self::splat(self.0, 1.0)).recip();
        let small = e * large;
        (self.select_less(zero, small, large), self.select_less(zero, large, small))
    }

    /// `1 / (1 + e^-x)` within 4 ulp.
    #[inline(always)]
    pub fn sigmoid(self) -> Self {
        ((-self).exp() + Self::splat(self.0, 1.0)).recip()
    }

    /// `x sigmoid(x)` and its derivative, `sigmoid(x) (1 + x sigmoid(-x))`.
    #[inline(always)]
    pub fn silu_with_derivative(self) -> (Self, Self) {
        let (sigmoid, complement) = self.sigmoids();
        (self * sigmoid, sigmoid * self.mul_add(complement, Self::splat(self.0, 1.0)))
    }

    /// `x sigmoid(x)` within 5 ulp, or within 2e-36.
    #[inline(always)]
    pub fn silu(self) -> Self {
        self * self.sigmoid()
    }

    /// `log(1 + e^x)` within 4 ulp, as `max(x, 0) + log1p(e)` with `e = exp(-|x|)` and `log1p(e) = 2 atanh(e / (2 + e))`.
    #[inline(always)]
    pub fn softplus(self) -> Self {
        self.softplus_with_derivative().0
    }

    /// [`Lanes::softplus`] and its derivative, `sigmoid(x)`, each within 4 ulp.
    #[inline(always)]
    pub fn softplus_with_derivative(self) -> (Self, Self) {
        let s = self.0;
        let e = (-self.abs()).exp();
        let t = e.over(e + Self::splat(s, 2.0));
        let square = t * t;
        let q = square.polynomial([0.333_332_08, 0.200_107_64, 0.140_009_03, 0.140_059_93]);
        let half = (t * square).mul_add(q, t);
        let large = (e + Self::splat(s, 1.0)).recip();
        let sigmoid = self.select_less(Self::splat(s, 0.0), e * large, large);
        (half + half + self.at_least(0.0), sigmoid)
    }

    /// The hyperbolic tangent within 3 ulp.
    #[inline(always)]
    pub fn tanh(self) -> Self {
        let s = self.0;
        let size = self.abs();
        let square = self * self;
        let q = square.polynomial([-0.333_332_82, 0.133_314_42, -0.053_739_715, 0.020_639_087, -0.005_704_987]);
        let near = (self * square).mul_add(q, self);
        let e = (size + size).exp();
        let far = Self::splat(s, 1.0) - Self::splat(s, 2.0).over(e + Self::splat(s, 1.0));
        let sign = s.and_f32s(self.1, s.splat_f32s(-0.0));
        let far = Lanes(s, s.or_f32s(far.1, sign));
        size.select_less(Self::splat(s, 0.625), near, far)
    }
}

/// Added to a float below 2^22, leaves its nearest integer in the lowest bits.
const MAGIC: f32 = 12_582_912.0;
/// `ln 2` as a number of few bits, so that its product with an exponent is exact, and the rest.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// The least argument whose exponential is a normal number.
const EXP_LEAST: f32 = -87.336_54;
/// The least argument whose exponential is infinite.
const EXP_MOST: f32 = 88.722_84;

impl<S: Simd> Add for Lanes<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Lanes(self.0, self.0.add_f32s(self.1, other.1))
    }
}

impl<S: Simd> AddAssign for Lanes<S> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<S: Simd> Sub for Lanes<S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Lanes(self.0, self.0.sub_f32s(self.1, other.1))
    }
}

impl<S: Simd> Mul for Lanes<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Lanes(self.0, self.0.mul_f32s(self.1, other.1))
    }
}

impl<S: Simd> Neg for Lanes<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Lanes(self.0, self.0.neg_f32s(self.1))
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;

    #[derive(Clone, Copy)]
    enum Function {
        Exp2,
        Exp,
        Sigmoid,
        Complement,
        Silu,
        SiluDerivative,
        Softplus,
        SoftplusDerivative,
        Tanh,
    }

    struct Apply<'a>(Function, &'a mut [f32]);

    impl WithSimd for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for part in self.1.chunks_mut(S::F32_LANES) {
                let x = Lanes::load_partial(simd, part);
                let y = match self.0 {
                    Function::Exp2 => x.exp2_bounded(),
                    Function::Exp => x.exp(),
                    Function::Sigmoid => x.sigmoid(),
                    Function::Complement => x.sigmoids().1,
                    Function::Silu => x.silu(),
                    Function::SiluDerivative => x.silu_with_derivative().1,
                    Function::Softplus => x.softplus(),
                    Function::SoftplusDerivative => x.softplus_with_derivative().1,
                    Function::Tanh => x.tanh(),
                };
                y.store_partial(part);
            }
        }
    }

    /// Every 997th float and its negative: all exponents, many mantissas.
    fn arguments() -> Vec<f32> {
        (0..f32::INFINITY.to_bits()).step_by(997).map(f32::from_bits).flat_map(|x| [x, -x]).collect()
    }

    /// Compares with `exact` on vectors and on single elements; results below `least` may be anything up to it.
    fn check(function: Function, ulps: f64, least: f32, exact: impl Fn(f64) -> f64) {
        let arguments = arguments();
        for scalar in [false, true] {
            let mut got = arguments.clone();
            let apply = Apply(function, &mut got);
            if scalar {
                apply.with_simd(Scalar);
            } else {
                dispatch(apply);
            }
            let mut worst = (0.0f64, 0.0f32);
            for (&x, &got) in arguments.iter().zip(&got) {
                let want = exact(f64::from(x));
                if want.abs() > f64::from(f32::MAX) {
                    assert!(f64::from(got).abs() >= f64::from(f32::MAX) && (got > 0.0) == (want > 0.0), "at {x}: {got}");
                    continue;
                }
                let least = f64::from(least);
                if want.abs() < 1.001 * least {
                    assert!(f64::from(got).abs() <= 1.001 * least, "at {x:e}: {got:e}");
                    continue;
                }
                let ulp = (want.abs().log2().floor() - 23.0).exp2();
                let error = (f64::from(got) - want).abs() / ulp;
                assert!(!error.is_nan(), "at {x}: {got}");
                worst = if error > worst.0 { (error, x) } else { worst };
            }
            assert!(worst.0 <= ulps, "{} ulp at {:e}, scalar: {scalar}", worst.0, worst.1);
        }
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn exponentials_keep_their_stated_error() {
        check(Function::Exp, 1.2, f32::MIN_POSITIVE, f64::exp);
        check(Function::Exp2, 2.2, f32::MIN_POSITIVE, f64::exp2);
    }

    #[test]
    fn gates_keep_their_stated_errors() {
        check(Function::Sigmoid, 4.0, f32::MIN_POSITIVE, sigmoid);
        check(Function::Complement, 4.0, f32::MIN_POSITIVE, |x| sigmoid(-x));
        check(Function::Silu, 5.0, 2e-36, |x| x * sigmoid(x));
        check(Function::Softplus, 4.0, f32::MIN_POSITIVE, |x| x.max(0.0) + (-x.abs()).exp().ln_1p());
        check(Function::SoftplusDerivative, 4.0, f32::MIN_POSITIVE, sigmoid);
        check(Function::Tanh, 3.0, f32::MIN_POSITIVE, f64::tanh);
    }

    #[test]
    fn the_derivative_of_silu_is_right_to_rounding() {
        let arguments: Vec<f32> = (-9000..9000).map(|i| i as f32 / 100.0).collect();
        let mut got = arguments.clone();
        dispatch(Apply(Function::SiluDerivative, &mut got));
        for (&x, got) in arguments.iter().zip(got) {
            let x = f64::from(x);
            let want = sigmoid(x) * (1.0 + x * sigmoid(-x));
            assert!((f64::from(got) - want).abs() < 4e-7, "at {x}: {got} against {want}");
        }
    }

    #[test]
    fn infinities_and_nan() {
        for scalar in [false, true] {
            let apply = |function, x: f32| {
                let mut x = [x; 3];
                let apply = Apply(function, &mut x);
                if scalar {
                    apply.with_simd(Scalar);
                } else {
                    dispatch(apply);
                }
                x[1]
            };
            assert_eq!(apply(Function::Exp, f32::NEG_INFINITY), 0.0);
            assert_eq!(apply(Function::Exp, f32::INFINITY), f32::INFINITY);
            assert_eq!(apply(Function::Exp, 88.8), f32::INFINITY);
            assert_eq!(apply(Function::Exp, 0.0), 1.0);
            assert_eq!(apply(Function::Exp2, 0.0), 1.0);
            assert_eq!(apply(Function::Exp2, f32::NEG_INFINITY), f32::MIN_POSITIVE);
            assert_eq!(apply(Function::Exp2, f32::INFINITY), f32::INFINITY);
            assert_eq!(apply(Function::Tanh, f32::INFINITY), 1.0);
            assert_eq!(apply(Function::Tanh, -1e30), -1.0);
            assert_eq!(apply(Function::Softplus, f32::INFINITY), f32::INFINITY);
            assert_eq!(apply(Function::Sigmoid, f32::INFINITY), 1.0);
            for function in [Function::Exp, Function::Sigmoid, Function::Complement, Function::Silu, Function::Softplus, Function::Tanh] {
                assert!(apply(function, f32::NAN).is_nan());
            }
        }
    }
}
