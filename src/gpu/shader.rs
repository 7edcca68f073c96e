//! Shaders: a module is the text of one operation's kernels, the shared files that it names, and one `const` line a constant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, StorageAccess, TypeInner};

use crate::Message;
use crate::error::{Error, Result};

/// One file of `shaders/`.
#[derive(Debug)]
pub struct Shader {
    /// The file's stem.
    pub name: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// Texts of the `shaders/shared/` files that it uses.
    pub shared: &'static [&'static str],
    /// Constants that the text expects, with the values they have where a dispatch sets no other.
    pub constants: &'static [(&'static str, Constant)],
}

/// A constant that is generated into a module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Constant {
    /// An unsigned integer.
    U32(u32),
    /// A truth value.
    Bool(bool),
}

impl From<usize> for Constant {
    fn from(value: usize) -> Self {
        Constant::U32(value as u32)
    }
}

impl From<bool> for Constant {
    fn from(value: bool) -> Self {
        Constant::Bool(value)
    }
}

/// A validated module with what its bindings are.
#[derive(Debug)]
pub struct Module {
    /// The assembled text.
    pub text: String,
    /// What wgpu compiles.
    pub naga: naga::Module,
    /// Every binding of the module.
    pub bindings: Vec<BindingInfo>,
    /// Members of the uniform struct `Params`: name, byte offset.
    pub params: Vec<(String, u32)>,
    /// Bytes of `Params`.
    pub params_size: u32,
    /// Entry points by name.
    pub entries: HashMap<String, EntryInfo>,
}

impl Module {
    /// The variables of an entry point.
    pub(super) fn of(&self, entry: &EntryInfo) -> impl Iterator<Item = &BindingInfo> {
        entry.bindings.iter().filter_map(|index| self.bindings.iter().find(|variable| variable.index == *index))
    }
}

/// What an entry point uses.
#[derive(Debug)]
pub struct EntryInfo {
    /// Binding indices.
    pub bindings: Vec<u32>,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
}

/// A binding as the shader declares it.
#[derive(Debug)]
pub struct BindingInfo {
    /// Variable name.
    pub name: String,
    /// `@binding`.
    pub index: u32,
    /// Uniform or storage, and whether it is written.
    pub kind: BindingKind,
}

/// Kind of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingKind {
    /// The `Params` struct.
    Uniform,
    /// `var<uniform>` array: [`UNIFORM_ARRAY_BYTES`] of scratch memory.
    UniformArray,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// Bytes of an array that a shader reads as a uniform: the largest uniform binding that every implementation offers.
pub const UNIFORM_ARRAY_BYTES: u64 = 64 << 10;

/// Invocations of a workgroup where the order of work is a plain list: `LANES` in every shader.
pub const LANES: usize = 64;

/// The number of an invocation in such a list, in every shader.
const INVOCATION: &str = "
fn invocation_of(global: vec3<u32>, workgroups: vec3<u32>) -> u32 {
    return global.y * workgroups.x * LANES + global.x;
}
";

impl Shader {
    /// The module's text under the given constants.
    pub fn assemble(&self, constants: &[(&'static str, Constant)]) -> String {
        let parts = || self.shared.iter().chain([&self.source]);
        // directives come before all else
        let mut text: String =
            parts().flat_map(|part| part.lines().take_while(|line| is_directive(line))).map(|line| format!("{line}\n")).collect();
        text += &format!("const LANES = {LANES}u;\n{INVOCATION}");
        let chosen = |name: &str| constants.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
        for (name, default) in self.constants {
            text += &match chosen(name).unwrap_or(*default) {
                Constant::U32(value) => format!("const {name} = {value}u;\n"),
                Constant::Bool(value) => format!("const {name} = {value};\n"),
            };
        }
        for line in parts().flat_map(|part| part.lines().skip_while(|line| is_directive(line))) {
            text += line;
            text += "\n";
        }
        text
    }

    /// Assembles, parses, validates and reflects the module.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the compiler's message, where the text is not valid WGSL or needs a capability that is not given.
    pub fn module(&self, constants: &[(&'static str, Constant)], capabilities: Capabilities) -> Result<Module> {
        let refuse = |what: Message| Error::Unsupported { operation: self.name, what };
        if let Some((name, _)) = constants.iter().find(|(name, _)| !self.constants.iter().any(|(known, _)| known == name)) {
            return Err(refuse(message!("shader has no constant {}", name)));
        }
        let text = self.assemble(constants);
        let naga = naga::front::wgsl::parse_str(&text).map_err(|error| refuse(Message::verbatim(error.emit_to_string(&text))))?;
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&naga)
            .map_err(|error| refuse(Message::verbatim(error.emit_to_string(&text))))?;
        let (mut bindings, mut params, mut params_size, mut handles) = (Vec::new(), Vec::new(), 0, Vec::new());
        for (handle, variable) in naga.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            let kind = match variable.space {
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => BindingKind::Write,
                AddressSpace::Storage { .. } => BindingKind::Read,
                _ if matches!(naga.types[variable.ty].inner, TypeInner::Array { .. }) => BindingKind::UniformArray,
                _ => BindingKind::Uniform,
            };
            if let (BindingKind::Uniform, TypeInner::Struct { members, span }) = (kind, &naga.types[variable.ty].inner) {
                params = members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset)).collect();
                params_size = span.next_multiple_of(16);
            }
            bindings.push(BindingInfo { name: variable.name.clone().unwrap_or_default(), index: binding.binding, kind });
            handles.push((handle, binding.binding));
        }
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(naga.to_ctx()).map_err(|error| refuse(Message::verbatim(error)))?;
        let entry = |index: usize, entry: &naga::EntryPoint| {
            let uses = |handle: naga::Handle<naga::GlobalVariable>| !info.get_entry_point(index)[handle].is_empty();
            let workgroup =
                naga.global_variables.iter().filter(|(handle, variable)| variable.space == AddressSpace::WorkGroup && uses(*handle));
            EntryInfo {
                bindings: handles.iter().filter(|(handle, _)| uses(*handle)).map(|(_, binding)| *binding).collect(),
                invocations: entry.workgroup_size.iter().product(),
                workgroup_memory: workgroup.map(|(_, variable)| layouter[variable.ty].size).sum(),
            }
        };
        let entries = naga.entry_points.iter().enumerate().map(|(index, point)| (point.name.clone(), entry(index, point))).collect();
        Ok(Module { text, naga, bindings, params, params_size, entries })
    }
}

fn is_directive(line: &str) -> bool {
    line.starts_with("enable ")
}

/// Modules made so far, by their texts.
#[derive(Debug, Default)]
pub struct Modules(Mutex<HashMap<String, Arc<Module>>>);

impl Modules {
    /// The module of a shader under constants, made at the first call and kept.
    ///
    /// # Errors
    /// As [`Shader::module`].
    pub fn get(&self, shader: &'static Shader, constants: &[(&'static str, Constant)], capabilities: Capabilities) -> Result<Arc<Module>> {
        let text = shader.assemble(constants);
        let mut modules = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(module) = modules.get(&text) {
            return Ok(module.clone());
        }
        let module = Arc::new(shader.module(constants, capabilities)?);
        modules.insert(text, module.clone());
        Ok(module)
    }
}
