//! minGRU, whose gates see only the input, as a scan: see `reference/min_gru_scan.rs`.

use super::{Operation, Recurrence, present};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

pub(crate) const SHADER: Shader = Shader {
    name: "min_gru_scan",
    source: include_str!("../../shaders/min_gru_scan.wgsl"),
    shared: &[include_str!("../../shaders/shared/activation.wgsl"), include_str!("../../shaders/shared/recurrence.wgsl")],
    constants: &[
        ("HAS_H0", Constant::Bool(false)),
        ("HAS_RESET", Constant::Bool(false)),
        ("HAS_GRAD_H", Constant::Bool(false)),
        ("HAS_GRAD_LAST", Constant::Bool(false)),
        ("HAS_GRAD_P", Constant::Bool(false)),
        ("HAS_GRAD_H0", Constant::Bool(false)),
    ],
};

/// `h = (1 - z) h' + z v`, with `z = sigmoid(p_z)`, `v = g(p_h)` and `h'` the state before.
#[derive(Clone, Debug)]
pub struct MinGruScan {
    /// `(batch, step, 2 hidden)`: `[z | h]`, rows may lie apart.
    pub p: Tensor,
    /// Initial state `(batch, hidden)`, reset mask `(batch, step)`, direction.
    pub recurrence: Recurrence,
    /// `(batch, step, hidden)`.
    pub h: Tensor,
    /// `(batch, hidden)`: the state after the step that is visited last.
    pub last: Tensor,
}

/// Gradients of [`MinGruScan`].
#[derive(Clone, Debug)]
pub struct MinGruScanBackward {
    /// The forward operation.
    pub forward: MinGruScan,
    /// `(batch, step, hidden)`.
    pub grad_h: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_last: Option<Tensor>,
    /// `(batch, step, 2 hidden)`.
    pub grad_p: Option<Tensor>,
    /// `(batch, hidden)`.
    pub grad_h0: Option<Tensor>,
}

impl Graph {
    /// minGRU over `p (batch, step, 2 hidden)`, the pre-activations `W x + b` stacked as `[z | h]`. Returns `h (batch, step, hidden)`
    /// and the last state `(batch, hidden)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn min_gru_scan(&mut self, label: &str, p: Tensor, recurrence: &Recurrence) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, two_hidden] = self.axes("min_gru_scan", p)?;
        if two_hidden % 2 != 0 {
            return Err(Error::shape("min_gru_scan", &self.spec(p).label, "an even number of columns", self.shape(p)));
        }
        let n_hidden = two_hidden / 2;
        recurrence.check(self, "min_gru_scan", n_batch, n_step, &[n_batch, n_hidden])?;
        let h = self.tensor(label, &[n_batch, n_step, n_hidden]);
        let last = self.tensor(&format!("{label}.last"), &[n_batch, n_hidden]);
        self.push(MinGruScan { p, recurrence: *recurrence, h, last });
        Ok((h, last))
    }
}

impl Operation for MinGruScan {
    fn name(&self) -> &'static str {
        "min_gru_scan"
    }

    fn inputs(&self) -> Vec<Tensor> {
        present([Some(self.p), self.recurrence.initial_state, self.recurrence.reset])
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.h, self.last]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let (grad_h, grad_last) = (gradients.of(graph, self.h), gradients.of(graph, self.last));
        if grad_h.is_none() && grad_last.is_none() {
            return Ok(());
        }
        let grad_p = gradients.target(graph, self.p);
        let grad_h0 = gradients.optional_target(graph, self.recurrence.initial_state);
        graph.push(MinGruScanBackward { forward: self.clone(), grad_h, grad_last, grad_p, grad_h0 });
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_batch, n_hidden) = (plan.spec(self.last).rows(), plan.spec(self.last).columns());
        let n_step = plan.spec(self.h).rows() / n_batch;
        plan.kernel(&SHADER, "forward")
            .bind("p", self.p)
            .bind_optional("h0", self.recurrence.initial_state)
            .bind_optional("reset", self.recurrence.reset)
            .bind("h", self.h)
            .bind("last", self.last)
            .param("n_batch", n_batch)
            .param("n_step", n_step)
            .param("n_hidden", n_hidden)
            .param("reverse", self.recurrence.reverse)
            .lanes(n_batch * n_hidden)
    }
}

impl Operation for MinGruScanBackward {
    fn name(&self) -> &'static str {
        "min_gru_scan_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let MinGruScan { p, recurrence, h, .. } = self.forward;
        present([Some(p), recurrence.initial_state, recurrence.reset, Some(h), self.grad_h, self.grad_last])
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_p, self.grad_h0])
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let MinGruScan { p, recurrence, h, last } = self.forward;
        let (n_batch, n_hidden) = (plan.spec(last).rows(), plan.spec(last).columns());
        let n_step = plan.spec(h).rows() / n_batch;
        plan.kernel(&SHADER, "backward")
            .bind("p", p)
            .bind_optional("h0", recurrence.initial_state)
            .bind_optional("reset", recurrence.reset)
            .bind("h", h)
            .bind_optional("grad_h", self.grad_h)
            .bind_optional("grad_last", self.grad_last)
            .bind_optional("grad_p", self.grad_p)
            .bind_optional("grad_h0", self.grad_h0)
            .param("n_batch", n_batch)
            .param("n_step", n_step)
            .param("n_hidden", n_hidden)
            .param("reverse", recurrence.reverse)
            .lanes(n_batch * n_hidden)
    }
}
