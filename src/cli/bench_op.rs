//! `bench-op`: one operation, compared with the reference, then timed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::device::{Device, DeviceArgs};
use super::profile::{self, ProfileArgs};
use crate::backend::Backend;
use crate::benchmark::{Benchmark, Shape, Timing, build, compare, copy_rate, expected, time};
use crate::error::Result;
use crate::profile::Profile;
use crate::report::language::{Texts, fill};
use crate::report::table::significant;
use crate::report::{Lang, Table};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Operation
    #[arg(value_enum)]
    op: Benchmark,
    /// Sequences
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Steps
    #[arg(long, default_value_t = 1024)]
    length: usize,
    /// Channels (hidden for min_gru, d_model for mamba_mixer, in and out for linear)
    #[arg(long, default_value_t = 256)]
    channels: usize,
    /// States of a channel (selective_scan and mamba_mixer)
    #[arg(long, default_value_t = 16)]
    state: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileArgs,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    let shape = Shape { batch: args.batch, length: args.length, channels: args.channels, state: args.state };
    shape.check()?;
    crate::file::check_writable(&args.json)?;
    let trace = args.profile.path(Path::new("."))?;
    let device = Device::open(&args.device).await?;
    println!("{}", device.announcement(&args.device.device, lang));
    let texts = lang.texts();
    let backend: &dyn Backend = device.backend();
    let measured = build(args.op, shape, true)?;
    let wanted = expected(&measured).await?;
    for checked in compare(&measured, backend, &wanted).await? {
        let [error, allowed] = [checked.error, checked.allowed].map(|figure| format!("{figure:.1e}"));
        println!("{}", fill(texts.compared, [&format!("{:16}", checked.tensor), &error, &allowed]));
        if !checked.passed() {
            println!("{}", texts.nothing_timed);
            return Ok(ExitCode::FAILURE);
        }
    }
    let timing = time(args.op, shape, backend).await?;
    let copy = copy_rate(backend).await?;
    let tokens = (args.batch * args.length) as f64;
    print!("\n{}", table(&timing, tokens, copy, texts));
    if let Some(path) = &trace {
        let profile = Profile::fastest(&mut *measured.load(backend).await?, measured.program).await?;
        println!();
        profile::show(&[(args.op.name(), profile)], path, lang)?;
    }
    if let Some(path) = &args.json {
        let figures = json!({
            "op": args.op.name(),
            "batch": args.batch,
            "length": args.length,
            "channels": args.channels,
            "state": args.state,
            "device": device.kind(),
            "adapter": backend.name(),
            "kernels": device.kernels(),
            "forward_ms": timing.forward_ms,
            "forward_backward_ms": timing.forward_backward_ms,
            "tokens_per_second": tokens / timing.forward_backward_ms * 1e3,
            "gb_per_s": rate(timing.forward_backward_bytes, timing.forward_backward_ms),
            "copy_gb_per_s": copy,
        });
        super::save_json(path, &figures)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gigabytes a second.
fn rate(bytes: f64, ms: f64) -> f64 {
    bytes / ms / 1e6
}

fn table(timing: &Timing, tokens: f64, copy: f64, texts: &Texts) -> Table {
    let mut table = Table::new(["", texts.median_ms, "tokens/s", "GB/s", texts.of_copy]);
    let rows = [
        (texts.forward, timing.forward_ms, timing.forward_bytes),
        (texts.forward_backward, timing.forward_backward_ms, timing.forward_backward_bytes),
    ];
    for (name, ms, bytes) in rows {
        let share = format!("{:.0} %", 100.0 * rate(bytes, ms) / copy);
        table.push([name.into(), significant(ms, 4), format!("{:.0}", tokens / ms * 1e3), significant(rate(bytes, ms), 3), share]);
    }
    table.push([texts.copy, "", "", &significant(copy, 3), ""]);
    table
}
