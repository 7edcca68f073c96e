//! Which device a command runs on.

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
    Gpu(Box<Gpu>),
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
        Ok(Device::Gpu(Box::new(gpu)))
    }

    /// The backend.
    pub fn backend(&self) -> &dyn Backend {
        match self {
            Device::Cpu(cpu) => cpu,
            Device::Gpu(gpu) => &**gpu,
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
            Device::Gpu(gpu) if gpu.summary().software => {
                format!("device: {}; a software adapter: the CPU computes, expect no GPU's speed", gpu.name())
            }
            Device::Gpu(gpu) => format!("device: {}", gpu.name()),
        }
    }
}
