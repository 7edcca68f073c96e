//! First values of parameters, drawn by a named generator: the same seed gives the same values on every device.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::graph::{Graph, Init, Tensor};

/// The first values of every parameter, drawn in the order of their declaration by ChaCha8 from `seed`.
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
            step + (-(-step).exp_m1()).ln()
        }
    }
}
