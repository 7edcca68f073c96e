//! One operation or one training step at one shape: compared with the reference, then timed.

use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backend::{Backend, Session};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Program, Tensor};
use crate::model::mamba::Mixer;
use crate::model::{Forecaster, ForecasterConfig, ModelKind, Pass, initial_values};
use crate::ops::{AttentionInputs, Loss, Operation, Optimizer, Recurrence, SelectiveScanInputs, Update};
use crate::profile::Work;
use crate::reference::Reference;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Benchmark {
    /// The selective scan with all its inputs.
    SelectiveScan,
    /// The gated cell of min-gru, given its input products.
    MinGru,
    /// minGRU, given its input products.
    MinGruScan,
    /// Causal attention with 4 heads, or with one if 4 does not divide the channels.
    Attention,
    /// A whole Mamba mixer.
    MambaMixer,
    /// A linear layer with as many outputs as inputs.
    Linear,
    /// RMS normalisation of the channels.
    RmsNorm,
}

impl Benchmark {
    /// Name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().into()).unwrap_or_default()
    }
}

/// Values that the sizes of a measurement may make, at most: `batch * length * channels * state`.
const MOST_VALUES: u64 = 1 << 36;

/// Sizes of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Steps.
    pub length: usize,
    /// Channels.
    pub channels: usize,
    /// States of a channel.
    pub state: usize,
}

impl Shape {
    /// Checks that every size can be used.
    ///
    /// # Errors
    /// [`Error::Option`] naming the first that is zero, or the largest where all together are more than a machine can hold.
    pub fn check(&self) -> Result<()> {
        let sizes = [("--batch", self.batch), ("--length", self.length), ("--channels", self.channels), ("--state", self.state)];
        if let Some((option, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(Error::option(option, 0, message!("must be at least 1")));
        }
        let n_value = sizes.into_iter().try_fold(1_u64, |product, (_, size)| product.checked_mul(size as u64));
        match (n_value.filter(|&n_value| n_value <= MOST_VALUES), sizes.into_iter().max_by_key(|(_, size)| *size)) {
            (None, Some((option, size))) => {
                Err(Error::option(option, size, message!("makes more than {} values with the other sizes: take fewer", MOST_VALUES)))
            }
            _ => Ok(()),
        }
    }
}

/// The operation or training step as a graph of one program.
#[derive(Debug)]
pub struct Measured {
    /// The graph.
    pub graph: Graph,
    /// Its program: forward, or forward and backward.
    pub program: Program,
    /// Outputs, then gradients; of a training step, the loss and the updated parameters.
    pub results: Vec<Tensor>,
    /// Values of the inputs.
    pub inputs: Vec<(Tensor, Vec<f32>)>,
    /// Bytes that must move: every input read once, every result written once.
    pub bytes: f64,
}

struct Builder {
    graph: Graph,
    random: ChaCha8Rng,
    inputs: Vec<(Tensor, Vec<f32>)>,
}

impl Builder {
    /// Random values with a gradient.
    fn variable(&mut self, label: &str, shape: &[usize], low: f32, high: f32) -> Tensor {
        let tensor = self.graph.variable(label, shape);
        self.fill(tensor, low, high)
    }

    /// Random values without a gradient.
    fn data(&mut self, label: &str, shape: &[usize]) -> Tensor {
        let tensor = self.graph.input(label, shape);
        self.fill(tensor, -1.0, 1.0)
    }

    fn fill(&mut self, tensor: Tensor, low: f32, high: f32) -> Tensor {
        let values = (0..self.graph.spec(tensor).len()).map(|_| self.random.random_range(low..high)).collect();
        self.inputs.push((tensor, values));
        tensor
    }

    fn finish(self, program: Program, results: Vec<Tensor>) -> Measured {
        let Builder { graph, inputs, .. } = self;
        let tensors = inputs.iter().map(|(tensor, _)| *tensor).chain(results.iter().copied());
        let bytes = 4.0 * tensors.map(|tensor| graph.spec(tensor).len()).sum::<usize>() as f64;
        Measured { graph, program, results, inputs, bytes }
    }
}

/// Builds the operation over random inputs.
///
/// # Errors
/// [`Error::Option`] as [`Shape::check`].
pub fn build(op: Benchmark, shape: Shape, backward: bool) -> Result<Measured> {
    shape.check()?;
    let Shape { batch, length, channels, state } = shape;
    let mut builder = Builder { graph: Graph::new(), random: ChaCha8Rng::seed_from_u64(1), inputs: Vec::new() };
    let outputs = match op {
        Benchmark::SelectiveScan => {
            let sequence = [batch, length, channels];
            let inputs = SelectiveScanInputs {
                u: builder.variable("u", &sequence, -1.0, 1.0),
                delta: builder.variable("delta", &sequence, 0.0, 0.5),
                a: builder.variable("a", &[channels, state], -1.1, -0.1),
                b: builder.variable("b", &[batch, length, state], -1.0, 1.0),
                c: builder.variable("c", &[batch, length, state], -1.0, 1.0),
                d: Some(builder.variable("d", &[channels], 0.5, 1.5)),
                z: Some(builder.variable("z", &sequence, -1.0, 1.0)),
                delta_bias: Some(builder.variable("delta_bias", &[channels], -0.1, 0.1)),
                delta_softplus: true,
                recurrence: Recurrence::default(),
            };
            vec![builder.graph.selective_scan("y", &inputs)?.0]
        }
        Benchmark::MinGru => {
            let p = builder.variable("p", &[batch, length, 3 * channels], -1.0, 1.0);
            let bound = (channels as f32).sqrt().recip();
            let u = builder.variable("u", &[3 * channels, channels], -bound, bound);
            vec![builder.graph.min_gru("h", p, u, &Recurrence::default())?.0]
        }
        Benchmark::MinGruScan => {
            let p = builder.variable("p", &[batch, length, 2 * channels], -1.0, 1.0);
            vec![builder.graph.min_gru_scan("h", p, &Recurrence::default())?.0]
        }
        Benchmark::Attention => {
            let [q, k, v] = ["q", "k", "v"].map(|label| builder.variable(label, &[batch, length, channels], -1.0, 1.0));
            let n_head = if channels % 4 == 0 { 4 } else { 1 };
            vec![builder.graph.attention("y", &AttentionInputs { q, k, v, n_head, past: None, reset: None })?.0]
        }
        Benchmark::MambaMixer => {
            let x = builder.variable("x", &[batch, length, channels], -1.0, 1.0);
            let sizes = ForecasterConfig { d_state: state, ..ForecasterConfig::new(ModelKind::Mamba, channels) }.mixer_sizes();
            let mixer = Mixer::new(&mut builder.graph, "", sizes);
            let y = mixer.forward(&mut builder.graph, "", x, None, &Recurrence::default())?.y;
            builder.inputs.extend(initial_values(&builder.graph, 1));
            vec![y]
        }
        Benchmark::Linear => {
            let x = builder.variable("x", &[batch * length, channels], -1.0, 1.0);
            let bound = (channels as f32).sqrt().recip();
            let weight = builder.graph.parameter("weight", &[channels, channels], Init::Uniform(bound));
            builder.inputs.extend(initial_values(&builder.graph, 1));
            vec![builder.graph.linear("y", x, weight, None)?]
        }
        Benchmark::RmsNorm => {
            let x = builder.variable("x", &[batch, length, channels], -1.0, 1.0);
            let weight = builder.variable("weight", &[channels], 0.5, 1.5);
            vec![builder.graph.rms_norm("y", x, weight, 1e-5)?]
        }
    };
    let mut results = outputs.clone();
    if backward {
        let given: Vec<Tensor> = builder.inputs.iter().map(|(tensor, _)| *tensor).collect();
        let mut seeds = Vec::new();
        for output in outputs {
            let shape = builder.graph.shape(output).to_vec();
            seeds.push((output, builder.variable("cotangent", &shape, -1.0, 1.0)));
        }
        let gradients = builder.graph.backward(&seeds)?;
        results.extend(given.into_iter().filter_map(|tensor| gradients.of(&mut builder.graph, tensor)));
    }
    let program = builder.graph.finish("measured");
    Ok(builder.finish(program, results))
}

/// One product of random factors, of the given numbers of rows, columns and terms.
///
/// # Errors
/// [`Error::Shape`] where one of them is 0.
pub fn product([n_row, n_column, n_term]: [usize; 3]) -> Result<Measured> {
    let mut builder = Builder { graph: Graph::new(), random: ChaCha8Rng::seed_from_u64(1), inputs: Vec::new() };
    let x = builder.variable("x", &[n_row, n_term], -1.0, 1.0);
    let weight = builder.variable("weight", &[n_column, n_term], -1.0, 1.0);
    let y = builder.graph.linear("y", x, weight, None)?;
    let program = builder.graph.finish("measured");
    Ok(builder.finish(program, vec![y]))
}

/// Which steps of a window a training step forecasts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossOn {
    /// The last one, as the lab does.
    LastStep,
    /// Every one.
    EveryStep,
}

/// One step of training a forecaster of one layer: embedding of a column, layer, head, squared error, gradients, their clipping, SGD.
///
/// `shape.channels` are the hidden channels, `shape.state` the states of the Mambas.
///
/// # Errors
/// [`Error::Option`] as [`Shape::check`].
pub fn training_step(model: ModelKind, shape: Shape, loss_on: LossOn) -> Result<Measured> {
    shape.check()?;
    let Shape { batch, length, channels, state } = shape;
    let mut builder = Builder { graph: Graph::new(), random: ChaCha8Rng::seed_from_u64(1), inputs: Vec::new() };
    let column = builder.data("column", &[batch, length, 1]);
    let n_target = if loss_on == LossOn::EveryStep { batch * length } else { batch };
    let target = builder.data("target", &[n_target, 1]);
    let graph = &mut builder.graph;
    // the forecasters of Mamba's blocks have an embedding of their own
    let embedded = match model {
        ModelKind::Mamba | ModelKind::Hybrid => column,
        _ => {
            let weight = graph.parameter("embedding.weight", &[channels, 1], Init::Uniform(1.0));
            let bias = graph.parameter("embedding.bias", &[channels], Init::Uniform(1.0));
            graph.linear("embedded", column, weight, Some(bias))?
        }
    };
    let features = graph.spec(embedded).columns();
    let config = ForecasterConfig { features, d_state: state, ..ForecasterConfig::new(model, channels) };
    let forecaster = Forecaster::new(graph, &config)?;
    let forecast = match loss_on {
        LossOn::LastStep => forecaster.forward(graph, embedded, &Pass::default())?.y,
        LossOn::EveryStep => forecaster.every_step(graph, embedded, &Pass::default())?.y,
    };
    let (losses, learning_rates) = (graph.state("losses", &[1]), graph.input("learning_rates", &[1]));
    let counter = graph.indices("counter", &[2]);
    graph.loss("loss", Loss::Mse, forecast, target, counter, losses)?;
    graph.backward(&[])?;
    let clip = graph.clip_grad_norm(1.0)?;
    graph.optimize(&Update {
        optimizer: Optimizer::sgd(1e-4),
        clip: Some(clip),
        clip_value: None,
        learning_rates,
        counter,
        group: None,
    })?;
    let results = vec![losses, graph.flat_parameters()];
    let program = graph.finish("training step");
    let parameters = initial_values(graph, 1);
    builder.inputs.extend(parameters);
    builder.inputs.push((learning_rates, vec![1e-3]));
    Ok(builder.finish(program, results))
}

/// How a result compares with the reference.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which result.
    pub tensor: String,
    /// Largest difference, relative to the largest element of the reference.
    pub error: f64,
}

impl Checked {
    /// Whether the result is right.
    pub fn passed(&self) -> bool {
        self.error <= ALLOWED
    }
}

/// Largest difference from the reference in `f64` that a result may have, relative to the reference's largest element.
pub const ALLOWED: f64 = 1e-4;

/// What the reference in `f64` gives.
///
/// # Errors
/// The reference's own.
pub async fn expected(measured: &Measured) -> Result<Vec<Vec<f32>>> {
    results(measured, &Reference::<f64>::new()).await
}

/// Runs on a backend and compares every result with the expected one.
///
/// # Errors
/// The backend's own.
pub async fn compare(measured: &Measured, backend: &dyn Backend, expected: &[Vec<f32>]) -> Result<Vec<Checked>> {
    let got = results(measured, backend).await?;
    let checked = measured.results.iter().zip(got.iter().zip(expected)).map(|(&tensor, (got, want))| {
        let largest = want.iter().fold(1e-30f64, |largest, want| largest.max(f64::from(want.abs())));
        let error = largest_difference(got, want) / largest;
        Checked { tensor: measured.graph.spec(tensor).label.clone(), error }
    });
    Ok(checked.collect())
}

/// The largest difference; NaN where one is.
fn largest_difference(got: &[f32], want: &[f32]) -> f64 {
    let differences = got.iter().zip(want).map(|(got, want)| f64::from((got - want).abs()));
    differences.fold(0.0, |worst: f64, difference| if worst.is_nan() || difference <= worst { worst } else { difference })
}

impl Measured {
    /// What its program must do: the bytes that must move, the arithmetic of its operations.
    pub fn work(&self) -> Work {
        let work = self.graph.program(self.program).iter().map(|op| op.work(&self.graph));
        work.fold(Work { bytes: self.bytes, ..Work::default() }, |sum, of_op| Work {
            flops: sum.flops + of_op.flops,
            exponentials: sum.exponentials + of_op.exponentials,
            ..sum
        })
    }

    /// The graph on a backend, its inputs written.
    ///
    /// # Errors
    /// The backend's own.
    pub async fn load<'a>(&'a self, backend: &'a dyn Backend) -> Result<Box<dyn Session + 'a>> {
        let mut session = backend.load(&self.graph).await?;
        for (tensor, values) in &self.inputs {
            session.write(*tensor, values)?;
        }
        Ok(session)
    }
}

/// What a backend gives.
///
/// # Errors
/// The backend's own.
pub async fn results(measured: &Measured, backend: &dyn Backend) -> Result<Vec<Vec<f32>>> {
    let mut session = measured.load(backend).await?;
    session.run(measured.program, 1)?;
    let mut results = Vec::new();
    for &tensor in &measured.results {
        results.push(session.read(tensor).await?);
    }
    Ok(results)
}

/// A median time and the work done in it.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// Milliseconds.
    pub ms: f64,
    /// What had to be done.
    pub work: Work,
}

/// How long an operation takes.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Forward.
    pub forward: Timed,
    /// Forward and backward.
    pub forward_backward: Timed,
}

/// Times the operation on a backend.
///
/// # Errors
/// As [`build`] and the backend's own.
pub async fn time(op: Benchmark, shape: Shape, backend: &dyn Backend) -> Result<Timing> {
    let timed = async |backward| -> Result<Timed> {
        let measured = build(op, shape, backward)?;
        Ok(Timed { ms: median_ms(&measured, backend, SAMPLES).await?, work: measured.work() })
    };
    Ok(Timing { forward: timed(false).await?, forward_backward: timed(true).await? })
}

/// How a median is taken.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    /// Number of samples, odd.
    pub count: usize,
    /// Each runs the program as often as fits this time.
    pub seconds: f64,
}

const SAMPLES: Samples = Samples { count: 9, seconds: 0.1 };

/// Median milliseconds of one run.
///
/// # Errors
/// The backend's own.
pub async fn median_ms(measured: &Measured, backend: &dyn Backend, samples: Samples) -> Result<f64> {
    let Samples { count, seconds: sample_seconds } = samples;
    let mut session = measured.load(backend).await?;
    let mut times = 1;
    let mut samples = Vec::new();
    // The first run compiles and touches memory, the second says how many fit a sample.
    for sample in 0..count + 2 {
        let clock = web_time::Instant::now();
        session.run(measured.program, times)?;
        session.wait().await?;
        let seconds = clock.elapsed().as_secs_f64() / times as f64;
        match sample {
            0 => {}
            1 => times = (sample_seconds / seconds.max(1e-9)).clamp(1.0, 1000.0) as usize,
            _ => samples.push(1e3 * seconds),
        }
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[count / 2])
}

#[cfg(test)]
mod tests {
    use super::largest_difference;

    #[test]
    fn a_difference_that_is_no_number_is_the_largest() {
        assert_eq!(largest_difference(&[1.0, 2.5], &[1.0, 2.0]), 0.5);
        for at in 0..3 {
            let mut got = [1.0, 2.0, 3.0];
            got[at] = f32::NAN;
            assert!(largest_difference(&got, &[1.0, 2.0, 3.5]).is_nan());
        }
    }
}
