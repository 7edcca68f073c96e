//! A graph's tensors in host memory.

use std::ops::Range;

use ndarray::{ArrayD, ArrayView, ArrayView2, ArrayViewD, ArrayViewMutD, Dimension, IxDyn, ShapeBuilder};

use crate::backend::check_len;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor, TensorSpec};

/// Every storage of a graph, in one block. Indices are kept as numbers, exact up to 2^24.
#[derive(Debug)]
pub struct Memory<'a, T> {
    graph: &'a Graph,
    elements: Zeros<T>,
    /// Of each storage, its first element.
    starts: Vec<usize>,
}

/// Elements at whose multiples storages begin: one of the processor's cache lines, in `f32`.
pub(crate) const LINE: usize = 16;
/// Elements behind each storage, without which tensors of a round size would meet in the same few places of a cache.
const GAP: usize = 5 * LINE;

impl<'a, T: Clone + num_traits::Zero + Copy> Memory<'a, T> {
    /// Zeros for every storage.
    ///
    /// # Errors
    /// As [`Zeros::new`].
    pub fn new(graph: &'a Graph) -> Result<Self> {
        let mut end = 0;
        let starts = graph.storages().iter().map(|storage| {
            let start = end;
            end = (start + storage.len + GAP).next_multiple_of(LINE);
            start
        });
        let starts = starts.collect();
        Ok(Memory { graph, elements: Zeros::new(end)?, starts })
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// Shape and place of a tensor.
    pub fn spec(&self, tensor: Tensor) -> &'a TensorSpec {
        self.graph.spec(tensor)
    }

    /// A tensor's elements.
    pub fn view(&self, tensor: Tensor) -> ArrayViewD<'_, T> {
        let spec = self.spec(tensor);
        let elements = &self.storage(spec.storage)[spec.offset..spec.offset + spec.span()];
        ArrayViewD::from_shape(IxDyn(&spec.shape).strides(IxDyn(&strides(spec))), elements)
            .expect("a graph's tensors lie in their storages")
    }

    /// A tensor's elements as an array of `D`'s number of axes, which the tensor must have: operations check that when they are made.
    pub fn axes<D: Dimension>(&self, tensor: Tensor) -> ArrayView<'_, T, D> {
        self.view(tensor).into_dimensionality().expect("the operation has checked the number of axes")
    }

    /// A tensor's elements with all axes but the last as one.
    pub fn rows(&self, tensor: Tensor) -> ArrayView2<'_, T> {
        let spec = self.spec(tensor);
        let elements = &self.storage(spec.storage)[spec.offset..spec.offset + spec.span()];
        let strides = if spec.is_empty() { (0, 0) } else { (spec.row_stride, 1) };
        ArrayView2::from_shape((spec.rows(), spec.columns()).strides(strides), elements).expect("a graph's tensors lie in their storages")
    }

    /// A tensor's elements, to be written.
    pub fn view_mut(&mut self, tensor: Tensor) -> ArrayViewMutD<'_, T> {
        let spec = self.spec(tensor);
        let elements = &mut self.storage_mut(spec.storage)[spec.offset..spec.offset + spec.span()];
        ArrayViewMutD::from_shape(IxDyn(&spec.shape).strides(IxDyn(&strides(spec))), elements)
            .expect("a graph's tensors lie in their storages")
    }

    /// Replaces a tensor's elements; the values may have another shape with as many elements.
    pub fn store<D: Dimension>(&mut self, tensor: Tensor, values: &ndarray::Array<T, D>) {
        for (element, value) in self.view_mut(tensor).iter_mut().zip(values) {
            *element = *value;
        }
    }

    /// Replaces a tensor's values with `convert` of those given.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the number of values differs.
    pub fn write<V: Copy>(&mut self, tensor: Tensor, values: &[V], convert: impl Fn(V) -> T) -> Result<()> {
        let spec = self.spec(tensor);
        check_len(&spec.label, &spec.shape, values.len())?;
        for (element, value) in self.view_mut(tensor).iter_mut().zip(values) {
            *element = convert(*value);
        }
        Ok(())
    }

    fn place(&self, storage: usize) -> Range<usize> {
        let start = self.starts[storage];
        start..start + self.graph.storages()[storage].len
    }

    fn storage(&self, storage: usize) -> &[T] {
        &self.elements.as_slice()[self.place(storage)]
    }

    fn storage_mut(&mut self, storage: usize) -> &mut [T] {
        let place = self.place(storage);
        &mut self.elements.as_mut_slice()[place]
    }

    /// Where a storage begins, and how many elements it has. No reference is made to them: pointers to other storages, or to this one, that
    /// were taken before may still be used.
    pub fn storage_pointer(&mut self, storage: usize) -> (*mut T, usize) {
        let Range { start, end } = self.place(storage);
        (self.elements.as_mut_ptr().wrapping_add(start), end - start)
    }

    /// A copy of a tensor's elements.
    pub fn array(&self, tensor: Tensor) -> ArrayD<T> {
        self.view(tensor).to_owned()
    }
}

/// Zeroed memory aligned to a cache line, or where it is large, to a large page, which the system is asked to use: with small pages an
/// operation that walks over many rows waits for their addresses (TLB misses).
#[derive(Debug)]
pub struct Zeros<T> {
    elements: Vec<T>,
    first: usize,
}

/// Bytes of a large page.
const LARGE_PAGE: usize = 1 << 21;

impl<T: Clone + num_traits::Zero> Zeros<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the system has no memory for them.
    pub fn new(len: usize) -> Result<Self> {
        // given back at once: the allocation below, whose zeros cost nothing, would end the process
        Vec::<T>::new().try_reserve_exact(len.saturating_add(LARGE_PAGE)).map_err(|_| {
            let gib = (len as f64 * size_of::<T>() as f64 / f64::from(1 << 30)).ceil();
            let what = message!("{} GiB are needed, which the system does not have: take a smaller model, batch or window", gib);
            Error::Unsupported { operation: "memory", what }
        })?;
        let is_large = len * size_of::<T>() >= 2 * LARGE_PAGE;
        let border = if is_large { LARGE_PAGE } else { LINE * size_of::<f32>() };
        let mut elements = vec![T::zero(); len + border / size_of::<T>()];
        let first = elements.as_ptr().align_offset(border).min(elements.len() - len);
        #[cfg(target_os = "linux")]
        if is_large {
            // SAFETY: whole pages within the allocation; the advice leaves their values as they are.
            unsafe { libc::madvise(elements.as_ptr().add(first).cast_mut().cast(), len * size_of::<T>(), libc::MADV_HUGEPAGE) };
        }
        elements.truncate(first + len);
        Ok(Zeros { elements, first })
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        &self.elements[self.first..]
    }

    /// The elements, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.elements[self.first..]
    }

    /// The first element, without a reference to any.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.elements.as_mut_ptr().wrapping_add(self.first)
    }
}

/// Elements from one index to the next, for each axis; the leading axes are rows of `row_stride`. An empty tensor has no place to step to.
fn strides(spec: &TensorSpec) -> Vec<usize> {
    if spec.is_empty() {
        return vec![0; spec.shape.len()];
    }
    let mut strides = vec![1; spec.shape.len()];
    let mut stride = spec.row_stride;
    for axis in (0..spec.shape.len().saturating_sub(1)).rev() {
        strides[axis] = stride;
        stride *= spec.shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_begin_at_borders() {
        for (len, border) in [(0, 64), (1, 64), (1000, 64), (1 << 20, LARGE_PAGE)] {
            let mut zeros = Zeros::<f32>::new(len).expect("memory");
            assert_eq!(zeros.as_slice().as_ptr().addr() % border, 0);
            assert_eq!(zeros.as_mut_slice(), vec![0.0; len]);
        }
        let error = Zeros::<f32>::new(1 << 58).expect_err("more than there is").to_string();
        assert!(error.contains("1073741824 GiB are needed"), "{error}");
    }

    #[test]
    fn storages_lie_apart_at_cache_lines() {
        let mut graph = Graph::new();
        let tensors = [graph.input("a", &[5]), graph.input("b", &[0]), graph.input("c", &[3, 7])];
        let mut memory = Memory::<f32>::new(&graph).expect("memory");
        let starts = tensors.map(|tensor| memory.storage_mut(graph.spec(tensor).storage).as_ptr().addr());
        assert!(starts.iter().all(|start| start % 64 == 0));
        for (index, &tensor) in tensors.iter().enumerate() {
            memory.storage_mut(graph.spec(tensor).storage).fill(index as f32);
        }
        for (index, &tensor) in tensors.iter().enumerate() {
            assert_eq!(memory.array(tensor), ArrayD::from_elem(graph.shape(tensor), index as f32));
        }
    }
}
