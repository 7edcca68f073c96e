//! Builds a case, runs it on every device, compares.
//!
//! A device passes where its largest error, relative to the largest element of the tensor, is at most [`MULTIPLE`] times that of the
//! reference in `f32`, itself taken as at least [`FLOOR`]: a few units in the last place.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scanrnn::Result;
use scanrnn::backend::Backend;
use scanrnn::gpu::Traits;
use scanrnn::graph::{Graph, Program, Tensor};
use scanrnn::reference::Reference;

use super::common::{Setting, devices, gpu, turn};

/// Steps that cover: one, two, around a tile of 64, around one of 256, and a length that fits no tile.
pub const LENGTHS: [usize; 6] = [1, 2, 63, 65, 257, 1000];

/// Channels that fit no workgroup.
pub const CHANNELS: [usize; 3] = [1, 3, 65];

/// How many times the error of the reference in `f32` a device may have.
const MULTIPLE: f64 = 8.0;

/// The least error that the reference in `f32` is taken to have: rounding alone, 8 units in the last place.
const FLOOR: f64 = 8.0 * f32::EPSILON as f64;

/// Whether an adapter has what a kernel needs.
type Offered = fn(&Traits) -> bool;

/// The kernels that every adapter has, and those others for which it has what they need.
pub fn kernels(always: &[&'static str], optional: &[(&'static str, Offered)]) -> Vec<&'static str> {
    let adapter = gpu(Setting::default());
    let offered = optional.iter().filter(|(_, has)| adapter.is_some_and(|gpu| has(gpu.traits()))).map(|(kernel, _)| *kernel);
    always.iter().copied().chain(offered).collect()
}

/// A graph under construction with the values of its inputs.
pub struct Case {
    pub graph: Graph,
    pub name: String,
    random: ChaCha8Rng,
    inputs: Vec<(Tensor, Vec<f32>)>,
    indices: Vec<(Tensor, Vec<u32>)>,
    variables: Vec<Tensor>,
    /// Labels of variables that get no gradient.
    frozen: Vec<&'static str>,
    /// How many times the program runs.
    pub runs: usize,
    setting: Setting,
    /// Rounding of the forced kernel beside that of `f32`.
    rounding: f64,
}

impl Case {
    pub fn new(name: impl Into<String>) -> Self {
        Case {
            graph: Graph::new(),
            name: name.into(),
            random: ChaCha8Rng::seed_from_u64(7),
            inputs: Vec::new(),
            indices: Vec::new(),
            variables: Vec::new(),
            frozen: Vec::new(),
            runs: 1,
            setting: Setting::default(),
            rounding: 0.0,
        }
    }

    /// Forces a kernel of an operation on the GPU.
    pub fn force_kernel(&mut self, operation: &'static str, kernel: &'static str) {
        self.name += &format!(", {kernel}");
        self.setting.kernel = Some((operation, kernel));
    }

    /// Lets a device be off by [`MULTIPLE`] times a rounding, relative to the largest element, where that is more.
    pub fn allow_rounding(&mut self, rounding: f64) {
        self.rounding = rounding;
    }

    /// Lets the GPU bind at most so many bytes of a tensor at once.
    pub fn limit_binding(&mut self, bytes: u64) {
        self.name += &format!(", at most {bytes} bytes bound");
        self.setting.bound = Some(bytes);
    }

    /// Takes the gradients of variables that are declared later, by their labels.
    pub fn freeze(&mut self, labels: &[&'static str]) {
        self.name += &format!(", {labels:?} frozen");
        self.frozen = labels.to_vec();
    }

    /// Values uniform in `low..high`, with a gradient unless it is frozen.
    pub fn variable(&mut self, label: &str, shape: &[usize], low: f32, high: f32) -> Tensor {
        if self.frozen.contains(&label) {
            return self.input(label, shape, low, high);
        }
        let tensor = self.graph.variable(label, shape);
        self.variables.push(tensor);
        self.fill(tensor, low, high);
        tensor
    }

    /// Values uniform in `low..high`, without a gradient.
    pub fn input(&mut self, label: &str, shape: &[usize], low: f32, high: f32) -> Tensor {
        let tensor = self.graph.input(label, shape);
        self.fill(tensor, low, high);
        tensor
    }

    /// Given values without a gradient.
    pub fn values(&mut self, label: &str, shape: &[usize], values: Vec<f32>) -> Tensor {
        let tensor = self.graph.input(label, shape);
        self.inputs.push((tensor, values));
        tensor
    }

    /// Given indices.
    pub fn indices(&mut self, label: &str, shape: &[usize], values: Vec<u32>) -> Tensor {
        let tensor = self.graph.indices(label, shape);
        self.indices.push((tensor, values));
        tensor
    }

    /// A reset mask `(batch, step)` with a border at the first step of the first row and at about one step in seven.
    pub fn reset(&mut self, n_batch: usize, n_step: usize) -> Tensor {
        let values = (0..n_batch * n_step).map(|index| u32::from(index == 0 || self.random.random_range(0..7) == 0)).collect();
        self.indices("reset", &[n_batch, n_step], values)
    }

    /// Values uniform in `low..high` for a tensor of the graph.
    pub fn fill(&mut self, tensor: Tensor, low: f32, high: f32) {
        let len = self.graph.spec(tensor).len();
        let values = (0..len).map(|_| self.random.random_range(low..high)).collect();
        self.inputs.push((tensor, values));
    }

    /// Given values for a tensor of the graph.
    pub fn set(&mut self, tensor: Tensor, values: Vec<f32>) {
        self.inputs.push((tensor, values));
    }

    /// Differentiates `sum(cotangent * output)` with random cotangents, runs everywhere, compares outputs and every variable's gradient.
    pub fn check(self, outputs: &[Tensor]) {
        self.check_with(outputs, &[]);
    }

    /// [`Case::check`] that compares tensors beside outputs and gradients.
    pub fn check_with(mut self, outputs: &[Tensor], beside: &[Tensor]) {
        let mut seeds = Vec::new();
        for &output in outputs {
            let shape = self.graph.shape(output).to_vec();
            let label = format!("cotangent_{}", self.graph.spec(output).label);
            seeds.push((output, self.input(&label, &shape, -1.0, 1.0)));
        }
        let gradients = self.graph.backward(&seeds).expect("differentiable");
        let mut compared = [outputs, beside].concat();
        for variable in self.variables.clone() {
            let gradient = gradients.of(&mut self.graph, variable);
            compared.push(gradient.unwrap_or_else(|| panic!("{}: no gradient of {}", self.name, self.graph.spec(variable).label)));
        }
        self.check_values(&compared);
    }

    /// Runs everywhere and compares the given tensors.
    pub fn check_values(mut self, compared: &[Tensor]) {
        let program = self.graph.finish("case");
        let exact = self.run_on(&Reference::<f64>::new(), program, compared);
        let single = self.run_on(&Reference::<f32>::new(), program, compared);
        let mut failures = Vec::new();
        for device in devices(self.setting) {
            let got = self.run_on(device, program, compared);
            // the CPU has no forced kernel
            let rounding = if device.name().starts_with("CPU") { 0.0 } else { self.rounding };
            for (index, &tensor) in compared.iter().enumerate() {
                let (error, allowed) =
                    (distance(&got[index], &exact[index]), MULTIPLE * distance(&single[index], &exact[index]).max(FLOOR).max(rounding));
                if error.is_nan() || error > allowed {
                    let label = &self.graph.spec(tensor).label;
                    failures.push(format!("{}: {}: {label}: error {error:.2e}, allowed {allowed:.2e}", device.name(), self.name));
                }
            }
        }
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    }

    /// Runs everywhere but the exact reference and returns a tensor by device, for what has no distance: values that are not finite.
    pub fn read_everywhere(mut self, tensor: Tensor) -> Vec<(String, Vec<f32>)> {
        let program = self.graph.finish("case");
        let single = Reference::<f32>::new();
        let everywhere = devices(self.setting).into_iter().chain([&single as &dyn Backend]);
        everywhere.map(|device| (device.name(), self.run_on(device, program, &[tensor]).concat())).collect()
    }

    fn run_on(&self, backend: &dyn Backend, program: Program, read: &[Tensor]) -> Vec<Vec<f32>> {
        let _turn = turn();
        pollster::block_on(self.run(backend, program, read)).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    async fn run(&self, backend: &dyn Backend, program: Program, read: &[Tensor]) -> Result<Vec<Vec<f32>>> {
        let mut session = backend.load(&self.graph).await?;
        for (tensor, spec) in self.graph.computed() {
            session.write(tensor, &vec![f32::NAN; spec.len()])?;
        }
        for (tensor, values) in &self.inputs {
            session.write(*tensor, values)?;
        }
        for (tensor, values) in &self.indices {
            session.write_indices(*tensor, values)?;
        }
        session.run(program, self.runs)?;
        let mut values = Vec::new();
        for &tensor in read {
            values.push(session.read(tensor).await?);
        }
        Ok(values)
    }
}

/// Largest difference relative to the largest wanted element; NaN where any element is NaN.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let scale = want.iter().fold(1e-30, |max: f64, want| max.max(f64::from(want.abs())));
    let worst = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - f64::from(*want)).abs());
    worst.fold(0.0, |max: f64, error| if error.is_nan() || max.is_nan() { f64::NAN } else { max.max(error) }) / scale
}
