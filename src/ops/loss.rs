//! The loss that training starts its backward pass from.

use serde::{Deserialize, Serialize};

use super::Operation;
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = Shader {
    name: "loss",
    source: include_str!("../../shaders/loss.wgsl"),
    shared: &[include_str!("../../shaders/shared/reduce.wgsl")],
    constants: &[("LOSS", Constant::U32(0))],
};

/// Which loss; each is a mean over all elements of the prediction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Squared error.
    #[default]
    Mse,
    /// Absolute error.
    Mae,
    /// Half the squared error up to `delta`, absolute beyond, as PyTorch's `HuberLoss`.
    Huber {
        /// The error at which one passes into the other, greater than 0.
        delta: f32,
    },
    /// Quantile (pinball) loss, several levels at once.
    Quantile {
        /// Each between 0 and 1; a prediction has as many columns for each output, the levels of an output beside each other.
        levels: Vec<f32>,
    },
}

impl Loss {
    /// The levels of a quantile loss; none of another.
    pub fn levels(&self) -> &[f32] {
        match self {
            Loss::Quantile { levels } => levels,
            _ => &[],
        }
    }

    /// How many columns of the prediction stand for one output.
    pub fn columns_per_output(&self) -> usize {
        match self {
            Loss::Quantile { levels } => levels.len(),
            _ => 1,
        }
    }

    /// The column, of those that stand for one output, that forecasts it best: the quantile nearest the median.
    pub fn central_column(&self) -> usize {
        central_level(self.levels())
    }

    /// Checks that the loss's own numbers are in range.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that is not.
    pub fn check(&self) -> Result<()> {
        let inside = |level: &f32| *level > 0.0 && *level < 1.0;
        match self {
            Loss::Huber { delta } if !(*delta > 0.0 && delta.is_finite()) => {
                Err(Error::option("--huber-delta", delta, message!("must be a number above 0")))
            }
            Loss::Quantile { levels } if levels.is_empty() || levels.len() > MOST_LEVELS || !levels.iter().all(inside) => {
                let expected = message!("must be 1 to {} numbers between 0 and 1", MOST_LEVELS);
                Err(Error::option("--quantiles", format!("{levels:?}"), expected))
            }
            Loss::Quantile { levels } if levels.windows(2).any(|pair| pair[0] >= pair[1]) => {
                Err(Error::option("--quantiles", format!("{levels:?}"), message!("each must be greater than the one before")))
            }
            _ => Ok(()),
        }
    }
}

/// The level nearest the median, by its place; 0 where there are none.
pub(crate) fn central_level(levels: &[f32]) -> usize {
    let from_median = |index: &usize| (levels[*index] - 0.5).abs();
    (0..levels.len()).min_by(|a, b| from_median(a).total_cmp(&from_median(b))).unwrap_or(0)
}

/// Quantile levels that fit the uniform struct.
const MOST_LEVELS: usize = 32;

/// Elements that one workgroup sums before another is worth a second dispatch.
const ELEMENTS_PER_GROUP: usize = 4096;

/// Workgroups that sum at most.
const MOST_GROUPS: usize = 256;

/// `losses[counter[0]] = mean of loss(prediction - target)`.
#[derive(Clone, Debug)]
pub struct MeanLoss {
    /// Which loss.
    pub loss: Loss,
    /// `(.., outputs * levels)`, levels being 1 but for quantiles.
    pub prediction: Tensor,
    /// `(.., outputs)`.
    pub target: Tensor,
    /// `(2)`: see [`Advance`](super::Advance).
    pub counter: Tensor,
    /// `(n)`.
    pub losses: Tensor,
}

/// Gradient of [`MeanLoss`].
#[derive(Clone, Debug)]
pub struct MeanLossBackward {
    /// As in the forward operation.
    pub loss: Loss,
    /// As in the forward operation.
    pub prediction: Tensor,
    /// As in the forward operation.
    pub target: Tensor,
    /// Shape of the prediction.
    pub grad_prediction: Tensor,
}

impl Graph {
    /// Writes the mean loss of `prediction (.., outputs * levels)` against `target (.., outputs)` to `losses[counter[0]]`, with
    /// `losses (n)` and `counter (2)`; a counter at or beyond n writes nothing. It is where [`Graph::backward`] starts by itself.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit, [`Error::Option`] where the loss's own numbers are out of range.
    pub fn loss(&mut self, label: &str, loss: Loss, prediction: Tensor, target: Tensor, counter: Tensor, losses: Tensor) -> Result<()> {
        loss.check()?;
        let want = self.spec(target).len() * loss.columns_per_output();
        let n_level = loss.columns_per_output();
        if self.spec(prediction).len() != want || want == 0 || !self.spec(prediction).columns().is_multiple_of(n_level) {
            let expected = format!("{} elements for `{label}`, in rows of a multiple of {n_level}", want.max(1));
            return Err(Error::shape("loss", &self.spec(prediction).label, expected, self.shape(prediction)));
        }
        self.expect("loss", counter, &[2])?;
        let [_] = self.axes("loss", losses)?;
        self.push(MeanLoss { loss, prediction, target, counter, losses });
        Ok(())
    }
}

impl Operation for MeanLoss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.prediction, self.target, self.counter]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.losses]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        if let Some(grad_prediction) = gradients.target(graph, self.prediction) {
            let (loss, prediction, target) = (self.loss.clone(), self.prediction, self.target);
            graph.push(MeanLossBackward { loss, prediction, target, grad_prediction });
        }
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let n_element = plan.spec(self.prediction).len();
        let n_loss = plan.spec(self.losses).len();
        let n_part = n_part(plan, self.prediction, self.target);
        let windows = plan.windows(n_part, &[self.prediction, self.target]);
        if let [window] = windows[..]
            && n_element <= ELEMENTS_PER_GROUP
        {
            return kernel(plan, "forward", &self.loss, self.prediction, self.target, window, n_part)
                .bind("counter", self.counter)
                .bind("losses", self.losses)
                .param("n_loss", n_loss)
                .workgroups([1, 1, 1]);
        }
        let groups = |count: usize| (n_element / n_part * count).div_ceil(ELEMENTS_PER_GROUP).min(MOST_GROUPS);
        let n_partial = windows.iter().map(|(_, count)| groups(*count)).sum();
        let partials = plan.scratch(n_partial);
        let mut first_partial = 0;
        for window @ (_, count) in windows {
            kernel(plan, "forward_partial", &self.loss, self.prediction, self.target, window, n_part)
                .bind("partials", partials)
                .param("n_partial", groups(count))
                .param("first_partial", first_partial)
                .workgroups([groups(count), 1, 1])?;
            first_partial += groups(count);
        }
        plan.kernel(&SHADER, "forward_collect")
            .bind("partials", partials)
            .bind("counter", self.counter)
            .bind("losses", self.losses)
            .param("n_whole", n_element)
            .param("n_partial", n_partial)
            .param("n_loss", n_loss)
            .workgroups([1, 1, 1])
    }
}

impl Operation for MeanLossBackward {
    fn name(&self) -> &'static str {
        "loss_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.prediction, self.target]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.grad_prediction]
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let n_part = n_part(plan, self.prediction, self.target);
        let part_elements = plan.spec(self.prediction).len() / n_part;
        for window @ (_, count) in plan.windows(n_part, &[self.prediction, self.target, self.grad_prediction]) {
            kernel(plan, "backward", &self.loss, self.prediction, self.target, window, n_part)
                .bind_part("grad_prediction", self.grad_prediction, window, n_part)
                .lanes(count * part_elements)?;
        }
        Ok(())
    }
}

/// Equal parts into which both the rows of predictions and those of targets fall; the elements of a single row do for its rows.
fn n_part(plan: &Planner, prediction: Tensor, target: Tensor) -> usize {
    match [prediction, target].map(|tensor| plan.spec(tensor).rows()) {
        [1, 1] => plan.spec(target).len(),
        [1, n_row] | [n_row, 1] => n_row,
        [mut a, mut b] => {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        }
    }
}

/// A kernel that reads some of the parts of predictions and targets.
fn kernel<'p, 'a>(
    plan: &'p mut Planner<'a>,
    entry: &'static str,
    loss: &Loss,
    prediction: Tensor,
    target: Tensor,
    window: (usize, usize),
    n_part: usize,
) -> Kernel<'p, 'a> {
    let (n_element, n_prediction_column) = (plan.spec(prediction).len(), plan.spec(prediction).columns());
    let n_wanted_column = plan.spec(target).columns();
    let (number, delta, levels): (usize, f32, &[f32]) = match loss {
        Loss::Mse => (0, 0.0, &[]),
        Loss::Mae => (1, 0.0, &[]),
        Loss::Huber { delta } => (2, *delta, &[]),
        Loss::Quantile { levels } => (3, 0.0, levels),
    };
    plan.kernel(&SHADER, entry)
        .constant("LOSS", number)
        .bind_part("prediction", prediction, window, n_part)
        .bind_part("wanted", target, window, n_part)
        .param("n_element", n_element / n_part * window.1)
        .param("n_whole", n_element)
        .param("n_prediction_column", n_prediction_column)
        .param("n_wanted_column", n_wanted_column)
        .param("n_level", loss.columns_per_output())
        .param("delta", delta)
        .param_list("levels", levels)
}
