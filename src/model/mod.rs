//! The models, written once for every backend.

pub mod attention;
pub mod forecaster;
mod init;
pub mod layer;
pub mod mamba;
pub mod mamba_lab;
pub mod min_gru;
pub mod min_gru_scan;
mod packing;
mod quantiles;
mod step_stream;
mod stream;
mod window_stream;

pub use forecaster::{Forecast, Forecaster, ForecasterConfig, ModelKind, Pass};
pub use init::initial_values;
pub use layer::Layer;
pub use packing::{Packing, Place};
pub use quantiles::rearrange;
pub use step_stream::{StepGraph, StepStream};
pub use stream::{Stream, StreamGraph};
pub use window_stream::{WindowGraph, WindowStream};

use crate::graph::{Init, Tensor};

/// What a recurrent layer computes from a sequence.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// `(batch, step, channel)`.
    pub y: Tensor,
    /// The states after the last step, as many as the layer takes in.
    pub last_states: Vec<Tensor>,
}

/// Uniform in `1 / sqrt(fan_in)`, as PyTorch's linear layers start.
fn fan_in(n_in: usize) -> Init {
    Init::Uniform((n_in.max(1) as f32).sqrt().recip())
}
