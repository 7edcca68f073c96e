//! `--profile`: a table of what takes the time, and a trace to look at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Result;
use crate::profile::{Clock, Profile, Work};
use crate::report::language::{Texts, fill};
use crate::report::table::significant;
use crate::report::{Lang, TextTable};
use crate::roofline::Roofline;

/// Name of the trace where none is given.
const TRACE: &str = "scanrnn_trace.json";

/// Whether a step is profiled.
#[derive(Debug, clap::Args)]
pub struct ProfileArgs {
    /// Show the time of each kernel, and write a trace for chrome://tracing or ui.perfetto.dev [default file: scanrnn_trace.json]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    profile: Option<Option<PathBuf>>,
}

impl ProfileArgs {
    /// The trace's file where a profile is wanted.
    pub fn path(&self, folder: &Path) -> Option<PathBuf> {
        self.profile.as_ref().map(|path| path.clone().unwrap_or_else(|| folder.join(TRACE)))
    }
}

/// Calls that are summed up in a row of the table.
#[derive(Default)]
struct Row {
    calls: usize,
    ms: f64,
    work: Work,
    /// The least time of the work; kernels have none of their own.
    floor_ms: Option<f64>,
}

impl Row {
    fn add(&mut self, calls: usize, ms: f64, work: Work) {
        self.calls += calls;
        self.ms += ms;
        self.work.bytes += work.bytes;
        self.work.flops += work.flops;
    }
}

/// Prints a table a profile and writes all of them as one trace.
pub fn show(profiles: &[(&str, Profile)], roofline: &Roofline, path: &Path, lang: Lang) -> Result<()> {
    let texts = lang.texts();
    for (name, profile) in profiles {
        let total = format!("{:.3}", profile.total_ms());
        println!("{}\n{}", fill(texts.profiled, [name, &total, clock(profile.clock, texts)]), table(profile, roofline, texts));
    }
    println!("{}\n", limits(roofline, texts));
    super::save_json(path, &trace(profiles))?;
    println!("{}\n", fill(texts.trace, [&path.display().to_string()]));
    Ok(())
}

/// What the device does at most, as a line.
pub fn limits(roofline: &Roofline, texts: &Texts) -> String {
    let rates = [roofline.bytes_per_ms, roofline.flops_per_ms, roofline.exponentials_per_ms].map(|rate| significant(rate / 1e6, 3));
    fill(texts.limits, rates.each_ref().map(String::as_str))
}

fn clock(clock: Clock, texts: &Texts) -> &'static str {
    match clock {
        Clock::Timestamps => texts.by_timestamps,
        Clock::Waits => texts.by_waits,
        Clock::Processor => texts.by_processor,
    }
}

/// Operations by their time, and under each its kernels where there are several.
fn table(profile: &Profile, roofline: &Roofline, texts: &Texts) -> TextTable {
    let total = profile.total_ms();
    let mut operations: BTreeMap<&str, (Row, BTreeMap<&str, Row>)> = BTreeMap::new();
    for (name, work) in &profile.operations {
        let row = &mut operations.entry(name).or_default().0;
        row.add(1, 0.0, *work);
        row.floor_ms = Some(row.floor_ms.unwrap_or_default() + roofline.floor_ms(*work));
    }
    for span in &profile.spans {
        let (row, kernels) = operations.entry(profile.operations[span.operation].0).or_default();
        row.ms += span.ms;
        kernels.entry(&span.name).or_default().add(1, span.ms, span.work);
    }
    let mut table = TextTable::new([texts.operation_kernel, texts.calls, texts.ms, texts.share, texts.floor_ms, "GB/s", "GFLOP/s"]);
    let mut push = |name: String, row: &Row| {
        let rate = |amount: f64| if amount > 0.0 && row.ms > 0.0 { significant(amount / row.ms / 1e6, 3) } else { "–".into() };
        let share = format!("{:.1} %", 100.0 * row.ms / total);
        let floor = row.floor_ms.map_or("–".into(), |floor| format!("{floor:.3}"));
        table.push([name, row.calls.to_string(), format!("{:.3}", row.ms), share, floor, rate(row.work.bytes), rate(row.work.flops)]);
    };
    for (name, (row, kernels)) in slowest_first(operations, |(row, _)| row.ms) {
        // an operation that is one kernel goes by the kernel's name
        let only = kernels.keys().next().filter(|_| kernels.len() == 1);
        push((*only.unwrap_or(&name)).into(), &row);
        if only.is_none() {
            for (name, row) in slowest_first(kernels, |row| row.ms) {
                push(format!("  {name}"), &row);
            }
        }
    }
    table
}

fn slowest_first<T>(rows: BTreeMap<&str, T>, ms: impl Fn(&T) -> f64) -> Vec<(&str, T)> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| ms(b).total_cmp(&ms(a)));
    rows
}

/// Chrome's trace event format: a thread a profile, times in microseconds.
fn trace(profiles: &[(&str, Profile)]) -> Value {
    let mut events = Vec::new();
    for (thread, (name, profile)) in profiles.iter().enumerate() {
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": 0, "tid": thread, "args": { "name": name } }));
        for span in &profile.spans {
            events.push(json!({
                "ph": "X", "name": span.name, "cat": profile.operations[span.operation].0, "pid": 0, "tid": thread,
                "ts": 1e3 * span.start_ms, "dur": 1e3 * span.ms, "args": { "bytes": span.work.bytes, "flops": span.work.flops },
            }));
        }
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}
