//! How kernels reach tensors: rows of neighbouring elements, the same distance apart.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use pulp::Simd;

use super::simd::Lanes;
use crate::graph::Tensor;
use crate::memory::Memory;

/// A tensor with all axes but the last as one, or a part of the scratch memory.
///
/// The one place where the backend gives up the compiler's checks: several threads write parts of one tensor, and one storage can hold
/// several tensors side by side. It is sound by this contract, which the shapes of an operation and the graph guarantee:
/// - A `Rows` is used only while its operation runs, when the session borrows all memory.
/// - What an operation writes overlaps nothing that it reads, except where the operation says so and its kernel reads an element before
///   it writes it.
/// - Within one parallel region no two tasks touch an element that one of them writes.
/// - A task holds no two slices at a time that overlap, if one is mutable.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    start: *mut f32,
    /// Product of all axes but the last.
    pub rows: usize,
    /// Length of the last axis.
    pub columns: usize,
    /// Elements from one row to the next.
    pub stride: usize,
}

// SAFETY: by the contract of the type, threads share only what none of them writes.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    /// A tensor of the session.
    pub fn of(memory: &mut Memory<f32>, tensor: Tensor) -> Self {
        let spec = memory.spec(tensor);
        let (storage, len) = memory.storage_pointer(spec.storage);
        assert!(spec.offset + spec.span() <= len);
        // SAFETY: the tensor lies in its storage.
        let start = unsafe { storage.add(spec.offset) };
        Rows { start, rows: spec.rows(), columns: spec.columns(), stride: spec.row_stride }
    }

    /// A tensor that may be absent.
    pub fn of_optional(memory: &mut Memory<f32>, tensor: Option<Tensor>) -> Option<Self> {
        tensor.map(|tensor| Self::of(memory, tensor))
    }

    /// `rows` times `columns` elements cut off the front of the scratch memory.
    pub fn scratch(free: &mut Rows, rows: usize, columns: usize) -> Self {
        let len = rows * columns;
        assert!(len <= free.columns, "scratch memory was reckoned too small");
        let cut = Rows { start: free.start, rows, columns, stride: columns };
        // SAFETY: `len` is within what is free.
        *free = Rows { start: unsafe { free.start.add(len) }, columns: free.columns - len, ..*free };
        cut
    }

    /// A vector as one row.
    pub fn of_slice(values: &mut [f32]) -> Self {
        Rows { start: values.as_mut_ptr(), rows: 1, columns: values.len(), stride: values.len() }
    }

    /// Elements `columns` of a row.
    #[inline(always)]
    pub fn part<'a>(&self, row: usize, columns: Range<usize>) -> &'a [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.columns);
        // SAFETY: within the tensor; not written meanwhile, by the contract of the type.
        unsafe { std::slice::from_raw_parts(self.start.add(row * self.stride + columns.start), columns.len()) }
    }

    /// Elements `columns` of a row, to be written.
    #[inline(always)]
    pub fn part_mut<'a>(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.columns);
        // SAFETY: within the tensor; not touched meanwhile, by the contract of the type.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride + columns.start), columns.len()) }
    }

    /// The elements `columns` of a row, at most a vector of them; zeros behind them.
    #[inline(always)]
    pub fn lanes<S: Simd>(&self, simd: S, row: usize, columns: &Range<usize>) -> Lanes<S> {
        Lanes::load_partial(simd, self.part(row, columns.clone()))
    }

    /// Writes the elements `columns` of a row, at most a vector of them.
    #[inline(always)]
    pub fn set_lanes<S: Simd>(&self, row: usize, columns: &Range<usize>, values: Lanes<S>) {
        values.store_partial(self.part_mut(row, columns.clone()));
    }

    /// Has the processor fetch the cache lines of elements `columns` of a row, where it can be told to. Any row will do.
    #[inline(always)]
    pub fn fetch(&self, row: usize, columns: &Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        for column in columns.clone().step_by(crate::memory::LINE) {
            let address = self.start.wrapping_add(row.wrapping_mul(self.stride).wrapping_add(column));
            // SAFETY: a hint, which no address can make fail.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (row, columns);
    }

    /// A row.
    #[inline(always)]
    pub fn row<'a>(&self, row: usize) -> &'a [f32] {
        self.part(row, 0..self.columns)
    }

    /// A row, to be written.
    #[inline(always)]
    pub fn row_mut<'a>(&self, row: usize) -> &'a mut [f32] {
        self.part_mut(row, 0..self.columns)
    }

    /// Rows `rows` alone.
    pub fn rows_at(&self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        // SAFETY: within the tensor, or at its end where the range is empty.
        Rows { start: unsafe { self.start.add(rows.start * self.stride) }, rows: rows.len(), ..*self }
    }

    /// Row `first` and each `distance`-th behind it.
    #[inline(always)]
    pub fn every(&self, distance: usize, first: usize) -> Self {
        assert!(first < distance && self.rows.is_multiple_of(distance));
        // SAFETY: row `first` is within the tensor, or the tensor is empty and nothing is reached from here.
        let start = unsafe { self.start.add(if self.rows == 0 { 0 } else { first * self.stride }) };
        Rows { start, rows: self.rows / distance, stride: self.stride * distance, ..*self }
    }

    /// Columns `columns` alone.
    pub fn columns_at(&self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns);
        // SAFETY: within the first row, or at its end where the range is empty.
        Rows { start: unsafe { self.start.add(columns.start) }, columns: columns.len(), ..*self }
    }

    /// The front of a contiguous tensor as `rows` times `columns` elements.
    pub fn reshaped(&self, rows: usize, columns: usize) -> Self {
        assert!((self.stride == self.columns || self.rows <= 1) && rows * columns <= self.rows * self.columns);
        Rows { start: self.start, rows, columns, stride: columns }
    }

    /// All elements of a contiguous tensor as one row.
    pub fn row_of_all(&self) -> Self {
        self.reshaped(1, self.rows * self.columns)
    }

    /// The address of the first element.
    pub fn as_ptr(&self) -> *mut f32 {
        self.start
    }
}
