//! Adapters: which there are, which one is taken, and the device opened on it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::plan::{CooperativeMatrices, Dispatch, Planner, Traits};
use super::session::GpuSession;
use super::shader::Modules;
use super::table::KernelTable;
use crate::backend::{Backend, LocalFuture, Session};
use crate::cpu::flushing_subnormals;
use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;
use crate::graph::{Graph, Tensor};
use crate::message::{Message, one_line};
use crate::ops::KERNELS;

/// Which adapter to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The best one, software included.
    Any,
    /// The best hardware adapter.
    Hardware,
    /// By index in [`list_adapters`] or by a part of its name, upper and lower case alike.
    Named(String),
}

/// What an adapter is and offers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// Name.
    pub name: String,
    /// Vulkan, Gl, Metal, Dx12, BrowserWebGpu.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// DiscreteGpu, IntegratedGpu, VirtualGpu, Cpu or Other.
    pub kind: String,
    /// Whether a CPU computes.
    pub software: bool,
    /// Storage buffers that one dispatch may bind.
    pub storage_buffers: u32,
    /// Largest binding, bytes.
    pub max_binding: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Smallest and largest subgroup, where there are subgroup operations.
    pub subgroup: Option<(u32, u32)>,
    /// 16-bit floats in shaders.
    pub f16: bool,
    /// Rows and columns of cooperative matrices of 16-bit floats, where there are any with sums of 32 bits.
    pub cooperative: Option<usize>,
    /// Timestamps.
    pub timestamps: bool,
}

impl AdapterSummary {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let cooperative = cooperative_matrices(adapter).map(|matrices| matrices.side);
        AdapterSummary { cooperative, ..AdapterSummary::new(adapter.get_info(), &adapter.limits(), adapter.features()) }
    }

    fn new(info: wgpu::AdapterInfo, limits: &wgpu::Limits, features: wgpu::Features) -> Self {
        AdapterSummary {
            software: is_software(&info),
            name: info.name,
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            kind: format!("{:?}", info.device_type),
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_binding: limits.max_storage_buffer_binding_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            subgroup: features.contains(wgpu::Features::SUBGROUP).then_some((info.subgroup_min_size, info.subgroup_max_size)),
            f16: features.contains(wgpu::Features::SHADER_F16),
            cooperative: None,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        }
    }
}

fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = info.name.to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu || ["llvmpipe", "swiftshader", "softpipe"].iter().any(|software| name.contains(software))
}

/// The largest cooperative matrices that kernels of ours can multiply.
fn cooperative_matrices(adapter: &wgpu::Adapter) -> Option<CooperativeMatrices> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needed) {
        return None;
    }
    let (half, float) = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let offered = adapter.cooperative_matrix_properties();
    let is_offered = |side: &u32| {
        let is_square = |found: &wgpu::CooperativeMatrixProperties| [found.m_size, found.n_size, found.k_size] == [*side; 3];
        offered.iter().any(|found| is_square(found) && (found.ab_type, found.cr_type) == (half, float))
    };
    let side = [16, 8].into_iter().find(is_offered)? as usize;
    let matrices = CooperativeMatrices { side, largest_subgroup: adapter.get_info().subgroup_max_size as usize };
    (matrices.invocations() <= adapter.limits().max_compute_invocations_per_workgroup as usize).then_some(matrices)
}

/// Adapters, best first: hardware before software, then in wgpu's order; narrowed by `WGPU_BACKEND` and `WGPU_ADAPTER_NAME`.
async fn adapters() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    // Never dropped: that unloads the driver's libraries, and Mesa's leave handlers for the process to call at its exit (one run in thirty
    // then died of a segmentation fault, its work done). Not shared either: devices of one instance share one OpenGL context.
    std::mem::forget(instance.clone());
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::all());
    let wanted = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default().to_lowercase();
    let mut found = instance.enumerate_adapters(backends).await;
    found.retain(|adapter| {
        let compute = adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS);
        compute && adapter.get_info().name.to_lowercase().contains(&wanted)
    });
    found.sort_by_key(|adapter| {
        let info = adapter.get_info();
        let rank = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            _ => 3,
        };
        (is_software(&info), rank, info.backend == wgpu::Backend::Gl)
    });
    found
}

/// Every adapter that can compute, best first.
pub async fn list_adapters() -> Vec<AdapterSummary> {
    adapters().await.iter().map(AdapterSummary::of).collect()
}

/// A compiled entry point.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The address of a module, which is kept as long as its device, and an entry point.
type PipelineKey = (usize, &'static str);
type Pipelines = HashMap<PipelineKey, Arc<Pipeline>>;

/// A device: an opened adapter, the modules and pipelines made on it so far.
#[derive(Debug)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) modules: Modules,
    summary: AdapterSummary,
    traits: Traits,
    pipelines: Mutex<Pipelines>,
    cache: Option<wgpu::PipelineCache>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens an adapter. On Linux the threads of a software driver take subnormal floats for 0, as those of the CPU backend do.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where none fits, [`Error::Gpu`] where the driver refuses.
    pub async fn open(selection: &Selection) -> Result<Gpu> {
        let mut opening = pin!(Gpu::open_adapter(selection));
        poll_fn(|context| flushing_subnormals(|| opening.as_mut().poll(context))).await
    }

    async fn open_adapter(selection: &Selection) -> Result<Gpu> {
        let mut found = adapters().await;
        let position = match selection {
            Selection::Any => (!found.is_empty()).then_some(0),
            Selection::Hardware => found.iter().position(|adapter| !is_software(&adapter.get_info())),
            Selection::Named(name) => match name.parse::<usize>() {
                Ok(index) => (index < found.len()).then_some(index),
                Err(_) => found.iter().position(|adapter| adapter.get_info().name.to_lowercase().contains(&name.to_lowercase())),
            },
        };
        let Some(position) = position else {
            let wanted = match selection {
                Selection::Any => message!("found"),
                Selection::Hardware => message!("found that is real hardware"),
                Selection::Named(name) => message!("matches `{}`", name),
            };
            let names: Vec<_> = found.iter().map(|adapter| adapter.get_info().name).collect();
            let remedy = if names.is_empty() {
                message!(
                    "install a driver (on Debian and Ubuntu `apt install mesa-vulkan-drivers` brings a software one), or use --device cpu"
                )
            } else {
                message!("there are: {}", names.join(", "))
            };
            return Err(Error::NoAdapter { wanted, remedy });
        };
        let adapter = found.swap_remove(position);
        let subgroups = wgpu::Features::SUBGROUP | wgpu::Features::SUBGROUP_BARRIER;
        let wanted = subgroups | wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE;
        let cooperative = cooperative_matrices(&adapter);
        let (experimental, experimental_features) = match cooperative {
            None => Default::default(),
            // SAFETY: of all that is experimental, only cooperative matrices are asked for; our kernels load and store them in workgroup
            // memory alone, within its bounds.
            Some(_) => (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, unsafe { wgpu::ExperimentalFeatures::enabled() }),
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("scanrnn"),
            required_features: adapter.features() & wanted | experimental,
            required_limits: adapter.limits(),
            experimental_features,
            ..Default::default()
        };
        let refused = |error: wgpu::RequestDeviceError| Error::Gpu {
            adapter: adapter.get_info().name,
            what: Message::verbatim(one_line(&error.to_string())),
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(refused)?;
        let mut gpu = Gpu::from_device(device, queue);
        gpu.summary.cooperative = cooperative.map(|matrices| matrices.side);
        gpu.traits.cooperative = cooperative;
        let report = gpu.failure.clone();
        gpu.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            report.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(one_line(&error.to_string()));
        }));
        Ok(gpu)
    }

    /// Takes a device that the caller has opened, to work beside the caller's own: see [`Gpu::load_with`] for work on buffers that exist.
    ///
    /// Kernels keep to the limits and features that the device was opened with; what does not fit them is refused when a graph is loaded.
    /// Cooperative matrices are not used: a device does not say which it has.
    /// The device's handler of uncaptured errors stays the caller's.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Gpu {
        let (limits, features) = (device.limits(), device.features());
        let summary = AdapterSummary::new(device.adapter_info(), &limits, features);
        let traits = Traits {
            name: summary.name.clone(),
            software: summary.software,
            has_avx512: has_avx512(),
            // Metal tells shaders the size of a binding in 32 bits
            max_binding: limits.max_storage_buffer_binding_size.min(1 << 31),
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            subgroups: summary.subgroup.is_some_and(|(smallest, _)| smallest >= 4),
            subgroups_of_8: summary.subgroup == Some((8, 8)) && features.contains(wgpu::Features::SUBGROUP_BARRIER),
            f16: summary.f16,
            cooperative: None,
            kernels: HashMap::new(),
            table: None,
        };
        Gpu {
            device,
            queue,
            modules: Modules::default(),
            summary,
            traits,
            pipelines: Mutex::default(),
            cache: None,
            failure: Arc::default(),
        }
    }

    /// Loads a graph with some of its tensors in buffers of the caller's, which keep their contents; all others are allocated, zero, as
    /// [`Backend::load`] does.
    ///
    /// Each tensor must be a whole one, no view and no parameter (take [`Graph::flat_parameters`] for all of them), and its buffer must
    /// have been made on this device with [`wgpu::BufferUsages::STORAGE`], at least 4 bytes an element, for this tensor alone.
    ///
    /// ```no_run
    /// # async fn run(device: wgpu::Device, queue: wgpu::Queue, mine: &wgpu::Buffer, out: &wgpu::Buffer) -> scanrnn::Result<()> {
    /// use scanrnn::gpu::Gpu;
    /// use scanrnn::graph::Graph;
    /// # use scanrnn::wgpu;
    /// let mut graph = Graph::new();
    /// let x = graph.input("x", &[64, 16]);
    /// let y = graph.neg_exp("y", x);
    /// let program = graph.finish("work");
    /// let gpu = Gpu::from_device(device.clone(), queue.clone());
    /// let session = gpu.load_with(&graph, &[(x, mine), (y, out)]).await?;
    /// let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    /// session.encode(program, &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()))?;
    /// queue.submit([encoder.finish()]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a tensor or a buffer is not as said, and all that [`Backend::load`] can fail with.
    pub async fn load_with<'a>(&'a self, graph: &'a Graph, buffers: &[(Tensor, &wgpu::Buffer)]) -> Result<GpuSession<'a>> {
        GpuSession::load(self, graph, buffers).await
    }

    /// What the adapter is and offers.
    pub fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    /// What decides how work is laid out.
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Forces a kernel, `("min_gru", "step")`, for the shapes that it takes.
    ///
    /// # Errors
    /// [`Error::Option`] where there is no such kernel, or the adapter lacks what it needs.
    pub fn force_kernel(&mut self, operation: &str, kernel: &str) -> Result<()> {
        let known = KERNELS.iter().find(|(name, _)| *name == operation).map_or(&[][..], |(_, kernels)| kernels);
        if !known.iter().any(|(name, _)| *name == kernel) {
            let all = KERNELS.iter().flat_map(|(name, kernels)| kernels.iter().map(move |(kernel, _)| format!("{name}={kernel}")));
            let all = all.collect::<Vec<_>>().join(", ");
            return Err(Error::option("--kernel", format!("{operation}={kernel}"), message!("must be one of {}", all)));
        }
        if let Some(need) = self.traits.missing(operation, kernel) {
            let what = message!("{} has no {}", self.traits.name).with(need.words());
            return Err(Error::option("--kernel", format!("{operation}={kernel}"), what));
        }
        self.traits.kernels.insert(operation.into(), kernel.into());
        Ok(())
    }

    /// Binds at most this many bytes of a tensor at once, even if the adapter could bind more: larger tensors are worked on in windows.
    pub fn limit_binding(&mut self, bytes: u64) {
        self.traits.max_binding = self.traits.max_binding.min(bytes);
    }

    /// Takes back [`Gpu::force_kernel`].
    pub fn unforce_kernel(&mut self, operation: &str) {
        self.traits.kernels.remove(operation);
    }

    /// Whether the kernels that are forced take all that a graph has for them; where one does not, another runs.
    ///
    /// # Errors
    /// As planning the graph's programs.
    pub fn runs_as_forced(&self, graph: &Graph) -> Result<bool> {
        let mut planner = Planner::new(graph, &self.modules, &self.traits);
        graph.programs().iter().try_for_each(|(_, ops)| planner.program(ops).map(|_| ()))?;
        Ok(planner.is_as_forced())
    }

    /// Lets a table of measurements choose the kernels that are not forced.
    ///
    /// # Errors
    /// [`Error::Data`] where it was measured on another adapter or driver, or names kernels that there are not; `place` is its file.
    pub fn use_table(&mut self, table: KernelTable, place: &str) -> Result<()> {
        let AdapterSummary { name, driver, .. } = &self.summary;
        if (&table.adapter, &table.driver) != (name, driver) {
            let what = message!("it was measured on {} ({}), but this is {} ({})", table.adapter, table.driver, name, driver);
            return Err(Error::data(place, what, message!("measure this one with `scanrnn tune-kernels`")));
        }
        table.check(place)?;
        self.traits.table = Some(table);
        Ok(())
    }

    /// The first failure that the driver has reported outside any call.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            None => Ok(()),
            Some(what) => Err(self.error(Message::verbatim(what))),
        }
    }

    pub(super) fn error(&self, what: Message) -> Error {
        Error::Gpu { adapter: self.summary.name.clone(), what }
    }

    /// Lets the driver begin with what it compiled before, where it can: `saved` is what [`Gpu::pipeline_cache_data`] gave for this adapter, or nothing.
    /// Results that are damaged, or another driver's, are ignored.
    pub fn use_pipeline_cache(&mut self, saved: &[u8]) {
        if !self.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return;
        }
        let (sum, data) = saved.split_at_checked(8).unwrap_or_default();
        let data = (sum == fingerprint(data.iter().copied()).to_le_bytes()).then_some(data);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("scanrnn"), data, fallback: true };
        // SAFETY: the sum says that these are the bytes that `pipeline_cache_data` took from such a cache; wgpu and the driver leave out another's.
        self.cache = Some(unsafe { self.device.create_pipeline_cache(&descriptor) });
    }

    /// What the driver has compiled since [`Gpu::use_pipeline_cache`], to be kept for later runs on this adapter; none where it does not say.
    pub fn pipeline_cache_data(&self) -> Option<Vec<u8>> {
        let data = self.cache.as_ref()?.get_data()?;
        Some([&fingerprint(data.iter().copied()).to_le_bytes()[..], &data].concat())
    }

    /// A name for what [`Gpu::pipeline_cache_data`] gives, other than that of any other adapter; none where the driver keeps nothing.
    pub fn pipeline_cache_key(&self) -> Option<String> {
        wgpu::util::pipeline_cache_key(&self.device.adapter_info())
    }

    /// Compiles what dispatches need and what is not there yet: modules side by side where the driver does that.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the driver refuses one.
    pub(super) fn compile(&self, dispatches: &[Dispatch]) -> Result<()> {
        let mut missing: Vec<(usize, Vec<&Dispatch>)> = Vec::new();
        {
            let pipelines = self.pipelines();
            for dispatch in dispatches.iter().filter(|dispatch| !pipelines.contains_key(&pipeline_key(dispatch))) {
                let (module, entry) = pipeline_key(dispatch);
                match missing.iter_mut().find(|(key, _)| *key == module) {
                    Some((_, entries)) if entries.iter().any(|other| other.entry == entry) => {}
                    Some((_, entries)) => entries.push(dispatch),
                    None => missing.push((module, vec![dispatch])),
                }
            }
        }
        let next = AtomicUsize::new(0);
        let work = || {
            self.scoped(|| {
                while let Some((_, dispatches)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.compile_module(dispatches);
                }
            })
        };
        // an OpenGL context serves one thread at a time
        #[cfg(not(target_arch = "wasm32"))]
        if missing.len() > 1 && self.device.adapter_info().backend != wgpu::Backend::Gl {
            let n_thread = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
            return std::thread::scope(|scope| {
                let threads: Vec<_> = (0..n_thread).map(|_| scope.spawn(work)).collect();
                threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
        }
        work()
    }

    /// Compiles some entry points of one module.
    fn compile_module(&self, dispatches: &[&Dispatch]) {
        let Some(first) = dispatches.first() else { return };
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(first.shader.name),
            source: wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(first.module.naga.clone())),
        };
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        // a countdown in every loop
        checks.force_loop_bounding = false;
        // SAFETY: every loop of the kernels ends: it counts to a bound that it does not change.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, checks) };
        for dispatch in dispatches {
            let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&dispatch.label),
                layout: None,
                module: &module,
                entry_point: Some(dispatch.entry),
                compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
                cache: self.cache.as_ref(),
            });
            let layout = pipeline.get_bind_group_layout(0);
            self.pipelines().insert(pipeline_key(dispatch), Arc::new(Pipeline { pipeline, layout }));
        }
    }

    /// Runs `work` and gives the first error that the driver reports of it. A browser reports later, to [`Gpu::check`].
    pub(super) fn scoped<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        if cfg!(target_arch = "wasm32") {
            return Ok(work());
        }
        let filters = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let done = work();
        let mut failure = None;
        for scope in scopes.into_iter().rev() {
            failure = ready(scope.pop()).flatten().or(failure);
        }
        failure.map_or(Ok(done), |error| Err(self.error(Message::verbatim(one_line(&error.to_string())))))
    }

    /// The pipeline of a dispatch, if [`Gpu::compile`] has made it.
    pub(super) fn pipeline(&self, dispatch: &Dispatch) -> Result<Arc<Pipeline>> {
        let pipeline = self.pipelines().get(&pipeline_key(dispatch)).cloned();
        pipeline.ok_or_else(|| self.error(message!("{} has not been compiled", dispatch.label)))
    }

    fn pipelines(&self) -> MutexGuard<'_, Pipelines> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pipeline_key(dispatch: &Dispatch) -> PipelineKey {
    (Arc::as_ptr(&dispatch.module).addr(), dispatch.entry)
}

/// The result of a future that waits for nothing: outside of a browser, an error scope's.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Backend for Gpu {
    fn name(&self) -> String {
        let note = if self.summary.software { ", software" } else { "" };
        format!("{} ({}{note})", self.summary.name, self.summary.backend)
    }

    fn load<'a>(&'a self, graph: &'a Graph) -> LocalFuture<'a, Result<Box<dyn Session + 'a>>> {
        Box::pin(async move { Ok(Box::new(self.load_with(graph, &[]).await?) as Box<dyn Session>) })
    }
}
