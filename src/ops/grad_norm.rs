//! The global norm of all gradients, and the factor that clips it.

use super::Operation;
use crate::error::{Error, Result};
use crate::gpu::{Planner, Shader};
use crate::graph::{Graph, Tensor};

const SHADER: Shader = Shader {
    name: "grad_norm",
    source: include_str!("../../shaders/grad_norm.wgsl"),
    shared: &[include_str!("../../shaders/shared/nan.wgsl"), include_str!("../../shaders/shared/reduce.wgsl")],
    constants: &[],
};

/// Elements that one workgroup sums before another is worth it.
const ELEMENTS_PER_GROUP: usize = 1024;

/// Workgroups that sum at most.
const MOST_GROUPS: usize = 256;

/// `norm = sqrt(sum(gradients²))` and `factor = min(1, max_norm / (norm + 1e-6))`.
#[derive(Clone, Copy, Debug)]
pub struct GradNorm {
    /// `(n)`, all gradients.
    pub gradients: Tensor,
    /// Above which gradients are scaled down.
    pub max_norm: f32,
    /// `(2)`: norm, factor.
    pub clip: Tensor,
}

impl Graph {
    /// The global norm of the gradients of all parameters, and what to multiply them by so that it is at most `max_norm`: `(2)`, norm and
    /// factor, for [`Update::clip`](super::Update::clip). Both are NaN where a gradient is.
    ///
    /// # Errors
    /// [`Error::Option`] where `max_norm` is not greater than 0.
    pub fn clip_grad_norm(&mut self, max_norm: f32) -> Result<Tensor> {
        if max_norm.is_nan() || max_norm <= 0.0 {
            return Err(Error::option("--clip-norm", max_norm, message!("must be a number above 0")));
        }
        let gradients = self.flat_gradients();
        let clip = self.tensor("clip", &[2]);
        self.push(GradNorm { gradients, max_norm, clip });
        Ok(clip)
    }
}

impl Operation for GradNorm {
    fn name(&self) -> &'static str {
        "grad_norm"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.gradients]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.clip]
    }

    fn flops(&self, graph: &Graph) -> usize {
        2 * graph.spec(self.gradients).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let n_gradient = plan.spec(self.gradients).len();
        let windows = plan.windows(n_gradient, &[self.gradients]);
        let groups = |count: usize| count.div_ceil(ELEMENTS_PER_GROUP).clamp(1, MOST_GROUPS);
        let n_partial = windows.iter().map(|(_, count)| groups(*count)).sum();
        let partials = plan.scratch(n_partial);
        let mut first_partial = 0;
        for window @ (_, count) in windows {
            plan.kernel(&SHADER, "sum_squares")
                .flops(2 * count)
                .bind_part("gradients", self.gradients, window, n_gradient)
                .bind("partials", partials)
                .param("n_gradient", count)
                .param("n_partial", groups(count))
                .param("first_partial", first_partial)
                .workgroups([groups(count), 1, 1])?;
            first_partial += groups(count);
        }
        plan.kernel(&SHADER, "norm")
            .bind("partials", partials)
            .bind("clip", self.clip)
            .param("n_partial", n_partial)
            .param("max_norm", self.max_norm)
            .workgroups([1, 1, 1])
    }
}
