//! What a training leaves: its configuration, its scores as they come, checkpoints, pictures and a report, in one folder.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::report::board::EventFile;
use crate::train::EpochScore;

/// Where runs go that have no place of their own.
const RUNS: &str = "runs";
/// The options of the run, for `--config`.
pub const CONFIG: &str = "config.toml";
/// A line of JSON an epoch, then one with the final scores.
pub const METRICS: &str = "metrics.jsonl";
/// Scores of each series, where there are several.
pub const SERIES: &str = "scores_by_series.csv";
/// Parameters of the epoch that is kept.
pub const BEST: &str = "best.safetensors";
/// Everything needed to go on where training ended.
pub const LAST: &str = "last.safetensors";
/// What a person reads.
pub const REPORT: &str = "report.html";

/// The folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    events: EventFile,
    /// The folders that it made: its own, then those above it.
    made: Vec<PathBuf>,
}

impl RunFolder {
    /// Where a run goes that has no place of its own: `runs/NAME`, with a number where that is taken.
    pub fn free(name: &str) -> PathBuf {
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered).map(|name| Path::new(RUNS).join(name));
        names.find(|path| !path.exists()).unwrap_or_else(|| RUNS.into())
    }

    /// Checks that a run can begin in a folder.
    ///
    /// # Errors
    /// [`Error::Option`] where `path` already holds a file that a run writes there, [`Error::File`] where it cannot be created.
    pub fn check(path: &Path) -> Result<()> {
        if let Some(name) = [METRICS, CONFIG, BEST, LAST, REPORT].iter().find(|name| path.join(name).exists()) {
            let what = message!("it already holds a run, or at least {}: name another folder, or go on with --resume", name);
            return Err(Error::option("--run-dir", path.display(), what));
        }
        crate::file::check_creatable(path)
    }

    /// A folder for a run that begins.
    ///
    /// # Errors
    /// As [`RunFolder::check`]; [`Error::File`] where it cannot be written.
    pub fn create(path: &Path, config: &str) -> Result<Self> {
        Self::check(path)?;
        let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(is_new).map(PathBuf::from).collect();
        crate::file::create_folder(path)?;
        crate::file::save(&path.join(CONFIG), |writer| writer.write_all(config.as_bytes()))?;
        Ok(RunFolder { made, ..Self::open(path)? })
    }

    /// The folder of a run that goes on after `n_epoch` epochs. Lines of [`METRICS`] on later epochs, which a killed process wrote after it
    /// last saved its state, are removed: they come again.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read or written.
    pub fn resume(path: &Path, n_epoch: usize) -> Result<Self> {
        let file = path.join(METRICS);
        let text = if file.exists() { crate::file::read_text(&file)? } else { String::new() };
        let epoch = |line: &str| serde_json::from_str::<Value>(line).ok().and_then(|line| line["epoch"].as_u64());
        let is_kept = |line: &&str| epoch(line).is_some_and(|epoch| epoch <= n_epoch as u64);
        let kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
        if kept != text {
            crate::file::save(&file, |writer| writer.write_all(kept.as_bytes()))?;
        }
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self> {
        let file = path.join(METRICS);
        let metrics = OpenOptions::new().append(true).create(true).open(&file);
        let metrics = metrics.map_err(|source| Error::writing(file, source))?;
        Ok(RunFolder { path: path.into(), metrics, events: EventFile::create(path)?, made: Vec::new() })
    }

    /// The files that a run leaves in its folder, but for [`BEST`].
    pub fn files(path: &Path) -> [PathBuf; 5] {
        [CONFIG, METRICS, SERIES, LAST, REPORT].map(|name| path.join(name))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes away again what it wrote and made where neither an epoch nor a state was written down; what else lies there stays.
    pub fn abandon(self) {
        if std::fs::metadata(self.file(METRICS)).is_ok_and(|metrics| metrics.len() > 0) || self.file(LAST).exists() {
            return;
        }
        // A folder that stays does no harm.
        for file in [self.file(CONFIG), self.file(METRICS), self.events.path().into()] {
            let _ = std::fs::remove_file(file);
        }
        let _ = self.made.iter().try_for_each(std::fs::remove_dir);
    }

    /// Writes down an epoch's scores.
    ///
    /// # Errors
    /// [`Error::File`] where they cannot be written.
    pub fn epoch(&mut self, epoch: usize, score: &EpochScore) -> Result<()> {
        self.line(&json!({
            "epoch": epoch,
            "train_mse": score.train_mse,
            "valid_mse": score.valid_mse,
            "valid_loss": score.valid_loss,
            "learning_rate": score.learning_rate,
        }))?;
        let figures = [
            ("mse/train", score.train_mse),
            ("mse/valid", score.valid_mse),
            ("loss/valid", score.valid_loss),
            ("learning_rate", score.learning_rate.into()),
        ];
        self.events.figures(epoch, &figures)
    }

    /// Writes a line of [`METRICS`].
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be written.
    pub fn line(&mut self, value: &Value) -> Result<()> {
        let written = writeln!(self.metrics, "{value}").and_then(|()| self.metrics.flush());
        written.map_err(|source| Error::writing(self.file(METRICS), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_run_leaves_the_folders_that_were_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("own");
        std::fs::create_dir(&own).expect("a folder");
        for path in [own.clone(), own.join("runs/mamba")] {
            RunFolder::create(&path, "").expect("a run").abandon();
            assert!(own.read_dir().expect("a folder").next().is_none(), "{}", path.display());
        }
    }

    #[test]
    fn a_run_begins_beside_no_file_that_it_would_write_over() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [CONFIG, METRICS, BEST, LAST, REPORT] {
            let path = folder.path().join(name);
            std::fs::write(&path, "mine").expect("written");
            let error = RunFolder::create(folder.path(), "").expect_err("refused").to_string();
            assert!(error.contains("--run-dir") && error.contains(name), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("a file"), "mine");
            std::fs::remove_file(path).expect("removed");
        }
    }
}
