//! The count of training steps, kept on the device.

use super::Operation;
use crate::error::Result;
use crate::gpu::{Planner, Shader};
use crate::graph::{Graph, Tensor};

const SHADER: Shader = Shader { name: "counter", source: include_str!("../../shaders/counter.wgsl"), shared: &[], constants: &[] };

/// Adds 1 to both elements of a counter.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// `(2)`, indices: the step within what was last uploaded (windows, learning rates), and all steps so far.
    pub counter: Tensor,
}

impl Graph {
    /// Adds 1 to both elements of `counter (2)`, a tensor of indices: the step within what was last uploaded, and all steps so far.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where it has not two elements.
    pub fn advance(&mut self, counter: Tensor) -> Result<()> {
        self.expect("counter", counter, &[2])?;
        self.push(Advance { counter });
        Ok(())
    }
}

impl Operation for Advance {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.counter]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.counter]
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        plan.kernel(&SHADER, "advance").bind("counter", self.counter).workgroups([1, 1, 1])
    }
}
