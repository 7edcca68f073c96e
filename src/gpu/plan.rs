//! Plans: the dispatches of a program with their bindings, decided without touching a device.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use naga::valid::Capabilities;

use super::shader::{BindingInfo, BindingKind, Constant, EntryInfo, LANES, Module, Modules, Shader, UNIFORM_ARRAY_BYTES};
use super::table::KernelTable;
use crate::Message;
use crate::error::{Error, Result};
use crate::graph::{Graph, Tensor, TensorSpec};
use crate::ops::{KERNELS, Operation};
use crate::profile::Work;

/// What an adapter offers that decides how work is laid out.
#[derive(Clone, Debug)]
pub struct Traits {
    /// Adapter name, for messages.
    pub name: String,
    /// Whether a CPU computes.
    pub software: bool,
    /// Whether that CPU has AVX-512, without which older Mesa takes ten times as long to load from storage as from a uniform array.
    pub has_avx512: bool,
    /// Largest binding, bytes.
    pub max_binding: u64,
    /// Storage buffers that one dispatch may bind.
    pub max_storage_buffers: u32,
    /// Workgroups along one dimension.
    pub max_workgroups: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub max_invocations: u32,
    /// Subgroup operations, over four invocations at least.
    pub subgroups: bool,
    /// Subgroups of exactly eight invocations, with barriers of their own.
    pub subgroups_of_8: bool,
    /// 16-bit floats in shaders and storage buffers.
    pub f16: bool,
    /// Cooperative matrices, where they can be used.
    pub cooperative: Option<CooperativeMatrices>,
    /// Kernels forced by name: `selective_scan` to `chunked`, say. Where none is forced, the table decides, else shape and adapter.
    pub kernels: HashMap<String, String>,
    /// Kernels that were measured on this adapter.
    pub table: Option<KernelTable>,
}

impl Traits {
    /// The limits that every WebGPU implementation offers.
    pub fn webgpu_default() -> Self {
        Traits {
            name: "WebGPU defaults".into(),
            software: false,
            has_avx512: false,
            max_binding: 128 << 20,
            max_storage_buffers: 8,
            max_workgroups: 65_535,
            max_workgroup_memory: 16_384,
            max_invocations: 256,
            subgroups: false,
            subgroups_of_8: false,
            f16: false,
            cooperative: None,
            kernels: HashMap::new(),
            table: None,
        }
    }

    /// What naga may accept.
    pub fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::empty();
        capabilities.set(Capabilities::SUBGROUP, self.subgroups);
        capabilities.set(Capabilities::SUBGROUP_BARRIER, self.subgroups_of_8);
        capabilities.set(Capabilities::SHADER_FLOAT16, self.f16);
        capabilities.set(Capabilities::COOPERATIVE_MATRIX, self.cooperative.is_some());
        capabilities
    }

    /// What an operation's kernel needs that the adapter does not offer.
    pub fn missing(&self, operation: &str, kernel: &str) -> Option<Need> {
        let (_, kernels) = KERNELS.iter().find(|(name, _)| *name == operation)?;
        let (_, need) = kernels.iter().find(|(name, _)| *name == kernel)?;
        need.filter(|need| match need {
            Need::Subgroups => !self.subgroups,
            Need::SubgroupsOf8 => !self.subgroups_of_8,
            Need::F16 => !self.f16,
            Need::CooperativeMatrices => self.cooperative.is_none(),
        })
    }
}

/// What some kernels need that not every adapter offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// [`Traits::subgroups`].
    Subgroups,
    /// [`Traits::subgroups_of_8`].
    SubgroupsOf8,
    /// [`Traits::f16`].
    F16,
    /// [`Traits::cooperative`].
    CooperativeMatrices,
}

impl Need {
    /// In words.
    pub fn words(self) -> Message {
        match self {
            Need::Subgroups => message!("subgroup operations"),
            Need::SubgroupsOf8 => message!("subgroups of 8 invocations"),
            Need::F16 => message!("16-bit floats"),
            Need::CooperativeMatrices => message!("cooperative matrices of 16-bit floats with 32-bit sums"),
        }
    }
}

/// Square matrices of 16-bit floats that a subgroup multiplies as a whole, with sums of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooperativeMatrices {
    /// Rows and columns: 8 or 16.
    pub side: usize,
    /// Invocations of the largest subgroup.
    pub largest_subgroup: usize,
}

impl CooperativeMatrices {
    /// Invocations of a workgroup that has four subgroups at least.
    pub(crate) fn invocations(&self) -> usize {
        4 * self.largest_subgroup
    }
}

/// One dispatch, complete but for the device's own objects.
#[derive(Debug)]
pub struct Dispatch {
    /// `op.entry`.
    pub label: String,
    /// The shader.
    pub shader: &'static Shader,
    /// Its module.
    pub module: Arc<Module>,
    /// Entry point.
    pub entry: &'static str,
    /// Binding indices and their operands.
    pub bindings: Vec<(u32, Binding)>,
    /// Bytes of the uniform struct.
    pub params: Vec<u8>,
    /// Workgroups.
    pub workgroups: [u32; 3],
    /// Index of the operation that it is a part of, in its program.
    pub operation: usize,
    /// What it moves and computes.
    pub work: Work,
}

/// What is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The uniform struct.
    Params,
    /// A range of a storage, bytes.
    Storage {
        /// Which.
        storage: Place,
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// A tensor that is absent.
    Absent,
}

/// Memory that a dispatch can bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A storage of the graph.
    Graph(usize),
    /// Scratch memory, valid within one operation.
    Scratch(usize),
}

/// A tensor of the graph or scratch memory.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// A tensor.
    Tensor(Tensor),
    /// Some neighbouring ones of the equal parts that a tensor's rows form, or the elements of a tensor of one row.
    Part {
        /// The whole.
        tensor: Tensor,
        /// The first part.
        first: usize,
        /// How many.
        count: usize,
        /// Parts of the whole.
        of: usize,
    },
    /// Scratch memory by number and length in elements.
    Scratch(usize, usize),
    /// [`UNIFORM_ARRAY_BYTES`] of scratch memory by number, from an element on, which a shader reads as a uniform.
    UniformArray(usize, usize),
}

impl From<Tensor> for Operand {
    fn from(tensor: Tensor) -> Self {
        Operand::Tensor(tensor)
    }
}

/// Iterations, of all loops of an invocation together, after which Mesa's software drivers leave a loop, silently.
const MESA_ITERATIONS: usize = 65_535;

/// Loop iterations that are planned for an invocation at most: less than Mesa's software drivers run, so that loops which a plan does not count,
/// such as those of shared functions, fit in what is left.
pub const MOST_ITERATIONS: usize = 60_000;

/// Bindings begin at multiples of this many bytes.
const BINDING_ALIGNMENT: u64 = 256;

/// Collects the dispatches of a program.
#[derive(Debug)]
pub struct Planner<'a> {
    graph: &'a Graph,
    modules: &'a Modules,
    traits: &'a Traits,
    dispatches: Vec<Dispatch>,
    /// Elements of each scratch storage.
    scratch: Vec<usize>,
    scratch_used: usize,
    /// Index of the operation that is being planned.
    operation: usize,
    /// Whether every forced kernel took what it was forced for.
    is_as_forced: Cell<bool>,
}

impl<'a> Planner<'a> {
    /// A planner for programs of `graph`.
    pub fn new(graph: &'a Graph, modules: &'a Modules, traits: &'a Traits) -> Self {
        let (dispatches, scratch) = (Vec::new(), Vec::new());
        Planner { graph, modules, traits, dispatches, scratch, scratch_used: 0, operation: 0, is_as_forced: Cell::new(true) }
    }

    /// Plans the operations of one program.
    ///
    /// # Errors
    /// Whatever an operation refuses.
    pub fn program(&mut self, ops: &[crate::ops::Op]) -> Result<Vec<Dispatch>> {
        for (index, op) in ops.iter().enumerate() {
            self.scratch_used = 0;
            self.operation = index;
            let first = self.dispatches.len();
            op.encode(self)?;
            if let [only] = &mut self.dispatches[first..] {
                only.work.flops = op.flops(self.graph) as f64;
            }
        }
        Ok(std::mem::take(&mut self.dispatches))
    }

    /// Elements of each scratch storage that the planned programs need.
    pub fn scratch_lens(&self) -> &[usize] {
        &self.scratch
    }

    /// Shape and place of a tensor.
    pub fn spec(&self, tensor: Tensor) -> &'a TensorSpec {
        self.graph.spec(tensor)
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// Whether any operation of any program reads a tensor.
    pub fn is_read(&self, tensor: Tensor) -> bool {
        self.graph.programs().iter().flat_map(|(_, ops)| ops).any(|op| op.inputs().contains(&tensor))
    }

    /// The adapter.
    pub fn traits(&self) -> &'a Traits {
        self.traits
    }

    /// The kernel of an operation: the first that the adapter can run and that `fits` the shape, of the forced one, the one measured as the
    /// fastest at sizes like these, and those of the fixed rule, of which the last takes every shape.
    pub fn chosen(&self, operation: &str, sizes: &[usize], rule: &[&'static str], fits: impl Fn(&str) -> bool) -> &'a str {
        let fits = |kernel: &&str| self.traits.missing(operation, kernel).is_none() && fits(kernel);
        let forced = self.traits.kernels.get(operation).map(String::as_str);
        let measured = self.traits.table.as_ref().and_then(|table| table.fastest(operation, sizes));
        let chosen = forced.into_iter().chain(measured).chain(rule.iter().copied()).find(fits).unwrap_or_default();
        if forced.is_some_and(|forced| forced != chosen) {
            self.is_as_forced.set(false);
        }
        chosen
    }

    /// Whether the kernels that are forced were taken wherever what was planned has their operations.
    pub fn is_as_forced(&self) -> bool {
        self.is_as_forced.get()
    }

    /// Refuses a loop that Mesa's software drivers would leave, silently, before its end.
    ///
    /// # Errors
    /// [`Error::Gpu`] where a CPU computes and an invocation would take more `iterations` than Mesa allows.
    pub fn check_loop(&self, operation: &'static str, iterations: usize) -> Result<()> {
        if !self.traits.software || iterations <= MESA_ITERATIONS {
            return Ok(());
        }
        let what = message!(
            "{}: one loop has {} steps, but a software driver runs at most 65535; cut the sequence, or use the CPU",
            operation,
            iterations
        );
        Err(Error::Gpu { adapter: self.traits.name.clone(), what })
    }

    /// Cuts `n_part` equal parts of tensors (see [`Operand::Part`]) into windows, first part and count, each of which can be bound. Where
    /// there are several, they begin at multiples of 64 parts, as far as so many fit.
    pub fn windows(&self, n_part: usize, tensors: &[Tensor]) -> Vec<(usize, usize)> {
        if n_part == 0 {
            return Vec::new();
        }
        let most_elements = (self.traits.max_binding - BINDING_ALIGNMENT.min(self.traits.max_binding)) as usize / 4;
        let part = |tensor: &Tensor| part_elements(self.spec(*tensor), n_part).max(1);
        let most = tensors.iter().map(|tensor| most_elements / part(tensor)).min().unwrap_or(n_part).max(1);
        let most = if most < n_part && most > 64 { most - most % 64 } else { most };
        (0..n_part).step_by(most).map(|first| (first, most.min(n_part - first))).collect()
    }

    /// Scratch memory of `len` floats, for this operation alone; its contents are arbitrary.
    pub fn scratch(&mut self, len: usize) -> Operand {
        let index = self.scratch_used;
        self.scratch_used += 1;
        if index == self.scratch.len() {
            self.scratch.push(0);
        }
        self.scratch[index] = self.scratch[index].max(len);
        Operand::Scratch(index, len)
    }

    /// What a shader reads as a uniform array: [`UNIFORM_ARRAY_BYTES`] of scratch memory from `start` on, a multiple of 64 elements. Behind the
    /// end of the scratch memory lies as much that is arbitrary.
    pub fn uniform_array(&mut self, scratch: Operand, start: usize) -> Operand {
        let Operand::Scratch(index, len) = scratch else { return scratch };
        self.scratch[index] = self.scratch[index].max(len + UNIFORM_ARRAY_BYTES as usize / 4);
        Operand::UniformArray(index, start)
    }

    /// Starts a dispatch of an entry point.
    pub fn kernel(&mut self, shader: &'static Shader, entry: &'static str) -> Kernel<'_, 'a> {
        Kernel { plan: self, shader, entry, constants: Vec::new(), operands: Vec::new(), params: Vec::new(), flops: 0, bytes: None }
    }
}

/// Elements from one to the next of so many equal parts of a tensor's rows, or of the elements of its one row.
fn part_elements(spec: &TensorSpec, n_part: usize) -> usize {
    if spec.rows() > 1 { spec.rows() / n_part * spec.row_stride } else { spec.len() / n_part.max(1) }
}

/// A dispatch under construction.
#[derive(Debug)]
pub struct Kernel<'p, 'a> {
    plan: &'p mut Planner<'a>,
    shader: &'static Shader,
    entry: &'static str,
    constants: Vec<(&'static str, Constant)>,
    operands: Vec<(&'static str, Option<Operand>)>,
    /// Member, word within it, bits.
    params: Vec<(&'static str, usize, u32)>,
    flops: usize,
    bytes: Option<usize>,
}

/// A value for a member of the uniform struct.
pub trait Param {
    /// Its 32 bits.
    fn bits(self) -> u32;
}

impl Param for usize {
    fn bits(self) -> u32 {
        self as u32
    }
}

impl Param for u32 {
    fn bits(self) -> u32 {
        self
    }
}

impl Param for f32 {
    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl Param for bool {
    fn bits(self) -> u32 {
        u32::from(self)
    }
}

impl Kernel<'_, '_> {
    /// Sets a generated constant.
    pub fn constant(mut self, name: &'static str, value: impl Into<Constant>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    /// Sets a member of the uniform struct.
    pub fn param(mut self, name: &'static str, value: impl Param) -> Self {
        self.params.push((name, 0, value.bits()));
        self
    }

    /// Sets the first elements of a member of the uniform struct that is an array of `vec4<f32>`.
    pub fn param_list(mut self, name: &'static str, values: &[f32]) -> Self {
        self.params.extend(values.iter().enumerate().map(|(word, value)| (name, word, value.to_bits())));
        self
    }

    /// Binds a tensor or scratch memory to the variable of that name. Members `NAME_offset` and `NAME_stride` of the uniform struct,
    /// where they exist, are set from the tensor; where they do not, it must be contiguous.
    pub fn bind(mut self, name: &'static str, operand: impl Into<Operand>) -> Self {
        self.operands.push((name, Some(operand.into())));
        self
    }

    /// Binds some parts of a tensor, of so many: see [`Operand::Part`].
    pub fn bind_part(self, name: &'static str, tensor: Tensor, (first, count): (usize, usize), of: usize) -> Self {
        self.bind(name, Operand::Part { tensor, first, count, of })
    }

    /// Binds a tensor that may be absent, and sets the constant `HAS_NAME`, which the shader must have.
    pub fn bind_optional(mut self, name: &'static str, operand: Option<impl Into<Operand>>) -> Self {
        let flag = format!("HAS_{}", name.to_uppercase());
        if let Some((flag, _)) = self.shader.constants.iter().find(|(known, _)| *known == flag) {
            self.constants.push((flag, Constant::Bool(operand.is_some())));
        }
        self.operands.push((name, operand.map(Into::into)));
        self
    }

    /// Says how many floating-point operations it takes, for profiles; of an operation's only kernel, [`Operation::flops`] says it.
    pub fn flops(mut self, flops: usize) -> Self {
        self.flops = flops;
        self
    }

    /// Says how many bytes it moves, for profiles, where that is not all that is bound.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Dispatches one invocation an item, in workgroups of `LANES`, spread over x and y where they are many:
    /// the item is `invocation_of(global, workgroups)`.
    ///
    /// # Errors
    /// As [`Kernel::workgroups`].
    pub fn lanes(self, items: usize) -> Result<()> {
        self.groups(items.div_ceil(LANES))
    }

    /// Dispatches `count` workgroups, spread over x and y where they are many: the workgroup is `group.y * workgroups.x + group.x`.
    ///
    /// # Errors
    /// As [`Kernel::workgroups`].
    pub fn groups(self, count: usize) -> Result<()> {
        let limit = self.plan.traits.max_workgroups as usize;
        let y = count.div_ceil(limit).max(1);
        self.workgroups([count.div_ceil(y), y, 1])
    }

    /// Finishes the dispatch.
    ///
    /// # Errors
    /// [`Error::Gpu`] where a limit of the adapter is too small, [`Error::Unsupported`] where the bindings do not fit the shader.
    pub fn workgroups(self, workgroups: [usize; 3]) -> Result<()> {
        let module = self.plan.modules.get(self.shader, &self.constants, self.plan.traits.capabilities())?;
        let Some(info) = module.entries.get(self.entry) else { return Err(self.refuse(message!("no such entry point"))) };
        self.check_limits(&module, info, workgroups)?;
        let mut params = Params { members: &module.params, bytes: vec![0; module.params_size as usize] };
        for &(name, word, bits) in &self.params {
            if !params.set(name, word, bits) {
                return Err(self.refuse(message!("Params has no member {}", name)));
            }
        }
        let (bindings, n_bound) = self.bindings(&module, info, &mut params)?;
        let (params, label) = (params.bytes, self.label());
        let Kernel { plan, shader, entry, flops, bytes, .. } = self;
        plan.dispatches.push(Dispatch {
            label,
            shader,
            module,
            entry,
            bindings,
            params,
            workgroups: workgroups.map(|count| count as u32),
            operation: plan.operation,
            work: Work { bytes: bytes.unwrap_or(4 * n_bound) as f64, flops: flops as f64, exponentials: 0.0 },
        });
        Ok(())
    }

    fn label(&self) -> String {
        format!("{}.{}", self.shader.name, self.entry)
    }

    fn refuse(&self, what: Message) -> Error {
        Error::Unsupported { operation: self.shader.name, what: message!("{}: {}", self.entry).with(what) }
    }

    fn limited(&self, what: Message) -> Error {
        Error::Gpu { adapter: self.plan.traits.name.clone(), what: message!("{}: {}", self.label()).with(what) }
    }

    /// What an entry takes beside what is bound.
    fn check_limits(&self, module: &Module, info: &EntryInfo, workgroups: [usize; 3]) -> Result<()> {
        let traits = self.plan.traits;
        if let Some(&count) = workgroups.iter().find(|&&count| count > traits.max_workgroups as usize) {
            return Err(self.limited(message!(
                "{} workgroups along one dimension, where at most {} are possible",
                count,
                traits.max_workgroups
            )));
        }
        if info.invocations > traits.max_invocations {
            return Err(self.limited(message!("{} invocations a workgroup, at most {}", info.invocations, traits.max_invocations)));
        }
        if info.workgroup_memory > traits.max_workgroup_memory {
            let (wanted, limit) = (info.workgroup_memory, traits.max_workgroup_memory);
            return Err(self.limited(message!("{} bytes of workgroup memory, at most {}", wanted, limit)));
        }
        let n_storage = module.of(info).filter(|variable| matches!(variable.kind, BindingKind::Read | BindingKind::Write)).count();
        if n_storage > traits.max_storage_buffers as usize {
            return Err(self.limited(message!("{} storage buffers, at most {}", n_storage, traits.max_storage_buffers)));
        }
        Ok(())
    }

    /// What is bound to the variables of an entry, and how many elements in all.
    fn bindings(&self, module: &Module, info: &EntryInfo, params: &mut Params) -> Result<(Vec<(u32, Binding)>, usize)> {
        let (mut bindings, mut n_bound) = (Vec::new(), 0);
        let mut access: HashMap<Place, (bool, &str)> = HashMap::new();
        for BindingInfo { name, index, kind } in module.of(info) {
            let binding = match self.operands.iter().find(|(bound, _)| bound == name) {
                _ if *kind == BindingKind::Uniform => Binding::Params,
                None => return Err(self.refuse(message!("{} is not bound", name))),
                Some((_, None)) => Binding::Absent,
                Some((_, Some(operand))) => {
                    if (*kind == BindingKind::UniformArray) != matches!(operand, Operand::UniformArray(..)) {
                        return Err(self.refuse(message!("{} is a uniform array where a window is bound, and nowhere else", name)));
                    }
                    let range = self.range(name, *operand, params)?;
                    n_bound += range.n_element;
                    let written = *kind == BindingKind::Write;
                    if let Some((other, first)) = access.insert(range.storage, (written, name))
                        && other != written
                    {
                        return Err(self.refuse(message!("{} and {} share storage, and one of them is written", first, name)));
                    }
                    self.binding(name, *operand, &range, params)?
                }
            };
            bindings.push((*index, binding));
        }
        Ok((bindings, n_bound))
    }

    /// Where an operand lies; its stride goes to the member `NAME_stride`.
    fn range(&self, name: &str, operand: Operand, params: &mut Params) -> Result<Range> {
        let (tensor, first, count, of) = match operand {
            Operand::Scratch(storage, len) => return Ok(Range { storage: Place::Scratch(storage), start: 0, len, n_element: len }),
            Operand::UniformArray(storage, start) => {
                let len = UNIFORM_ARRAY_BYTES as usize / 4;
                return Ok(Range { storage: Place::Scratch(storage), start, len, n_element: len });
            }
            Operand::Tensor(tensor) => (tensor, 0, 1, 1),
            Operand::Part { tensor, first, count, of } => (tensor, first, count, of),
        };
        let spec = self.plan.graph.spec(tensor);
        if !params.set(&format!("{name}_stride"), 0, spec.row_stride as u32) && !spec.is_contiguous() {
            return Err(self.refuse(message!("{} (`{}`) must be contiguous", name, spec.label)));
        }
        let part = part_elements(spec, of);
        let gap = if spec.rows() > 1 { spec.row_stride - spec.columns() } else { 0 };
        let len = count * part - gap;
        Ok(Range { storage: Place::Graph(spec.storage), start: spec.offset + first * part, len, n_element: spec.len() / of * count })
    }

    /// Binds from the aligned element at or before the range; the distance between them goes to the member `NAME_offset`.
    fn binding(&self, name: &str, operand: Operand, range: &Range, params: &mut Params) -> Result<Binding> {
        let Range { storage, start, len, .. } = *range;
        let skipped = 4 * start as u64 % BINDING_ALIGNMENT;
        if !params.set(&format!("{name}_offset"), 0, skipped as u32 / 4) && skipped != 0 {
            return Err(self.refuse(message!("{} must begin at a multiple of {} bytes", name, BINDING_ALIGNMENT)));
        }
        let (size, most) = ((4 * len as u64 + skipped).max(4), self.plan.traits.max_binding);
        if size > most && !matches!(operand, Operand::UniformArray(..)) {
            let what = match operand {
                Operand::Part { count: 1, of, .. } if of > 1 => message!("one of the {} parts of {}", of, name),
                _ => Message::verbatim(name),
            };
            let [size, most] = [size, most].map(Message::verbatim);
            return Err(self.limited(message!("{} takes {} bytes, at most {} can be bound").with(what).with(size).with(most)));
        }
        Ok(Binding::Storage { storage, offset: 4 * start as u64 - skipped, size })
    }
}

/// The uniform struct of a dispatch.
struct Params<'a> {
    members: &'a [(String, u32)],
    bytes: Vec<u8>,
}

impl Params<'_> {
    /// Sets a word of a member; whether there is such a one.
    fn set(&mut self, name: &str, word: usize, bits: u32) -> bool {
        let member = self.members.iter().find(|(member, _)| member == name);
        let place = member.and_then(|(_, offset)| self.bytes.get_mut(*offset as usize + 4 * word..)?.first_chunk_mut());
        place.map(|place| *place = bits.to_le_bytes()).is_some()
    }
}

/// Where an operand lies, in elements.
struct Range {
    storage: Place,
    start: usize,
    len: usize,
    /// Elements without the gaps between rows.
    n_element: usize,
}
