//! Linear layer, `y = x W^T + b`, and its two gradient products.

use super::panel::{self, Panels, Source};
use super::{Operation, present};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, MOST_ITERATIONS, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

pub(crate) const SHADER: Shader = Shader {
    name: "linear",
    source: include_str!("../../shaders/linear.wgsl"),
    shared: &[panel::SOURCE],
    constants: &[("TILE", Constant::U32(TILE as u32)), ("HAS_BIAS", Constant::Bool(false)), ("ACCUMULATE", Constant::Bool(false))],
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

    fn flops(&self, graph: &Graph) -> usize {
        2 * graph.spec(self.x).rows() * graph.spec(self.weight).len() + self.bias.map_or(0, |_| graph.spec(self.y).len())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_in, n_out) = (plan.spec(self.x).rows(), plan.spec(self.x).columns(), plan.spec(self.y).columns());
        if by_panels(plan, &[(n_row, n_in), (n_out, n_in)]) {
            let [x, weight] = [self.x, self.weight].map(|tensor| Source::whole(plan, tensor, false));
            return product(plan, x, weight, self.bias, self.y);
        }
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

    fn flops(&self, graph: &Graph) -> usize {
        let product = 2 * graph.spec(self.x).rows() * graph.spec(self.weight).len();
        let n_product = usize::from(self.grad_x.is_some()) + usize::from(self.grad_weight.is_some());
        n_product * product + self.grad_bias.map_or(0, |_| graph.spec(self.grad_y).len())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_in, n_out) = (plan.spec(self.x).rows(), plan.spec(self.x).columns(), plan.spec(self.grad_y).columns());
        if let Some(grad_x) = self.grad_x {
            if by_panels(plan, &[(n_row, n_out), (n_in, n_out)]) {
                let (grad_y, weight) = (Source::whole(plan, self.grad_y, false), Source::whole(plan, self.weight, true));
                product(plan, grad_y, weight, None, grad_x)?;
            } else {
                self.tiles(plan, "backward_input")
                    .flops(2 * n_row * n_in * n_out)
                    .bind("weight", self.weight)
                    .bind("grad_x", grad_x)
                    .workgroups(tiles(n_row, n_in))?;
            }
        }
        if let Some(grad_weight) = self.grad_weight {
            if by_panels(plan, &[(n_out, n_row), (n_in, n_row)]) {
                let [grad_y, x] = [self.grad_y, self.x].map(|tensor| Source::whole(plan, tensor, true));
                product(plan, grad_y, x, None, grad_weight)?;
            } else {
                self.tiles(plan, "backward_weight")
                    .flops(2 * n_row * n_in * n_out)
                    .bind("x", self.x)
                    .bind("grad_weight", grad_weight)
                    .workgroups(tiles(n_out, n_in))?;
            }
        }
        if let Some(grad_bias) = self.grad_bias {
            for first_row in (0..n_row).step_by(MOST_ITERATIONS) {
                self.tiles(plan, "backward_bias")
                    .bind("grad_bias", grad_bias)
                    .param("first_row", first_row)
                    .param("n_row", n_row.min(first_row + MOST_ITERATIONS))
                    .lanes(n_out)?;
            }
        }
        Ok(())
    }
}

impl LinearBackward {
    fn tiles<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str) -> Kernel<'p, 'a> {
        let (n_row, n_in, n_out) = (plan.spec(self.x).rows(), plan.spec(self.x).columns(), plan.spec(self.grad_y).columns());
        let kernel = plan.kernel(&SHADER, entry).bind("grad_y", self.grad_y);
        kernel.param("n_row", n_row).param("n_in", n_in).param("n_out", n_out)
    }
}

/// Workgroups of a result of `n_row x n_column` elements.
fn tiles(n_row: usize, n_column: usize) -> [usize; 3] {
    [n_column.div_ceil(TILE), n_row.div_ceil(TILE), 1]
}

/// Whether a product is computed by panels: on software GPUs, where its factors of `rows x terms` can be bound once packed.
fn by_panels(plan: &Planner, factors: &[(usize, usize)]) -> bool {
    let wanted = plan.forced("linear").map_or(plan.traits().software, |kernel| kernel == "panel");
    wanted && factors.iter().all(|&(n_row, n_term)| Panels::new(n_row, n_term).fit(plan))
}

/// `to = A B^T + bias`.
fn product(plan: &mut Planner, a: Source, b: Source, bias: Option<Tensor>, to: Tensor) -> Result<()> {
    let (a, b) = (a.pack(plan, &SHADER)?, b.pack(plan, &SHADER)?);
    let (n_row, n_column) = (plan.spec(to).rows(), plan.spec(to).columns());
    for slice in 0..a.panels.n_slice {
        panel::multiply(plan, a, b, slice, |plan| {
            let kernel = plan.kernel(&SHADER, "multiply_panels").constant("ACCUMULATE", slice > 0);
            let kernel = kernel.bind_optional("bias", bias).bind("product", to);
            Ok(kernel.param("n_product_row", n_row).param("n_product_column", n_column))
        })?;
    }
    Ok(())
}
