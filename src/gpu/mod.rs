//! The GPU: adapters, shaders, plans of dispatches, and their execution. It knows nothing of models.

mod adapter;
mod plan;
mod session;
mod shader;
mod table;

pub use adapter::{AdapterSummary, Gpu, Selection, list_adapters};
pub use plan::{CooperativeMatrices, Dispatch, Kernel, MOST_ITERATIONS, Need, Operand, Planner, Traits};
pub use session::GpuSession;
pub use shader::{Constant, LANES, Module, Modules, Shader, UNIFORM_ARRAY_BYTES};
pub use table::{KernelRow, KernelTable};
