//! Real numbers of the CPU executor: `f32` for work, `f64` for the oracle.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use rayon::prelude::*;

use super::gemm::Lanes;

/// A real number. Written so that loops over it vectorise: no branches, no calls into the system's mathematics library.
pub trait Real:
    Lanes
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// The nearest number to an `f64`.
    fn of(value: f64) -> Self;
    /// As an `f64`.
    fn to_f64(self) -> f64;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Exponential.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self;

    /// The distribution function of the standard normal: `½ (1 + erf(x / √2))`.
    fn normal_cdf(self) -> Self;

    /// Logistic function, by way of tanh: finite for every input.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let half = Self::of(0.5);
        half + half * (self * half).tanh()
    }

    /// Itself, or 0 where its magnitude is below a limit. Some processors take a hundred times as long over what is smaller than
    /// [`f32::MIN_POSITIVE`], which what fades from step to step ends as.
    #[inline(always)]
    fn faded(self, limit: f32) -> Self {
        if self.abs() < Self::of(f64::from(limit)) { Self::ZERO } else { self }
    }

    /// The larger of two.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    /// A rational approximation (that of Eigen's `ptanh`), within a few units in the last place.
    #[inline(always)]
    fn tanh(self) -> Self {
        let x = self.clamp(-7.905_311, 7.905_311);
        let square = x * x;
        let numerator = [
            -2.760_768_5e-16,
            2.000_188e-13,
            -8.604_672e-11,
            5.122_297_1e-8,
            1.485_722_4e-5,
            6.372_619e-4,
            4.893_525e-3,
        ]
        .iter()
        .fold(0.0, |sum, c| sum * square + c);
        let denominator =
            [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3].iter().fold(0.0, |sum, c| sum * square + c);
        // NaN must come out as NaN: `clamp` keeps it.
        x * numerator / denominator
    }
    /// 2^n · e^r with |r| ≤ ln 2 / 2 and a polynomial for e^r (Cephes `expf`), within two units in the last place.
    #[inline(always)]
    fn exp(self) -> Self {
        let x = self.clamp(-87.336_54, 88.02);
        // Adding this leaves the nearest whole number in the lowest bits.
        let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
        let n = shifted - 12_582_912.0;
        let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let polynomial = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]
            .iter()
            .fold(0.0, |sum, c| sum * r + c);
        let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        (polynomial * r * r + r + 1.0) * power
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    /// As `shaders/shared/normal_cdf.wgsl`.
    #[inline(always)]
    fn normal_cdf(self) -> Self {
        let t = 1.0 / (1.0 + 0.3 * f32::abs(self));
        let r = [
            -0.020_914_36,
            0.114_040_27,
            -0.232_038_48,
            0.196_940_68,
            -0.083_742_55,
            0.098_480_74,
            0.077_589_065,
            0.110_405_18,
            0.119_551_76,
            0.119_687_69,
        ]
        .iter()
        .fold(0.0, |sum, c| sum * t + c);
        let tail = Real::exp(-0.5 * self * self) * t * r;
        if self < 0.0 { tail } else { 1.0 - tail }
    }
}

/// Rows that one task of the CPU executor takes. Fixed, so that the order of every sum is too.
pub(crate) const ROW_TILE: usize = 256;

/// Runs `task(first row, rows)` over tiles of `target`, whose rows are `stride` elements, on all threads.
pub(crate) fn for_row_tiles<T: Real>(
    target: &mut [T],
    stride: usize,
    rows: usize,
    task: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    // The last row of a view may end before a full stride.
    let end = target.len().min(rows * stride);
    target[..end].par_chunks_mut(ROW_TILE * stride).enumerate().for_each(|(tile, chunk)| task(tile * ROW_TILE, chunk));
}

/// Defines a function that is compiled for the widest vectors this processor may have, and chosen when it is called.
///
/// A closure would not do: it is called from the variant of each processor, so the compiler may leave it out of line, where
/// it is compiled for the oldest processor.
macro_rules! vector_kernel {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<'a, T: Real>($($arg:ident: $type:ty),* $(,)?) -> $output:ty $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name<'a, T: $crate::graph::Real>($($arg: $type),*) -> $output {
            struct Work<'a, T> {
                $($arg: $type,)*
                marker: std::marker::PhantomData<&'a T>,
            }
            impl<'a, T: $crate::graph::Real> pulp::NullaryFnOnce for Work<'a, T> {
                type Output = $output;
                #[inline(always)]
                fn call(self) -> $output {
                    let Self { $($arg,)* marker: _ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Work { $($arg,)* marker: std::marker::PhantomData })
        }
    };
}
pub(crate) use vector_kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approximations_are_close_to_f64() {
        for i in -200_000..=200_000 {
            let x = i as f32 * 5e-4;
            let (tanh, exact) = (f64::from(Real::tanh(x)), f64::from(x).tanh());
            assert!((tanh - exact).abs() <= 4e-7 * exact.abs().max(1e-30), "tanh {x}: {tanh} and {exact}");
            let (cdf, exact) = (f64::from(x.normal_cdf()), f64::from(x).normal_cdf());
            let far = 1.0 + f64::from(x * x);
            assert!((cdf - exact).abs() <= 5e-7 * far * exact + 2e-38, "normal_cdf {x}: {cdf} and {exact}");
            if x.abs() < 87.0 {
                let (exp, exact) = (f64::from(Real::exp(x)), f64::from(x).exp());
                assert!((exp / exact - 1.0).abs() < 3e-7, "exp {x}: {exp} and {exact}");
            }
        }
        assert!(Real::tanh(f32::NAN).is_nan() && Real::exp(f32::NAN).is_nan() && f32::NAN.normal_cdf().is_nan());
        assert_eq!(Real::tanh(0.0_f32), 0.0);
        assert_eq!([1e-6_f32, -1e-6, 1e-7, -1e-7].map(|x| x.faded(1e-6)), [1e-6, -1e-6, 0.0, 0.0]);
        assert!(f32::NAN.faded(1.0).is_nan());
        assert!(Real::exp(f32::NEG_INFINITY) < 1.2e-38);
    }
}
