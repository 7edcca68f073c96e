//! Which device a command runs on.

use std::path::PathBuf;

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Selection};

/// Options that choose the device.
#[derive(Debug, clap::Args)]
pub struct DeviceArgs {
    /// Device: auto (a real GPU, else the CPU), cpu, gpu (any adapter), or an adapter's index or part of its name as `devices` lists them
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Force a kernel, such as min_gru=step or selective_scan=chunked
    #[arg(long = "kernel", value_name = "OP=NAME")]
    pub kernels: Vec<String>,
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
    /// What was compiled before.
    compiled: Vec<u8>,
    /// Where it is kept.
    file: Option<PathBuf>,
}

impl OpenedGpu {
    fn new(mut gpu: Gpu) -> Self {
        let file = gpu.compiled_name().and_then(|name| Some(dirs::cache_dir()?.join("scanrnn").join(name)));
        // no file, or one that cannot be read: everything is compiled anew
        let compiled = file.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        gpu.use_compiled(&compiled);
        OpenedGpu { gpu, compiled, file }
    }
}

impl Drop for OpenedGpu {
    /// Keeps what was compiled; where that fails, the next run compiles it again.
    fn drop(&mut self) {
        let (Some(file), Some(compiled)) = (&self.file, self.gpu.compiled()) else { return };
        if compiled != self.compiled && file.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok()) {
            let _ = crate::file::save(file, |writer| std::io::Write::write_all(writer, &compiled));
        }
    }
}

impl Device {
    /// Opens what `--device` asks for.
    pub async fn open(args: &DeviceArgs) -> Result<Device> {
        let selection = match args.device.as_str() {
            "cpu" => return Ok(Device::Cpu(Cpu)),
            "gpu" => Selection::Any,
            "auto" => Selection::Hardware,
            name => Selection::Named(name.into()),
        };
        let mut gpu = match Gpu::open(&selection).await {
            Err(Error::NoAdapter { .. }) if args.device == "auto" => return Ok(Device::Cpu(Cpu)),
            opened => opened?,
        };
        for choice in &args.kernels {
            let (operation, kernel) =
                choice.split_once('=').ok_or_else(|| Error::option("--kernel", choice, "must be OP=NAME, such as min_gru=step"))?;
            gpu.force_kernel(operation, kernel)?;
        }
        Ok(Device::Gpu(Box::new(OpenedGpu::new(gpu))))
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

    /// One line about what was taken.
    pub fn announcement(&self, asked: &str) -> String {
        match self {
            Device::Cpu(cpu) if asked == "auto" => format!("device: {} (no hardware GPU was found)", cpu.name()),
            Device::Cpu(cpu) => format!("device: {}", cpu.name()),
            Device::Gpu(opened) if opened.gpu.summary().software => {
                format!("device: {}; a software adapter: the CPU computes, expect no GPU's speed", opened.gpu.name())
            }
            Device::Gpu(opened) => format!("device: {}", opened.gpu.name()),
        }
    }
}
