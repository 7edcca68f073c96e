//! A graph on a device: one buffer a storage, bind groups made once, programs submitted whole.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::adapter::{Gpu, Pipeline};
use super::plan::{Binding, Dispatch, Place, Planner};
use super::shader::BindingKind;
use crate::Message;
use crate::backend::{LocalFuture, Session, check_element, check_len};
use crate::error::{Error, Result};
use crate::graph::{Element, Graph, Program, StorageSpec, Tensor};
use crate::ops::Operation;
use crate::profile::{Clock, Profile, Span, Work};

/// Dispatches given to the driver in one submission.
const DISPATCHES_PER_SUBMIT: usize = 4096;

/// Work given to the driver in one submission, in seconds of a slow GPU: a display driver's watchdog ends one that takes two seconds.
const SECONDS_PER_SUBMIT: f64 = 0.25;

/// Operations and bytes that a slow GPU does in a second.
const SLOW_FLOPS: f64 = 1e11;
const SLOW_BYTES: f64 = 2e10;

/// Bytes between the uniform structs of two dispatches.
const UNIFORM_STRIDE: usize = 256;

#[derive(Debug)]
struct Step {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
    label: String,
    operation: usize,
    work: Work,
}

impl Step {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], self.workgroups[2]);
    }

    /// What it takes a slow GPU, in seconds.
    fn slow_seconds(&self) -> f64 {
        (self.work.flops / SLOW_FLOPS).max(self.work.bytes / SLOW_BYTES)
    }
}

/// A program, compiled when it is first run.
#[derive(Debug)]
struct LoadedProgram {
    dispatches: Vec<Dispatch>,
    /// Where its first dispatch's uniform struct lies, in strides.
    first_uniform: usize,
    steps: OnceLock<Vec<Step>>,
}

/// A graph loaded on a GPU.
#[derive(Debug)]
pub struct GpuSession<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    storages: Vec<wgpu::Buffer>,
    scratch: Vec<wgpu::Buffer>,
    uniforms: wgpu::Buffer,
    absent: Absent,
    programs: Vec<LoadedProgram>,
}

impl<'a> GpuSession<'a> {
    pub(super) async fn load(gpu: &'a Gpu, graph: &'a Graph, given: &[(Tensor, &wgpu::Buffer)]) -> Result<Self> {
        let mut given = given_storages(graph, given)?;
        let mut planner = Planner::new(graph, &gpu.modules, gpu.traits());
        let (mut programs, mut contents) = (Vec::new(), Vec::new());
        for (_, ops) in graph.programs() {
            let dispatches = planner.program(ops)?;
            let first_uniform = contents.len() / UNIFORM_STRIDE;
            for dispatch in &dispatches {
                contents.extend(&dispatch.params);
                contents.resize(contents.len().next_multiple_of(UNIFORM_STRIDE), 0);
            }
            programs.push(LoadedProgram { dispatches, first_uniform, steps: OnceLock::new() });
        }
        gpu.scoped(|| {
            let with_usage = |label: &str, elements: usize, usage| {
                gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size: (4 * elements.max(1) as u64).next_multiple_of(UNIFORM_STRIDE as u64),
                    usage: wgpu::BufferUsages::STORAGE | usage,
                    mapped_at_creation: false,
                })
            };
            let buffer =
                |label: &str, elements: usize| with_usage(label, elements, wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST);
            let storage =
                |(index, storage): (usize, &StorageSpec)| given.remove(&index).unwrap_or_else(|| buffer(&storage.label, storage.len));
            let storages = graph.storages().iter().enumerate().map(storage).collect();
            let scratch = planner
                .scratch_lens()
                .iter()
                .enumerate()
                .map(|(index, &len)| with_usage(&format!("scratch {index}"), len, wgpu::BufferUsages::UNIFORM))
                .collect();
            let absent = Absent { read: buffer("absent", UNIFORM_STRIDE), written: buffer("absent, written", UNIFORM_STRIDE * 4) };
            let uniforms = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: contents.len().max(UNIFORM_STRIDE) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            if !contents.is_empty() {
                gpu.queue.write_buffer(&uniforms, 0, &contents);
            }
            GpuSession { gpu, graph, storages, scratch, uniforms, absent, programs }
        })
    }

    /// Adds a program to a compute pass of the caller's, once; what comes before it in the pass is done when it begins. The first call
    /// compiles the program.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the driver refuses a kernel.
    pub fn encode(&self, program: Program, pass: &mut wgpu::ComputePass<'_>) -> Result<()> {
        self.steps(program)?.iter().for_each(|step| step.encode(pass));
        Ok(())
    }

    /// A program's steps, compiled at the first call.
    fn steps(&self, program: Program) -> Result<&[Step]> {
        let LoadedProgram { dispatches, first_uniform, steps } = &self.programs[program.index()];
        if let Some(steps) = steps.get() {
            return Ok(steps);
        }
        self.gpu.compile(dispatches)?;
        let made: Result<Vec<_>> = self.gpu.scoped(|| {
            let place = |index: usize| ((first_uniform + index) * UNIFORM_STRIDE) as u64;
            dispatches.iter().enumerate().map(|(index, dispatch)| self.step(dispatch, place(index))).collect()
        })?;
        let made = made?;
        Ok(steps.get_or_init(|| made))
    }

    /// A dispatch with its pipeline and bind group; its uniform struct lies at `uniform` bytes.
    fn step(&self, dispatch: &Dispatch, uniform: u64) -> Result<Step> {
        let pipeline = self.gpu.pipeline(dispatch)?;
        let range =
            |buffer, offset, size| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) });
        let mut n_written = 0;
        let mut resource = |index: u32, binding: &Binding| match *binding {
            Binding::Params => range(&self.uniforms, uniform, dispatch.params.len() as u64),
            Binding::Storage { storage: Place::Graph(storage), offset, size } => range(&self.storages[storage], offset, size),
            Binding::Storage { storage: Place::Scratch(storage), offset, size } => range(&self.scratch[storage], offset, size),
            Binding::Absent => {
                let written = dispatch.module.bindings.iter().any(|info| info.index == index && info.kind == BindingKind::Write);
                n_written += u64::from(written);
                if written {
                    range(&self.absent.written, (n_written - 1) * UNIFORM_STRIDE as u64, 16)
                } else {
                    range(&self.absent.read, 0, 16)
                }
            }
        };
        let entries: Vec<_> = dispatch
            .bindings
            .iter()
            .map(|(index, binding)| wgpu::BindGroupEntry { binding: *index, resource: resource(*index, binding) })
            .collect();
        let bind_group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&dispatch.label),
            layout: &pipeline.layout,
            entries: &entries,
        });
        let Dispatch { workgroups, operation, work, .. } = *dispatch;
        Ok(Step { pipeline, bind_group, workgroups, label: dispatch.label.clone(), operation, work })
    }

    /// `size` bytes of a buffer, as words of 4 bytes.
    async fn read_words(&self, buffer: &wgpu::Buffer, offset: u64, size: u64) -> Result<Vec<u32>> {
        let staging = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read"),
            size: size.max(4),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, size);
        self.gpu.queue.submit([encoder.finish()]);
        let (done, mapped) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = done.send(result);
        });
        poll_aside(&self.gpu.device);
        let mapped = mapped.await.map_err(|_| self.gpu.error(message!("the device was lost")))?;
        self.gpu.check()?;
        mapped.map_err(|error| self.gpu.error(Message::verbatim(error)))?;
        let view = staging.get_mapped_range(..).map_err(|error| self.gpu.error(Message::verbatim(error)))?;
        Ok(bytemuck::cast_slice(&view).to_vec())
    }

    /// Begin and end of each step in milliseconds, as the GPU stamps them.
    async fn timestamps(&self, steps: &[Step]) -> Result<Vec<(f64, f64)>> {
        let mut ticks: Vec<u64> = Vec::new();
        for steps in steps.chunks(wgpu::QUERY_SET_MAX_QUERIES as usize / 2) {
            let count = 2 * steps.len() as u32;
            let queries = self.gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let resolved = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 8 * u64::from(count),
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (index, step) in steps.iter().enumerate() {
                let (begin, end) = (2 * index as u32, 2 * index as u32 + 1);
                let writes = wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(begin),
                    end_of_pass_write_index: Some(end),
                };
                let descriptor = wgpu::ComputePassDescriptor { label: Some(&step.label), timestamp_writes: Some(writes) };
                step.encode(&mut encoder.begin_compute_pass(&descriptor));
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            self.gpu.queue.submit([encoder.finish()]);
            let words = self.read_words(&resolved, 0, 8 * u64::from(count)).await?;
            ticks.extend(words.chunks(2).map(|word| u64::from(word[0]) | u64::from(word[1]) << 32));
        }
        let first = ticks.iter().min().copied().unwrap_or(0);
        let ms = |tick: u64| (tick - first) as f64 * f64::from(self.gpu.queue.get_timestamp_period()) / 1e6;
        Ok(ticks.chunks(2).map(|pair| (ms(pair[0]), ms(pair[1].max(pair[0])))).collect())
    }

    /// Begin and end of each step in milliseconds, each submitted and waited for by itself.
    async fn waits(&self, steps: &[Step]) -> Result<Vec<(f64, f64)>> {
        let begin = web_time::Instant::now();
        let mut times = Vec::new();
        for step in steps {
            let start = 1e3 * begin.elapsed().as_secs_f64();
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            step.encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
            self.gpu.queue.submit([encoder.finish()]);
            self.wait().await?;
            times.push((start, 1e3 * begin.elapsed().as_secs_f64()));
        }
        Ok(times)
    }

    /// Refuses to copy to or from a buffer of the caller's that was not made for it.
    fn check_usage(&self, tensor: Tensor, usage: wgpu::BufferUsages) -> Result<()> {
        let spec = self.graph.spec(tensor);
        if self.storages[spec.storage].usage().contains(usage) {
            return Ok(());
        }
        Err(Error::Unsupported {
            operation: "buffer",
            what: message!("the buffer of `{}` was made without {}", spec.label, format!("{usage:?}")),
        })
    }

    fn write_words(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        let spec = self.graph.spec(tensor);
        check_len(&spec.label, &spec.shape, values.len())?;
        self.check_usage(tensor, wgpu::BufferUsages::COPY_DST)?;
        let rows = if spec.is_contiguous() { values.chunks(values.len().max(1)) } else { values.chunks(spec.columns()) };
        for (row, values) in rows.enumerate() {
            let offset = 4 * (spec.offset + row * spec.row_stride) as u64;
            self.gpu.queue.write_buffer(&self.storages[spec.storage], offset, bytemuck::cast_slice(values));
        }
        Ok(())
    }
}

/// The caller's buffers by the storages that they stand for.
fn given_storages(graph: &Graph, given: &[(Tensor, &wgpu::Buffer)]) -> Result<HashMap<usize, wgpu::Buffer>> {
    let mut storages: HashMap<usize, wgpu::Buffer> = HashMap::new();
    for &(tensor, buffer) in given {
        let spec = graph.spec(tensor);
        let refuse =
            |what: Message| Err(Error::Unsupported { operation: "buffer", what: message!("the buffer of `{}` {}", spec.label).with(what) });
        let (len, n_byte) = (graph.storages()[spec.storage].len, 4 * spec.len().max(1) as u64);
        if spec.len() != len || spec.span() != len {
            return refuse(message!("cannot be given: it is a part of another tensor"));
        }
        if buffer.size() < n_byte {
            return refuse(message!("has {} bytes, of {}", buffer.size(), n_byte));
        }
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return refuse(message!("was made without STORAGE"));
        }
        if storages.values().any(|other| other == buffer) || storages.insert(spec.storage, buffer.clone()).is_some() {
            return refuse(message!("is given twice"));
        }
    }
    Ok(storages)
}

/// Buffers bound in place of absent tensors.
#[derive(Debug)]
struct Absent {
    read: wgpu::Buffer,
    written: wgpu::Buffer,
}

impl Session for GpuSession<'_> {
    fn write(&mut self, tensor: Tensor, values: &[f32]) -> Result<()> {
        check_element(self.graph, tensor, Element::F32)?;
        self.write_words(tensor, bytemuck::cast_slice(values))
    }

    fn write_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        check_element(self.graph, tensor, Element::U32)?;
        self.write_words(tensor, values)
    }

    fn read(&self, tensor: Tensor) -> LocalFuture<'_, Result<Vec<f32>>> {
        Box::pin(async move {
            self.check_usage(tensor, wgpu::BufferUsages::COPY_SRC)?;
            let spec = self.graph.spec(tensor);
            let values = self.read_words(&self.storages[spec.storage], 4 * spec.offset as u64, 4 * spec.span() as u64).await?;
            let rows = (0..spec.rows()).flat_map(|row| &values[row * spec.row_stride..row * spec.row_stride + spec.columns()]);
            Ok(match self.graph.storages()[spec.storage].element {
                Element::F32 => rows.map(|&bits| f32::from_bits(bits)).collect(),
                Element::U32 => rows.map(|&index| index as f32).collect(),
            })
        })
    }

    fn run(&mut self, program: Program, times: usize) -> Result<()> {
        let steps = self.steps(program)?;
        let mut left = (0..times).flat_map(|_| steps).peekable();
        while left.peek().is_some() {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let (mut count, mut seconds) = (0, 0.0);
            while count < DISPATCHES_PER_SUBMIT && seconds < SECONDS_PER_SUBMIT {
                let Some(step) = left.next() else { break };
                step.encode(&mut pass);
                (count, seconds) = (count + 1, seconds + step.slow_seconds());
            }
            drop(pass);
            self.gpu.queue.submit([encoder.finish()]);
        }
        self.gpu.check()
    }

    fn wait(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            let (done, finished) = futures_channel::oneshot::channel();
            self.gpu.queue.on_submitted_work_done(move || {
                let _ = done.send(());
            });
            poll_aside(&self.gpu.device);
            finished.await.map_err(|_| self.gpu.error(message!("the device was lost")))?;
            self.gpu.check()
        })
    }

    fn profile(&mut self, program: Program) -> LocalFuture<'_, Result<Profile>> {
        Box::pin(async move {
            self.wait().await?;
            let steps = self.steps(program)?;
            let has_timestamps = self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
            let (clock, times) =
                if has_timestamps { (Clock::Timestamps, self.timestamps(steps).await?) } else { (Clock::Waits, self.waits(steps).await?) };
            let span = |(step, (start_ms, end_ms)): (&Step, (f64, f64))| {
                let Step { operation, work, .. } = *step;
                Span { name: step.label.clone(), operation, start_ms, ms: end_ms - start_ms, work }
            };
            let spans = steps.iter().zip(times).map(span).collect();
            let operations = self.graph.program(program).iter().map(|op| (op.name(), op.work(self.graph))).collect();
            Ok(Profile { clock, operations, spans })
        })
    }
}

/// Lets a thread of its own wait for the device, so that no future blocks; a browser polls by itself.
fn poll_aside(device: &wgpu::Device) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let device = device.clone();
        std::thread::spawn(move || device.poll(wgpu::PollType::wait_indefinitely()));
    }
    #[cfg(target_arch = "wasm32")]
    let _ = device;
}
