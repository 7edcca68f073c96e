//! Columns of a tensor as rows below one another, and back.

use super::Operation;
use crate::error::{Error, Result};
use crate::gpu::{Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = Shader { name: "stack", source: include_str!("../../shaders/stack.wgsl"), shared: &[], constants: &[] };

/// `tall[part * row + r] = wide[r]`'s columns of the part, with the common ones behind them; or back, where there are no common ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack {
    /// `(row, part * width + common)`: the parts' columns side by side.
    pub wide: Tensor,
    /// `(part * row, width + common)`: the parts one below another, each with the common columns.
    pub tall: Tensor,
    /// How many parts.
    pub n_part: usize,
    /// Columns that every part gets.
    pub n_common: usize,
    /// Whether `wide` is written from `tall`.
    pub back: bool,
}

impl Stack {
    fn ends(&self) -> (Tensor, Tensor) {
        if self.back { (self.tall, self.wide) } else { (self.wide, self.tall) }
    }
}

impl Graph {
    /// Of `x (batch, .., part * width + common)`, the parts' columns one below another, each with the columns behind all parts beside it:
    /// `(part * batch, .., width + common)`; `x` itself where it is that. A gradient passes where no column is common.
    ///
    /// # Errors
    /// [`Error::Shape`] where the columns do not divide into such parts.
    pub fn stack(&mut self, label: &str, x: Tensor, n_part: usize, n_common: usize) -> Result<Tensor> {
        let mut shape = self.shape(x).to_vec();
        let last = shape.len() - 1;
        let own = shape[last].checked_sub(n_common).filter(|own| n_part > 0 && own % n_part == 0);
        let Some(own) = own.filter(|_| last > 0) else {
            let expected = format!("rows of {n_part} equal parts and {n_common} columns behind them");
            return Err(Error::shape("stack", &self.spec(x).label, expected, &shape));
        };
        if n_part == 1 && self.spec(x).row_stride == shape[last] {
            return Ok(x);
        }
        shape[0] *= n_part;
        shape[last] = own / n_part + n_common;
        let tall = self.tensor(label, &shape);
        self.push(Stack { wide: x, tall, n_part, n_common, back: false });
        Ok(tall)
    }

    /// Of `x (part * batch, .., width)`, the parts side by side: `(batch, .., part * width)`; `x` itself where it is one.
    ///
    /// # Errors
    /// [`Error::Shape`] where the rows do not divide into such parts.
    pub fn unstack(&mut self, label: &str, x: Tensor, n_part: usize) -> Result<Tensor> {
        let mut shape = self.shape(x).to_vec();
        let last = shape.len() - 1;
        if last == 0 || n_part == 0 || !shape[0].is_multiple_of(n_part) {
            return Err(Error::shape("unstack", &self.spec(x).label, format!("a multiple of {n_part} rows"), &shape));
        }
        shape[0] /= n_part;
        shape[last] *= n_part;
        if n_part == 1 {
            return Ok(x);
        }
        let wide = self.tensor(label, &shape);
        self.push(Stack { wide, tall: x, n_part, n_common: 0, back: true });
        Ok(wide)
    }
}

impl Operation for Stack {
    fn name(&self) -> &'static str {
        if self.back { "unstack" } else { "stack" }
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.ends().0]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.ends().1]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let (x, y) = self.ends();
        let (Some(grad_y), Some(grad_x)) = (gradients.of(graph, y), gradients.target(graph, x)) else { return Ok(()) };
        if self.n_common > 0 {
            return Err(Error::Unsupported { operation: self.name(), what: message!("common columns have no gradient") });
        }
        // What was written is read now.
        let (wide, tall) = if self.back { (grad_y, grad_x) } else { (grad_x, grad_y) };
        graph.push(Stack { wide, tall, back: !self.back, ..*self });
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_column) = (plan.spec(self.wide).rows(), plan.spec(self.tall).columns());
        // Of a part, neighbouring rows are neighbours in both tensors; of several parts only all rows are.
        let whole = plan.windows(n_row, &[self.wide]).len() == 1 && plan.windows(n_row, &[self.tall]).len() == 1;
        let most = if whole { n_row } else { plan.windows(n_row, &[self.wide, self.tall]).first().map_or(1, |(_, count)| *count) };
        let parts_at_once = if whole { self.n_part } else { 1 };
        for first_part in (0..self.n_part).step_by(parts_at_once) {
            for first in (0..n_row).step_by(most) {
                let count = most.min(n_row - first);
                let tall = Operand::Part {
                    tensor: self.tall,
                    first: first_part * n_row + first,
                    count: count * parts_at_once,
                    of: n_row * self.n_part,
                };
                let wide = Operand::Part { tensor: self.wide, first, count, of: n_row };
                let (x, y) = if self.back { (tall, wide) } else { (wide, tall) };
                plan.kernel(&SHADER, self.name())
                    .bind("x", x)
                    .bind("y", y)
                    .param("n_row", count)
                    .param("n_part", parts_at_once)
                    .param("first_part", first_part)
                    .param("n_own", n_column - self.n_common)
                    .param("n_column", n_column)
                    .param("first_common", self.n_part * (n_column - self.n_common))
                    .lanes(count * parts_at_once * n_column)?;
            }
        }
        Ok(())
    }
}
