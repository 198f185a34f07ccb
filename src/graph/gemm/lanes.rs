//! Numbers in vectors of the width that the processor has.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Vectors that a panel is wide.
pub(super) const WIDTH: usize = 2;
/// Bytes of a cache line: vectors that lie across two are read at half the speed.
const LINE: usize = 64;

/// Numbers in vectors of the width that the processor has.
pub trait Lanes: Copy + 'static {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// As many as fit.
    type Vector<S: Simd>: Copy;
    /// The same number in all places.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    /// `a · b + c`, rounded once where the processor can.
    fn mul_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
    /// As many numbers as there are, at most a vector, and zeros.
    fn load<S: Simd>(simd: S, slice: &[Self]) -> Self::Vector<S>;
    /// The first numbers of a vector, as many as fit.
    fn store<S: Simd>(simd: S, slice: &mut [Self], vector: Self::Vector<S>);
    /// The whole vectors of a slice.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    /// The whole vectors of a slice.
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
}

macro_rules! lanes {
    (
        $number:ty, $vector:ident, $splat:ident, $mul_add:ident, $load:ident, $store:ident, $as_simd:ident, $as_mut_simd:ident
    ) => {
        impl Lanes for $number {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            type Vector<S: Simd> = S::$vector;
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn load<S: Simd>(simd: S, slice: &[Self]) -> S::$vector {
                simd.$load(slice)
            }
            #[inline(always)]
            fn store<S: Simd>(simd: S, slice: &mut [Self], vector: S::$vector) {
                simd.$store(slice, vector);
            }
            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$vector] {
                S::$as_simd(slice).0
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$as_mut_simd(slice).0
            }
        }
    };
}

lanes!(f32, f32s, splat_f32s, mul_add_e_f32s, partial_load_f32s, partial_store_f32s, as_simd_f32s, as_mut_simd_f32s);
lanes!(f64, f64s, splat_f64s, mul_add_e_f64s, partial_load_f64s, partial_store_f64s, as_simd_f64s, as_mut_simd_f64s);

/// Elements of a panel's row.
pub(super) fn panel_width<T: Lanes>() -> usize {
    struct Width<T>(std::marker::PhantomData<T>);
    impl<T: Lanes> WithSimd for Width<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            WIDTH * size_of::<T::Vector<S>>() / size_of::<T>()
        }
    }
    Arch::new().dispatch(Width::<T>(std::marker::PhantomData))
}

/// Elements that begin at a cache line.
#[derive(Debug)]
pub(super) struct Aligned<T> {
    memory: Vec<T>,
    start: usize,
    count: usize,
}

impl<T: Lanes> Aligned<T> {
    pub fn zeros(count: usize) -> Self {
        let slack = LINE / size_of::<T>() - 1;
        let memory = vec![T::ZERO; count + slack];
        let start = memory.as_ptr().align_offset(LINE).min(slack);
        Self { memory, start, count }
    }

    #[inline(always)]
    pub fn as_slice(&self) -> &[T] {
        &self.memory[self.start..][..self.count]
    }

    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.count]
    }
}

/// The vectors of a panel's row, of which `values` are the first elements; the others are zero.
#[inline(always)]
pub(super) fn load<S: Simd, T: Lanes>(simd: S, values: &[T]) -> [T::Vector<S>; WIDTH] {
    if let Some(whole) = T::vectors::<S>(values).as_array() {
        return *whole;
    }
    let mut vectors = [T::splat(simd, T::ZERO); WIDTH];
    for (place, vector) in vectors.iter_mut().enumerate() {
        *vector = T::load(simd, &values[part::<S, T>(place, values.len())]);
    }
    vectors
}

/// The first elements of the vectors of a panel's row.
#[inline(always)]
pub(super) fn store<S: Simd, T: Lanes>(simd: S, vectors: [T::Vector<S>; WIDTH], values: &mut [T]) {
    if let Some(whole) = T::vectors_mut::<S>(values).as_mut_array() {
        *whole = vectors;
        return;
    }
    // By constant numbers of vectors: else they would have to lie in memory.
    for (place, vector) in vectors.into_iter().enumerate() {
        let part = part::<S, T>(place, values.len());
        T::store(simd, &mut values[part], vector);
    }
}

/// Which of `count` elements are in a vector of a panel's row.
#[inline(always)]
fn part<S: Simd, T: Lanes>(place: usize, count: usize) -> Range<usize> {
    let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
    (place * lanes).min(count)..((place + 1) * lanes).min(count)
}

/// `sums += values · weights`, as a column by a row.
#[inline(always)]
pub(super) fn add_products<S: Simd, T: Lanes, const R: usize>(
    simd: S,
    values: [T; R],
    weights: &[T::Vector<S>; WIDTH],
    sums: &mut [[T::Vector<S>; WIDTH]; R],
) {
    for (sums, value) in sums.iter_mut().zip(values) {
        let value = T::splat(simd, value);
        for (sum, &weight) in sums.iter_mut().zip(weights) {
            *sum = T::mul_add(simd, value, weight, *sum);
        }
    }
}
