//! Operations that take each element by itself.

use super::{Operation, QUAD, SINGLE, present, width};
use crate::error::Result;
use crate::gpu::{Constant, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = variant(&[SINGLE]);

const QUAD_SHADER: Shader = variant(&[QUAD]);

const fn variant(shared: &'static [&'static str]) -> Shader {
    let source = include_str!("../../shaders/elementwise.wgsl");
    Shader { name: "elementwise", source, shared, constants: &[("WIDTH", Constant::U32(1))] }
}

/// An operation on each element; all tensors have the same rows and columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Elementwise {
    /// `y = value`.
    Fill {
        /// Written.
        y: Tensor,
        /// The constant.
        value: f32,
    },
    /// `y = x`.
    Copy {
        /// Read.
        x: Tensor,
        /// Written.
        y: Tensor,
    },
    /// `y = y + x`.
    Add {
        /// Read.
        x: Tensor,
        /// Read and written.
        y: Tensor,
    },
    /// `y = a + b`, the residual sum.
    Sum {
        /// First term.
        a: Tensor,
        /// Second term.
        b: Tensor,
        /// Written.
        y: Tensor,
    },
    /// `y = -exp(x)`: Mamba's `A` of `A_log`.
    NegExp {
        /// Read.
        x: Tensor,
        /// Written.
        y: Tensor,
    },
    /// `grad_x = grad_y * y`, the gradient of [`Elementwise::NegExp`].
    NegExpBackward {
        /// The forward result.
        y: Tensor,
        /// Gradient of `y`.
        grad_y: Tensor,
        /// Written.
        grad_x: Tensor,
    },
}

impl Graph {
    /// `a + b`, same shapes.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where they differ.
    pub fn sum(&mut self, label: &str, a: Tensor, b: Tensor) -> Result<Tensor> {
        let shape = self.shape(a).to_vec();
        self.expect("sum", b, &shape)?;
        let y = self.tensor(label, &shape);
        self.push(Elementwise::Sum { a, b, y });
        Ok(y)
    }

    /// The parts side by side along their last axis.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where another axis differs.
    pub fn concat(&mut self, label: &str, parts: &[Tensor]) -> Result<Tensor> {
        let mut shape = parts.first().map_or(vec![0], |&part| self.shape(part).to_vec());
        for &part in parts {
            let columns = self.spec(part).columns();
            self.expect("concat", part, &[&shape[..shape.len() - 1], &[columns]].concat())?;
        }
        let last = shape.len() - 1;
        shape[last] = parts.iter().map(|&part| self.spec(part).columns()).sum();
        let whole = self.tensor(label, &shape);
        let mut first = 0;
        for &x in parts {
            let columns = self.spec(x).columns();
            let y = self.columns(whole, &format!("{label}[{first}..]"), first, columns);
            self.push(Elementwise::Copy { x, y });
            first += columns;
        }
        Ok(whole)
    }

    /// `-exp(x)`, elementwise.
    pub fn neg_exp(&mut self, label: &str, x: Tensor) -> Tensor {
        let shape = self.shape(x).to_vec();
        let y = self.tensor(label, &shape);
        self.push(Elementwise::NegExp { x, y });
        y
    }
}

impl Operation for Elementwise {
    fn name(&self) -> &'static str {
        match self {
            Elementwise::Fill { .. } => "fill",
            Elementwise::Copy { .. } => "copy",
            Elementwise::Add { .. } => "add",
            Elementwise::Sum { .. } => "sum",
            Elementwise::NegExp { .. } => "neg_exp",
            Elementwise::NegExpBackward { .. } => "neg_exp_backward",
        }
    }

    fn inputs(&self) -> Vec<Tensor> {
        match *self {
            Elementwise::Fill { .. } => vec![],
            Elementwise::Copy { x, .. } | Elementwise::NegExp { x, .. } => vec![x],
            Elementwise::Add { x, y } => vec![x, y],
            Elementwise::Sum { a, b, .. } => vec![a, b],
            Elementwise::NegExpBackward { y, grad_y, .. } => vec![y, grad_y],
        }
    }

    fn outputs(&self) -> Vec<Tensor> {
        match *self {
            Elementwise::Fill { y, .. } | Elementwise::Copy { y, .. } | Elementwise::Add { y, .. } => vec![y],
            Elementwise::Sum { y, .. } | Elementwise::NegExp { y, .. } => vec![y],
            Elementwise::NegExpBackward { grad_x, .. } => vec![grad_x],
        }
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        match *self {
            Elementwise::NegExp { y, .. } => graph.spec(y).len(),
            _ => 0,
        }
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        match *self {
            Elementwise::Sum { a, b, y } => {
                let Some(grad_y) = gradients.of(graph, y) else { return Ok(()) };
                for term in [a, b] {
                    gradients.pass_on(graph, grad_y, term);
                }
                Ok(())
            }
            Elementwise::Copy { x, y } => {
                if let Some(grad_y) = gradients.of(graph, y) {
                    gradients.pass_on(graph, grad_y, x);
                }
                Ok(())
            }
            Elementwise::NegExp { x, y } => {
                if let (Some(grad_y), Some(grad_x)) = (gradients.of(graph, y), gradients.target(graph, x)) {
                    graph.push(Elementwise::NegExpBackward { y, grad_y, grad_x });
                }
                Ok(())
            }
            _ => Err(crate::Error::Unsupported { operation: self.name(), what: message!("has no gradient") }),
        }
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let written = self.outputs()[0];
        let (n_row, n_column) = (plan.spec(written).rows(), plan.spec(written).columns());
        let (x, b, y, value) = match *self {
            Elementwise::Fill { y, value } => (None, None, y, value),
            Elementwise::Copy { x, y } | Elementwise::Add { x, y } | Elementwise::NegExp { x, y } => (Some(x), None, y, 0.0),
            Elementwise::Sum { a, b, y } => (Some(a), Some(b), y, 0.0),
            Elementwise::NegExpBackward { y, grad_y, grad_x } => (Some(y), Some(grad_y), grad_x, 0.0),
        };
        let width = width(plan, &present([x, b, Some(y)]));
        // a vector is cut into elements, all else into rows
        let n_part = if n_row == 1 { n_column } else { n_row };
        for window in plan.windows(n_part, &present([x, b, Some(y)])) {
            let (n_row, n_column) = if n_row == 1 { (1, window.1) } else { (window.1, n_column) };
            let part = |tensor: Tensor| Operand::Part { tensor, first: window.0, count: window.1, of: n_part };
            plan.kernel(if width == 1 { &SHADER } else { &QUAD_SHADER }, self.name())
                .constant("WIDTH", width)
                .flops(n_row * n_column)
                .bind_optional("x", x.map(part))
                .bind_optional("b", b.map(part))
                .bind("y", part(y))
                .param("n_row", n_row)
                .param("n_column", n_column / width)
                .param("value", value)
                .lanes(n_row * n_column / width)?;
        }
        Ok(())
    }
}
