//! Linear-time recurrent models (MinGRU, Mamba) for time series, trained and run on any GPU.

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
