//! `devices`: the adapters and what they offer.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::gpu::list_adapters;
use crate::report::Table;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also write the list as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let adapters = list_adapters().await;
    let mut table = Table::new([
        "index",
        "name",
        "backend",
        "type",
        "driver",
        "storage buffers",
        "binding MiB",
        "workgroup KiB",
        "invocations",
        "subgroup",
        "f16",
        "timestamps",
    ]);
    let yes = |offered: bool| if offered { "yes" } else { "no" }.to_string();
    for (index, adapter) in adapters.iter().enumerate() {
        let subgroup = match adapter.subgroup {
            None => "no".into(),
            Some((min, max)) if min == max => min.to_string(),
            Some((min, max)) => format!("{min} to {max}"),
        };
        table.push([
            index.to_string(),
            adapter.name.clone(),
            adapter.backend.clone(),
            if adapter.software { format!("{} (software)", adapter.kind) } else { adapter.kind.clone() },
            adapter.driver.clone(),
            adapter.storage_buffers.to_string(),
            (adapter.max_binding >> 20).to_string(),
            (adapter.workgroup_memory >> 10).to_string(),
            adapter.invocations.to_string(),
            subgroup,
            yes(adapter.f16),
            yes(adapter.timestamps),
        ]);
    }
    print!("{table}");
    if adapters.is_empty() {
        println!("no adapter; on Debian and Ubuntu `apt install mesa-vulkan-drivers` brings a software one");
    }
    println!("cpu    {}", Cpu.name());
    if let Some(path) = &args.json {
        super::save_json(path, &serde_json::json!({ "adapters": adapters, "cpu": Cpu.name() }))?;
    }
    Ok(ExitCode::SUCCESS)
}
