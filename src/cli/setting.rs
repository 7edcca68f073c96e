//! Series as windows, and the settings that follow from them.

use std::path::PathBuf;

use super::data::{DataArgs, LayoutArgs, SeasonArgs, SplitArgs, say_left_out};
use super::training::TrainingArgs;
use crate::baseline::Linear;
use crate::dataset::{Layout, Table, Windows};
use crate::error::Result;
use crate::model::{ForecasterConfig, ModelKind};
use crate::report::Lang;
use crate::report::language::fill;
use crate::report::table::significant;
use crate::train::{Evaluator, Series, Trainer, TrainingConfig};

/// The series, windows and options that models are trained with.
pub struct Setting {
    /// The series.
    pub tables: Vec<Table>,
    /// Their windows.
    pub windows: Windows,
    /// The options, with the window and its normalisation.
    pub training: TrainingArgs,
    /// Rows of a season; 1 where there is none.
    pub season: usize,
    /// The best linear forecast: a baseline, and the start of a linear skip. There is none where the values allow no fit.
    pub linear: Option<Linear>,
}

impl Setting {
    /// Reads the series and cuts them into windows; prints each step.
    ///
    /// # Errors
    /// Whatever is wrong with the series, or with windows in them.
    pub fn read(
        data: &DataArgs,
        layout: &LayoutArgs,
        split: &SplitArgs,
        season: &SeasonArgs,
        training: &TrainingArgs,
        folder: PathBuf,
        lang: Lang,
    ) -> Result<Self> {
        let (tables, layout) = layout.tables(data, split.partition, training, folder, lang)?;
        Self::new(tables, &layout, training, season, lang)
    }

    /// Cuts series into windows, whatever their length in `layout`. Length and normalisation, where not given, are those with which a linear
    /// map forecasts the validation windows best. Among lengths that do about as well it takes the longest if there is a season, which the few
    /// validation windows seldom show whole, else the shortest; and prints what it took.
    ///
    /// # Errors
    /// As [`Windows::new`] and [`SeasonArgs::of`].
    pub fn new(tables: Vec<Table>, layout: &Layout, training: &TrainingArgs, season: &SeasonArgs, lang: Lang) -> Result<Self> {
        let cut = |window| Windows::new(&tables, &Layout { window, ..layout.clone() });
        let (lengths, normalisations) = (training.windows(n_train_row(&tables, layout)?), training.normalisations());
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let windows = cut(longest)?;
        let season = season.of(&windows)?;
        let linear = Linear::choose(&windows, &lengths, &normalisations, season > 1);
        let chosen = |linear: &Linear| (linear.weight.nrows(), linear.normalisation);
        let (window, normalisation) = linear.as_ref().map_or((lengths[0], normalisations[0]), chosen);
        if let Some(linear) = &linear
            && lengths.len() * normalisations.len() > 1
        {
            let name = training.with_window(window, normalisation).norm_name();
            let [rows, mse] = [window.to_string(), significant(linear.valid_mse, 4)];
            println!("{}", fill(lang.texts().chosen, [&rows, &name, &mse]));
        }
        // A shorter window has more training windows.
        let (windows, linear) = if window == longest {
            (windows, linear)
        } else {
            let windows = cut(window)?;
            let linear = Linear::fit(&windows, normalisation);
            (windows, linear)
        };
        say_left_out(&tables, &windows, lang);
        windows.check_no_leak(&tables, [windows.train(), windows.valid(), windows.test()])?;
        let training = training.with_window(window, normalisation).for_windows(windows.train().len(), windows.n_target());
        Ok(Setting { training, tables, windows, season, linear })
    }

    /// Sizes of a model for these windows.
    pub fn model(&self, kind: ModelKind) -> ForecasterConfig {
        ForecasterConfig { features: self.windows.n_feature(), targets: self.windows.n_target(), ..self.training.model(kind) }
    }

    /// A trainer for a model on these windows, with a seed of its own; its linear skip starts as the best linear forecast.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn trainer(&self, kind: ModelKind, seed: u64) -> Result<Trainer> {
        let config = TrainingConfig { seed, ..self.training.config(kind)? };
        let mut trainer = Trainer::new(&self.model(kind), &config, &Series::from(&self.windows))?;
        if self.training.has_skip()
            && let Some(linear) = &self.linear
        {
            trainer.start_from_linear(&linear.weight, &linear.biases(&self.windows, config.loss.levels()))?;
        }
        Ok(trainer)
    }

    /// An evaluator, which forecasts windows with a model that was trained on windows of this kind.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    pub fn evaluator(&self, kind: ModelKind) -> Result<Evaluator> {
        Evaluator::new(&self.model(kind), &self.training.config(kind)?, &Series::from(&self.windows))
    }
}

/// Training rows of the median series.
fn n_train_row(tables: &[Table], layout: &Layout) -> Result<usize> {
    let rows = tables.iter().map(|table| {
        let split = layout.partition.split(table.source(), table.n_row(), 1, layout.horizon)?;
        Ok(split.training_rows().len())
    });
    let mut rows = rows.collect::<Result<Vec<_>>>()?;
    rows.sort_unstable();
    Ok(rows.get(rows.len() / 2).copied().unwrap_or(0))
}
