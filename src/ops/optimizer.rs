//! Parameter updates, one kernel over all parameters.

use serde::{Deserialize, Serialize};

use super::{Operation, present};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Operand, Planner, Shader};
use crate::graph::{Graph, Tensor};

const SHADER: Shader = Shader {
    name: "optimizer",
    source: include_str!("../../shaders/optimizer.wgsl"),
    shared: &[include_str!("../../shaders/shared/nan.wgsl")],
    constants: &[
        ("HAS_CLIP", Constant::Bool(false)),
        ("HAS_CLIP_VALUE", Constant::Bool(false)),
        ("HAS_FIRST", Constant::Bool(false)),
        ("NESTEROV", Constant::Bool(false)),
        ("DECOUPLED", Constant::Bool(false)),
    ],
};

/// Parameters that a workgroup updates, several an invocation, so that what they share is read once.
const PARAMETERS_PER_GROUP: usize = 512;

/// The rule of the update, with PyTorch's names, formulas, order and, where a serialised rule leaves a number out, defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Optimizer {
    /// Stochastic gradient descent, without dampening.
    Sgd {
        /// How much of the last update is kept.
        #[serde(default)]
        momentum: f64,
        /// Whether the momentum is Nesterov's.
        #[serde(default)]
        nesterov: bool,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam.
    Adam {
        /// Decay of the first and of the second moment.
        #[serde(default = "betas")]
        betas: [f64; 2],
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with weight decay separate from the gradient.
    AdamW {
        /// Decay of the first and of the second moment.
        #[serde(default = "betas")]
        betas: [f64; 2],
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// Decay, times the learning rate.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
    /// RMSProp, not centred.
    RmsProp {
        /// Decay of the second moment.
        #[serde(default = "alpha")]
        alpha: f64,
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// How much of the last update is kept.
        #[serde(default)]
        momentum: f64,
        /// L2 penalty.
        #[serde(default)]
        weight_decay: f64,
    },
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn eps() -> f64 {
    1e-8
}

fn alpha() -> f64 {
    0.99
}

fn decay() -> f64 {
    0.01
}

impl Optimizer {
    /// SGD without momentum.
    pub fn sgd(weight_decay: f64) -> Self {
        Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay }
    }

    /// Adam with PyTorch's defaults.
    pub fn adam(weight_decay: f64) -> Self {
        Optimizer::Adam { betas: betas(), eps: eps(), weight_decay }
    }

    /// AdamW with PyTorch's defaults; its weight decay is 0.01 there.
    pub fn adam_w(weight_decay: f64) -> Self {
        Optimizer::AdamW { betas: betas(), eps: eps(), weight_decay }
    }

    /// RMSProp with PyTorch's defaults.
    pub fn rms_prop(weight_decay: f64) -> Self {
        Optimizer::RmsProp { alpha: alpha(), eps: eps(), momentum: 0.0, weight_decay }
    }

    /// The L2 penalty, or AdamW's decay.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            Optimizer::Sgd { weight_decay, .. }
            | Optimizer::Adam { weight_decay, .. }
            | Optimizer::AdamW { weight_decay, .. }
            | Optimizer::RmsProp { weight_decay, .. } => weight_decay,
        }
    }

    /// How much of the last update is kept.
    fn momentum(&self) -> f64 {
        match *self {
            Optimizer::Sgd { momentum, .. } | Optimizer::RmsProp { momentum, .. } => momentum,
            _ => 0.0,
        }
    }

    fn has_first(&self) -> bool {
        matches!(self, Optimizer::Adam { .. } | Optimizer::AdamW { .. }) || self.momentum() != 0.0
    }

    fn has_second(&self) -> bool {
        !matches!(self, Optimizer::Sgd { .. })
    }

    /// Checks that every number is in range.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that is not.
    pub fn check(&self) -> Result<()> {
        let fraction = |option: &str, value: f64| match value {
            0.0..1.0 => Ok(()),
            _ => Err(Error::option(option, value, message!("must be at least 0 and below 1"))),
        };
        let natural = |option: &str, value: f64| match value {
            0.0..f64::INFINITY => Ok(()),
            _ => Err(Error::option(option, value, message!("must be a number, 0 or more"))),
        };
        // 0 in the kernels' floats, it would leave 0 / 0 of a gradient of 0
        let positive = |eps: f64| {
            if eps.is_finite() && eps as f32 > 0.0 {
                Ok(())
            } else {
                Err(Error::option("--eps", eps, message!("must be a number above 0")))
            }
        };
        natural("--weight-decay", self.weight_decay())?;
        fraction("--momentum", self.momentum())?;
        match *self {
            Optimizer::Sgd { momentum, nesterov, .. } if nesterov && momentum == 0.0 => {
                Err(Error::option("--momentum", momentum, message!("must be above 0 with Nesterov's momentum")))
            }
            Optimizer::Sgd { .. } => Ok(()),
            Optimizer::Adam { betas, eps, .. } | Optimizer::AdamW { betas, eps, .. } => {
                betas.iter().try_for_each(|&beta| fraction("--betas", beta))?;
                positive(eps)
            }
            Optimizer::RmsProp { alpha, eps, .. } => {
                fraction("--alpha", alpha)?;
                positive(eps)
            }
        }
    }
}

/// What an update depends on beside parameters, gradients and moments.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The rule.
    pub optimizer: Optimizer,
    /// `(2)`, of [`Graph::clip_grad_norm`]: gradients are multiplied by its second element first.
    pub clip: Option<Tensor>,
    /// What gradients are clamped to next, both ways.
    pub clip_value: Option<f32>,
    /// `(n)`: the learning rate of each step, taken at `counter[0]`, the last one where that lies beyond.
    pub learning_rates: Tensor,
    /// `(2)`: see [`Advance`](super::Advance); all steps so far are `counter[1]`, this one not counted.
    pub counter: Tensor,
    /// Parameters that learn at another rate than the others.
    pub group: Option<ParameterGroup>,
}

/// Parameters that learn at a rate of their own.
#[derive(Clone, Copy, Debug)]
pub struct ParameterGroup {
    /// The first of them; all that are declared later are in it too.
    pub first: Tensor,
    /// Their learning rate, as a multiple of that of the others.
    pub rate: f32,
}

/// Updates parameters that learn at one rate.
#[derive(Clone, Copy, Debug)]
pub struct Optimize {
    /// How.
    pub update: Update,
    /// What the learning rate is multiplied by.
    pub rate: f32,
    /// `(n)`, the parameters, read and written.
    pub parameters: Tensor,
    /// `(n)`, their gradients.
    pub gradients: Tensor,
    /// `(n)`: momentum or first moment, read and written, where the rule has one.
    pub first: Option<Tensor>,
    /// `(n)`: second moment, read and written, where the rule has one.
    pub second: Option<Tensor>,
}

/// `gradients += strength * mask * sign(parameters)`: the gradient of an L1 penalty.
#[derive(Clone, Copy, Debug)]
pub struct L1Penalty {
    /// `(n)`, all parameters.
    pub parameters: Tensor,
    /// `(n)`: 1 where a parameter is penalised, else 0.
    pub mask: Tensor,
    /// What an absolute value costs.
    pub strength: f32,
    /// `(n)`, read and written.
    pub gradients: Tensor,
}

impl Graph {
    /// Updates every parameter of the graph by its gradient. Parameters that are declared later are not reached. Moments are states
    /// `optimizer.first` and `optimizer.second`, where the rule has them: one value a parameter, zero at first.
    ///
    /// # Errors
    /// [`Error::Option`] where a number of the rule is out of range, [`Error::Shape`] where the shapes do not fit, [`Error::Unsupported`]
    /// where a group does not begin with a parameter.
    pub fn optimize(&mut self, update: &Update) -> Result<()> {
        update.optimizer.check()?;
        if let Some(limit) = update.clip_value
            && (limit.is_nan() || limit <= 0.0)
        {
            return Err(Error::option("--clip-value", limit, message!("must be a number above 0")));
        }
        self.expect("optimizer", update.counter, &[2])?;
        let [_] = self.axes("optimizer", update.learning_rates)?;
        if let Some(clip) = update.clip {
            self.expect("optimizer", clip, &[2])?;
        }
        let (parameters, gradients) = (self.flat_parameters(), self.flat_gradients());
        let n_parameter = self.spec(parameters).len();
        let first = update.optimizer.has_first().then(|| self.state("optimizer.first", &[n_parameter]));
        let second = update.optimizer.has_second().then(|| self.state("optimizer.second", &[n_parameter]));
        let (n_before, rate) = match update.group {
            Some(ParameterGroup { first, .. }) if self.parameters().iter().all(|parameter| parameter.tensor != first) => {
                let what = message!("`{}` is no parameter, with which a group could begin", self.spec(first).label);
                return Err(Error::Unsupported { operation: "optimizer", what });
            }
            Some(ParameterGroup { first, rate }) => (self.spec(first).offset, rate),
            None => (n_parameter, 1.0),
        };
        for (at, count, rate) in [(0, n_before, 1.0), (n_before, n_parameter - n_before, rate)] {
            if count > 0 {
                let mut part = |tensor: Tensor| self.rows(tensor, "optimizer.part", at, count);
                let [parameters, gradients] = [parameters, gradients].map(&mut part);
                let [first, second] = [first, second].map(|tensor| tensor.map(&mut part));
                self.push(Optimize { update: *update, rate, parameters, gradients, first, second });
            }
        }
        Ok(())
    }

    /// Adds the gradient of `strength * sum(|parameter|)` over the parameters whose place in the flat `mask` is 1, as if the sum were part
    /// of the loss: call it after [`Graph::backward`] and before [`Graph::clip_grad_norm`].
    ///
    /// # Errors
    /// [`Error::Option`] where `strength` is negative, [`Error::Shape`] where the mask has not one value a parameter.
    pub fn l1_penalty(&mut self, strength: f32, mask: Tensor) -> Result<()> {
        if !(strength >= 0.0 && strength.is_finite()) {
            return Err(Error::option("--l1", strength, message!("must be a number, 0 or more")));
        }
        let (parameters, gradients) = (self.flat_parameters(), self.flat_gradients());
        let n_parameter = self.spec(parameters).len();
        self.expect("l1_penalty", mask, &[n_parameter])?;
        self.push(L1Penalty { parameters, mask, strength, gradients });
        Ok(())
    }
}

impl Operation for Optimize {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn inputs(&self) -> Vec<Tensor> {
        let Update { clip, learning_rates, counter, .. } = self.update;
        present([Some(self.parameters), Some(self.gradients), self.first, self.second, clip, Some(learning_rates), Some(counter)])
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([Some(self.parameters), self.first, self.second])
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let Update { optimizer, clip, clip_value, learning_rates, counter, .. } = self.update;
        let (n_parameter, n_rate) = (plan.spec(self.parameters).len(), plan.spec(learning_rates).len());
        let (entry, [decay_first, decay_second], eps) = match optimizer {
            Optimizer::Sgd { .. } => ("sgd", [0.0; 2], 0.0),
            Optimizer::Adam { betas, eps, .. } | Optimizer::AdamW { betas, eps, .. } => ("adam", betas, eps),
            Optimizer::RmsProp { alpha, eps, .. } => ("rms_prop", [0.0, alpha], eps),
        };
        // a decay of 0 leaves nothing after the first step: any logarithm below that of the smallest float says so
        let log = |decay: f64| decay.ln().max(-1e3) as f32;
        for (first, count) in plan.windows(n_parameter, &present([Some(self.parameters), self.first, self.second])) {
            let part = |tensor: Tensor| Operand::Part { tensor, first, count, of: n_parameter };
            plan.kernel(&SHADER, entry)
                .constant("HAS_CLIP_VALUE", clip_value.is_some())
                .constant("NESTEROV", matches!(optimizer, Optimizer::Sgd { nesterov: true, .. }))
                .constant("DECOUPLED", matches!(optimizer, Optimizer::AdamW { .. }))
                .bind("parameters", part(self.parameters))
                .bind("gradients", part(self.gradients))
                .bind_optional("first", self.first.map(part))
                .bind_optional("second", self.second.map(part))
                .bind_optional("clip", clip)
                .bind("learning_rates", learning_rates)
                .bind("counter", counter)
                .param("n_parameter", count)
                .param("n_rate", n_rate)
                .param("rate", self.rate)
                .param("clip_value", clip_value.unwrap_or_default())
                .param("weight_decay", optimizer.weight_decay() as f32)
                .param("momentum", optimizer.momentum() as f32)
                .param("eps", eps as f32)
                .param("decay_first", decay_first as f32)
                .param("gain_first", (1.0 - decay_first) as f32)
                .param("log_decay_first", log(decay_first))
                .param("decay_second", decay_second as f32)
                .param("gain_second", (1.0 - decay_second) as f32)
                .param("log_decay_second", log(decay_second))
                .groups(count.div_ceil(PARAMETERS_PER_GROUP))?;
        }
        Ok(())
    }
}

impl Operation for L1Penalty {
    fn name(&self) -> &'static str {
        "l1_penalty"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.parameters, self.mask, self.gradients]
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.gradients]
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let n_parameter = plan.spec(self.parameters).len();
        for window @ (_, count) in plan.windows(n_parameter, &[self.parameters]) {
            plan.kernel(&SHADER, "l1_penalty")
                .bind_part("values", self.parameters, window, n_parameter)
                .bind_part("mask", self.mask, window, n_parameter)
                .bind_part("penalised", self.gradients, window, n_parameter)
                .param("n_parameter", count)
                .param("strength", self.strength)
                .groups(count.div_ceil(PARAMETERS_PER_GROUP))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_under_the_names_of_torch() {
        let read = |json| serde_json::from_str::<Optimizer>(json).expect("a rule");
        let sgd = read(r#"{"kind": "sgd", "lr": 0.05, "momentum": 0.8, "nesterov": true}"#);
        assert_eq!(sgd, Optimizer::Sgd { momentum: 0.8, nesterov: true, weight_decay: 0.0 });
        assert_eq!(read(r#"{"kind": "adam", "weight_decay": 0.1}"#), Optimizer::adam(0.1));
        assert_eq!(read(r#"{"kind": "adamw"}"#), Optimizer::adam_w(0.01));
        assert_eq!(read(r#"{"kind": "rmsprop"}"#), Optimizer::rms_prop(0.0));
    }
}
