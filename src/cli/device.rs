//! Which device a command runs on.

use std::path::{Path, PathBuf};

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::gpu::{AdapterSummary, Gpu, KernelTable, Selection};
use crate::report::Lang;
use crate::report::language::fill;

/// Options that choose the device.
#[derive(Debug, clap::Args)]
pub struct DeviceArgs {
    /// Device: auto (a real GPU, else the CPU), cpu, gpu (any adapter), or an adapter's index or part of its name as `devices` lists them
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Force a kernel, such as min_gru=step or selective_scan=chunked, for the shapes that it supports; `bench --profile` shows which ran
    #[arg(long = "kernel", value_name = "OP=NAME")]
    pub kernels: Vec<String>,
    /// Choose kernels by a table from `tune-kernels` [default: the adapter's table in the user's cache folder, if there is one]
    #[arg(long, value_name = "FILE")]
    pub kernel_table: Option<PathBuf>,
}

impl DeviceArgs {
    /// The GPU that `--device` asks for; none where that is the CPU.
    pub async fn gpu(&self) -> Result<Option<Gpu>> {
        let selection = match self.device.as_str() {
            "cpu" => return Ok(None),
            "gpu" => Selection::Any,
            "auto" => Selection::Hardware,
            name => Selection::Named(name.into()),
        };
        match Gpu::open(&selection).await {
            Err(Error::NoAdapter { .. }) if self.device == "auto" => Ok(None),
            opened => opened.map(Some),
        }
    }
}

/// A file of this program in the user's cache folder.
fn cache_file(name: &str) -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("scanrnn").join(name))
}

/// Where an adapter's table of kernels is kept.
pub fn table_file(gpu: &Gpu) -> Option<PathBuf> {
    let AdapterSummary { name, backend, driver, .. } = gpu.summary();
    let name = format!("kernels {backend} {name} {driver}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
    cache_file(&format!("{name}.json"))
}

/// Lets a table choose kernels: the named one, otherwise the adapter's own if it has one that fits. Returns its path.
fn use_table(gpu: &mut Gpu, named: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(file) = named.map(Path::to_path_buf).or_else(|| table_file(gpu)) else { return Ok(None) };
    let used = read_table(&file).and_then(|table| gpu.use_table(table, &file.display().to_string()));
    match used {
        Ok(()) => Ok(Some(file)),
        Err(error) if named.is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

fn read_table(file: &Path) -> Result<KernelTable> {
    serde_json::from_slice(&crate::file::read(file)?).map_err(|error| {
        Error::data(file.display(), message!("is not a table of kernels: {}", error), message!("make one with `scanrnn tune-kernels`"))
    })
}

/// An opened device.
pub enum Device {
    /// The CPU backend.
    Cpu(Cpu),
    /// A GPU.
    Gpu(Box<OpenedGpu>),
}

/// A GPU whose compiled kernels are kept on disk, where its driver allows it and the file can be written.
pub struct OpenedGpu {
    gpu: Gpu,
    /// The results of earlier compilations.
    compiled: Vec<u8>,
    /// Where it is kept.
    file: Option<PathBuf>,
    /// The table that chooses kernels.
    table: Option<PathBuf>,
}

impl OpenedGpu {
    fn new(mut gpu: Gpu, table: Option<PathBuf>) -> Self {
        let file = gpu.pipeline_cache_key().and_then(|name| cache_file(&name));
        // no file, or one that cannot be read: everything is compiled anew
        let compiled = file.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        gpu.use_pipeline_cache(&compiled);
        OpenedGpu { gpu, compiled, file, table }
    }
}

impl Drop for OpenedGpu {
    /// Keeps what was compiled; where that fails, the next run compiles it again.
    fn drop(&mut self) {
        let (Some(file), Some(compiled)) = (&self.file, self.gpu.pipeline_cache_data()) else { return };
        if compiled != self.compiled && file.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok()) {
            let _ = crate::file::save(file, |writer| std::io::Write::write_all(writer, &compiled));
        }
    }
}

impl Device {
    /// Opens the device that `--device` asks for, and prints which it is.
    pub async fn open(args: &DeviceArgs, lang: Lang) -> Result<Device> {
        let device = Self::open_silently(args).await?;
        println!("{}", device.announcement(&args.device, lang));
        Ok(device)
    }

    /// Opens what `--device` asks for.
    pub async fn open_silently(args: &DeviceArgs) -> Result<Device> {
        let Some(mut gpu) = args.gpu().await? else {
            let option = match args {
                DeviceArgs { kernels, .. } if !kernels.is_empty() => "--kernel",
                DeviceArgs { kernel_table: Some(_), .. } => "--kernel-table",
                _ => return Ok(Device::Cpu(Cpu)),
            };
            return Err(Error::given(
                option,
                message!("it chooses a kernel of a GPU, but the device is the CPU; choose a GPU with --device"),
            ));
        };
        let table = use_table(&mut gpu, args.kernel_table.as_deref())?;
        for choice in &args.kernels {
            let (operation, kernel) = choice
                .split_once('=')
                .ok_or_else(|| Error::option("--kernel", choice, message!("must be OP=NAME, such as min_gru=step")))?;
            gpu.force_kernel(operation, kernel)?;
        }
        Ok(Device::Gpu(Box::new(OpenedGpu::new(gpu, table))))
    }

    /// The backend.
    pub fn backend(&self) -> &dyn Backend {
        match self {
            Device::Cpu(cpu) => cpu,
            Device::Gpu(opened) => &opened.gpu,
        }
    }

    /// `cpu` or `gpu`.
    pub fn kind(&self) -> &'static str {
        match self {
            Device::Cpu(_) => "cpu",
            Device::Gpu(_) => "gpu",
        }
    }

    /// What chooses kernels that are not forced.
    pub fn kernels(&self) -> String {
        self.table().map_or_else(|| "fixed rule".into(), |table| format!("table {}", table.display()))
    }

    /// The table that chooses kernels.
    fn table(&self) -> Option<&Path> {
        match self {
            Device::Cpu(_) => None,
            Device::Gpu(opened) => opened.table.as_deref(),
        }
    }

    /// One line about the device.
    fn announcement(&self, asked: &str, lang: Lang) -> String {
        let texts = lang.texts();
        let remarks = match self {
            Device::Cpu(_) if asked == "auto" => texts.no_hardware.into(),
            Device::Cpu(_) => String::new(),
            Device::Gpu(opened) => {
                let software = if opened.gpu.summary().software { texts.software } else { "" };
                let kernels = self.table().map_or_else(String::new, |table| fill(texts.kernels, [&table.display().to_string()]));
                format!("{software}{kernels}")
            }
        };
        fill(texts.device, [&self.backend().name(), &remarks])
    }
}
