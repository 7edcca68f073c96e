//! Batches of normalised windows, gathered on the device.

use super::{Operation, Sequences};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};
pub use crate::reference::window::{Normalisation, Rescaling};

const SHADER: Shader = Shader {
    name: "window",
    source: include_str!("../../shaders/window.wgsl"),
    shared: &[include_str!("../../shaders/shared/reduce.wgsl")],
    constants: &[("NORMALISATION", Constant::U32(0))],
};

/// The tensors of a batch of windows.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// `(target)`, indices: the features that are targets.
    pub targets: Tensor,
    /// `(batch, step, feature)`, normalised.
    pub x: Tensor,
    /// `(batch, horizon, target)`, normalised.
    pub y: Tensor,
    /// `(batch, feature)`.
    pub shift: Tensor,
    /// `(batch, feature)`.
    pub scale: Tensor,
}

/// Which windows of which series.
#[derive(Clone, Copy, Debug)]
pub struct WindowSource {
    /// `(row, feature)`, in time order.
    pub series: Tensor,
    /// `(n, batch)`, indices: the row at which each window begins. A window and its horizon must end within the series.
    pub starts: Tensor,
    /// `(target)`, indices: the features that are targets.
    pub targets: Tensor,
    /// `(2)`: see [`Advance`](super::Advance); row `counter[0]` of `starts` is taken, the last one where that lies beyond.
    pub counter: Tensor,
    /// Rows of a window.
    pub n_step: usize,
    /// Rows behind it that are targets; 0 where none are known.
    pub horizon: usize,
    /// What windows are shifted and scaled by.
    pub normalisation: Normalisation,
}

/// Gathers a batch of windows.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// From where.
    pub source: WindowSource,
    /// To where.
    pub window: Window,
}

/// `out[counter[0] * batch + b] = prediction[b] * scale + shift`, by the scale and shift of the target.
#[derive(Clone, Copy, Debug)]
pub struct Restore {
    /// `(batch, ..)`, horizon x target x levels elements an item.
    pub prediction: Tensor,
    /// The windows that were predicted from.
    pub window: Window,
    /// `(2)`: see [`Advance`](super::Advance).
    pub counter: Tensor,
    /// `(n, horizon, target * levels)`.
    pub out: Tensor,
}

/// `y = x * factor`, a factor of the target's scale: from errors in the units of a window to others.
#[derive(Clone, Copy, Debug)]
pub struct Rescale {
    /// `(batch, horizon, target * level)`.
    pub x: Tensor,
    /// The windows that give the scale.
    pub window: Window,
    /// By which factor.
    pub rescaling: Rescaling,
    /// As `x`.
    pub y: Tensor,
}

impl Graph {
    /// A batch of windows `x (batch, step, feature)` with the values that follow them, `y (batch, horizon, target)`, both normalised
    /// window by window. No gradient passes.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit or the series is shorter than a window.
    pub fn window(&mut self, label: &str, source: &WindowSource) -> Result<Window> {
        let [n_row, n_feature] = self.axes("window", source.series)?;
        let [_, n_batch] = self.axes("window", source.starts)?;
        let [n_target] = self.axes("window", source.targets)?;
        self.expect("window", source.counter, &[2])?;
        let WindowSource { n_step, horizon, .. } = *source;
        if n_step == 0 || n_row < n_step + horizon {
            let expected = format!("at least {} rows, for a window of at least one", n_step.max(1) + horizon);
            return Err(Error::shape("window", &self.spec(source.series).label, expected, self.shape(source.series)));
        }
        let window = Window {
            targets: source.targets,
            x: self.tensor(&format!("{label}.x"), &[n_batch, n_step, n_feature]),
            y: self.tensor(&format!("{label}.y"), &[n_batch, horizon, n_target]),
            shift: self.tensor(&format!("{label}.shift"), &[n_batch, n_feature]),
            scale: self.tensor(&format!("{label}.scale"), &[n_batch, n_feature]),
        };
        self.push(Gather { source: *source, window });
        Ok(window)
    }

    /// Puts predictions back on the scale of the series: `out[counter[0] * batch + b] = prediction[b] * scale + shift`, for `out (n, horizon,
    /// target * levels)` and a prediction of `batch * horizon * target * levels` elements, the levels (of a quantile loss) of a target
    /// beside each other. Items beyond the end of `out` are dropped.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn restore(&mut self, prediction: Tensor, window: &Window, counter: Tensor, out: Tensor) -> Result<()> {
        let [n_batch, _] = self.axes("restore", window.scale)?;
        let [n_target] = self.axes("restore", window.targets)?;
        let [_, horizon, n_column] = self.axes("restore", out)?;
        self.expect("restore", counter, &[2])?;
        if n_column % n_target != 0 {
            let expected = format!("a multiple of {n_target} columns");
            return Err(Error::shape("restore", &self.spec(out).label, expected, self.shape(out)));
        }
        let spec = self.spec(prediction);
        let has_rows_of_items = spec.rows() == 1 || spec.rows().is_multiple_of(n_batch);
        if spec.len() != n_batch * horizon * n_column || !has_rows_of_items {
            let rows = if has_rows_of_items { "" } else { ", each item in rows of its own" };
            let expected = format!("{n_batch} x {horizon} x {n_column} elements{rows}");
            return Err(Error::shape("restore", &self.spec(prediction).label, expected, self.shape(prediction)));
        }
        self.push(Restore { prediction, window: *window, counter, out });
        Ok(())
    }
}

impl Graph {
    /// `x (batch, horizon, target * level)` times a factor of the scale of each window's target. No gradient reaches the scale.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn rescale(&mut self, label: &str, x: Tensor, window: &Window, rescaling: Rescaling) -> Result<Tensor> {
        let [n_batch, _] = self.axes("rescale", window.scale)?;
        let [n_target] = self.axes("rescale", window.targets)?;
        let [n_item, horizon, n_column] = self.axes("rescale", x)?;
        if n_item != n_batch || n_column % n_target != 0 {
            let expected = format!("[{n_batch}, {horizon}, a multiple of {n_target}]");
            return Err(Error::shape("rescale", &self.spec(x).label, expected, self.shape(x)));
        }
        let y = self.tensor(label, &[n_item, horizon, n_column]);
        self.push(Rescale { x, window: *window, rescaling, y });
        Ok(y)
    }
}

impl Operation for Gather {
    fn name(&self) -> &'static str {
        "window"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.source.series, self.source.starts, self.source.targets, self.source.counter]
    }

    fn outputs(&self) -> Vec<Tensor> {
        let Window { x, y, shift, scale, .. } = self.window;
        vec![x, y, shift, scale]
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let source = &self.source;
        let [n_batch, n_step, n_feature] = [0, 1, 2].map(|axis| plan.spec(self.window.x).shape[axis]);
        let number = match source.normalisation {
            Normalisation::None => 0usize,
            Normalisation::Last => 1,
            Normalisation::MeanStd => 2,
        };
        let (n_start, n_target) = (plan.spec(source.starts).rows(), plan.spec(source.targets).len());
        let n_row = plan.spec(source.series).rows();
        let windows = Sequences::windows(plan, n_batch, &[self.window.x, self.window.y], |_| 0);
        let rows = rows_to_bind(plan, source.series, n_step + source.horizon);
        for (window, (first, count, end)) in windows.iter().flat_map(|window| rows.iter().map(move |rows| (window, *rows))) {
            plan.kernel(&SHADER, "gather")
                .constant("NORMALISATION", number)
                .bind_part("series", source.series, (first, count), n_row)
                .bind("starts", source.starts)
                .bind("targets", source.targets)
                .bind("counter", source.counter)
                .bind("x", window.part(self.window.x))
                .bind("y", window.part(self.window.y))
                .bind("shift", window.part(self.window.shift))
                .bind("scale", window.part(self.window.scale))
                .param("n_batch", window.count)
                .param("first_batch", window.first)
                .param("n_whole_batch", n_batch)
                .param("n_start", n_start)
                .param("n_step", n_step)
                .param("n_feature", n_feature)
                .param("horizon", source.horizon)
                .param("n_target", n_target)
                .param("first_row", first)
                .param("end_row", end)
                .groups(window.count * n_feature)?;
        }
        Ok(())
    }
}

/// Parts of a series that can be bound, first row and count, each with the row before which the windows of `reach` rows begin that are
/// gathered from it: neighbours overlap, so that each window lies in one of them.
fn rows_to_bind(plan: &Planner, series: Tensor, reach: usize) -> Vec<(usize, usize, usize)> {
    let n_row = plan.spec(series).rows();
    let most = plan.windows(n_row, &[series]).first().map_or(n_row, |(_, count)| *count);
    if most >= n_row || most <= reach {
        return vec![(0, n_row, n_row)];
    }
    let advance = most - reach;
    (0..n_row - reach + 1).step_by(advance).map(|first| (first, most.min(n_row - first), first + advance)).collect()
}

impl Operation for Restore {
    fn name(&self) -> &'static str {
        "restore"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Window { targets, shift, scale, .. } = self.window;
        vec![self.prediction, targets, shift, scale, self.counter]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.out]
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let [n_batch, n_feature] = [0, 1].map(|axis| plan.spec(self.window.scale).shape[axis]);
        let [n_item, horizon, n_column] = [0, 1, 2].map(|axis| plan.spec(self.out).shape[axis]);
        let n_target = plan.spec(self.window.targets).len();
        let (n_element, n_prediction_column) = (plan.spec(self.prediction).len(), plan.spec(self.prediction).columns());
        let windows = Sequences::windows(plan, n_batch, &[self.prediction], |_| 0);
        // which items a batch becomes is known on the device alone
        let items = plan.windows(n_item, &[self.out]);
        for (window, items) in windows.iter().flat_map(|window| items.iter().map(move |items| (window, *items))) {
            plan.kernel(&SHADER, "restore")
                .bind("prediction", window.part(self.prediction))
                .bind("targets", self.window.targets)
                .bind("shift", window.part(self.window.shift))
                .bind("scale", window.part(self.window.scale))
                .bind("counter", self.counter)
                .bind_part("out", self.out, items, n_item)
                .param("n_batch", window.count)
                .param("first_batch", window.first)
                .param("n_whole_batch", n_batch)
                .param("first_item", items.0)
                .param("n_bound_item", items.1)
                .param("n_feature", n_feature)
                .param("horizon", horizon)
                .param("n_target", n_target)
                .param("n_level", n_column / n_target)
                .param("n_prediction_column", n_prediction_column)
                .lanes(window.share(n_element))?;
        }
        Ok(())
    }
}

impl Operation for Rescale {
    fn name(&self) -> &'static str {
        "rescale"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Window { targets, scale, .. } = self.window;
        vec![self.x, targets, scale]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        if let (Some(grad_y), Some(grad_x)) = (gradients.of(graph, self.y), gradients.target(graph, self.x)) {
            graph.push(Rescale { x: grad_y, y: grad_x, ..*self });
        }
        Ok(())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let [n_batch, n_feature] = [0, 1].map(|axis| plan.spec(self.window.scale).shape[axis]);
        let [horizon, n_column] = [1, 2].map(|axis| plan.spec(self.x).shape[axis]);
        let (n_element, n_target) = (plan.spec(self.x).len(), plan.spec(self.window.targets).len());
        for window in Sequences::windows(plan, n_batch, &[self.x, self.y], |_| 0) {
            plan.kernel(&SHADER, "rescale")
                .bind("prediction", window.part(self.x))
                .bind("targets", self.window.targets)
                .bind("scale", window.part(self.window.scale))
                .bind("out", window.part(self.y))
                .param("n_batch", window.count)
                .param("n_feature", n_feature)
                .param("horizon", horizon)
                .param("n_target", n_target)
                .param("n_level", n_column / n_target)
                .param("is_root", usize::from(self.rescaling == Rescaling::Root))
                .lanes(window.share(n_element))?;
        }
        Ok(())
    }
}
