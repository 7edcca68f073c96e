//! Linear layer, `y = x W^T + b`, and its two gradient products.

use super::{Operation, present};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

pub(crate) const SHADER: Shader = Shader {
    name: "linear",
    source: include_str!("../../shaders/linear.wgsl"),
    shared: &[],
    constants: &[("TILE", Constant::U32(TILE as u32)), ("HAS_BIAS", Constant::Bool(false))],
};

/// Side of the square tile of results that one workgroup computes.
const TILE: usize = 16;

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `(.., n_in)`, rows may lie apart.
    pub x: Tensor,
    /// `(n_out, n_in)`.
    pub weight: Tensor,
    /// `(n_out)`.
    pub bias: Option<Tensor>,
    /// `(.., n_out)`, rows may lie apart.
    pub y: Tensor,
}

/// Gradients of [`Linear`]: `grad_x = grad_y W`, `grad_weight = grad_y^T x`, `grad_bias` = column sums of `grad_y`.
#[derive(Clone, Debug)]
pub struct LinearBackward {
    /// As in the forward operation.
    pub x: Tensor,
    /// As in the forward operation.
    pub weight: Tensor,
    /// `(.., n_out)`.
    pub grad_y: Tensor,
    /// `(.., n_in)`.
    pub grad_x: Option<Tensor>,
    /// `(n_out, n_in)`.
    pub grad_weight: Option<Tensor>,
    /// `(n_out)`.
    pub grad_bias: Option<Tensor>,
}

impl Graph {
    /// `x W^T + b` for `x (.., n_in)`, `weight (n_out, n_in)`, `bias (n_out)`; the result is `(.., n_out)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn linear(&mut self, label: &str, x: Tensor, weight: Tensor, bias: Option<Tensor>) -> Result<Tensor> {
        let [n_out, n_in] = self.axes("linear", weight)?;
        let mut shape = self.shape(x).to_vec();
        if shape.last() != Some(&n_in) {
            return Err(Error::shape("linear", &self.spec(x).label, format!("{n_in} columns"), &shape));
        }
        if let Some(bias) = bias {
            self.expect("linear", bias, &[n_out])?;
        }
        if let Some(last) = shape.last_mut() {
            *last = n_out;
        }
        let y = self.tensor(label, &shape);
        self.push(Linear { x, weight, bias, y });
        Ok(y)
    }
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn inputs(&self) -> Vec<Tensor> {
        present([Some(self.x), Some(self.weight), self.bias])
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let Some(grad_y) = gradients.of(graph, self.y) else { return Ok(()) };
        let op = LinearBackward {
            x: self.x,
            weight: self.weight,
            grad_y,
            grad_x: gradients.target(graph, self.x),
            grad_weight: gradients.target(graph, self.weight),
            grad_bias: gradients.optional_target(graph, self.bias),
        };
        graph.push(op);
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_in, n_out) = (plan.spec(self.x).rows(), plan.spec(self.x).columns(), plan.spec(self.y).columns());
        plan.kernel(&SHADER, "forward")
            .bind("x", self.x)
            .bind("weight", self.weight)
            .bind_optional("bias", self.bias)
            .bind("y", self.y)
            .param("n_row", n_row)
            .param("n_in", n_in)
            .param("n_out", n_out)
            .workgroups([n_out.div_ceil(TILE), n_row.div_ceil(TILE), 1])
    }
}

impl Operation for LinearBackward {
    fn name(&self) -> &'static str {
        "linear_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x, self.weight, self.grad_y]
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_x, self.grad_weight, self.grad_bias])
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_in, n_out) = (plan.spec(self.x).rows(), plan.spec(self.x).columns(), plan.spec(self.grad_y).columns());
        if let Some(grad_x) = self.grad_x {
            plan.kernel(&SHADER, "backward_input")
                .bind("weight", self.weight)
                .bind("grad_y", self.grad_y)
                .bind("grad_x", grad_x)
                .param("n_row", n_row)
                .param("n_in", n_in)
                .param("n_out", n_out)
                .workgroups([n_in.div_ceil(TILE), n_row.div_ceil(TILE), 1])?;
        }
        if let Some(grad_weight) = self.grad_weight {
            plan.kernel(&SHADER, "backward_weight")
                .bind("x", self.x)
                .bind("grad_y", self.grad_y)
                .bind("grad_weight", grad_weight)
                .param("n_row", n_row)
                .param("n_in", n_in)
                .param("n_out", n_out)
                .workgroups([n_in.div_ceil(TILE), n_out.div_ceil(TILE), 1])?;
        }
        if let Some(grad_bias) = self.grad_bias {
            plan.kernel(&SHADER, "backward_bias")
                .bind("grad_y", self.grad_y)
                .bind("grad_bias", grad_bias)
                .param("n_row", n_row)
                .param("n_in", n_in)
                .param("n_out", n_out)
                .lanes(n_out)?;
        }
        Ok(())
    }
}
