//! Series as windows, and the settings that follow from them.

use std::path::PathBuf;

use super::data::{DataArgs, LayoutArgs, SeasonArgs, SplitArgs, say_left_out, warn_of_flat};
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
        // A shorter window has more training windows. A map that gave way to persistence may be shown with this normalisation alone, as it
        // then is where the recorded options are run again.
        let (windows, linear) = match linear {
            Some(linear) if window == longest && linear.ridge.is_finite() => (windows, Some(linear)),
            _ => {
                let windows = if window == longest { windows } else { cut(window)? };
                let linear = Linear::fit(&windows, normalisation);
                (windows, linear)
            }
        };
        say_left_out(&tables, &windows, lang);
        warn_of_flat(&tables, &windows, lang);
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::dataset::Source;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        training: TrainingArgs,
    }

    /// Prices whose steps go on a little, so that a map of some of them is shown to beat persistence and of others is not.
    fn walk(seed: u64) -> Table {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut step, mut value) = (0.0, 0.0);
        let values = (0..400).map(|_| {
            step = 0.15 * step + random.random_range(-0.5..0.5);
            value += step;
            value
        });
        Table::new(Source::Memory("walk".into()), None, vec![("walk".into(), values.collect())]).expect("a table")
    }

    #[test]
    fn recorded_options_give_the_same_map_again() {
        let training = Line::parse_from(["scanrnn", "--horizon", "2", "--window", "8"]).training;
        let layout = Layout::one_column("walk", 8, 2);
        let map = |linear: &Option<Linear>| linear.as_ref().map(|linear| (linear.weight.clone(), linear.normalisation));
        // one that gave way to persistence, though another was shown with the same normalisation alone
        let gave_way = |table: &Table| {
            let windows = Windows::new(std::slice::from_ref(table), &layout).expect("windows");
            let chosen = Linear::choose(&windows, &[8], &training.normalisations(), false);
            let again = chosen.as_ref().and_then(|linear| Linear::fit(&windows, linear.normalisation));
            map(&chosen) != map(&again)
        };
        let table = (0..1000).map(walk).find(gave_way).expect("a series");
        let setting = |training| Setting::new(vec![table.clone()], &layout, training, &SeasonArgs::known(1), Lang::En).expect("a setting");
        let first = setting(&training);
        assert_eq!(map(&first.linear), map(&setting(&first.training).linear));
    }
}
