//! A graph's tensors in host memory.

use ndarray::{ArrayD, ArrayView, ArrayView2, ArrayViewD, ArrayViewMutD, Dimension, IxDyn, ShapeBuilder};

use crate::backend::check_len;
use crate::error::Result;
use crate::graph::{Graph, Tensor, TensorSpec};

/// Every storage of a graph as a vector. Indices are kept as numbers, exact up to 2^24.
#[derive(Debug)]
pub struct Memory<'a, T> {
    graph: &'a Graph,
    storages: Vec<Vec<T>>,
}

impl<'a, T: Clone + num_traits::Zero + Copy> Memory<'a, T> {
    /// Zeros for every storage.
    pub fn new(graph: &'a Graph) -> Self {
        Memory { graph, storages: graph.storages().iter().map(|storage| vec![T::zero(); storage.len]).collect() }
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
        let elements = &self.storages[spec.storage][spec.offset..spec.offset + spec.span()];
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
        let elements = &self.storages[spec.storage][spec.offset..spec.offset + spec.span()];
        let strides = if spec.is_empty() { (0, 0) } else { (spec.row_stride, 1) };
        ArrayView2::from_shape((spec.rows(), spec.columns()).strides(strides), elements).expect("a graph's tensors lie in their storages")
    }

    /// A tensor's elements, to be written.
    pub fn view_mut(&mut self, tensor: Tensor) -> ArrayViewMutD<'_, T> {
        let spec = self.spec(tensor);
        let elements = &mut self.storages[spec.storage][spec.offset..spec.offset + spec.span()];
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

    /// Every storage's elements.
    pub fn storages_mut(&mut self) -> &mut [Vec<T>] {
        &mut self.storages
    }

    /// A copy of a tensor's elements.
    pub fn array(&self, tensor: Tensor) -> ArrayD<T> {
        self.view(tensor).to_owned()
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
