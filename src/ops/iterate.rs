//! A function of each element, again and again: work without memory, which shows how fast a device calculates.

use super::{Operation, QUAD};
use crate::error::{Error, Result};
use crate::gpu::{Planner, Shader};
use crate::graph::{Graph, Tensor};

pub(crate) const SHADER: Shader =
    Shader { name: "iterate", source: include_str!("../../shaders/iterate.wgsl"), shared: &[QUAD], constants: &[] };

/// What is applied; both tend to a fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterated {
    /// `0.75 x + 0.25`.
    MultiplyAdd,
    /// `exp(-x)`.
    Exponential,
}

/// `y = f(f(.. f(x)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iterate {
    /// `(row, 12)`, contiguous.
    pub x: Tensor,
    /// As `x`.
    pub y: Tensor,
    /// `f`.
    pub function: Iterated,
    /// How many times [`Iterate::UNROLLED`] applications.
    pub n_pass: usize,
}

impl Iterate {
    /// Elements of a row: as many values beside one another as hide how long a processor takes for each.
    pub const CHAINS: usize = 12;

    /// Applications of the function in one pass of a kernel's loop.
    pub const UNROLLED: usize = 8;

    /// How often the function is applied, for all elements together.
    fn applications(&self, graph: &Graph) -> usize {
        Iterate::UNROLLED * self.n_pass * graph.spec(self.y).len()
    }
}

impl Graph {
    /// A function applied `8 n_pass` times to each element of `x (row, 12)`. There is no gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] where `x` has other columns than 12, or lies apart.
    pub fn iterate(&mut self, label: &str, x: Tensor, function: Iterated, n_pass: usize) -> Result<Tensor> {
        let [n_row, n_column] = self.axes("iterate", x)?;
        if n_column != Iterate::CHAINS || !self.spec(x).is_contiguous() {
            return Err(Error::shape(
                "iterate",
                &self.spec(x).label,
                format!("contiguous rows of {}", Iterate::CHAINS),
                &[n_row, n_column],
            ));
        }
        let y = self.tensor(label, &[n_row, n_column]);
        self.push(Iterate { x, y, function, n_pass });
        Ok(y)
    }
}

impl Operation for Iterate {
    fn name(&self) -> &'static str {
        match self.function {
            Iterated::MultiplyAdd => "multiply_add",
            Iterated::Exponential => "exponential",
        }
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y]
    }

    fn flops(&self, graph: &Graph) -> usize {
        match self.function {
            Iterated::MultiplyAdd => 2 * self.applications(graph),
            Iterated::Exponential => self.applications(graph),
        }
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        match self.function {
            Iterated::MultiplyAdd => 0,
            Iterated::Exponential => self.applications(graph),
        }
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, flops) = (plan.spec(self.y).rows(), self.flops(plan.graph()));
        for window @ (_, count) in plan.windows(n_row, &[self.x, self.y]) {
            plan.kernel(&SHADER, self.name())
                .flops(flops / n_row * count)
                .bind_part("x", self.x, window, n_row)
                .bind_part("y", self.y, window, n_row)
                .param("n_row", count)
                .param("n_pass", self.n_pass)
                .lanes(count)?;
        }
        Ok(())
    }
}
