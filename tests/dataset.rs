//! Tables, splits, scalers and windows, and what each says about input that it cannot use.
#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use scanrnn::dataset::prices::{Request, resolve};
use scanrnn::dataset::{Columns, Dates, Scaler, Scaling, Source, Split, Table, Windows, download, synthetic};
use scanrnn::{Error, Result};
use tempfile::TempDir;

const CLOSE: Columns<'_> = Columns::Named(&["Close"]);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Reads `content` as `prices.csv`; the error's text is given without the folder.
fn read(content: impl AsRef<[u8]>, columns: Columns<'_>) -> Result<Table, String> {
    let folder = folder();
    let path = folder.path().join("prices.csv");
    fs::write(&path, content).expect("a file");
    Table::read_csv(&path, columns).map_err(|error| message(&error).replace(&format!("{}/", folder.path().display()), ""))
}

/// The error's text, which has to be one line.
fn message(error: &Error) -> String {
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    text
}

fn memory(columns: Vec<Vec<f64>>) -> Table {
    let named = columns.into_iter().enumerate().map(|(column, values)| (format!("column {column}"), values)).collect();
    Table::new(Source::Memory("test".into()), None, named).expect("a table")
}

fn bundled(ticker: &str) -> PathBuf {
    download::csv_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data"), ticker)
}

#[test]
fn reads_the_bundled_prices() {
    for ticker in ["AAPL", "IBM", "MSFT"] {
        let table = Table::read_csv(&bundled(ticker), Columns::All).expect("prices");
        assert_eq!(table.n_row(), 3270);
        assert_eq!(table.names(), ["Open", "High", "Low", "Close", "Volume"]);
        assert_eq!(table.dates().map(|dates| dates.text[0].as_str()), Some("2000-03-01"));
        assert!(table.source().to_string().ends_with(&format!("{ticker}_stock_data.csv")));
    }
    let table = Table::read_csv(&bundled("AAPL"), CLOSE).expect("prices");
    assert_eq!(table.column("Close").expect("Close")[..2], [4.186663, 3.919675]);
}

#[test]
fn only_the_selected_columns_have_to_be_numbers() {
    let table = read("day,Name,Close,Low\n2024-01-31,apple,1,\n2024-02-01,pear, 2 ,x\n", CLOSE).expect("prices");
    assert_eq!(table.names(), ["Close"]);
    assert_eq!(table.column("Close").expect("Close"), [1.0, 2.0]);
    assert_eq!(table.dates(), Some(&Dates { name: "day".into(), text: vec!["2024-01-31".into(), "2024-02-01".into()] }));
}

#[test]
fn columns_come_in_the_order_asked_for() {
    let table = read("a,b,c\n1,2,3\n4,5,6\n", Columns::Named(&["c", "a"])).expect("a table");
    assert_eq!(table.names(), ["c", "a"]);
    assert_eq!(table.columns().collect::<Vec<_>>(), [[3.0, 6.0], [1.0, 4.0]]);
    assert_eq!(table.dates(), None);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    assert_eq!(read("\u{feff}Close\n1\n2\n", CLOSE).expect("a table").names(), ["Close"]);
}

#[test]
fn bad_files_are_refused_with_place_and_remedy() {
    let refused = |content: &[u8], expected: &str| {
        assert_eq!(read(content, CLOSE).expect_err(expected), expected);
    };
    refused(b"", "prices.csv: the file is empty; give a CSV file with a header row");
    refused(b"Date,Close\n", "prices.csv: no rows below the header; give a CSV file with a row for each time step");
    refused(b"Date,Open,High\n2024-01-31,1,2\n", "prices.csv: no column \"Close\"; choose one of: Date, Open, High");
    refused(b"Close,Close\n1,2\n", "prices.csv: two columns are called \"Close\"; rename one of them");
    refused(
        b"Date,Close\n2024-01-30,1\n2024-01-31,abc\n",
        "prices.csv:3, column Close: \"abc\" is not a number; write it as 1234.5 or choose another column",
    );
    refused(b"Date,Close\n2024-01-31,\n", "prices.csv:2, column Close: the cell is empty; fill it in, remove the row or choose --missing");
    refused(
        b"Date,Close\n2024-01-31,NaN\n",
        "prices.csv:2, column Close: \"NaN\" is no value; fill it in, remove the row or choose --missing",
    );
    for infinite in ["inf", "-Infinity", "1e999"] {
        refused(
            format!("Date,Close\n2024-01-31,{infinite}\n").as_bytes(),
            &format!("prices.csv:2, column Close: \"{infinite}\" is not finite; give a finite number or remove the row"),
        );
    }
    refused(
        b"Date,Close\n2024-01-30,1\n2024-01-31,2\n2024-01-30,3\n",
        "prices.csv:4, column Date: the date \"2024-01-30\" comes after \"2024-01-31\"; sort the rows by date, oldest first",
    );
    refused(
        b"Date,Close\n2024-01-30,1\n2024-01-30,2\n",
        "prices.csv:3, column Date: the date \"2024-01-30\" is there twice; keep one row a date, or name the column that tells series apart by --id",
    );
    refused(b"Date,Close\nsoon,1\n", "prices.csv:2, column Date: \"soon\" is not a date; write dates as 2024-01-31");
    refused(
        b"Date,Close\n2024-01-30,1\n31.01.2024,1\n",
        "prices.csv:3, column Date: \"31.01.2024\" is not a date like \"2024-01-30\" before it; write every date in one format",
    );
    refused(
        b"Date,Close\n2024-01-30,1\n2024-01-31\n",
        "prices.csv:3: the row has 1 cells, the header has 2; give every row as many cells as the header",
    );
    refused(b"Date,Close\n2024-01-31,\xff1\n", "prices.csv:2, column Close: the text is not UTF-8; save the file as UTF-8");
    refused(b"\xff\xfeC\0l\0o\0s\0e\0\n\0", "prices.csv:1, column 1: the text is not UTF-8; save the file as UTF-8");
    refused(
        format!("Close\n\"a\nb{}\"\n", "x".repeat(100)).as_bytes(),
        &format!("prices.csv:2, column Close: \"a\\nb{}\"... is not a number; write it as 1234.5 or choose another column", "x".repeat(37)),
    );
}

#[test]
fn lines_are_counted_as_an_editor_does() {
    let line = |content: &str| read(content, CLOSE).expect_err("no number").split(',').next().map(str::to_string);
    assert_eq!(line("Date,Close\r\n2024-01-30,1\r\n2024-01-31,x\r\n").as_deref(), Some("prices.csv:3"));
    assert_eq!(line("Date,Close\n\n\n2024-01-30,1\n\n2024-01-31,x\n").as_deref(), Some("prices.csv:6"));
    assert_eq!(line("Date,Name,Close\n2024-01-30,\"a\nb\",1\n2024-01-31,c,x\n").as_deref(), Some("prices.csv:4"));
    assert_eq!(read("Date,Close\r\n2024-01-30,1\r\n2024-01-31\r\n", CLOSE).expect_err("ragged").split(": ").next(), Some("prices.csv:3"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Table::read_csv(Path::new("nowhere/prices.csv"), CLOSE).expect_err("no file");
    assert_eq!(message(&error), "nowhere/prices.csv: no such file; check the path");
    let folder = folder();
    let error = Table::read_csv(folder.path(), CLOSE).expect_err("a folder");
    assert!(message(&error).contains("cannot read"), "{error}");
}

#[test]
fn what_is_saved_reads_back_the_same() {
    let folder = folder();
    let path = folder.path().join("saved.csv");
    let table = synthetic::daily_prices(300, 7).expect("a table");
    table.save_csv(&path).expect("saved");
    let back = Table::read_csv(&path, Columns::All).expect("a table");
    assert_eq!((back.dates(), back.names()), (table.dates(), table.names()));
    assert!(back.columns().eq(table.columns()));

    memory(vec![vec![1.0, 2.5]]).save_csv(&path).expect("saved over the first");
    assert_eq!(fs::read_to_string(&path).expect("text"), "column 0\n1\n2.5\n");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn a_failed_save_leaves_nothing_behind() {
    let error = memory(vec![vec![1.0]]).save_csv(Path::new("nowhere/saved.csv")).expect_err("no folder");
    assert!(message(&error).starts_with("nowhere/saved.csv: cannot write: "), "{error}");
    let folder = folder();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).expect("a folder");
    memory(vec![vec![1.0]]).save_csv(&taken).expect_err("a folder of that name");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn tables_made_in_memory_are_checked() {
    let new = |dates: Option<Dates>, columns: Vec<(&str, Vec<f64>)>| {
        let columns = columns.into_iter().map(|(name, values)| (name.to_string(), values)).collect();
        message(&Table::new(Source::Memory("test".into()), dates, columns).expect_err("refused"))
    };
    assert!(new(None, vec![]).contains("no numbers"));
    assert!(new(None, vec![("a", vec![])]).contains("no numbers"));
    assert!(new(None, vec![("a", vec![1.0]), ("b", vec![1.0, 2.0])]).contains("has 2 rows"));
    assert!(new(None, vec![("a", vec![1.0]), ("a", vec![1.0])]).contains("called \"a\""));
    assert!(new(None, vec![("a", vec![1.0, f64::NAN])]).contains("NaN in row 1"));
    assert!(new(Some(Dates { name: "Date".into(), text: vec![] }), vec![("a", vec![1.0])]).contains("0 dates for 1 rows"));
}

#[test]
fn scalers_give_0_and_1_where_they_say() {
    let values = [3.0, -1.0, 7.0, 1.0, 5.0];
    let fit = |scaling| Scaler::fit(scaling, &values);
    assert_eq!((fit(Scaling::MinMax).scale(-1.0), fit(Scaling::MinMax).scale(7.0)), (0.0, 1.0));
    assert_eq!((fit(Scaling::Standard).offset, fit(Scaling::Standard).scale), (3.0, 8f64.sqrt()));
    assert_eq!((fit(Scaling::Robust).offset, fit(Scaling::Robust).scale), (3.0, 4.0));
    assert_eq!(fit(Scaling::None).scale(4.5), 4.5);
}

#[test]
fn constant_columns_scale_to_0_and_back() {
    for scaling in [Scaling::MinMax, Scaling::Standard, Scaling::Robust] {
        let scaler = Scaler::fit(scaling, &[0.1; 7]);
        assert_eq!((scaler.scale(0.1), scaler.inverse(0.0)), (0.0, 0.1), "{scaling:?}");
        assert_eq!(Scaler::fit(scaling, &[]).scale(2.0), 2.0);
    }
    assert_eq!(Scaler::fit(Scaling::Robust, &[1.0, 1.0, 1.0, 1.0, 9.0]).scale(2.0), 1.0);
}

#[test]
fn scalers_go_through_json() {
    let scaler = Scaler::fit(Scaling::Standard, &[1.0, 2.0, 4.0]);
    let text = serde_json::to_string(&scaler).expect("JSON");
    assert!(text.contains("\"standard\""), "{text}");
    assert_eq!(serde_json::from_str::<Scaler>(&text).expect("a scaler"), scaler);
}

#[test]
fn splits_as_the_lab_does() {
    let split = Split::by_fraction("prices", 3270, 32, 1, 0.8).expect("a split");
    assert_eq!(split.cut, 2616);
    assert_eq!((split.train(), split.valid()), (0..2584, 2584..3238));
}

#[test]
fn splits_that_cannot_be_are_refused() {
    let refused =
        |n_row, window, horizon, fraction| message(&Split::by_fraction("p.csv", n_row, window, horizon, fraction).expect_err("refused"));
    assert_eq!(refused(100, 0, 1, 0.8), "--window is 0: give 1 or more");
    assert_eq!(refused(100, 1, 0, 0.8), "--horizon is 0: give 1 or more");
    for fraction in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        assert!(refused(100, 1, 1, fraction).starts_with("--split is "));
    }
    assert_eq!(
        refused(20, 32, 1, 0.8),
        "p.csv: 20 rows give 16 for training and 4 for validation, but a window of 32 and a horizon of 1 need 33 and 1; \
         use more rows or a smaller --window"
    );
    refused(usize::MAX, usize::MAX, usize::MAX, 0.8);
    refused(0, 1, 1, 0.8);
    refused(100, 4, 21, 0.8);
}

#[test]
fn windows_refuse_what_does_not_fit() {
    let table = memory(vec![(0..50).map(f64::from).collect()]);
    let split = table.split(4, 1, 0.8).expect("a split");
    let other = memory(vec![vec![1.0; 49]]);
    assert!(message(&Windows::new(&other, Scaling::MinMax, split).expect_err("another length")).contains("expected (50 rows"));
    assert!(Windows::with_scalers(&table, vec![], split).is_err());
    let huge = memory(vec![vec![1e300; 50]]);
    assert!(message(&Windows::new(&huge, Scaling::None, split).expect_err("too large")).contains("beyond float32"));
}

#[test]
fn synthetic_prices_are_seeded_smooth_and_labelled() {
    let table = synthetic::daily_prices(3270, 1).expect("a table");
    assert_eq!(table, synthetic::daily_prices(3270, 1).expect("a table"));
    assert_ne!(table, synthetic::daily_prices(3270, 2).expect("a table"));
    assert_eq!(table.source().to_string(), "synthetic series (seed 1)");
    let close = table.column("Close").expect("Close");
    assert!(close.windows(2).all(|pair| (pair[1] / pair[0] - 1.0).abs() < 0.03), "a jump of more than 3 %");
    let (low, high) = (table.column("Low").expect("Low"), table.column("High").expect("High"));
    assert!((0..close.len()).all(|row| 0.0 < low[row] && low[row] <= close[row] && close[row] <= high[row]));
    assert!(message(&synthetic::daily_prices(0, 1).expect_err("no rows")).contains("no numbers"));
}

fn request(folder: &Path, csv: Option<PathBuf>) -> Request<'static> {
    Request {
        download: None,
        server: download::Server::default(),
        csv,
        folders: vec![folder.into()],
        default_ticker: "AAPL",
        save_folder: folder.into(),
        columns: CLOSE,
        seed: 3,
    }
}

fn announced(request: &Request<'_>) -> (Result<Table>, Vec<String>) {
    let mut lines = Vec::new();
    let table = resolve(request, &mut |line| lines.push(line.to_string()));
    assert!(lines.iter().all(|line| line.lines().count() == 1), "{lines:?}");
    (table, lines)
}

#[test]
fn a_local_file_is_used_where_there_is_one() {
    let folder = folder();
    fs::copy(bundled("IBM"), download::csv_path(folder.path(), "AAPL")).expect("a copy");
    let (table, lines) = announced(&request(folder.path(), None));
    assert_eq!(table.expect("a table").names(), ["Close"]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("read 3270 rows from "), "{lines:?}");
}

#[test]
fn without_data_a_synthetic_series_is_saved_and_labelled() {
    let folder = folder();
    for _ in 0..2 {
        let (table, lines) = announced(&request(folder.path(), None));
        let table = table.expect("a table");
        assert_eq!((table.source(), table.names()), (&Source::Synthetic { seed: 3 }, &["Close".to_string()][..]));
        assert!(lines[0].contains("SYNTHETIC"), "{lines:?}");
        assert!(lines[1].starts_with("saved 3270 rows of synthetic series (seed 3) to "), "{lines:?}");
        let saved = Table::read_csv(&download::csv_path(folder.path(), "synthetic"), CLOSE).expect("the saved file");
        assert!(saved.columns().eq(table.columns()));
    }
}

#[test]
fn a_named_file_has_to_exist() {
    let folder = folder();
    let (table, lines) = announced(&request(folder.path(), Some(folder.path().join("mine.csv"))));
    assert!(message(&table.expect_err("no file")).ends_with("mine.csv: no such file; check the path"));
    assert!(lines.is_empty());
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_column_that_is_not_there_saves_nothing() {
    let folder = folder();
    let (table, _) = announced(&Request { columns: Columns::Named(&["Price"]), ..request(folder.path(), None) });
    assert!(message(&table.expect_err("no column")).contains("choose one of: Open, High, Low, Close, Volume"));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

/// Rows, window, horizon and fraction that give a split.
fn splits() -> impl Strategy<Value = Split> {
    (2usize..400, 1usize..40, 1usize..20, 0.05..0.95).prop_filter_map("too few rows", |(n_row, window, horizon, fraction)| {
        Split::by_fraction("test", n_row, window, horizon, fraction).ok()
    })
}

fn scalings() -> impl Strategy<Value = Scaling> {
    prop_oneof![Just(Scaling::None), Just(Scaling::MinMax), Just(Scaling::Standard), Just(Scaling::Robust)]
}

proptest! {
    #[test]
    fn training_windows_stay_before_the_cut(split in splits()) {
        prop_assert!(!split.train().is_empty());
        for start in split.train() {
            prop_assert!(start + split.window + split.horizon <= split.cut);
        }
    }

    #[test]
    fn validation_targets_stay_behind_the_cut(split in splits()) {
        prop_assert!(!split.valid().is_empty());
        for start in split.valid() {
            prop_assert!(start + split.window >= split.cut);
            prop_assert!(start + split.window + split.horizon <= split.n_row);
        }
    }

    #[test]
    fn no_window_is_forgotten(split in splits()) {
        let straddling = split.horizon - 1;
        let all = split.n_row - split.window - split.horizon + 1;
        let before_the_first = (split.cut + 1).saturating_sub(split.window + split.horizon);
        prop_assert_eq!(split.train(), 0..before_the_first);
        prop_assert_eq!(split.valid().end, all);
        prop_assert!(split.valid().start - split.train().end <= straddling);
    }

    #[test]
    fn nothing_learned_depends_on_validation_rows(
        split in splits(), scaling in scalings(), seed in any::<u64>(), change in -1e6..1e6,
    ) {
        let prices = synthetic::daily_prices(split.n_row, seed).expect("prices");
        let planted = prices.columns().map(|column| {
            let mut column = column.to_vec();
            column[split.cut..].iter_mut().for_each(|value| *value += change);
            column
        });
        let (honest, leaked) = (Windows::new(&prices, scaling, split), Windows::new(&memory(planted.collect()), scaling, split));
        let (honest, leaked) = (honest.expect("windows"), leaked.expect("windows"));
        prop_assert_eq!(honest.scalers(), leaked.scalers());
        for start in split.train() {
            prop_assert_eq!(honest.input(start), leaked.input(start));
            prop_assert_eq!(honest.target(start), leaked.target(start));
        }
    }

    #[test]
    fn windows_are_views_of_the_rows_they_name(split in splits(), n_channel in 1usize..4) {
        let value = |row: usize, channel: usize| (row * 10 + channel) as f64;
        let columns = (0..n_channel).map(|channel| (0..split.n_row).map(|row| value(row, channel)).collect());
        let windows = Windows::new(&memory(columns.collect()), Scaling::None, split).expect("windows");
        for start in split.train().chain(split.valid()) {
            let rows = |rows: std::ops::Range<usize>| rows.flat_map(|row| (0..n_channel).map(move |channel| value(row, channel) as f32)).collect::<Vec<_>>();
            prop_assert_eq!(windows.input(start), rows(start..start + split.window));
            prop_assert_eq!(windows.target(start), rows(start + split.window..start + split.window + split.horizon));
            prop_assert!(windows.values().as_ptr_range().contains(&windows.input(start).as_ptr()));
        }
    }

    #[test]
    fn scaling_is_undone(scaling in scalings(), values in prop::collection::vec(-1e6..1e6, 1..50)) {
        let scaler = Scaler::fit(scaling, &values);
        for value in values {
            prop_assert!((scaler.inverse(scaler.scale(value)) - value).abs() <= 1e-9 * (1.0 + value.abs() + scaler.offset.abs() + scaler.scale));
        }
    }

    #[test]
    fn any_bytes_give_a_table_or_one_line(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&content, Columns::All);
        let _ = read([b"Date,Close\n".as_slice(), &content].concat(), CLOSE);
    }

    #[test]
    fn any_cells_give_a_table_or_one_line(cells in prop::collection::vec("[0-9a-z.,\"\n:/-]{0,12}", 0..8)) {
        let _ = read(format!("Date,Close\n{}", cells.join(",")), CLOSE);
    }
}
