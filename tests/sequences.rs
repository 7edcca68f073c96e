//! What every model offers beside whole sequences: steps that equal the sequence, cuts that are continued with their gradients, and
//! packed sequences that know nothing of each other; on the reference, the CPU and the GPU.

mod common;

use std::ops::Range;

use common::{Setting, devices, turn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scanrnn::backend::Backend;
use scanrnn::cpu::Cpu;
use scanrnn::graph::{Graph, Program, Tensor};
use scanrnn::model::{Forecaster, ForecasterConfig, ModelKind, Packing, Pass, StepGraph, initial_values};
use scanrnn::reference::Reference;

const N_BATCH: usize = 2;

/// Two layers, no size of which fits a tile.
fn config(model: ModelKind) -> ForecasterConfig {
    ForecasterConfig { features: 2, horizon: 2, layers: 2, d_state: 5, heads: 3, cache: 320, ..ForecasterConfig::new(model, 9) }
}

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(-1.5..1.5)).collect()
}

/// Some steps of some batch rows.
type Part = (Range<usize>, Range<usize>);

/// How a batch is run.
struct Layout {
    n_step: usize,
    parts: Vec<Part>,
    /// Whether each part goes on from the states of the one before, the first from given ones.
    chained: bool,
    reset: Option<Vec<u32>>,
}

/// Whether a state counts what the others hold, which no gradient flows through.
fn is_count(shape: &[usize]) -> bool {
    shape.len() == 1
}

/// Values by name: outputs and gradients along the steps first, then sums over them.
type Results = Vec<(String, Vec<f32>)>;

/// Runs the parts of one batch with cotangents on all outputs and last states; what lies along the steps is put together again.
fn run(config: &ForecasterConfig, layout: &Layout, backend: &dyn Backend) -> Results {
    let _turn = turn();
    let (n_step, features, n_output) = (layout.n_step, config.features, config.horizon * config.targets);
    let mut graph = Graph::new();
    let model = Forecaster::new(&mut graph, config).expect("sizes fit");
    let mut inputs = initial_values(&graph, 1);
    let (x_values, cotangent_values) = (random(2, N_BATCH * n_step * features), random(3, N_BATCH * n_step * n_output));
    let mut states = layout.chained.then(|| {
        let shapes = model.state_shapes(N_BATCH);
        let variable = |(index, shape): (usize, &Vec<usize>)| match is_count(shape) {
            true => graph.input(&format!("state {index}"), shape),
            false => graph.variable(&format!("state {index}"), shape),
        };
        shapes.iter().enumerate().map(variable).collect::<Vec<_>>()
    });
    let initial_states = states.clone().unwrap_or_default();
    for (index, &state) in initial_states.iter().enumerate() {
        let values = random(10 + index as u64, graph.spec(state).len());
        inputs.push((state, if is_count(graph.shape(state)) { vec![3.0, 0.0] } else { values }));
    }
    let reset = layout.reset.as_ref().map(|_| graph.indices("reset", &[N_BATCH, n_step]));
    let (mut sequences, mut seeds) = (Vec::new(), Vec::new());
    for (rows, steps) in &layout.parts {
        let x = graph.variable("x", &[rows.len(), steps.len(), features]);
        inputs.push((x, cut(&x_values, n_step, features, rows, steps)));
        let forecast = model.every_step(&mut graph, x, &Pass { states: states.as_deref(), reset, ..Pass::default() }).expect("shapes fit");
        let cotangent = graph.input("cotangent", &[rows.len(), steps.len(), n_output]);
        inputs.push((cotangent, cut(&cotangent_values, n_step, n_output, rows, steps)));
        seeds.push((forecast.y, cotangent));
        sequences.push((x, forecast.y));
        if layout.chained {
            states = Some(forecast.last_states);
        }
    }
    let last_states = states.unwrap_or_default();
    for (index, &last) in last_states.iter().enumerate() {
        let shape = graph.shape(last).to_vec();
        if is_count(&shape) {
            continue;
        }
        let cotangent = graph.input("cotangent", &shape);
        inputs.push((cotangent, random(20 + index as u64, shape.iter().product())));
        seeds.push((last, cotangent));
    }
    let gradients = graph.backward(&seeds).expect("differentiable");
    let counts: Vec<bool> = initial_states.iter().map(|&state| is_count(graph.shape(state))).collect();
    let mut gradient = |tensor| gradients.of(&mut graph, tensor).expect("a gradient");
    let along: Vec<(Tensor, Tensor)> = sequences.iter().map(|&(x, y)| (y, gradient(x))).collect();
    let mut read: Vec<(String, Tensor)> = Vec::new();
    for (index, (&initial, &last)) in initial_states.iter().zip(&last_states).enumerate() {
        read.push((format!("last state {index}"), last));
        if !counts[index] {
            read.push((format!("gradient of state {index}"), gradient(initial)));
        }
    }
    let parameters: Vec<_> = graph.parameters().iter().map(|parameter| (parameter.name.clone(), parameter.tensor)).collect();
    for (name, tensor) in parameters {
        read.push((format!("sum: {name}"), gradients.of(&mut graph, tensor).expect("a gradient")));
    }
    let program = graph.finish("sequences");
    let indices = reset.zip(layout.reset.as_ref());
    let tensors: Vec<Tensor> = along.iter().flat_map(|&(y, grad)| [y, grad]).chain(read.iter().map(|(_, tensor)| *tensor)).collect();
    let mut values = execute(&graph, program, backend, &inputs, indices, &tensors).into_iter();
    let mut whole = [vec![f32::NAN; N_BATCH * n_step * n_output], vec![f32::NAN; N_BATCH * n_step * features]];
    for (rows, steps) in &layout.parts {
        for (whole, n_column) in whole.iter_mut().zip([n_output, features]) {
            paste(whole, &values.next().expect("a value"), n_step, n_column, rows, steps);
        }
    }
    let [y, grad_x] = whole;
    let along = [("y".to_string(), y), ("gradient of x".to_string(), grad_x)];
    along.into_iter().chain(read.into_iter().map(|(name, _)| name).zip(values)).collect()
}

fn execute(
    graph: &Graph,
    program: Program,
    backend: &dyn Backend,
    inputs: &[(Tensor, Vec<f32>)],
    indices: Option<(Tensor, &Vec<u32>)>,
    read: &[Tensor],
) -> Vec<Vec<f32>> {
    let values = pollster::block_on(async {
        let mut session = backend.load(graph).await?;
        for (tensor, spec) in graph.computed() {
            session.write(tensor, &vec![f32::NAN; spec.len()])?;
        }
        for (tensor, values) in inputs {
            session.write(*tensor, values)?;
        }
        if let Some((tensor, values)) = indices {
            session.write_indices(tensor, values)?;
        }
        session.run(program, 1)?;
        let mut values = Vec::new();
        for &tensor in read {
            values.push(session.read(tensor).await?);
        }
        Ok::<_, scanrnn::Error>(values)
    });
    values.unwrap_or_else(|error| panic!("{}: {error}", backend.name()))
}

/// Rows `rows` and steps `steps` of a `(batch, step, column)` tensor.
fn cut(values: &[f32], n_step: usize, n_column: usize, rows: &Range<usize>, steps: &Range<usize>) -> Vec<f32> {
    let row = |row: usize| &values[(row * n_step + steps.start) * n_column..(row * n_step + steps.end) * n_column];
    rows.clone().flat_map(row).copied().collect()
}

fn paste(whole: &mut [f32], part: &[f32], n_step: usize, n_column: usize, rows: &Range<usize>, steps: &Range<usize>) {
    for (row, values) in rows.clone().zip(part.chunks(steps.len() * n_column)) {
        whole[(row * n_step + steps.start) * n_column..][..values.len()].copy_from_slice(values);
    }
}

/// Largest difference relative to the largest wanted element; NaN where any element is NaN.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-30, |max: f64, want| max.max(f64::from(want.abs())));
    let worst = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - f64::from(*want)).abs());
    worst.fold(0.0, |max: f64, error| if error.is_nan() || max.is_nan() { f64::NAN } else { max.max(error) }) / scale
}

/// How many times the error of the reference in `f32` a device may have, and the least error that the reference is taken to have.
const MULTIPLE: f64 = 8.0;
const FLOOR: f64 = 8.0 * f32::EPSILON as f64;

/// Runs `parted` everywhere and holds it against `whole`: bit by bit on the reference but for sums over steps, whose order differs; what
/// attention takes back to a key is such a sum.
fn check(what: &str, config: &ForecasterConfig, whole: &Layout, parted: &Layout, devices: &[&dyn Backend]) {
    let exact = run(config, whole, &Reference::<f64>::new());
    let single = run(config, whole, &Reference::<f32>::new());
    for (whole, parted) in
        [(&exact, run(config, parted, &Reference::<f64>::new())), (&single, run(config, parted, &Reference::<f32>::new()))]
    {
        for ((name, want), (_, got)) in whole.iter().zip(&parted) {
            let what = format!("{what}: {} on the reference: {name}", config.model);
            let is_sum = name.starts_with("sum: ") || (config.model == ModelKind::Hybrid && name.starts_with("gradient"));
            if is_sum {
                assert!(distance(got, want) < 64.0 * FLOOR, "{what}: {}", distance(got, want));
            } else {
                assert!(got == want, "{what}: {:e}", distance(got, want));
            }
        }
    }
    for device in devices {
        let got = run(config, parted, *device);
        for (((name, got), (_, want)), (_, single)) in got.iter().zip(&exact).zip(&single) {
            let (error, allowed) = (distance(got, want), MULTIPLE * distance(single, want).max(FLOOR));
            assert!(error <= allowed, "{what}: {} on {}: {name}: error {error:.2e}, allowed {allowed:.2e}", config.model, device.name());
        }
    }
}

#[test]
fn a_sequence_cut_anywhere_and_continued_equals_the_whole() {
    let n_step = 11;
    let layout = |cuts: &[usize]| {
        let borders: Vec<usize> = [&[0], cuts, &[n_step]].concat();
        let parts = borders.windows(2).map(|pair| (0..N_BATCH, pair[0]..pair[1])).collect();
        Layout { n_step, parts, chained: true, reset: None }
    };
    for model in ModelKind::ALL {
        for cut in 1..n_step {
            let devices = if [1, 4].contains(&cut) { devices(Setting::default()) } else { vec![&Cpu as &dyn Backend] };
            check(&format!("cut at {cut}"), &config(model), &layout(&[]), &layout(&[cut]), &devices);
        }
        check("cut twice", &config(model), &layout(&[]), &layout(&[2, 3]), &devices(Setting::default()));
    }
}

#[test]
fn packed_sequences_equal_the_sequences_apart() {
    let lengths = [5, 1, 6, 2, 7, 3];
    let packing = Packing::new(&lengths, 12).expect("they fit");
    assert_eq!(packing.n_batch, N_BATCH);
    let parts = packing.places.iter().map(|place| (place.row..place.row + 1, place.steps.clone())).collect();
    let packed = Layout { n_step: 12, parts: vec![(0..N_BATCH, 0..12)], chained: false, reset: Some(packing.reset) };
    let apart = Layout { n_step: 12, parts, chained: false, reset: None };
    for model in ModelKind::ALL {
        check("packed", &config(model), &apart, &packed, &devices(Setting::default()));
    }
    for model in ModelKind::LINEAR {
        let both = ForecasterConfig { bidirectional: true, ..config(model) };
        check("packed, both directions", &both, &apart, &packed, &devices(Setting::default()));
    }
}

#[test]
fn a_backward_direction_reads_the_future_and_takes_no_states() {
    for model in ModelKind::LINEAR {
        for bidirectional in [false, true] {
            let config = ForecasterConfig { bidirectional, layers: 1, ..config(model) };
            let mut graph = Graph::new();
            let forecaster = Forecaster::new(&mut graph, &config).expect("sizes fit");
            let mut inputs = initial_values(&graph, 1);
            let x = graph.variable("x", &[1, 4, 2]);
            let y = forecaster.every_step(&mut graph, x, &Pass::default()).expect("shapes fit").y;
            let shape = graph.shape(y).to_vec();
            let cotangent = graph.input("cotangent", &shape);
            let of_first = (0..shape.iter().product()).map(|index| if index < shape[2] { 1.0 } else { 0.0 }).collect();
            inputs.extend([(x, random(5, 8)), (cotangent, of_first)]);
            let gradients = graph.backward(&[(y, cotangent)]).expect("differentiable");
            let grad_x = gradients.of(&mut graph, x).expect("a gradient");
            let program = graph.finish("first step");
            let grad_x = execute(&graph, program, &Cpu, &inputs, None, &[grad_x]).remove(0);
            assert_eq!(grad_x[2..].iter().any(|&grad| grad != 0.0), bidirectional, "{model}: {grad_x:?}");

            let refused = StepGraph::new(&config, 1).err().map(|error| error.to_string());
            assert_eq!(refused.is_some_and(|error| error.contains("bidirectional")), bidirectional, "{model}");
        }
    }
}

/// Steps that are compared.
const N_STEP: usize = 300;

#[test]
fn steps_equal_the_sequence_at_every_length() {
    for model in ModelKind::ALL {
        let config = config(model);
        let sequence = |backend: &dyn Backend| sequence(&config, N_STEP, backend);
        let (exact, single) = (sequence(&Reference::<f64>::new()), sequence(&Reference::<f32>::new()));
        let devices = devices(Setting::default());
        for backend in devices.iter().copied().chain([&Reference::<f32>::new() as &dyn Backend]) {
            let allowed = MULTIPLE * distance(&single, &exact).max(FLOOR);
            for (what, got, want) in [("whole", sequence(backend), &exact), ("steps", steps(&config, backend), &sequence(backend))] {
                let at = |values: &[f32], length: usize| {
                    cut(values, N_STEP, config.horizon * config.targets, &(0..N_BATCH), &(length - 1..length))
                };
                let scale = want.iter().fold(0.0, |max: f32, want| max.max(want.abs()));
                for length in 1..=N_STEP {
                    let differences = at(&got, length).into_iter().zip(at(want, length)).map(|(got, want)| (got - want).abs() / scale);
                    for error in differences.map(f64::from) {
                        assert!(
                            error <= allowed,
                            "{model} on {}, {what}, length {length}: {error:.2e}, allowed {allowed:.2e}",
                            backend.name()
                        );
                    }
                }
            }
        }
    }
}

fn step_inputs(config: &ForecasterConfig) -> Vec<f32> {
    random(4, N_BATCH * N_STEP * config.features)
}

/// Forecasts after every step, `(batch, step, output)`.
fn sequence(config: &ForecasterConfig, n_step: usize, backend: &dyn Backend) -> Vec<f32> {
    let _turn = turn();
    let mut graph = Graph::new();
    let model = Forecaster::new(&mut graph, config).expect("sizes fit");
    let mut inputs = initial_values(&graph, 1);
    let x = graph.input("x", &[N_BATCH, n_step, config.features]);
    inputs.push((x, cut(&step_inputs(config), N_STEP, config.features, &(0..N_BATCH), &(0..n_step))));
    let y = model.every_step(&mut graph, x, &Pass::default()).expect("shapes fit").y;
    let program = graph.finish("sequence");
    execute(&graph, program, backend, &inputs, None, &[y]).remove(0)
}

/// The same, step by step.
fn steps(config: &ForecasterConfig, backend: &dyn Backend) -> Vec<f32> {
    let _turn = turn();
    let steps = StepGraph::new(config, N_BATCH).expect("sizes fit");
    let parameters: Vec<_> = initial_values(steps.graph(), 1).into_iter().map(|(_, values)| values).collect();
    let (x, n_output) = (step_inputs(config), config.horizon * config.targets);
    let mut whole = vec![f32::NAN; N_BATCH * N_STEP * n_output];
    pollster::block_on(async {
        let mut stream = steps.load(backend, &parameters).await?;
        for step in 0..N_STEP {
            let y = stream.step(&cut(&x, N_STEP, config.features, &(0..N_BATCH), &(step..step + 1))).await?;
            paste(&mut whole, &y, N_STEP, n_output, &(0..N_BATCH), &(step..step + 1));
        }
        Ok::<_, scanrnn::Error>(())
    })
    .unwrap_or_else(|error| panic!("{}: {error}", backend.name()));
    whole
}

#[test]
fn the_last_forecast_of_a_window_is_that_of_its_last_step() {
    for model in ModelKind::ALL {
        let config = config(model);
        let every = sequence(&config, N_STEP, &Cpu);
        for length in [1, 2, 3, 4, 5, 32, 63, 64, 65, 257, 300] {
            let mut graph = Graph::new();
            let forecaster = Forecaster::new(&mut graph, &config).expect("sizes fit");
            let mut inputs = initial_values(&graph, 1);
            let x = graph.input("x", &[N_BATCH, length, config.features]);
            inputs.push((x, cut(&step_inputs(&config), N_STEP, config.features, &(0..N_BATCH), &(0..length))));
            let y = forecaster.forward(&mut graph, x, &Pass::default()).expect("shapes fit").y;
            let program = graph.finish("window");
            let got = execute(&graph, program, &Cpu, &inputs, None, &[y]).remove(0);
            let want = cut(&every, N_STEP, config.horizon * config.targets, &(0..N_BATCH), &(length - 1..length));
            assert!(distance(&got, &want) <= MULTIPLE * FLOOR, "{model}, length {length}: {:e}", distance(&got, &want));
        }
    }
}

#[test]
fn a_cache_that_is_full_is_refused() {
    let config = ForecasterConfig { cache: 3, ..ForecasterConfig::new(ModelKind::Hybrid, 8) };
    let steps = StepGraph::new(&config, 1).expect("sizes fit");
    let parameters: Vec<_> = initial_values(steps.graph(), 1).into_iter().map(|(_, values)| values).collect();
    pollster::block_on(async {
        let mut stream = steps.load(&Cpu, &parameters).await?;
        for _ in 0..3 {
            stream.step(&[0.5]).await?;
        }
        let error = stream.step(&[0.5]).await.expect_err("the cache is full").to_string();
        assert!(error.contains("3 steps") && error.contains("--cache"), "{error}");
        let full = stream.states().await?;
        stream.reset()?;
        stream.step(&[0.5]).await?;
        stream.set_states(&full)?;
        assert!(stream.step(&[0.5]).await.is_err());
        stream.begin(&[true])?;
        stream.step(&[0.5]).await?;
        Ok::<_, scanrnn::Error>(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn states_that_are_set_are_not_begun_anew() {
    let config = config(ModelKind::MinGru);
    let steps = StepGraph::new(&config, 1).expect("sizes fit");
    let parameters: Vec<_> = initial_values(steps.graph(), 1).into_iter().map(|(_, values)| values).collect();
    pollster::block_on(async {
        let mut stream = steps.load(&Cpu, &parameters).await?;
        let x = vec![0.5; config.features];
        stream.step(&x).await?;
        let states = stream.states().await?;
        let next = stream.step(&x).await?;
        stream.begin(&[true])?;
        stream.set_states(&states)?;
        assert_eq!(stream.step(&x).await?, next);
        Ok::<_, scanrnn::Error>(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_row_of_a_stream_begins_a_new_sequence_while_the_others_go_on() {
    const BEGIN: usize = 7;
    for model in ModelKind::ALL {
        let config = config(model);
        let x = step_inputs(&config);
        for backend in devices(Setting::default()).into_iter().chain([&Reference::<f32>::new() as &dyn Backend]) {
            let _turn = turn();
            let steps = StepGraph::new(&config, N_BATCH).expect("sizes fit");
            let parameters: Vec<_> = initial_values(steps.graph(), 1).into_iter().map(|(_, values)| values).collect();
            let at = |step: usize| cut(&x, N_STEP, config.features, &(0..N_BATCH), &(step..step + 1));
            pollster::block_on(async {
                let (mut whole, mut parted) = (steps.load(backend, &parameters).await?, steps.load(backend, &parameters).await?);
                let mut anew = steps.load(backend, &parameters).await?;
                for step in 0..12 {
                    if step == BEGIN {
                        parted.begin(&[false, true])?;
                        parted.begin(&[false, false])?;
                    }
                    let (whole, parted) = (whole.step(&at(step)).await?, parted.step(&at(step)).await?);
                    let n_output = whole.len() / N_BATCH;
                    assert_eq!(parted[..n_output], whole[..n_output], "{model} on {}, step {step}", backend.name());
                    let second = if step < BEGIN { whole } else { anew.step(&at(step)).await? };
                    assert_eq!(parted[n_output..], second[n_output..], "{model} on {}, step {step}", backend.name());
                }
                Ok::<_, scanrnn::Error>(())
            })
            .unwrap_or_else(|error| panic!("{model} on {}: {error}", backend.name()));
        }
    }
}

#[test]
fn a_stream_that_walks_ends_where_its_steps_do() {
    for model in ModelKind::ALL {
        let config = config(model);
        let x = step_inputs(&config);
        for backend in devices(Setting::default()) {
            let _turn = turn();
            let steps = StepGraph::walking(&config, N_BATCH, 4).expect("sizes fit");
            let parameters: Vec<_> = initial_values(steps.graph(), 1).into_iter().map(|(_, values)| values).collect();
            let rows = |rows: Range<usize>| cut(&x, N_STEP, config.features, &(0..N_BATCH), &rows);
            pollster::block_on(async {
                let (mut walked, mut stepped) = (steps.load(backend, &parameters).await?, steps.load(backend, &parameters).await?);
                for (part, begins) in [(0..11, false), (11..19, true), (19..20, false), (20..24, false)] {
                    if begins {
                        walked.begin(&[false, true])?;
                        stepped.begin(&[false, true])?;
                    }
                    let got = walked.walk(&rows(part.clone())).await?;
                    let mut want = Vec::new();
                    for step in part {
                        want = stepped.step(&rows(step..step + 1)).await?;
                    }
                    assert!(distance(&got, &want) <= MULTIPLE * FLOOR, "{model} on {}: {:e}", backend.name(), distance(&got, &want));
                }
                assert!(walked.walk(&[]).await.is_err());
                Ok::<_, scanrnn::Error>(())
            })
            .unwrap_or_else(|error| panic!("{model} on {}: {error}", backend.name()));
        }
    }
}

#[test]
fn a_stream_goes_on_from_the_states_of_another_and_begins_anew() {
    for model in ModelKind::ALL {
        let steps = StepGraph::new(&ForecasterConfig::new(model, 8), 1).expect("sizes fit");
        let parameters: Vec<_> = initial_values(steps.graph(), 1).into_iter().map(|(_, values)| values).collect();
        pollster::block_on(async {
            let mut first = steps.load(&Cpu, &parameters).await?;
            let begin = first.step(&[0.5]).await?;
            let states = first.states().await?;
            let next = first.step(&[-0.25]).await?;
            let mut second = steps.load(&Cpu, &parameters).await?;
            second.set_states(&states)?;
            assert_eq!(second.step(&[-0.25]).await?, next, "{model}");
            second.reset()?;
            assert_eq!(second.step(&[0.5]).await?, begin, "{model}");
            assert!(second.set_states(&states[1..]).is_err());
            Ok::<_, scanrnn::Error>(())
        })
        .unwrap_or_else(|error| panic!("{model}: {error}"));
    }
}
