//! A safe door to the `gemm` crate.
#![allow(unsafe_code)]

/// A matrix in a slice: element (row, column) at `row * row_stride + column * column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next.
    pub column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows `stride` elements apart, columns contiguous.
    pub fn rows(data: &'a [T], stride: usize) -> Self {
        Self { data, row_stride: stride, column_stride: 1 }
    }

    /// The transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// `target = lhs · rhs`, or `target += lhs · rhs` where `accumulate`; `target` is `[m, n]` in rows `stride` apart.
///
/// One thread: callers split the work into tiles of fixed size, so that the sums don't depend on the number of threads.
///
/// # Panics
/// If a matrix is smaller than its size says, which is a mistake of the operator that calls it.
pub fn gemm<T: GemmElement>(
    (m, n, k): (usize, usize, usize),
    target: &mut [T],
    stride: usize,
    accumulate: bool,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
) {
    let holds = m == 0 || n == 0 || (m - 1) * stride + n <= target.len();
    assert!(holds && n <= stride && lhs.holds(m, k) && rhs.holds(k, n), "gemm: a matrix is too small");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the assertion above checks that every element the strides reach lies in its slice; `target` is borrowed
    // mutably, so it overlaps neither operand, and its rows don't overlap each other because `n <= stride`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Numbers that the `gemm` crate multiplies.
pub trait GemmElement: Copy + 'static {
    /// 1.
    const ONE: Self;
}

impl GemmElement for f32 {
    const ONE: Self = 1.0;
}

impl GemmElement for f64 {
    const ONE: Self = 1.0;
}
