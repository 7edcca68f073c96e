//! `tune-kernels`: every kernel of every operation on an adapter, compared with the reference, then timed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use super::device::{DeviceArgs, table_file};
use crate::benchmark::{self, Benchmark, Measured, Samples, Shape};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, KernelRow, KernelTable, Need};
use crate::ops::KERNELS;
use crate::report::language::fill;
use crate::report::table::significant;
use crate::report::{Lang, TextTable};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Operations to time [default: all that have several kernels]
    #[arg(value_name = "OP")]
    ops: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// File for the table [default: one in the user's cache folder, which later runs find by themselves]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Short ones: there are many kernels.
const SAMPLES: Samples = Samples { count: 5, seconds: 0.03 };

/// An operation at one size.
struct Case {
    sizes: Vec<usize>,
    measured: Measured,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    let all: Vec<&str> = KERNELS.iter().map(|(op, _)| *op).collect();
    if let Some(unknown) = args.ops.iter().find(|op| !all.contains(&op.as_str())) {
        return Err(Error::option("OP", unknown, message!("must be one of {}", all.join(", "))));
    }
    let mut gpu = args.device.gpu().await?.ok_or_else(|| {
        Error::option("--device", &args.device.device, message!("must be a GPU: on the CPU each operation has one kernel"))
    })?;
    let out = match args.out.clone().or_else(|| table_file(&gpu)) {
        Some(out) => out,
        None => {
            return Err(Error::Option {
                option: "--out".into(),
                got: message!("absent"),
                expected: message!("there is no cache folder: name a file"),
            });
        }
    };
    if let (None, Some(folder)) = (&args.out, out.parent()) {
        crate::file::create_folder(folder)?;
    }
    crate::file::check_writable([&out])?;
    let texts = lang.texts();
    println!("{}", fill(texts.device, [&crate::backend::Backend::name(&gpu), ""]));
    let mut shown = TextTable::new([texts.op, texts.sizes, texts.fastest, texts.each_kernel]);
    let (mut rows, mut all_right) = (Vec::new(), true);
    for (op, kernels) in KERNELS.iter().filter(|(op, _)| args.ops.is_empty() || args.ops.iter().any(|wanted| wanted == op)) {
        for case in cases(op)? {
            let Some(ms) = measure(&mut gpu, op, kernels, &case, lang).await? else {
                all_right = false;
                continue;
            };
            let Some(fastest) = ms.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(kernel, _)| kernel.clone()) else { continue };
            let each: Vec<_> = ms.iter().map(|(kernel, ms)| format!("{kernel} {}", significant(*ms, 3))).collect();
            let sizes: Vec<_> = case.sizes.iter().map(usize::to_string).collect();
            shown.push([*op, &sizes.join(" x "), &fastest, &each.join(", ")]);
            rows.push(KernelRow { op: (*op).into(), sizes: case.sizes, kernel: fastest, ms });
        }
        gpu.unforce_kernel(op);
    }
    print!("{shown}");
    let (adapter, driver) = (gpu.summary().name.clone(), gpu.summary().driver.clone());
    super::save_json(&out, &serde_json::to_value(KernelTable { adapter, driver, rows }).unwrap_or_default())?;
    println!("{}", fill(texts.table, [&out.display().to_string()]));
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Milliseconds of each kernel that the adapter can run; none where one of them is wrong.
async fn measure(
    gpu: &mut Gpu,
    op: &str,
    kernels: &[(&str, Option<Need>)],
    case: &Case,
    lang: Lang,
) -> Result<Option<BTreeMap<String, f64>>> {
    let wanted = benchmark::expected(&case.measured).await?;
    let mut times = BTreeMap::new();
    for (kernel, _) in kernels {
        // a rounding of 11 bits is chosen by name only; what is made for software GPUs takes others long to compile; what the adapter
        // lacks cannot be chosen at all, and where a kernel does not take the shape another runs
        let for_software = ["panel", "rows", "walked"].contains(kernel);
        let is_left_out = *kernel == "f16" || for_software && !gpu.traits().software;
        if is_left_out || gpu.force_kernel(op, kernel).is_err() || !gpu.runs_as_forced(&case.measured.graph).unwrap_or(false) {
            continue;
        }
        let Ok(checked) = benchmark::compare(&case.measured, gpu, &wanted).await else { continue };
        if let Some(wrong) = checked.iter().find(|checked| !checked.passed()) {
            let [error, allowed] = [wrong.error, benchmark::ALLOWED].map(|figure| format!("{figure:.1e}"));
            let values = [op, kernel, &format!("{:?}", case.sizes), &wrong.tensor, &error, &allowed];
            println!("{}", fill(lang.texts().kernel_wrong, values));
            return Ok(None);
        }
        times.insert((*kernel).to_string(), benchmark::median_ms(&case.measured, gpu, SAMPLES).await?);
    }
    Ok(Some(times))
}

/// The sizes at which an operation is measured: few and many, short and long.
fn cases(op: &str) -> Result<Vec<Case>> {
    let shapes = [(32, 32, 128), (32, 256, 128), (4, 1024, 64), (1, 4096, 32)];
    let shapes = shapes.map(|(batch, length, channels)| Shape { batch, length, channels, state: 16 });
    let of = |bench: Benchmark, sizes: &dyn Fn(Shape) -> Vec<usize>| -> Result<Vec<Case>> {
        shapes.iter().map(|&shape| Ok(Case { sizes: sizes(shape), measured: benchmark::build(bench, shape, true)? })).collect()
    };
    match op {
        "linear" => {
            // rows, columns and terms of a product: layers, their gradients, and heads
            let sizes =
                [[32, 4, 128], [32, 128, 128], [1024, 128, 128], [1024, 512, 128], [128, 128, 1024], [128, 128, 8192], [512, 512, 512]];
            sizes.map(|sizes| Ok(Case { sizes: sizes.to_vec(), measured: benchmark::product(sizes)? })).into_iter().collect()
        }
        "min_gru" => of(Benchmark::MinGru, &|shape| vec![shape.batch, shape.channels]),
        "min_gru_scan" => of(Benchmark::MinGruScan, &|shape| vec![shape.batch, shape.length, shape.channels]),
        "rms_norm" => of(Benchmark::RmsNorm, &|shape| vec![shape.batch * shape.length, shape.channels]),
        "selective_scan" => of(Benchmark::SelectiveScan, &|shape| vec![shape.batch, shape.length, shape.channels, shape.state]),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_with_several_kernels_is_measured() {
        for (op, _) in KERNELS {
            assert!(!cases(op).expect("the sizes fit").is_empty(), "{op}");
        }
    }
}
