//! Linear-time recurrent models (MinGRU, Mamba) for time series, trained and run on any GPU.
//!
//! # How it fits together
//!
//! A [`graph::Graph`] holds tensors and programs of operations ([`ops`]), gradients included. A [`backend::Backend`] loads it: the CPU
//! ([`cpu::Cpu`]), a GPU ([`gpu::Gpu`]), or the plain formulas that both are tested against ([`reference::Reference`]). What it gives back, a
//! [`backend::Session`], writes inputs, runs programs and reads results. Models ([`model`]) are written once, as functions that push operations
//! to a graph; [`train`] builds training and evaluation from them over the windows of a [`dataset`].
//!
//! ```
//! use scanrnn::backend::Backend;
//! use scanrnn::cpu::Cpu;
//! use scanrnn::graph::Graph;
//!
//! # pollster::block_on(async {
//! let mut graph = Graph::new();
//! let (x, weight) = (graph.variable("x", &[2, 3]), graph.input("weight", &[1, 3]));
//! let y = graph.linear("y", x, weight, None)?;
//! let seed = graph.input("seed", &[2, 1]);
//! let gradients = graph.backward(&[(y, seed)])?;
//! let grad_x = gradients.of(&mut graph, x).expect("y depends on x");
//! let program = graph.finish("forward and backward");
//!
//! let mut session = Cpu.load(&graph).await?;
//! session.write(x, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! session.write(weight, &[1.0, 0.0, -1.0])?;
//! session.write(seed, &[1.0, 2.0])?;
//! session.run(program, 1)?;
//! assert_eq!(session.read(y).await?, [-2.0, -2.0]);
//! assert_eq!(session.read(grad_x).await?, [1.0, 0.0, -1.0, 2.0, 0.0, -2.0]);
//! # Ok::<(), scanrnn::Error>(())
//! # })?;
//! # Ok::<(), scanrnn::Error>(())
//! ```
//!
//! # Where an operation lives
//!
//! Under one name: its formula in `src/reference/`, its tensors, gradient rule and dispatches in `src/ops/`, its kernels in `shaders/`, its CPU
//! half in `src/cpu/` and its comparison of all of them in `tests/parity/`. A new one is added to the list `ops!` in `src/ops/mod.rs`, from
//! where the compiler names the two matches that execute it; one with several kernels has them listed in `KERNELS` there.
//!
//! # Words
//!
//! - *run*: the steps of a sequence in the order in which a recurrence visits them; a *position* counts them, a *step* is where one lies in memory.
//! - *storage*: a block of memory that one tensor and its views have, or several tensors that are not needed at once.
//! - *window*: as many rows as a model reads at once; in a plan, a part of a tensor that an adapter can bind.
//! - *stretch*: steps of one sequence, or whole sequences of a batch, that one dispatch takes.
//! - *chunk*, *span*: parts of a run. Chunks are worked on side by side; states are saved at the borders of spans (8 steps).
//! - *quad*, *Value*: four neighbouring floats; one float or four, as the shape allows.
//! - *panel*, *tile*: blocks of rows of a packed factor, and of a product.
//! - *walked*, *rows*, *subgroup* and so on: kernels of one operation, as `--kernel` names them.

#[macro_use]
mod message;

pub mod backend;
pub mod baseline;
#[cfg(feature = "cli")]
pub mod benchmark;
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod dataset;
mod error;
#[cfg(feature = "cli")]
mod file;
mod fingerprint;
#[cfg(feature = "cli")]
pub mod golden;
pub mod gpu;
pub mod graph;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod profile;
pub mod published;
pub mod reference;
#[cfg(feature = "cli")]
pub mod report;
#[cfg(feature = "cli")]
pub mod roofline;
pub mod schedule;
pub mod train;

pub use error::{Error, Result};
pub use message::Message;
/// The version that [`gpu::Gpu::from_device`] takes devices of.
pub use wgpu;
