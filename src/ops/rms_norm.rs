//! Root-mean-square normalisation of rows.

use super::{COLUMNS, Operation, QUAD, SINGLE, present, width};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, LANES, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = variant(&[REDUCE, SUM_COLUMN, SINGLE]);

const QUAD_SHADER: Shader = variant(&[REDUCE, SUM_COLUMN, QUAD]);

const REDUCE: &str = include_str!("../../shaders/shared/reduce.wgsl");
const SUM_COLUMN: &str = include_str!("../../shaders/shared/sum_column.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: "rms_norm",
        source: include_str!("../../shaders/rms_norm.wgsl"),
        shared,
        constants: &[
            ("WIDTH", Constant::U32(1)),
            ("BLOCK", Constant::U32(BLOCK as u32)),
            ("COLUMNS", Constant::U32(COLUMNS as u32)),
            ("ROW_LANES", Constant::U32(1)),
            ("HAS_GRAD_X", Constant::Bool(false)),
        ],
    }
}

/// Rows that one invocation sums for the gradient of the weight.
const BLOCK: usize = 32;

/// `y = x weight / sqrt(mean(x²) + eps)`, each row by itself.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    /// `(.., channel)`, rows may lie apart.
    pub x: Tensor,
    /// `(channel)`.
    pub weight: Tensor,
    /// Added to the mean square.
    pub eps: f32,
    /// `(.., channel)`.
    pub y: Tensor,
}

/// Gradients of [`RmsNorm`].
#[derive(Clone, Debug)]
pub struct RmsNormBackward {
    /// As in the forward operation.
    pub x: Tensor,
    /// As in the forward operation.
    pub weight: Tensor,
    /// As in the forward operation.
    pub eps: f32,
    /// `(.., channel)`, rows may lie apart.
    pub grad_y: Tensor,
    /// `(.., channel)`, rows may lie apart.
    pub grad_x: Option<Tensor>,
    /// `(channel)`.
    pub grad_weight: Option<Tensor>,
}

impl Graph {
    /// `x weight / sqrt(mean(x²) + eps)` over the last axis of `x (.., channel)`, with `weight (channel)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn rms_norm(&mut self, label: &str, x: Tensor, weight: Tensor, eps: f32) -> Result<Tensor> {
        let shape = self.shape(x).to_vec();
        let Some(&n_channel) = shape.last() else {
            return Err(Error::shape("rms_norm", &self.spec(x).label, "at least one axis", &shape));
        };
        self.expect("rms_norm", weight, &[n_channel])?;
        let y = self.tensor(label, &shape);
        self.push(RmsNorm { x, weight, eps, y });
        Ok(y)
    }
}

impl Operation for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x, self.weight]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let Some(grad_y) = gradients.of(graph, self.y) else { return Ok(()) };
        let op = RmsNormBackward {
            x: self.x,
            weight: self.weight,
            eps: self.eps,
            grad_y,
            grad_x: gradients.target(graph, self.x),
            grad_weight: gradients.target(graph, self.weight),
        };
        graph.push(op);
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        4 * graph.spec(self.x).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_channel) = (plan.spec(self.x).rows(), plan.spec(self.x).columns());
        let sharing = Sharing::of(plan, n_row, &[self.x, self.weight, self.y]);
        for window @ (_, count) in plan.windows(n_row, &[self.x, self.y]) {
            sharing
                .kernel(plan, "forward", n_channel)
                .flops(4 * count * n_channel)
                .bind_part("x", self.x, window, n_row)
                .bind("weight", self.weight)
                .bind_part("y", self.y, window, n_row)
                .param("n_row", count)
                .param("eps", self.eps)
                .lanes(count * sharing.row_lanes)?;
        }
        Ok(())
    }
}

impl Operation for RmsNormBackward {
    fn name(&self) -> &'static str {
        "rms_norm_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x, self.weight, self.grad_y]
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_x, self.grad_weight])
    }

    fn flops(&self, graph: &Graph) -> usize {
        10 * graph.spec(self.x).len()
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_channel) = (plan.spec(self.x).rows(), plan.spec(self.x).columns());
        let inverse_rms = plan.scratch(n_row);
        let windows = plan.windows(n_row, &present([Some(self.x), Some(self.grad_y), self.grad_x]));
        let n_block: usize = windows.iter().map(|(_, count)| count.div_ceil(BLOCK)).sum();
        let partial_weight = plan.scratch(n_block * n_channel);
        let given = [Some(self.x), Some(self.weight), Some(self.grad_y)];
        let sharing = Sharing::of(plan, n_row, &[present(given), present([self.grad_x, self.grad_weight])].concat());
        let mut first_block = 0;
        for window @ (first, count) in windows {
            let part = |tensor: Tensor| Operand::Part { tensor, first, count, of: n_row };
            sharing
                .kernel(plan, "backward_input", n_channel)
                .flops(7 * count * n_channel)
                .bind("x", part(self.x))
                .bind("weight", self.weight)
                .bind("grad_y", part(self.grad_y))
                .bind_optional("grad_x", self.grad_x.map(part))
                .bind("inverse_rms", inverse_rms)
                .param("n_row", count)
                .param("eps", self.eps)
                .lanes(count * sharing.row_lanes)?;
            if self.grad_weight.is_some() {
                sharing
                    .kernel(plan, "backward_weight_partial", n_channel)
                    .flops(3 * count * n_channel)
                    .bind_part("x", self.x, window, n_row)
                    .bind_part("grad_y", self.grad_y, window, n_row)
                    .bind("inverse_rms", inverse_rms)
                    .bind("partial_weight", partial_weight)
                    .param("n_row", count)
                    .param("first_block", first_block)
                    .lanes(count.div_ceil(BLOCK) * n_channel / sharing.width)?;
                first_block += count.div_ceil(BLOCK);
            }
        }
        let Some(grad_weight) = self.grad_weight else { return Ok(()) };
        sharing
            .kernel(plan, "backward_weight", n_channel)
            .bind("partial_weight", partial_weight)
            .bind("grad_weight", grad_weight)
            .param("n_block", n_block)
            .groups(n_channel.div_ceil(COLUMNS * sharing.width))
    }
}

/// How rows are shared out.
#[derive(Clone, Copy)]
struct Sharing {
    /// Invocations that take one row: a software GPU pays more for a barrier than for a row.
    row_lanes: usize,
    /// Neighbouring elements that an invocation takes together.
    width: usize,
}

impl Sharing {
    /// Of rows as long as those of the first tensor.
    fn of(plan: &Planner, n_row: usize, tensors: &[Tensor]) -> Self {
        let n_channel = plan.spec(tensors[0]).columns();
        let rule = if plan.traits().software { "lane" } else { "group" };
        let row_lanes = if plan.chosen("rms_norm", &[n_row, n_channel], &[rule], |_| true) == "lane" { 1 } else { LANES };
        // a short row leaves no invocation of its workgroup idle
        let width = if row_lanes == 1 || n_channel >= 4 * LANES { width(plan, tensors) } else { 1 };
        Sharing { row_lanes, width }
    }

    fn kernel<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str, n_channel: usize) -> Kernel<'p, 'a> {
        plan.kernel(if self.width == 1 { &SHADER } else { &QUAD_SHADER }, entry)
            .constant("WIDTH", self.width)
            .constant("ROW_LANES", self.row_lanes)
            .param("n_channel", n_channel / self.width)
    }
}
