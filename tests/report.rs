//! The picture, the fonts and the tables.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scanrnn::Error;
use scanrnn::report::chart::{self, Chart, Line, Look, Panel, Places};
use scanrnn::report::picture::{self, Comparison, Epoch, Model, Row};
use scanrnn::report::{Lang, TextTable, Typeface, table};

/// A seeded random walk over `n_row` days, and models that nearly repeat the last value.
fn random_walk(n_row: usize, n_epoch: usize, names: &[&str]) -> Comparison {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut noise = |scale: f64| scale * (0..4).map(|_| rng.random_range(-1.0..1.0)).sum::<f64>();
    let mut last = 300.0;
    let rows: Vec<Row> = (0..n_row)
        .map(|row| {
            let actual = last * (1.001 + noise(0.013));
            let date = format!("{}-{:02}-{:02}", 2010 + row / 252, 1 + row % 252 / 21, 1 + row % 21);
            Row { date, actual, last: std::mem::replace(&mut last, actual) }
        })
        .collect();
    let models = names.iter().enumerate().map(|(index, name)| {
        let shift = index as f64;
        let mut change = 0.0;
        let predictions = rows.iter().map(|row| {
            change = 0.8 * change + noise(0.2);
            row.last + change + 0.4 - 0.3 * shift
        });
        let predictions = predictions.collect();
        let epochs = (0..n_epoch).map(|epoch| {
            let excess = (2.0 + shift) * (-1.1 * epoch as f64).exp();
            Epoch { train_ratio: 1.01 + excess, valid_ratio: 1.0 + 0.004 * shift + 0.7 * excess }
        });
        Model { name: (*name).into(), epochs: epochs.collect(), predictions }
    });
    Comparison {
        series: "AAPL Close".into(),
        source: "data/AAPL_stock_data.csv".into(),
        is_synthetic: false,
        settings: "--window 32 --hidden 128 --batch 32 --epochs 5 --seed 0".into(),
        models: models.collect(),
        rows,
    }
}

/// Where the tests leave pictures to look at.
fn gallery(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Width, height and RGB pixels.
fn decode(bytes: &[u8]) -> (u32, u32, Vec<[u8; 3]>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())
}

#[test]
fn the_picture_shows_every_model() {
    let path = gallery("report-en.png");
    assert_eq!(picture::write(Lang::En, &path, |_| random_walk(655, 5, &["min-gru", "mamba"])).unwrap(), None);
    let (width, height, pixels) = decode(&std::fs::read(&path).unwrap());
    assert_eq!((width, height), (2000, 1120));
    for color in [[213, 94, 0], [0, 114, 178], [34, 34, 34]] {
        assert!(pixels.iter().filter(|&&pixel| pixel == color).count() > 500, "{color:?}");
    }
}

#[test]
fn pictures_for_many_models_and_few_rows() {
    let names = ["min-gru", "min-gru-scan", "mamba-lab", "mamba", "hybrid", "linear", "seventh"];
    for n_model in [1, 4, 7] {
        let path = gallery(&format!("report-{n_model}-models.png"));
        let mut comparison = random_walk(40 * n_model, 40, &names[..n_model]);
        comparison.is_synthetic = true;
        picture::write(Lang::En, &path, |_| comparison).unwrap();
    }
}

#[test]
fn chinese_where_a_font_has_it() {
    let (typeface, warning) = Typeface::system(Lang::Zh);
    assert_eq!(warning.is_some(), typeface.lang() == Lang::En);
    let mut comparison = random_walk(655, 5, &["min-gru", "mamba"]);
    comparison.is_synthetic = true;
    let path = gallery("report-zh.png");
    let mut drawn_in = None;
    let chart = |lang| {
        drawn_in = Some(lang);
        Chart::default()
    };
    assert_eq!(chart::write(Lang::Zh, &path, chart).unwrap(), warning);
    assert_eq!(drawn_in, Some(typeface.lang()));
    assert_eq!(picture::write(Lang::Zh, &path, |_| comparison).unwrap(), warning);
}

#[test]
fn english_where_no_font_has_chinese() {
    let mut latin_only = fontdb::Database::new();
    latin_only.load_font_file("assets/OpenSans-Regular.ttf").unwrap();
    for fonts in [fontdb::Database::new(), latin_only] {
        let (typeface, warning) = Typeface::from_fonts(Lang::Zh, &fonts);
        assert_eq!(typeface.lang(), Lang::En);
        assert!(warning.unwrap().contains("fonts-noto-cjk"));
        let comparison = random_walk(90, 5, &["min-gru", "mamba"]);
        assert_eq!(picture::png(&comparison, &typeface).unwrap(), picture::png(&comparison, &Typeface::latin()).unwrap());
    }
}

/// Names of columns may have any characters: what the embedded font lacks is drawn by one of the system's, and it is said where none has it.
#[test]
fn characters_that_no_font_has_are_said() {
    let path = gallery("report-names.png");
    let titled = |title: &str| {
        let chart = |_| Chart { title: title.into(), ..Chart::default() };
        chart::write(Lang::En, &path, chart).unwrap()
    };
    assert_eq!(titled("load"), None);
    // a character of private use
    assert_eq!(titled("load \u{10FFFD}"), Some("characters of the picture that no font of this system has are drawn as ?"));
}

#[test]
fn degenerate_data_are_drawn() {
    let typeface = Typeface::latin();
    let spoil = |n_row, change: fn(&mut Comparison)| {
        let mut comparison = random_walk(n_row, 1, &["min-gru", "mamba"]);
        change(&mut comparison);
        picture::png(&comparison, &typeface).unwrap()
    };
    for n_row in [0, 1, 2, 3, 60, 61] {
        spoil(n_row, |_| {});
    }
    spoil(100, |comparison| comparison.models.clear());
    spoil(100, |comparison| comparison.models.iter_mut().for_each(|model| model.epochs.clear()));
    spoil(100, |comparison| comparison.models.iter_mut().for_each(|model| model.predictions.truncate(7)));
    spoil(100, |comparison| comparison.rows.iter_mut().for_each(|row| row.date = "第 3 天".into()));
    spoil(100, |comparison| comparison.series = "价格\n\u{0}".repeat(100));
    for value in [0.0, -1.0, 1.0, 1e-300, 1e12, 1e300, -1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut comparison = random_walk(100, 3, &["min-gru", "mamba"]);
        comparison.models[0].predictions[50] = value;
        comparison.models[0].epochs[1] = Epoch { train_ratio: value, valid_ratio: value };
        picture::png(&comparison, &typeface).unwrap();
        comparison.rows.iter_mut().for_each(|row| (row.actual, row.last) = (value, value));
        comparison.models[1].predictions.fill(value);
        comparison.models[1].epochs.fill(Epoch { train_ratio: value, valid_ratio: value });
        picture::png(&comparison, &typeface).unwrap();
    }
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    std::fs::write(&path, b"old").unwrap();
    picture::write(Lang::En, &path, |_| random_walk(5, 1, &["mamba"])).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));

    let missing = folder.path().join("missing").join("picture.png");
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    std::fs::write(occupied.join("file"), "kept").unwrap();
    for path in [&missing, &occupied] {
        let error = picture::write(Lang::En, path, |_| random_walk(5, 1, &["mamba"])).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("{}: cannot write: ", path.display())), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["occupied", "picture.png"]);
}

#[test]
fn every_text_is_translated() {
    let (english, chinese): (Vec<_>, Vec<_>) = (Lang::En.texts().all().collect(), Lang::Zh.texts().all().collect());
    for (english, chinese) in english.into_iter().zip(chinese) {
        assert!(english.replace('·', "").is_ascii(), "{english}");
        assert!(!chinese.is_ascii(), "{chinese}");
        assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{english}");
    }
}

#[test]
fn tables_are_aligned() {
    let mut table = TextTable::new(["model", "MSE", "note"]);
    table.push(["min-gru", "12.5", "ok"]);
    table.push(["持续性", "-3", "loses"]);
    table.push(["mamba", "NaN"]);
    let expected = "\
model     MSE  note
-------  ----  -----
min-gru  12.5  ok
持续性     -3  loses
mamba     NaN
";
    assert_eq!(table.to_string(), expected);
    assert_eq!(TextTable::default().to_string(), "\n\n");
}

#[test]
fn figures_have_significant_digits() {
    let cases = [
        (1.00712, "1.007"),
        (123_456.0, "123456"),
        (0.012346, "0.01235"),
        (1.2e-7, "1.200e-7"),
        (9.9996, "10.00"),
        (-2.0, "-2.000"),
        (0.0, "0"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in cases {
        assert_eq!(table::significant(value, 4), text);
    }
}

#[test]
fn charts_show_bands_curves_and_scores() {
    let wave = |row: usize| 50.0 + 10.0 * (row as f64 / 9.0).sin();
    let dates: Vec<String> = (0..120).map(|row| format!("2024-{:02}-{:02} 00:00", 1 + row / 28, 1 + row % 28)).collect();
    let forecast = Line {
        band: (96..120).map(|row| (row as f64, wave(row) - 0.2 * (row - 95) as f64, wave(row) + 0.2 * (row - 95) as f64)).collect(),
        ..Line::new(Look::Model(0), 96, (96..120).map(|row| wave(row) + 0.3))
    };
    let panels = vec![
        Panel::Lines {
            heading: "Load".into(),
            x: Places::Rows(dates),
            y_label: "MW".into(),
            lines: vec![Line::new(Look::Actual, 0, (0..96).map(wave)), forecast],
            level: None,
            border: Some(95.5),
        },
        Panel::Lines {
            heading: "Loss".into(),
            x: Places::Counts(10, "epoch".into()),
            y_label: "MSE".into(),
            lines: vec![
                Line::new(Look::Training(1), 1, (1..=10).map(|epoch| 0.4 + 0.5 / f64::from(epoch))),
                Line::new(Look::Model(1), 1, (1..=10).map(|epoch| 0.5 + 0.4 / f64::from(epoch))),
            ],
            level: Some(0.6),
            border: None,
        },
        Panel::Scores {
            heading: "Test error".into(),
            label: "MSE".into(),
            rows: vec![("mamba".into(), Look::Model(0), 0.29, 0.01), ("persistence".into(), Look::Baseline, f64::NAN, 0.0)],
            level: Some(0.4),
        },
    ];
    let legend = vec![("actual".into(), Look::Actual), ("mamba".into(), Look::Model(0)), ("min-gru".into(), Look::Model(1))];
    let chart = Chart { title: "Charts".into(), remarks: vec!["a test".into()], is_synthetic: true, legend, panels, n_column: 2 };
    let bytes = chart::png(&chart, &Typeface::latin()).unwrap();
    std::fs::write(gallery("chart.png"), &bytes).unwrap();
    let (width, _, pixels) = decode(&bytes);
    assert_eq!(width, 2000);
    for color in [[213, 94, 0], [0, 114, 178]] {
        assert!(pixels.contains(&color), "{color:?}");
    }
    let empty = Chart { panels: chart.panels[..1].to_vec(), legend: Vec::new(), ..Chart::default() };
    chart::png(&empty, &Typeface::latin()).unwrap();
    chart::png(&Chart::default(), &Typeface::latin()).unwrap();
}
