//! `check`: reference cases on a device.

use std::path::PathBuf;
use std::process::ExitCode;

use super::device::{Device, DeviceArgs};
use crate::error::{Error, Result};
use crate::golden::{Case, Worst};
use crate::report::Lang;
use crate::report::language::fill;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of reference cases, one safetensors file each
    #[arg(long, value_name = "DIR")]
    golden: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    let paths = crate::golden::list(&args.golden)?;
    if paths.is_empty() {
        return Err(Error::data(
            args.golden.display(),
            message!("holds no reference case"),
            message!("name a folder of .safetensors files"),
        ));
    }
    let device = Device::open(&args.device, lang).await?;
    let texts = lang.texts();
    let (mut passed, mut failed) = (0, 0);
    for path in paths {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = match Case::read(&path) {
            Ok(case) => case.run(device.backend()).await,
            Err(error) => Err(error),
        };
        let has_passed = outcome.as_ref().is_ok_and(Worst::passed);
        *if has_passed { &mut passed } else { &mut failed } += 1;
        let line = if has_passed { texts.case_passed } else { texts.case_failed };
        let found = outcome.map_or_else(|error| error.message(), |worst| worst.message());
        println!("{}", fill(line, [&format!("{name:32}"), &lang.message(&found)]));
    }
    println!("{}", fill(texts.cases, [&passed.to_string(), &failed.to_string()]));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
