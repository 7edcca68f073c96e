//! `devices`: the adapters and what they offer.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::gpu::{AdapterSummary, list_adapters};
use crate::report::language::fill;
use crate::report::{Lang, TextTable};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also write the list as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    crate::file::check_writable(&args.json)?;
    let adapters = list_adapters().await;
    print!("{}", table(&adapters, lang));
    if adapters.is_empty() {
        println!("{}", lang.texts().no_adapter);
    }
    println!("cpu    {}", Cpu.name());
    super::save_figures(args.json.as_deref(), || serde_json::json!({ "adapters": adapters, "cpu": Cpu.name() }), lang)?;
    Ok(ExitCode::SUCCESS)
}

fn table(adapters: &[AdapterSummary], lang: Lang) -> TextTable {
    let texts = lang.texts();
    let mut table = TextTable::new([
        texts.index,
        texts.name,
        texts.backend,
        texts.kind,
        texts.driver,
        texts.storage_buffers,
        texts.binding,
        texts.workgroup_memory,
        texts.invocations,
        texts.subgroup,
        "f16",
        texts.cooperative,
        texts.timestamps,
    ]);
    let yes = |offered: bool| if offered { texts.yes } else { texts.no }.to_string();
    for (index, adapter) in adapters.iter().enumerate() {
        let subgroup = match adapter.subgroup {
            None => texts.no.into(),
            Some((min, max)) if min == max => min.to_string(),
            Some((min, max)) => fill(texts.between, [&min.to_string(), &max.to_string()]),
        };
        table.push([
            index.to_string(),
            adapter.name.clone(),
            adapter.backend.clone(),
            if adapter.software { fill(texts.software_kind, [&adapter.kind]) } else { adapter.kind.clone() },
            adapter.driver.clone(),
            adapter.storage_buffers.to_string(),
            (adapter.max_binding >> 20).to_string(),
            (adapter.workgroup_memory >> 10).to_string(),
            adapter.invocations.to_string(),
            subgroup,
            yes(adapter.f16),
            adapter.cooperative.map_or(texts.no.into(), |side| side.to_string()),
            yes(adapter.timestamps),
        ]);
    }
    table
}
