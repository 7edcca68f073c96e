//! A function of some elements, again and again: work without memory, which shows how fast a device calculates.

use super::Operation;
use crate::error::{Error, Result};
use crate::gpu::{Planner, Shader};
use crate::graph::{Graph, Tensor};

const SHADER: Shader = Shader { name: "iterate", source: include_str!("../../shaders/iterate.wgsl"), shared: &[], constants: &[] };

/// The function that is applied; both tend to a fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterated {
    /// Of four rows, their products with [`Iterate::MATRIX`] and [`Iterate::TERM`].
    MultiplyAdd,
    /// `exp(-x)` of each element.
    Exponential,
}

impl Iterated {
    /// What every element tends to: 1, and the omega constant, `exp(-w) = w`.
    pub fn fixed_point(self) -> f32 {
        match self {
            Iterated::MultiplyAdd => 1.0,
            Iterated::Exponential => 0.567_143_3,
        }
    }
}

/// `y = f(f(.. f(x)))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iterate {
    /// `(12, column)`, rows may lie apart.
    pub x: Tensor,
    /// As `x`.
    pub y: Tensor,
    /// `f`.
    pub function: Iterated,
    /// How many times [`Iterate::UNROLLED`] applications.
    pub n_pass: usize,
}

impl Iterate {
    /// Three times four: as many values beside one another as hide how long a processor takes for each.
    pub const ROWS: usize = 12;

    /// Applications of the function in one pass of a kernel's loop.
    pub const UNROLLED: usize = 8;

    /// What four rows are multiplied by; each of its rows sums to 0.75.
    pub const MATRIX: [[f32; 4]; 4] = [[0.3, 0.2, 0.15, 0.1], [0.2, 0.15, 0.1, 0.3], [0.15, 0.1, 0.3, 0.2], [0.1, 0.3, 0.2, 0.15]];

    /// The summand of each product.
    pub const TERM: f32 = 0.25;

    /// How often the function is applied, for all elements together.
    fn applications(&self, graph: &Graph) -> usize {
        Iterate::UNROLLED * self.n_pass * graph.spec(self.y).len()
    }
}

impl Graph {
    /// A function applied `8 n_pass` times to `x (12, column)`. There is no gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] where `x` has other rows than 12.
    pub fn iterate(&mut self, label: &str, x: Tensor, function: Iterated, n_pass: usize) -> Result<Tensor> {
        let [n_row, n_column] = self.axes("iterate", x)?;
        if n_row != Iterate::ROWS {
            return Err(Error::shape("iterate", &self.spec(x).label, format!("{} rows", Iterate::ROWS), &[n_row, n_column]));
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
            Iterated::MultiplyAdd => 8 * self.applications(graph),
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
        let (n_column, flops) = (plan.spec(self.y).columns(), self.flops(plan.graph()));
        plan.kernel(&SHADER, self.name())
            .flops(flops)
            .bind("x", self.x)
            .bind("y", self.y)
            .param("n_column", n_column)
            .param("n_pass", self.n_pass)
            .lanes(n_column)
    }
}
