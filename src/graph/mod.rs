//! Tensors, and the programs of operations over them.
//!
//! A model is written once, as operations pushed to a [`Graph`]; a backend then loads the graph, allocates every tensor once, and runs
//! its programs any number of times. A GPU compiles a program when it first runs; after that nothing is allocated or decided while one runs.

mod gradients;
mod share;

pub use gradients::Gradients;

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::ops::{Op, Operation};

/// A tensor of a [`Graph`]: an index, valid for the graph that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tensor(u32);

/// A program of a [`Graph`]: a fixed list of operations that a backend runs as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program(usize);

impl Program {
    /// Position in [`Graph::programs`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// What the elements of a storage are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 32-bit unsigned integers: row indices, step counters.
    U32,
}

/// A block of memory, allocated once for as long as the graph is loaded; of one tensor and its views, or of several that share it.
#[derive(Clone, Debug)]
pub struct StorageSpec {
    /// Name for messages and profilers.
    pub label: String,
    /// Elements.
    pub len: usize,
    /// Element type.
    pub element: Element,
}

/// Where a tensor's values come from, which decides how gradients reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Written by the host.
    Input,
    /// Trained: its gradient lies at the same place of the flat gradient storage.
    Parameter,
    /// Written by operations.
    Computed,
}

/// Shape and place of a tensor: rows of `columns()` neighbouring elements, `row_stride` elements apart.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Name for messages and profilers.
    pub label: String,
    /// Lengths, slowest axis first.
    pub shape: Vec<usize>,
    /// Index into [`Graph::storages`].
    pub storage: usize,
    /// Elements before the first one.
    pub offset: usize,
    /// Elements from one row (the last axis) to the next.
    pub row_stride: usize,
    /// The tensor that this one is a view of, or itself.
    root: Tensor,
    role: Role,
    requires_grad: bool,
}

impl TensorSpec {
    /// Elements of the tensor.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the last axis.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Product of all axes but the last.
    pub fn rows(&self) -> usize {
        self.len() / self.columns().max(1)
    }

    /// Whether the elements lie side by side.
    pub fn is_contiguous(&self) -> bool {
        self.row_stride == self.columns() || self.rows() <= 1
    }

    /// Elements from the first to behind the last one.
    pub fn span(&self) -> usize {
        if self.is_empty() { 0 } else { (self.rows() - 1) * self.row_stride + self.columns() }
    }
}

/// A parameter as a checkpoint names it.
#[derive(Clone, Debug)]
pub struct ParameterSpec {
    /// Full name, such as `layers.0.mixer.A_log`.
    pub name: String,
    /// Its tensor.
    pub tensor: Tensor,
    /// How it is initialised.
    pub init: Init,
}

/// How a parameter is initialised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element the same.
    Constant(f32),
    /// Uniform in `[-bound, bound]`.
    Uniform(f32),
    /// `log(1), log(2), ..` along the last axis (Mamba's `A_log`).
    LogRange,
    /// Inverse softplus of a step drawn log-uniformly in `[min, max]` (Mamba's `dt_proj.bias`).
    LogUniformStep {
        /// Smallest step.
        min: f32,
        /// Largest step.
        max: f32,
    },
    /// Uniform in `[low, high]`.
    Range {
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
    },
}

/// Parameters start at multiples of this many elements, so that a GPU can bind each by itself (256 bytes).
const PARAMETER_ALIGNMENT: usize = 64;
const PARAMETERS: usize = 0;
const GRADIENTS: usize = 1;

/// Tensors, their storages, and programs over them.
///
/// ```
/// use scanrnn::backend::Backend;
/// use scanrnn::cpu::Cpu;
/// use scanrnn::graph::Graph;
/// # pollster::block_on(async {
/// let mut graph = Graph::new();
/// let x = graph.variable("x", &[2, 3]); // (batch, in)
/// let weight = graph.variable("weight", &[1, 3]); // (out, in)
/// let y = graph.linear("y", x, weight, None)?; // (batch, out)
/// let grad_y = graph.input("grad_y", &[2, 1]);
/// let gradients = graph.backward(&[(y, grad_y)])?;
/// let grad_weight = gradients.of(&mut graph, weight).expect("y depends on it");
/// let program = graph.finish("forward and backward");
///
/// let mut session = Cpu.load(&graph).await?;
/// session.write(x, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// session.write(weight, &[1.0, 0.0, -1.0])?;
/// session.write(grad_y, &[1.0, 1.0])?;
/// session.run(program, 1)?;
/// assert_eq!(session.read(y).await?, [-2.0, -2.0]);
/// assert_eq!(session.read(grad_weight).await?, [5.0, 7.0, 9.0]);
/// # Ok::<(), scanrnn::Error>(())
/// # })?;
/// # Ok::<(), scanrnn::Error>(())
/// ```
#[derive(Debug)]
pub struct Graph {
    storages: Vec<StorageSpec>,
    tensors: Vec<TensorSpec>,
    parameters: Vec<ParameterSpec>,
    programs: Vec<(String, Vec<Op>)>,
    ops: Vec<Op>,
    parameter_gradients: HashMap<Tensor, Tensor>,
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        let storage = |label: &str| StorageSpec { label: label.into(), len: 0, element: Element::F32 };
        Graph {
            storages: vec![storage("parameters"), storage("gradients")],
            tensors: Vec::new(),
            parameters: Vec::new(),
            programs: Vec::new(),
            ops: Vec::new(),
            parameter_gradients: HashMap::new(),
        }
    }

    /// Shape and place of a tensor.
    pub fn spec(&self, tensor: Tensor) -> &TensorSpec {
        &self.tensors[tensor.0 as usize]
    }

    /// Shape of a tensor.
    pub fn shape(&self, tensor: Tensor) -> &[usize] {
        &self.spec(tensor).shape
    }

    /// Shape of a tensor that must have `AXES` axes.
    ///
    /// # Errors
    /// [`Error::Shape`] where it has another number of axes, or an empty one.
    pub fn axes<const AXES: usize>(&self, operation: &'static str, tensor: Tensor) -> Result<[usize; AXES]> {
        let spec = self.spec(tensor);
        let axes = <[usize; AXES]>::try_from(spec.shape.as_slice()).ok().filter(|axes| !axes.contains(&0));
        axes.ok_or_else(|| Error::shape(operation, &spec.label, format!("{AXES} axes, none of them empty"), &spec.shape))
    }

    /// Checks a tensor's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] where it differs.
    pub fn expect(&self, operation: &'static str, tensor: Tensor, shape: &[usize]) -> Result<()> {
        let spec = self.spec(tensor);
        if spec.shape == shape { Ok(()) } else { Err(Error::shape(operation, &spec.label, format!("{shape:?}"), &spec.shape)) }
    }

    /// Every storage, in the order of [`TensorSpec::storage`].
    pub fn storages(&self) -> &[StorageSpec] {
        &self.storages
    }

    /// Every tensor with its place.
    pub fn tensors(&self) -> impl Iterator<Item = (Tensor, &TensorSpec)> {
        self.tensors.iter().enumerate().map(|(index, spec)| (Tensor(index as u32), spec))
    }

    /// Every tensor that operations write and that is not a view: a test fills these with NaN before a run.
    pub fn computed(&self) -> impl Iterator<Item = (Tensor, &TensorSpec)> {
        self.tensors().filter(|(tensor, spec)| spec.role == Role::Computed && spec.root == *tensor)
    }

    /// Every parameter, in the order of its declaration.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }

    /// Checks that values are those of all parameters, in the order of their declaration.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are more or fewer tensors, or values of one.
    pub(crate) fn expect_parameters(&self, operation: &'static str, values: &[Vec<f32>]) -> Result<()> {
        let (want, got) = (self.parameters.len(), values.len());
        if got != want {
            return Err(Error::shape(operation, "parameters", format!("{want} tensors"), &[got]));
        }
        let len = |parameter: &ParameterSpec| self.spec(parameter.tensor).len();
        match self.parameters.iter().zip(values).find(|(parameter, values)| values.len() != len(parameter)) {
            Some((parameter, values)) => {
                Err(Error::shape(operation, &parameter.name, format!("{} values", len(parameter)), &[values.len()]))
            }
            None => Ok(()),
        }
    }

    /// Every finished program with its name.
    pub fn programs(&self) -> &[(String, Vec<Op>)] {
        &self.programs
    }

    /// The operations of a program.
    pub fn program(&self, program: Program) -> &[Op] {
        &self.programs[program.0].1
    }

    fn storage(&mut self, label: &str, len: usize, element: Element) -> usize {
        self.storages.push(StorageSpec { label: label.into(), len, element });
        self.storages.len() - 1
    }

    fn add(&mut self, label: &str, shape: &[usize], storage: usize, offset: usize, role: Role, requires_grad: bool) -> Tensor {
        let tensor = Tensor(self.tensors.len() as u32);
        let row_stride = shape.last().copied().unwrap_or(1);
        self.tensors.push(TensorSpec {
            label: label.into(),
            shape: shape.to_vec(),
            storage,
            offset,
            row_stride,
            root: tensor,
            role,
            requires_grad,
        });
        tensor
    }

    /// A tensor that the host writes and that needs no gradient.
    pub fn input(&mut self, label: &str, shape: &[usize]) -> Tensor {
        let storage = self.storage(label, shape.iter().product(), Element::F32);
        self.add(label, shape, storage, 0, Role::Input, false)
    }

    /// A tensor that the host writes and that receives a gradient.
    pub fn variable(&mut self, label: &str, shape: &[usize]) -> Tensor {
        let storage = self.storage(label, shape.iter().product(), Element::F32);
        self.add(label, shape, storage, 0, Role::Input, true)
    }

    /// A tensor of unsigned integers that the host writes: indices, masks, counters.
    pub fn indices(&mut self, label: &str, shape: &[usize]) -> Tensor {
        let storage = self.storage(label, shape.iter().product(), Element::U32);
        self.add(label, shape, storage, 0, Role::Input, false)
    }

    /// A tensor that operations write. Whether it needs a gradient follows from what it is computed of.
    pub fn tensor(&mut self, label: &str, shape: &[usize]) -> Tensor {
        let storage = self.storage(label, shape.iter().product(), Element::F32);
        self.add(label, shape, storage, 0, Role::Computed, false)
    }

    /// A tensor that starts at zero and keeps its values from one run to the next: optimizer moments, collected losses.
    pub fn state(&mut self, label: &str, shape: &[usize]) -> Tensor {
        self.input(label, shape)
    }

    /// One trained tensor, part of the flat parameter storage.
    pub fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Tensor {
        self.stacked_parameter(&[(name, shape, init)])
    }

    /// Trained tensors stacked along their first axis into one, so that one product serves them all; each keeps its own name.
    ///
    /// All shapes agree but for the first axis.
    pub fn stacked_parameter(&mut self, parts: &[(&str, &[usize], Init)]) -> Tensor {
        let offset = self.storages[PARAMETERS].len;
        let mut shape = parts[0].1.to_vec();
        shape[0] = parts.iter().map(|(_, shape, _)| shape[0]).sum();
        let len: usize = shape.iter().product();
        let end = (offset + len).next_multiple_of(PARAMETER_ALIGNMENT);
        self.storages[PARAMETERS].len = end;
        self.storages[GRADIENTS].len = end;
        let label = parts.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join("+");
        let whole = self.add(&label, &shape, PARAMETERS, offset, Role::Parameter, true);
        let gradient = self.add(&format!("grad_{label}"), &shape, GRADIENTS, offset, Role::Computed, false);
        self.parameter_gradients.insert(whole, gradient);
        let mut row = 0;
        for (name, part, init) in parts {
            let tensor =
                if parts.len() == 1 { whole } else { self.view(whole, name, part, row * part[1..].iter().product::<usize>(), None) };
            row += part[0];
            self.parameters.push(ParameterSpec { name: (*name).into(), tensor, init: *init });
        }
        whole
    }

    /// All parameters as one vector, padding (always zero) included.
    pub fn flat_parameters(&mut self) -> Tensor {
        self.add("parameters", &[self.storages[PARAMETERS].len], PARAMETERS, 0, Role::Input, false)
    }

    /// The gradients of all parameters as one vector, each at its parameter's place.
    pub fn flat_gradients(&mut self) -> Tensor {
        self.add("gradients", &[self.storages[GRADIENTS].len], GRADIENTS, 0, Role::Input, false)
    }

    fn view(&mut self, of: Tensor, label: &str, shape: &[usize], offset: usize, row_stride: Option<usize>) -> Tensor {
        let tensor = Tensor(self.tensors.len() as u32);
        let parent = self.spec(of);
        let spec = TensorSpec {
            label: label.into(),
            shape: shape.to_vec(),
            storage: parent.storage,
            offset: parent.offset + offset,
            row_stride: row_stride.unwrap_or_else(|| shape.last().copied().unwrap_or(1)),
            root: parent.root,
            role: parent.role,
            requires_grad: parent.requires_grad,
        };
        self.tensors.push(spec);
        tensor
    }

    /// Columns `start..start + len` of the last axis, without a copy.
    ///
    /// # Panics
    /// Where the tensor has no such columns.
    pub fn columns(&mut self, of: Tensor, label: &str, start: usize, len: usize) -> Tensor {
        let spec = self.spec(of);
        assert!(start + len <= spec.columns(), "`{}` has no columns {start}..{}", spec.label, start + len);
        let (mut shape, stride) = (spec.shape.clone(), spec.row_stride);
        if let Some(last) = shape.last_mut() {
            *last = len;
        }
        self.view(of, label, &shape, start, Some(stride))
    }

    /// Rows `start..start + len` of the first axis of a contiguous tensor, without a copy.
    ///
    /// # Panics
    /// Where the tensor has no such rows, or is itself a strided view.
    pub fn rows(&mut self, of: Tensor, label: &str, start: usize, len: usize) -> Tensor {
        let spec = self.spec(of);
        let n_row = spec.shape.first().copied().unwrap_or(0);
        assert!(start + len <= n_row && spec.is_contiguous(), "`{}` has no contiguous rows {start}..{}", spec.label, start + len);
        let mut shape = spec.shape.clone();
        let row: usize = shape[1..].iter().product();
        shape[0] = len;
        self.view(of, label, &shape, start * row, None)
    }

    /// Step `step` of a contiguous `(batch, step, channel)` tensor as `(batch, channel)`, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] where the tensor has not three axes or no such step, [`Error::Unsupported`] where it is itself a strided view.
    pub fn step(&mut self, of: Tensor, step: usize) -> Result<Tensor> {
        let [n_batch, n_step, n_channel] = self.axes("step", of)?;
        if step >= n_step {
            return Err(Error::shape("step", &self.spec(of).label, format!("more than {step} steps"), self.shape(of)));
        }
        if !self.spec(of).is_contiguous() {
            return Err(Error::Unsupported { operation: "step", what: message!("`{}` is strided", self.spec(of).label) });
        }
        let label = format!("{}[{step}]", self.spec(of).label);
        Ok(self.view(of, &label, &[n_batch, n_channel], step * n_channel, Some(n_step * n_channel)))
    }

    /// The same elements under another shape, without a copy; strided tensors keep their last axis.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of elements differs or a strided last axis would change.
    pub fn reshape(&mut self, of: Tensor, shape: &[usize]) -> Result<Tensor> {
        let spec = self.spec(of);
        let same_rows = spec.is_contiguous() || shape.last() == spec.shape.last();
        if shape.iter().product::<usize>() != spec.len() || !same_rows {
            return Err(Error::shape("reshape", &spec.label, format!("the elements of {shape:?}"), &spec.shape));
        }
        let (label, stride) = (spec.label.clone(), (!spec.is_contiguous()).then_some(spec.row_stride));
        Ok(self.view(of, &label, shape, 0, stride))
    }

    /// Appends an operation to the program under construction.
    pub fn push(&mut self, op: impl Into<Op>) {
        let op = op.into();
        if op.inputs().iter().any(|&input| self.requires_grad(input)) {
            for output in op.outputs() {
                let root = self.spec(output).root;
                let root = &mut self.tensors[root.0 as usize];
                // What an input is overwritten with, such as the state of the next run, is cut off from its past.
                root.requires_grad |= root.role == Role::Computed;
            }
        }
        self.ops.push(op);
    }

    /// Whether gradients flow to a tensor.
    pub fn requires_grad(&self, tensor: Tensor) -> bool {
        self.spec(self.spec(tensor).root).requires_grad
    }

    /// Closes the program under construction.
    pub fn finish(&mut self, name: &str) -> Program {
        self.programs.push((name.into(), std::mem::take(&mut self.ops)));
        Program(self.programs.len() - 1)
    }

    /// Closes the program under construction as two: what follows from parameters alone, to be run when these change, and the rest.
    pub fn finish_prepared(&mut self, prepare: &str, rest: &str) -> (Program, Program) {
        let ops = std::mem::take(&mut self.ops);
        let follows = self.follow_from_parameters(&ops);
        let (first, second): (Vec<_>, Vec<_>) = ops.into_iter().zip(follows).partition(|(_, follows)| *follows);
        for (name, ops) in [(prepare, first), (rest, second)] {
            self.programs.push((name.into(), ops.into_iter().map(|(op, _)| op).collect()));
        }
        (Program(self.programs.len() - 2), Program(self.programs.len() - 1))
    }

    /// Of each operation, whether its results follow from parameters alone.
    fn follow_from_parameters(&self, ops: &[Op]) -> Vec<bool> {
        let roots = |tensors: Vec<Tensor>| tensors.into_iter().map(|tensor| self.spec(tensor).root).collect::<Vec<_>>();
        // what one operation writes anew at every run, others that write parts of it must, too
        let mut varying: HashSet<Tensor> = HashSet::new();
        loop {
            let mut constant: HashSet<Tensor> = self.parameters.iter().map(|parameter| self.spec(parameter.tensor).root).collect();
            let mut follows = Vec::with_capacity(ops.len());
            let n_before = varying.len();
            for op in ops {
                let (inputs, outputs) = (roots(op.inputs()), roots(op.outputs()));
                let is_constant = inputs.iter().all(|root| constant.contains(root)) && !outputs.iter().any(|root| varying.contains(root));
                if is_constant { &mut constant } else { &mut varying }.extend(outputs);
                follows.push(is_constant);
            }
            if varying.len() == n_before {
                return follows;
            }
        }
    }

    /// Bytes of all storages.
    pub fn bytes(&self) -> usize {
        self.storages.iter().map(|storage| 4 * storage.len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Elementwise;

    #[test]
    fn seeds_and_steps_that_do_not_fit_are_refused() {
        let mut graph = Graph::new();
        let x = graph.variable("x", &[2, 3, 4]);
        let y = graph.neg_exp("y", x);
        let seed = graph.input("seed", &[2, 12]);
        assert!(graph.step(y, 2).is_ok());
        assert!(graph.step(y, 3).expect_err("three steps").to_string().contains("more than 3 steps"));
        assert!(graph.backward(&[(y, seed)]).expect_err("another shape").to_string().contains("[2, 3, 4]"));
    }

    #[test]
    fn what_every_run_writes_is_not_prepared() {
        let mut graph = Graph::new();
        let (x, w) = (graph.input("x", &[1]), graph.parameter("w", &[1], Init::Constant(1.0)));
        let (y, _) = (graph.tensor("y", &[1]), graph.neg_exp("a", w));
        graph.push(Elementwise::Fill { y, value: 0.0 });
        graph.push(Elementwise::Add { x, y });
        graph.finish_prepared("first", "rest");
        let names = |program: usize| graph.programs()[program].1.iter().map(Operation::name).collect::<Vec<_>>();
        assert_eq!((names(0), names(1)), (vec!["neg_exp"], vec!["fill", "add"]));
    }
}
