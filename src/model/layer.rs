//! A layer of a forecaster: one recurrence, or two that run in opposite directions.

use super::attention::CausalAttention;
use super::forecaster::{ForecasterConfig, ModelKind};
use super::mamba::Mixer;
use super::mamba_lab::MambaLab;
use super::min_gru::MinGru;
use super::min_gru_scan::MinGruScan;
use super::{Sequence, fan_in};
use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::Recurrence;

/// Epsilon of the norms, added to the mean square under the root.
pub const NORM_EPS: f32 = 1e-5;

/// A recurrence with its parameters.
#[derive(Clone, Debug)]
enum Cell {
    MinGru(MinGru),
    MinGruScan(MinGruScan),
    MambaLab(MambaLab),
    Mamba(Box<Mixer>),
    Attention(CausalAttention),
}

impl Cell {
    fn new(graph: &mut Graph, prefix: &str, config: &ForecasterConfig, n_input: usize, is_attention: bool) -> Self {
        match config.model {
            _ if is_attention => Cell::Attention(CausalAttention::new(graph, prefix, config.hidden, config.heads, config.cache)),
            ModelKind::MinGru => Cell::MinGru(MinGru::new(graph, prefix, n_input, config.hidden)),
            ModelKind::MinGruScan => Cell::MinGruScan(MinGruScan::new(graph, prefix, n_input, config.hidden)),
            ModelKind::MambaLab => Cell::MambaLab(MambaLab::new(graph, prefix, n_input, config.hidden, config.d_state)),
            ModelKind::Mamba | ModelKind::Hybrid => Cell::Mamba(Box::new(Mixer::new(graph, prefix, config.mixer_sizes()))),
        }
    }

    fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        match self {
            Cell::MinGru(cell) => cell.state_shapes(n_batch),
            Cell::MinGruScan(cell) => cell.state_shapes(n_batch),
            Cell::MambaLab(cell) => cell.state_shapes(n_batch),
            Cell::Mamba(cell) => cell.state_shapes(n_batch),
            Cell::Attention(cell) => cell.state_shapes(n_batch),
        }
    }

    fn forward(
        &self,
        graph: &mut Graph,
        label: &str,
        x: Tensor,
        states: Option<&[Tensor]>,
        recurrence: &Recurrence,
        in_place: bool,
    ) -> Result<Sequence> {
        let with_state = Recurrence { initial_state: states.map(|states| states[0]), ..*recurrence };
        match self {
            Cell::MinGru(cell) => cell.forward(graph, label, x, &with_state),
            Cell::MinGruScan(cell) => cell.forward(graph, label, x, &with_state),
            Cell::MambaLab(cell) => cell.forward(graph, label, x, &with_state),
            Cell::Mamba(cell) => cell.forward(graph, label, x, states, recurrence),
            Cell::Attention(cell) => cell.forward(graph, label, x, states, recurrence, in_place),
        }
    }
}

#[derive(Clone, Debug)]
enum Cells {
    Forward(Cell),
    /// Both directions; their outputs side by side pass through a linear layer.
    Both {
        forward: Cell,
        backward: Cell,
        /// `(hidden, 2 hidden)`.
        weight: Tensor,
        /// `(hidden)`.
        bias: Tensor,
    },
}

/// A layer of a forecaster; `x + layer(rms_norm(x))` where it has a norm.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `(hidden)`.
    norm: Option<Tensor>,
    cells: Cells,
}

impl Layer {
    /// Declares the parameters under `prefix` (`layers.0.`); a layer of `hybrid` may be one of attention.
    pub fn new(graph: &mut Graph, prefix: &str, config: &ForecasterConfig, n_input: usize, is_attention: bool) -> Self {
        let (hidden, has_mixer) = (config.hidden, config.model.has_mixers());
        let norm = has_mixer.then(|| graph.parameter(&format!("{prefix}norm.weight"), &[hidden], Init::Constant(1.0)));
        let cells = if config.bidirectional {
            let [forward, backward] =
                ["forward", "backward"].map(|direction| Cell::new(graph, &format!("{prefix}{direction}."), config, n_input, is_attention));
            let weight = graph.parameter(&format!("{prefix}project.weight"), &[hidden, 2 * hidden], fan_in(2 * hidden));
            let bias = graph.parameter(&format!("{prefix}project.bias"), &[hidden], fan_in(2 * hidden));
            Cells::Both { forward, backward, weight, bias }
        } else {
            let mixer = if has_mixer { "mixer." } else { "" };
            Cells::Forward(Cell::new(graph, &format!("{prefix}{mixer}"), config, n_input, is_attention))
        };
        Layer { norm, cells }
    }

    /// Shapes of the states that go in and come out, for a batch: those of the forward direction, then those of the backward one.
    pub fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        match &self.cells {
            Cells::Forward(cell) => cell.state_shapes(n_batch),
            Cells::Both { forward, backward, .. } => [forward.state_shapes(n_batch), backward.state_shapes(n_batch)].concat(),
        }
    }

    /// Runs over `x (batch, step, input)`; `states` are those of [`Layer::state_shapes`], zero where absent. `in_place` is that of
    /// [`super::Pass`].
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where `x` or the states do not fit.
    pub fn forward(
        &self,
        graph: &mut Graph,
        label: &str,
        x: Tensor,
        states: Option<&[Tensor]>,
        recurrence: &Recurrence,
        in_place: bool,
    ) -> Result<Sequence> {
        let Some(norm) = self.norm else {
            return self.run_cells(graph, label, x, states, recurrence, in_place);
        };
        let normed = graph.rms_norm(&format!("{label}normed"), x, norm, NORM_EPS)?;
        let mixed = self.run_cells(graph, label, normed, states, recurrence, in_place)?;
        let y = graph.sum(&format!("{label}residual"), x, mixed.y)?;
        Ok(Sequence { y, last_states: mixed.last_states })
    }

    fn run_cells(
        &self,
        graph: &mut Graph,
        label: &str,
        x: Tensor,
        states: Option<&[Tensor]>,
        recurrence: &Recurrence,
        in_place: bool,
    ) -> Result<Sequence> {
        let (forward, backward, weight, bias) = match &self.cells {
            Cells::Forward(cell) => return cell.forward(graph, label, x, states, recurrence, in_place),
            Cells::Both { forward, backward, weight, bias } => (forward, backward, *weight, *bias),
        };
        let states = states.map(|states| states.split_at(forward.state_shapes(1).len()));
        let ahead = forward.forward(graph, &format!("{label}forward."), x, states.map(|(first, _)| first), recurrence, in_place)?;
        let reversed = Recurrence { reverse: !recurrence.reverse, ..*recurrence };
        let back = backward.forward(graph, &format!("{label}backward."), x, states.map(|(_, second)| second), &reversed, in_place)?;
        let both = graph.concat(&format!("{label}both"), &[ahead.y, back.y])?;
        let y = graph.linear(&format!("{label}projected"), both, weight, Some(bias))?;
        Ok(Sequence { y, last_states: [ahead.last_states, back.last_states].concat() })
    }

    /// The output of the layer at the step that it visits last, `(batch, hidden)`.
    ///
    /// # Errors
    /// As [`Graph::step`].
    pub fn last_output(&self, graph: &mut Graph, layer: &Sequence) -> Result<Tensor> {
        match (&self.cells, layer.last_states.last()) {
            // Their state is their output, and lies apart from the sequence already.
            (Cells::Forward(Cell::MinGru(_) | Cell::MinGruScan(_)), Some(&state)) => Ok(state),
            _ => {
                let n_step = graph.shape(layer.y)[1];
                graph.step(layer.y, n_step - 1)
            }
        }
    }
}
