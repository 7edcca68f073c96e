//! `mamba`: the selective state space (S6) mixer and its block (Gu and Dao 2023, arXiv 2312.00752, section 3).

use super::{Sequence, fan_in};
use crate::error::Result;
use crate::graph::{Graph, Init, Tensor};
use crate::ops::{Activation, Recurrence, SelectiveScanInputs};

/// Sizes of a mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixerSizes {
    /// Channels in and out.
    pub d_model: usize,
    /// Channels of the scan.
    pub d_inner: usize,
    /// States of a channel.
    pub d_state: usize,
    /// Taps of the convolution.
    pub d_conv: usize,
    /// Rank of the step size.
    pub dt_rank: usize,
}

/// One mixer's parameters, named as in published checkpoints.
#[derive(Clone, Debug)]
pub struct Mixer {
    /// Sizes.
    pub sizes: MixerSizes,
    /// `(2 d_inner, d_model)`: x, then z.
    pub in_proj: Tensor,
    /// `(d_inner, 1, d_conv)`.
    pub conv_weight: Tensor,
    /// `(d_inner)`.
    pub conv_bias: Tensor,
    /// `(dt_rank + 2 d_state, d_inner)`: dt, B, C.
    pub x_proj: Tensor,
    /// `(d_inner, dt_rank)`.
    pub dt_weight: Tensor,
    /// `(d_inner)`: added to delta before the softplus.
    pub dt_bias: Tensor,
    /// `(d_inner, d_state)`.
    pub a_log: Tensor,
    /// `(d_inner)`.
    pub d: Tensor,
    /// `(d_model, d_inner)`.
    pub out_proj: Tensor,
}

impl Mixer {
    /// Declares the parameters under `prefix` (`layers.0.mixer.`).
    pub fn new(graph: &mut Graph, prefix: &str, sizes: MixerSizes) -> Self {
        let MixerSizes { d_model, d_inner, d_state, d_conv, dt_rank } = sizes;
        let mut parameter = |name: &str, shape: &[usize], init| graph.parameter(&format!("{prefix}{name}"), shape, init);
        Mixer {
            sizes,
            in_proj: parameter("in_proj.weight", &[2 * d_inner, d_model], fan_in(d_model)),
            conv_weight: parameter("conv1d.weight", &[d_inner, 1, d_conv], fan_in(d_conv)),
            conv_bias: parameter("conv1d.bias", &[d_inner], fan_in(d_conv)),
            x_proj: parameter("x_proj.weight", &[dt_rank + 2 * d_state, d_inner], fan_in(d_inner)),
            dt_weight: parameter("dt_proj.weight", &[d_inner, dt_rank], fan_in(dt_rank)),
            dt_bias: parameter("dt_proj.bias", &[d_inner], Init::LogUniformStep { min: 1e-3, max: 1e-1 }),
            a_log: parameter("A_log", &[d_inner, d_state], Init::LogRange),
            d: parameter("D", &[d_inner], Init::Constant(1.0)),
            out_proj: parameter("out_proj.weight", &[d_model, d_inner], fan_in(d_inner)),
        }
    }

    /// Shapes of the states that go in and come out, for a batch: the convolution's window, the scan's state.
    pub fn state_shapes(&self, n_batch: usize) -> Vec<Vec<usize>> {
        let MixerSizes { d_inner, d_state, d_conv, .. } = self.sizes;
        vec![vec![n_batch, d_conv - 1, d_inner], vec![n_batch, d_inner, d_state]]
    }

    /// Runs over `x (batch, step, d_model)`; `states` are those of [`Mixer::state_shapes`], zero where absent.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where `x` does not fit the parameters.
    pub fn forward(
        &self,
        graph: &mut Graph,
        label: &str,
        x: Tensor,
        states: Option<&[Tensor]>,
        recurrence: &Recurrence,
    ) -> Result<Sequence> {
        let MixerSizes { d_inner, d_state, d_conv, dt_rank, .. } = self.sizes;
        let with_state = |index: usize| Recurrence { initial_state: states.map(|states| states[index]), ..*recurrence };
        let name = |tensor: &str| format!("{label}{tensor}");
        let xz = graph.linear(&name("xz"), x, self.in_proj, None)?;
        let inner = graph.columns(xz, &name("x"), 0, d_inner);
        let z = graph.columns(xz, &name("z"), d_inner, d_inner);
        let conv_weight = graph.reshape(self.conv_weight, &[d_inner, d_conv])?;
        let (u, last_window) =
            graph.causal_conv1d(&name("u"), inner, conv_weight, Some(self.conv_bias), Activation::Silu, &with_state(0))?;
        let projected = graph.linear(&name("dt_b_c"), u, self.x_proj, None)?;
        let dt = graph.columns(projected, &name("dt"), 0, dt_rank);
        let b = graph.columns(projected, &name("b"), dt_rank, d_state);
        let c = graph.columns(projected, &name("c"), dt_rank + d_state, d_state);
        let delta = graph.linear(&name("delta"), dt, self.dt_weight, None)?;
        let a = graph.neg_exp(&name("a"), self.a_log);
        let scan = SelectiveScanInputs {
            u,
            delta,
            a,
            b,
            c,
            d: Some(self.d),
            z: Some(z),
            delta_bias: Some(self.dt_bias),
            delta_softplus: true,
            recurrence: with_state(1),
        };
        let (y, last_state) = graph.selective_scan(&name("y"), &scan)?;
        let y = graph.linear(&name("out"), y, self.out_proj, None)?;
        Ok(Sequence { y, last_states: vec![last_window, last_state] })
    }
}
