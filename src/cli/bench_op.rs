//! `bench-op`: one operation, compared with the reference, then timed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::device::{Device, DeviceArgs};
use super::profile::{self, ProfileArgs};
use crate::backend::Backend;
use crate::benchmark::{ALLOWED, Benchmark, Shape, Timing, build, compare, expected, time};
use crate::error::Result;
use crate::profile::Profile;
use crate::report::language::{Texts, fill};
use crate::report::table::significant;
use crate::report::{Lang, TextTable};
use crate::roofline::Roofline;

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
    /// States per channel (selective_scan and mamba_mixer)
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
    let trace = args.profile.path(Path::new("."));
    crate::file::check_outputs(args.json.iter().chain(&trace), [])?;
    let device = Device::open(&args.device, lang).await?;
    let texts = lang.texts();
    let backend: &dyn Backend = device.backend();
    let measured = build(args.op, shape, true)?;
    let wanted = expected(&measured).await?;
    for checked in compare(&measured, backend, &wanted).await? {
        let [error, allowed] = [checked.error, ALLOWED].map(|figure| format!("{figure:.1e}"));
        println!("{}", fill(texts.compared, [&format!("{:16}", checked.tensor), &error, &allowed]));
        if !checked.passed() {
            println!("{}", texts.nothing_timed);
            return Ok(ExitCode::FAILURE);
        }
    }
    let timing = time(args.op, shape, backend).await?;
    let roofline = Roofline::measure(backend).await?;
    let tokens = (args.batch * args.length) as f64;
    println!("\n{}{}", table(&timing, tokens, &roofline, texts), profile::limits(&roofline, texts));
    if let Some(path) = &trace {
        let profile = Profile::fastest(&mut *measured.load(backend).await?, measured.program).await?;
        println!();
        profile::show(&[(&args.op.name(), profile)], &roofline, path, lang)?;
    }
    let Timing { forward, forward_backward: both } = &timing;
    let figures = || {
        json!({
            "op": args.op.name(),
            "batch": args.batch,
            "length": args.length,
            "channels": args.channels,
            "state": args.state,
            "device": device.kind(),
            "adapter": backend.name(),
            "kernels": device.kernels(),
            "forward_ms": forward.ms,
            "forward_floor_ms": roofline.floor_ms(forward.work),
            "forward_backward_ms": both.ms,
            "forward_backward_floor_ms": roofline.floor_ms(both.work),
            "tokens_per_second": tokens / both.ms * 1e3,
            "gb_per_s": both.work.bytes / both.ms / 1e6,
            "copy_gb_per_s": roofline.bytes_per_ms / 1e6,
            "multiply_add_gflop_per_s": roofline.flops_per_ms / 1e6,
            "exponentials_g_per_s": roofline.exponentials_per_ms / 1e6,
        })
    };
    super::save_figures(args.json.as_deref(), figures, lang)?;
    Ok(ExitCode::SUCCESS)
}

fn table(timing: &Timing, tokens: f64, roofline: &Roofline, texts: &Texts) -> TextTable {
    let mut table = TextTable::new(["", texts.median_ms, "tokens/s", "GB/s", texts.of_copy, texts.floor_ms, texts.of_floor]);
    for (name, timed) in [(texts.forward, timing.forward), (texts.forward_backward, timing.forward_backward)] {
        let (bytes_per_ms, floor_ms) = (timed.work.bytes / timed.ms, roofline.floor_ms(timed.work));
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        table.push([
            name.into(),
            significant(timed.ms, 4),
            format!("{:.0}", tokens / timed.ms * 1e3),
            significant(bytes_per_ms / 1e6, 3),
            percent(bytes_per_ms / roofline.bytes_per_ms),
            significant(floor_ms, 3),
            percent(floor_ms / timed.ms),
        ]);
    }
    table
}
