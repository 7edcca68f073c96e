//! Dropout with masks that are the same on every device.

use super::Operation;
use crate::error::{Error, Result};
use crate::gpu::{Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};
use crate::reference::dropout::mix;

const SHADER: Shader = Shader { name: "dropout", source: include_str!("../../shaders/dropout.wgsl"), shared: &[], constants: &[] };

/// Where the masks of a program come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutSource {
    /// Share of the elements that is dropped, from 0 to below 1.
    pub rate: f32,
    /// Of the masks.
    pub seed: u64,
    /// `(2)`: see [`Advance`](super::Advance); `counter[1]`, the steps so far, gives each step a mask of its own.
    pub counter: Tensor,
}

/// `y = x / (1 - rate)` for the elements that are kept, else 0; the same operation takes the gradient back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Rows may lie apart.
    pub x: Tensor,
    /// `(2)`.
    pub counter: Tensor,
    /// Share of the elements that is dropped.
    pub rate: f32,
    /// Key of this mask, made from the seed and the place in the model: other keys give other masks.
    pub stream: u32,
    /// As `x`, rows may lie apart.
    pub y: Tensor,
}

impl Dropout {
    /// Hashes below this are dropped.
    pub fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    /// What the kept elements are multiplied with, so that the mean stays.
    pub fn scale(&self) -> f32 {
        (1.0 - self.rate).recip()
    }
}

impl Graph {
    /// Dropout of `x`, of any shape; `place` numbers the masks of one program. In a program for training alone.
    ///
    /// # Errors
    /// [`Error::Option`] where the rate is not from 0 to below 1, [`Error::Shape`] where the counter has not two elements.
    pub fn dropout(&mut self, label: &str, x: Tensor, source: &DropoutSource, place: u32) -> Result<Tensor> {
        let DropoutSource { rate, seed, counter } = *source;
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::option("--dropout", rate, message!("must be at least 0 and below 1")));
        }
        self.expect("dropout", counter, &[2])?;
        let stream = mix(mix(mix(place) ^ seed as u32) ^ (seed >> 32) as u32);
        let shape = self.shape(x).to_vec();
        let y = self.tensor(label, &shape);
        self.push(Dropout { x, counter, rate, stream, y });
        Ok(y)
    }
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x, self.counter]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        if let (Some(grad_y), Some(grad_x)) = (gradients.of(graph, self.y), gradients.target(graph, self.x)) {
            graph.push(Dropout { x: grad_y, y: grad_x, ..*self });
        }
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_column) = (plan.spec(self.y).rows(), plan.spec(self.y).columns());
        for window @ (first, count) in plan.windows(n_row, &[self.x, self.y]) {
            plan.kernel(&SHADER, "dropout")
                .flops(count * n_column)
                .bind_part("x", self.x, window, n_row)
                .bind("counter", self.counter)
                .bind_part("y", self.y, window, n_row)
                .param("n_row", count)
                .param("n_column", n_column)
                .param("first_element", first * n_column)
                .param("stream", self.stream)
                .param("threshold", self.threshold())
                .param("scale", self.scale())
                .lanes(count * n_column)?;
        }
        Ok(())
    }
}
