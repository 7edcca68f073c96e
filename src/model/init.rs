//! First values of parameters, drawn by a named generator: the same seed gives the same values on every device.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::graph::{Graph, Init, Tensor};
use crate::reference::activation::softplus_inverse;

/// The first values of every parameter, drawn in the order of their declaration by ChaCha8 from `seed`.
///
/// # Panics
/// If a parameter's [`Init`] is no range: a bound below 0, ends of which the first is the larger, a step that is not above 0, or no finite
/// numbers.
pub fn initial_values(graph: &Graph, seed: u64) -> Vec<(Tensor, Vec<f32>)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let draw = |parameter: &crate::graph::ParameterSpec| {
        let spec = graph.spec(parameter.tensor);
        let values = (0..spec.len()).map(|index| sample(parameter.init, index % spec.columns(), &mut random)).collect();
        (parameter.tensor, values)
    };
    graph.parameters().iter().map(draw).collect()
}

fn sample(init: Init, column: usize, random: &mut ChaCha8Rng) -> f32 {
    match init {
        Init::Constant(value) => value,
        Init::Uniform(bound) => random.random_range(-bound..=bound),
        Init::Range { low, high } => random.random_range(low..=high),
        Init::LogRange => ((column + 1) as f32).ln(),
        Init::LogUniformStep { min, max } => {
            let step: f32 = random.random_range(min.ln()..=max.ln()).exp();
            softplus_inverse(step)
        }
    }
}
