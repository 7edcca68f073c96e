//! `check`: reference cases on a device.

use std::path::PathBuf;
use std::process::ExitCode;

use super::device::{Device, DeviceArgs};
use crate::error::{Error, Result};
use crate::golden::Case;
use crate::report::Lang;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of cases, one safetensors file each
    #[arg(long, value_name = "DIR")]
    golden: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

pub async fn run(args: &Args, lang: Lang) -> Result<ExitCode> {
    let paths = crate::golden::list(&args.golden)?;
    if paths.is_empty() {
        return Err(Error::data(args.golden.display(), message!("holds no case"), message!("name a folder of .safetensors files")));
    }
    let device = Device::open(&args.device).await?;
    println!("{}", device.announcement(&args.device.device, lang));
    let (mut passed, mut failed) = (0, 0);
    for path in paths {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = match Case::read(&path) {
            Ok(case) => case.run(device.backend()).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(worst) if worst.passed() => {
                passed += 1;
                println!("ok      {name:32} {worst}");
            }
            Ok(worst) => {
                failed += 1;
                println!("FAILED  {name:32} {worst}");
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {name:32} {error}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
