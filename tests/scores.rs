//! Scores and baselines against values worked out by hand or in another way.
#![cfg(feature = "cli")]

use scanrnn::baseline::{Baseline, Linear, find_season};
use scanrnn::dataset::{Channels, Layout, Partition, Scaling, Source, Table, Windows, synthetic};
use scanrnn::metrics::{Evaluation, Metrics};
use scanrnn::ops::Normalisation;

fn table(columns: Vec<Vec<f64>>) -> Table {
    let named = columns.into_iter().enumerate().map(|(column, values)| (format!("c{column}"), values)).collect();
    Table::new(Source::Memory("test".into()), None, named).expect("a table")
}

fn layout(n_column: usize, window: usize, horizon: usize) -> Layout {
    let targets = (0..n_column).map(|column| format!("c{column}")).collect();
    Layout { targets, ..Layout::one_column("c0", window, horizon) }
}

/// Pseudorandom numbers from 0 to 1.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn close(got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-9), "{got} is not {want}");
}

#[test]
fn every_score_is_its_formula() {
    // 10 rows train at a naive error of 1; the two windows that validate follow with 12, 14 and 14, 11.
    let values: Vec<f64> = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 12.0, 14.0, 11.0].to_vec();
    let layout = Layout { partition: Partition::Rows([10, 3, 0]), scaling: Scaling::MinMax, ..layout(1, 2, 2) };
    let windows = Windows::new(&[table(vec![values])], &layout).expect("windows");
    assert_eq!(windows.valid().len(), 2);
    let scaled = |value: f64| (value / 9.0) as f32;
    let (came, median) = ([12.0, 14.0, 14.0, 11.0], [10.0, 15.0, 14.0, 12.0]);
    let forecasts: Vec<f32> = median.iter().flat_map(|&value| [scaled(value - 1.0), scaled(value), scaled(value + 1.0)]).collect();
    let evaluation = Evaluation::new(&windows, windows.valid(), &forecasts, &[0.1, 0.5, 0.9], 1);
    let scores = &evaluation.overall;
    assert_eq!((evaluation.n_window, evaluation.steps.len(), evaluation.targets.len()), (2, 2, 1));
    // Errors -2, 1, 0, 1.
    close(scores.original.mse, 1.5);
    close(scores.original.mae, 1.0);
    close(scores.original.rmse, 1.5f64.sqrt());
    close(scores.original.r2, 1.0 - 6.0 / 6.75);
    close(scores.scaled.mse, 1.5 / 81.0);
    close(scores.mase, 1.0);
    let smape: f64 = median.iter().zip(came).map(|(forecast, came)| 200.0 * (forecast - came).abs() / (forecast + came)).sum::<f64>() / 4.0;
    close(scores.smape, smape);
    // Of level 0.1: 9, 14, 13, 11 against 12, 14, 14, 11. Of level 0.9: 11, 16, 15, 13.
    close(scores.levels[0].coverage, 0.5);
    close(scores.levels[0].pinball_original, 0.1 * (3.0 + 0.0 + 1.0 + 0.0) / 4.0);
    close(scores.levels[2].coverage, 0.75);
    close(scores.levels[2].pinball_original, (0.9 * 1.0 + 0.1 * (2.0 + 1.0 + 2.0)) / 4.0);
    close(scores.levels[1].pinball_scaled, 0.5 / 9.0);
    close(evaluation.steps[0].original.mse, 2.0);
    close(evaluation.steps[1].original.mse, 1.0);
    assert_eq!(evaluation.targets[0].scores, evaluation.overall);
    let json = serde_json::to_string(&evaluation).expect("JSON");
    assert!(json.contains("\"coverage\":0.5"), "{json}");
}

#[test]
fn metrics_need_as_many_forecasts_as_values_came() {
    let error = Metrics::new(&[1.0, 2.0], &[1.0]).expect_err("refused").to_string();
    assert_eq!(error, "metrics: `forecast` has shape [2], expected 1 values, those of what came");
}

#[test]
fn groups_add_up_to_the_whole() {
    let mut random = noise(3);
    let columns: Vec<Vec<f64>> = (0..3).map(|column| (0..120).map(|_| 100.0 * f64::from(column) + random()).collect()).collect();
    for channels in [Channels::Independent, Channels::Mixed] {
        let layout = Layout { channels, scaling: Scaling::Standard, ..layout(3, 5, 4) };
        let windows = Windows::new(&[table(columns.clone())], &layout).expect("windows");
        let starts: Vec<usize> = windows.valid().iter().collect();
        let forecasts = Baseline::Drift.forecast(&windows, &starts);
        let evaluation = Evaluation::new(&windows, windows.valid(), &forecasts, &[], 1);
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let came = wide(starts.iter().flat_map(|&start| windows.following(start).to_vec()).collect());
        let whole = Metrics::new(&wide(forecasts), &came).expect("as many");
        close(evaluation.overall.scaled.mse, whole.mse);
        close(evaluation.overall.scaled.r2, whole.r2);
        let mean = |scores: &mut dyn Iterator<Item = f64>, n: f64| scores.sum::<f64>() / n;
        close(mean(&mut evaluation.targets.iter().map(|target| target.scores.original.mse), 3.0), evaluation.overall.original.mse);
        close(mean(&mut evaluation.steps.iter().map(|step| step.mase), 4.0), evaluation.overall.mase);
        assert_eq!(evaluation, Baseline::Drift.evaluate(&windows, windows.valid(), 1));
    }
}

#[test]
fn a_series_scores_as_it_does_alone() {
    let mut random = noise(5);
    let mut series = |n_row: usize| table(vec![(0..n_row).map(|_| random()).collect(), (0..n_row).map(|_| random()).collect()]);
    let tables = [series(60), series(8), series(90)];
    let layout = layout(2, 5, 4);
    let windows = Windows::new(&tables, &layout).expect("windows");
    let together = Baseline::Drift.evaluate(&windows, windows.valid(), 1);
    assert_eq!(together.series.iter().map(|series| series.table).collect::<Vec<_>>(), [0, 2]);
    for series in &together.series {
        let windows = Windows::new(std::slice::from_ref(&tables[series.table]), &layout).expect("windows");
        let alone = Baseline::Drift.evaluate(&windows, windows.valid(), 1);
        assert_eq!((series.n_window, alone.series.len()), (alone.n_window, 1));
        close(series.scores.scaled.mse, alone.overall.scaled.mse);
        close(series.scores.original.r2, alone.overall.original.r2);
        close(series.scores.mase, alone.overall.mase);
    }
}

#[test]
fn naive_forecasts_are_what_they_say() {
    let values: Vec<f64> = (0..60).map(|row| f64::from(row % 6) + 0.1 * f64::from(row)).collect();
    let layout = Layout { scaling: Scaling::None, ..layout(1, 4, 8) };
    let windows = Windows::new(&[table(vec![values.clone()])], &layout).expect("windows");
    let start = windows.valid().get(0).expect("a window");
    let at = |row: usize| values[row] as f32;
    let last = start + 3;
    assert_eq!(Baseline::Persistence.forecast(&windows, &[start]), [at(last); 8]);
    let seasonal = Baseline::SeasonalNaive { season: 6 }.forecast(&windows, &[start]);
    assert_eq!(seasonal[..6], (0..6).map(|step| at(last + 1 + step - 6)).collect::<Vec<_>>()[..]);
    assert_eq!(seasonal[6..], seasonal[..2]);
    let drift = Baseline::Drift.forecast(&windows, &[start]);
    close(f64::from(drift[7]), values[last] + 8.0 * (values[last] - values[start]) / 3.0);
    // Nothing is known before the first row.
    assert_eq!(Baseline::SeasonalNaive { season: 6 }.forecast(&windows, &[0]), [at(3); 8]);
}

#[test]
fn a_season_is_found_where_there_is_one() {
    let series = |period: f64, share: f64, seed| {
        let mut random = noise(seed);
        let value = |row: usize| (std::f64::consts::TAU * row as f64 / period).sin() + share * random();
        table(vec![(0..2000).map(value).collect()])
    };
    let season = |table| find_season(&Windows::new(&[table], &layout(1, 8, 1)).expect("windows"));
    assert_eq!(season(series(24.0, 0.3, 1)), Some(24));
    assert_eq!(season(series(7.0, 0.5, 2)), Some(7));
    // noise makes peaks on the way up to a long season
    for seed in 10..20 {
        assert_eq!(season(series(96.0, 0.01, seed)), Some(96), "seed {seed}");
    }
    // as much noise as season, short and long
    for (period, seed) in [(12, 1), (24, 2), (24, 3), (24, 4), (48, 5), (168, 6)] {
        assert_eq!(season(series(f64::from(period), 2.0, seed)), Some(period as usize), "seed {seed}");
    }
    // a day of the week that is lower, and a day within a week
    let mut random = noise(8);
    let low = |row: usize, random: &mut dyn FnMut() -> f64| if row % 7 == 6 { random() - 2.0 } else { random() };
    assert_eq!(season(table(vec![(0..400).map(|row| low(row, &mut random)).collect()])), Some(7));
    let mut random = noise(9);
    let load = (0..3000).map(|row: usize| {
        let is_weekend = row / 24 % 7 >= 5;
        (std::f64::consts::TAU * row as f64 / 24.0).sin() * if is_weekend { 0.7 } else { 1.0 } - if is_weekend { 0.8 } else { 0.0 }
            + 0.5 * random()
    });
    assert_eq!(season(table(vec![load.collect()])), Some(168));
    // what is near the last value is no season
    let mut random = noise(10);
    let mut last = 0.0;
    let near = (0..600).map(|_| {
        last = 0.9 * last + random() - 0.5;
        last
    });
    assert_eq!(season(table(vec![near.collect()])), None);
    let mut random = noise(5);
    let mut level = 100.0;
    let walk = (0..2000).map(|_| {
        level += random() - 0.5;
        level
    });
    assert_eq!(season(table(vec![walk.collect()])), None);
    assert_eq!(season(table(vec![vec![1.0; 100]])), None);
    let prices = synthetic::daily_prices(3270, 1).expect("prices");
    let windows = Windows::new(&[prices], &Layout::one_column("Close", 32, 1)).expect("windows");
    assert_eq!(find_season(&windows), Some(63), "one of the waves that it is made of");
}

/// The season of one series.
fn season_of(values: Vec<f64>) -> Option<usize> {
    find_season(&Windows::new(&[table(vec![values])], &layout(1, 8, 1)).expect("windows"))
}

fn noisy_wave(period: f64, n_row: usize, seed: u64) -> Vec<f64> {
    let mut random = noise(seed);
    let wave = |row: usize| (std::f64::consts::TAU * row as f64 / period).sin();
    (0..n_row).map(|row| wave(row) + 0.3 * (random() + random() - 1.0)).collect()
}

#[test]
fn noise_on_a_long_season_makes_none_of_two_or_three_rows() {
    for (period, n_row) in [(24.0, 240), (52.0, 260), (96.0, 800)] {
        for seed in 1..=50 {
            let found = season_of(noisy_wave(period, n_row, seed));
            assert!(found.is_none_or(|rows| rows > 3), "{found:?} of {period}, seed {seed}");
        }
    }
    for period in [2, 3] {
        for seed in 1..=50 {
            let mut random = noise(seed);
            let mut level = 0.0;
            let mut wandering = |row: usize| {
                level += random() - 0.5;
                if row.is_multiple_of(period) { level + 1.5 } else { level }
            };
            assert_eq!(season_of((0..60).map(&mut wandering).collect()), Some(period), "seed {seed}");
        }
    }
}

#[test]
fn a_few_seasons_are_enough_and_chance_makes_none() {
    for (period, n_row) in [(12.0, 72), (24.0, 240), (96.0, 800)] {
        for seed in 1..=50 {
            let found = season_of(noisy_wave(period, n_row, seed));
            assert!(found.is_some_and(|rows| (rows as f64 - period).abs() <= 0.03 * period), "{found:?} of {period}, seed {seed}");
        }
    }
    for (kept, n_row) in [0.9, 1.0].into_iter().flat_map(|kept| [72, 260, 800].map(|n_row| (kept, n_row))) {
        let found = (1..=50).filter(|&seed| {
            let (mut random, mut last) = (noise(seed), 0.0);
            let mut next = || {
                last = kept * last + random() + random() - 1.0;
                last
            };
            season_of((0..n_row).map(|_| next()).collect()).is_some()
        });
        assert!(found.count() <= 1, "{n_row} rows, {kept} of the last kept");
    }
}

#[test]
fn short_series_hide_no_season() {
    let wave = |n_row: usize| table(vec![(0..n_row).map(|row| (std::f64::consts::TAU * row as f64 / 12.0).sin()).collect()]);
    // 5 rows hold no window, 30 rows some, but no season
    for short in [5, 30] {
        let windows = Windows::new(&[wave(400), wave(short), wave(300)], &layout(1, 8, 1)).expect("windows");
        assert_eq!(find_season(&windows), Some(12), "beside a series of {short} rows");
    }
}

#[test]
fn a_straight_line_has_a_linear_baseline() {
    let windows = Windows::new(&[table(vec![(0..2000).map(f64::from).collect()])], &Layout { scaling: Scaling::None, ..layout(1, 32, 4) });
    let windows = windows.expect("windows");
    for normalisation in [Normalisation::None, Normalisation::Last] {
        assert!(Linear::fit(&windows, normalisation).is_some(), "{normalisation:?}");
    }
}

#[test]
fn the_linear_baseline_is_best_where_the_series_is_linear() {
    let mut random = noise(7);
    let (mut before, mut last) = (0.0, 0.0);
    let mut values = || {
        let next = 1.6 * last - 0.8 * before + random() - 0.5;
        (before, last) = (last, next);
        next
    };
    let columns: Vec<Vec<f64>> = (0..2).map(|_| (0..1500).map(|_| values()).collect()).collect();
    let layout = Layout { partition: Partition::Shares([0.7, 0.1, 0.2]), scaling: Scaling::Standard, ..layout(2, 16, 2) };
    let windows = Windows::new(&[table(columns)], &layout).expect("windows");
    let baselines = Baseline::all(1, Linear::fit(&windows, Normalisation::None));
    let names: Vec<String> = baselines.iter().map(Baseline::name).collect();
    assert_eq!(names, ["persistence", "drift", "linear"]);
    let mse: Vec<f64> = baselines.iter().map(|baseline| baseline.evaluate(&windows, windows.test(), 1).overall.original.mse).collect();
    assert!(mse[2] < mse[0] && mse[2] < mse[1], "{mse:?}");
    // One step ahead nothing but the noise, of variance 1/12, is left.
    let step = baselines[2].evaluate(&windows, windows.test(), 1).steps[0].original.mse;
    assert!((step * 12.0 - 1.0).abs() < 0.15, "{step}");
}

#[test]
fn a_constant_series_has_scores_that_say_so() {
    let windows = Windows::new(&[table(vec![vec![5.0; 60]])], &layout(1, 4, 2)).expect("windows");
    for baseline in Baseline::all(2, Linear::fit(&windows, Normalisation::Last)) {
        let scores = baseline.evaluate(&windows, windows.valid(), 2).overall;
        assert_eq!((scores.original.mse, scores.smape), (0.0, 0.0), "{}", baseline.name());
        assert!(scores.mase.is_nan() && scores.original.r2.is_nan());
    }
}

#[test]
fn the_linear_baseline_is_left_out_where_its_matrices_would_be_large() {
    for (window, expected) in [(8, true), (4097, false)] {
        let values = (0..2 * window + 8).map(|row| (row as f64 / 3.0).sin()).collect();
        let windows = Windows::new(&[table(vec![values])], &layout(1, window, 1)).expect("windows");
        let baselines = Baseline::all(1, Linear::fit(&windows, Normalisation::Last));
        assert_eq!(baselines.iter().any(|baseline| matches!(baseline, Baseline::Linear(_))), expected, "{window} steps");
    }
}
