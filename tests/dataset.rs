//! Tables, splits, scalers and windows, and what each says about input that it cannot use.
#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use scanrnn::dataset::prices::{Request, resolve};
use scanrnn::dataset::{
    CALENDAR, Channels, Columns, CsvOptions, Dates, Layout, Partition, Scaler, Scaling, Source, Split, Starts, Table, Windows, download,
    synthetic,
};
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
        "prices.csv:4, column Date: the date \"2024-01-30\" comes after \"2024-01-31\"; sort the rows by date, or name the column that tells series apart by --id",
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
    let split = Partition::default().split("prices", 3270, 32, 1).expect("a split");
    assert_eq!(split.train_end, 2616);
    assert_eq!((split.train(), split.valid()), (0..2584, 2584..3238));
    assert!(split.test().is_empty());
}

#[test]
fn partitions_are_read_as_shares_or_rows() {
    let read = |text: &str| text.parse::<Partition>().expect(text);
    assert_eq!(read("0.8"), Partition::default());
    assert_eq!(read("0.7, 0.1, 0.2"), Partition::Shares([0.7, 0.1, 0.2]));
    assert_eq!(read("8640,2880,2880"), Partition::Rows([8640, 2880, 2880]));
    assert_eq!(read("100,20"), Partition::Rows([100, 20, 0]));
    for text in ["0", "1", "1.5", "-0.5", "nan", "inf", "0.8,0.8", "0.5,0,0.5", "0.1,0.2,0.3,0.4", "100", "a,b", ""] {
        assert!(message(&text.parse::<Partition>().expect_err(text)).starts_with("--split is "), "{text}");
    }
    let json = |partition: Partition| serde_json::to_string(&partition).expect("JSON");
    assert_eq!(json(Partition::Shares([0.5, 0.25, 0.0])), "\"0.5,0.25,0.0\"");
    for partition in [Partition::default(), Partition::Rows([3, 2, 0])] {
        assert_eq!(serde_json::from_str::<Partition>(&json(partition)).expect("a partition"), partition);
    }
}

#[test]
fn three_parts_leave_no_row_out() {
    let split = Partition::Shares([0.7, 0.1, 0.2]).split("test", 100, 4, 1).expect("a split");
    assert_eq!((split.train_end, split.valid_end, split.end), (70, 80, 100));
    assert_eq!((split.valid(), split.test()), (66..76, 76..96));
    let split = Partition::Shares([0.57, 0.2, 0.23]).split("test", 100, 4, 1).expect("a split");
    assert_eq!((split.train_end, split.valid_end, split.end), (57, 77, 100)); // 100 * 0.57 is a little less than 57
    let rows = Partition::Rows([50, 20, 10]).split("test", 100, 4, 1).expect("a split");
    assert_eq!((rows.train_end, rows.valid_end, rows.end, rows.test()), (50, 70, 80, 66..76));
    let refused = Partition::Rows([50, 20, 31]).split("p.csv", 100, 4, 1).expect_err("too few rows");
    assert_eq!(message(&refused), "p.csv: 100 rows are fewer than --split 50,20,31 asks for; use more rows or smaller parts");
    message(&Partition::Rows([usize::MAX, 1, 1]).split("p.csv", 100, 4, 1).expect_err("overflow"));
}

fn ramp(n_row: usize) -> Table {
    memory(vec![(0..n_row).map(|row| row as f64).collect()])
}

fn layout(window: usize, horizon: usize) -> Layout {
    Layout::one_column("column 0", window, horizon)
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let refused = |n_row, window, horizon| message(&Windows::new(&[ramp(n_row)], &layout(window, horizon)).expect_err("refused"));
    assert_eq!(refused(100, 0, 1), "--window is 0: give 1 or more");
    assert_eq!(refused(100, 1, 0), "--horizon is 0: give 1 or more");
    assert_eq!(
        refused(20, 32, 1),
        "test: 20 rows give 16, 4, 0 for training, validation and test, but a window of 32 and a horizon of 1 need 33 rows in all and 1 for \
         each part: none is left for training; use more rows, other parts (--split), or a smaller window or horizon"
    );
    refused(1, 1, 1);
    refused(100, 4, 21);
    refused(100, usize::MAX, usize::MAX);
    let no_test = Layout { partition: Partition::Rows([50, 40, 2]), ..layout(4, 3) };
    assert!(message(&Windows::new(&[ramp(100)], &no_test).expect_err("refused")).contains("none is left for test"));
}

#[test]
fn windows_refuse_what_does_not_fit() {
    for channels in [Channels::Independent, Channels::Mixed] {
        let nothing = Layout { targets: Vec::new(), channels, ..layout(4, 1) };
        let covariate = Layout { covariates: vec!["column 0".into()], ..nothing.clone() };
        for layout in [nothing, covariate] {
            let error = Windows::new(&[ramp(100)], &layout).expect_err("refused");
            assert_eq!(message(&error), "data: there is no column to forecast; give at least one column of at least one row");
            let scalers = vec![vec![Scaler::fit(Scaling::None, &[0.0])]];
            assert!(message(&Windows::unsplit(&[ramp(100)], &layout, scalers).expect_err("refused")).contains("to forecast"));
        }
    }
    let other = memory(vec![vec![1.0; 50]; 2]).select(&["column 1"]).expect("a column");
    assert!(message(&Windows::new(&[ramp(50), other], &layout(4, 1)).expect_err("no column")).contains("no column \"column 0\""));
    assert!(Windows::with_scalers(&[ramp(50)], &layout(4, 1), vec![]).is_err());
    let unscaled = Layout { scaling: Scaling::None, ..layout(4, 1) };
    let huge = memory(vec![vec![1e300; 50]]);
    assert!(message(&Windows::new(&[huge], &unscaled).expect_err("too large")).contains("beyond float32"));
    // one value whose square is beyond float64, so that no row of the column can be scaled
    for (scaling, huge) in [(Scaling::Standard, 1e300), (Scaling::Standard, -1e308), (Scaling::None, 1e39)] {
        let one = memory(vec![(0..50).map(|row| if row == 31 { huge } else { f64::from(row) }).collect()]);
        let error = Windows::new(&[one], &Layout { scaling, ..layout(4, 1) }).expect_err("too large");
        assert!(message(&error).contains(&format!("row 31: {huge:e} is beyond float32")), "{error}");
    }
    assert!(message(&Windows::new(&[], &layout(4, 1)).expect_err("nothing")).contains("there is no column to forecast"));
}

#[test]
fn channels_are_series_of_their_own_or_features() {
    let table = memory(vec![(0..40).map(f64::from).collect(), (100..140).map(f64::from).collect(), (200..240).map(f64::from).collect()]);
    let names = |range: std::ops::Range<usize>| range.map(|column| format!("column {column}")).collect();
    let layout = |channels| Layout { targets: names(0..2), covariates: names(2..3), channels, scaling: Scaling::None, ..layout(2, 1) };
    let mixed = Windows::new(std::slice::from_ref(&table), &layout(Channels::Mixed)).expect("windows");
    assert_eq!((mixed.n_feature(), mixed.n_target(), mixed.members().len()), (3, 2, 1));
    assert_eq!(mixed.input(30), [30.0, 130.0, 230.0, 31.0, 131.0, 231.0]);
    let independent = Windows::new(&[table.clone(), table], &layout(Channels::Independent)).expect("windows");
    assert_eq!((independent.n_feature(), independent.n_target(), independent.members().len()), (2, 1, 4));
    assert_eq!((independent.valid().len(), independent.train().len()), (4 * 8, 4 * 30));
    let second = independent.valid().get(8).expect("a window");
    assert_eq!(second, 40 + 30);
    assert_eq!(independent.input(second), [130.0, 230.0, 131.0, 231.0]);
    assert_eq!(independent.following(second), [132.0, 232.0]);
    let member = independent.member(second).expect("a series");
    assert_eq!((member.table, &member.columns[..], member.rows.clone()), (0, &[1, 2][..], 40..80));
    assert_eq!(independent.member(3 * 40).expect("a series").table, 1);
    assert_eq!(independent.member(4 * 40), None);
}

#[test]
fn the_last_windows_end_with_the_last_rows() {
    let layout = layout(8, 2);
    let scalers = vec![vec![Scaler::fit(Scaling::None, &[])]; 2];
    let windows = Windows::unsplit(&[ramp(10), ramp(8)], &layout, scalers.clone()).expect("windows");
    assert_eq!(windows.input(2), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert!(windows.train().is_empty() && windows.valid().is_empty() && windows.test().is_empty());
    let short = Windows::unsplit(&[ramp(10), ramp(7)], &layout, scalers).expect_err("too few rows");
    assert_eq!(message(&short), "test: 7 rows are fewer than the window of 8; give more rows");
}

#[test]
fn planted_leaks_are_caught() {
    let tables = [ramp(100)];
    let layout = Layout { partition: Partition::Shares([0.6, 0.2, 0.2]), ..layout(8, 2) };
    let honest = Windows::new(&tables, &layout).expect("windows");
    let parts = [honest.train(), honest.valid(), honest.test()];
    honest.check_no_leak(&tables, parts).expect("no leak");
    assert!(honest.check_no_leak(&[&tables[..], &tables[..]].concat(), parts).is_err());

    let all_rows: Vec<f64> = (0..100).map(f64::from).collect();
    let leaky = Windows::with_scalers(&tables, &layout, vec![vec![Scaler::fit(Scaling::MinMax, &all_rows)]]).expect("windows");
    let caught = message(&leaky.check_no_leak(&tables, parts).expect_err("a scaler of all rows"));
    assert!(caught.contains("the scaler of column \"column 0\" is not that of the training rows"), "{caught}");

    let too_far = Starts::from(0..honest.train().len() + 1);
    let caught = message(&honest.check_no_leak(&tables, [&too_far, parts[1], parts[2]]).expect_err("a training window too far"));
    assert!(caught.contains("a training window has its targets in rows 59..61, outside 0..60"), "{caught}");
    let caught = message(&honest.check_no_leak(&tables, [parts[0], parts[2], parts[2]]).expect_err("test windows that choose a model"));
    assert!(caught.contains("a validation window has its targets in rows 80..82, outside 60..80"), "{caught}");
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

fn request(folder: &Path, csv: &[PathBuf]) -> Request<'static> {
    Request {
        download: None,
        server: download::Server::default(),
        csv: csv.to_vec(),
        folders: vec![folder.into()],
        default_ticker: "AAPL",
        save_folder: folder.into(),
        options: CsvOptions { columns: CLOSE, ..CsvOptions::default() },
        seed: Some(3),
    }
}

fn announced(request: &Request<'_>) -> (Result<Table>, Vec<String>) {
    let mut lines = Vec::new();
    let tables = resolve(request, &mut |line| lines.push(line.to_string()));
    assert!(lines.iter().all(|line| line.lines().count() == 1), "{lines:?}");
    (tables.map(|mut tables| tables.remove(0)), lines)
}

#[test]
fn a_local_file_is_used_where_there_is_one() {
    let folder = folder();
    fs::copy(bundled("IBM"), download::csv_path(folder.path(), "AAPL")).expect("a copy");
    let (table, lines) = announced(&request(folder.path(), &[]));
    assert_eq!(table.expect("a table").names(), ["Close"]);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("read 3270 rows from "), "{lines:?}");
}

#[test]
fn without_data_a_synthetic_series_is_saved_and_labelled() {
    let folder = folder();
    for _ in 0..2 {
        let (table, lines) = announced(&request(folder.path(), &[]));
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
    let (table, lines) = announced(&request(folder.path(), &[folder.path().join("mine.csv")]));
    assert!(message(&table.expect_err("no file")).ends_with("mine.csv: no such file; check the path"));
    assert!(lines.is_empty());
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_column_that_is_not_there_saves_nothing() {
    let folder = folder();
    let (table, _) = announced(&Request {
        options: CsvOptions { columns: Columns::Named(&["Price"]), ..CsvOptions::default() },
        ..request(folder.path(), &[])
    });
    assert!(message(&table.expect_err("no column")).contains("choose one of: Open, High, Low, Close, Volume"));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

/// Rows and a layout of one column that give windows.
fn layouts() -> impl Strategy<Value = (usize, Layout)> {
    let partition = prop_oneof![
        (0.05..0.95).prop_map(|train| Partition::Shares([train, 1.0 - train, 0.0])),
        (0.05..0.9, 0.1..0.9).prop_map(|(train, valid)| {
            let valid = (1.0 - train) * valid;
            Partition::Shares([train, valid, 1.0 - train - valid])
        }),
        [1usize..200, 1usize..100, 0usize..100].prop_map(Partition::Rows),
    ];
    (2usize..400, 1usize..40, 1usize..20, partition, scalings()).prop_filter_map(
        "too few rows",
        |(n_row, window, horizon, partition, scaling)| {
            let layout = Layout { partition, scaling, ..layout(window, horizon) };
            Windows::new(&[ramp(n_row)], &layout).ok().map(|_| (n_row, layout))
        },
    )
}

fn splits() -> impl Strategy<Value = (usize, Split)> {
    layouts().prop_map(|(n_row, layout)| (n_row, layout.partition.split("test", n_row, layout.window, layout.horizon).expect("a split")))
}

fn scalings() -> impl Strategy<Value = Scaling> {
    prop_oneof![Just(Scaling::None), Just(Scaling::MinMax), Just(Scaling::Standard), Just(Scaling::Robust)]
}

proptest! {
    #[test]
    fn every_part_has_its_targets_within_its_rows((n_row, split) in splits()) {
        prop_assert!(split.train_end <= split.valid_end && split.valid_end <= split.end && split.end <= n_row);
        let parts = [(split.train(), 0..split.train_end), (split.valid(), split.train_end..split.valid_end), (split.test(), split.valid_end..split.end)];
        for (starts, rows) in parts {
            for start in starts {
                prop_assert!(start + split.window >= rows.start && start + split.window + split.horizon <= rows.end);
            }
        }
    }

    #[test]
    fn no_window_is_forgotten((_, split) in splits()) {
        let all = (split.end + 1).saturating_sub(split.window + split.horizon);
        let crosses = |start: &usize| {
            let targets = start + split.window..start + split.window + split.horizon;
            [split.train_end, split.valid_end].iter().any(|&border| targets.start < border && border < targets.end)
        };
        let taken: Vec<usize> = split.train().chain(split.valid()).chain(split.test()).collect();
        prop_assert_eq!(taken, (0..all).filter(|start| !crosses(start)).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_learned_depends_on_later_rows((n_row, layout) in layouts(), seed in any::<u64>(), change in -1e6..1e6) {
        let prices = synthetic::daily_prices(n_row, seed).expect("prices");
        let close = prices.column("Close").expect("Close");
        let honest = Windows::new(&[memory(vec![close.to_vec()])], &layout).expect("windows");
        let split = honest.members()[0].split;
        for (border, starts) in [(split.train_end, honest.train()), (split.valid_end, honest.valid())] {
            let mut planted = close.to_vec();
            planted[border..].iter_mut().for_each(|value| *value += change);
            let leaked = Windows::new(&[memory(vec![planted])], &layout).expect("windows");
            prop_assert_eq!(honest.scalers(), leaked.scalers());
            for start in starts.iter() {
                prop_assert_eq!(honest.input(start), leaked.input(start));
                prop_assert_eq!(honest.following(start), leaked.following(start));
            }
        }
        honest.check_no_leak(&[memory(vec![close.to_vec()])], [honest.train(), honest.valid(), honest.test()]).expect("no leak");
    }

    #[test]
    fn windows_are_views_of_the_rows_they_name((n_row, layout) in layouts(), n_column in 1usize..4, n_table in 1usize..3, mixed in any::<bool>()) {
        let value = |table: usize, row: usize, column: usize| (table * 100_000 + row * 10 + column) as f64;
        let table = |table| memory((0..n_column).map(|column| (0..n_row).map(|row| value(table, row, column)).collect()).collect());
        let targets = (0..n_column).map(|column| format!("column {column}")).collect();
        let channels = if mixed { Channels::Mixed } else { Channels::Independent };
        let layout = Layout { targets, channels, scaling: Scaling::None, ..layout };
        let tables: Vec<Table> = (0..n_table).map(table).collect();
        let windows = Windows::new(&tables, &layout).expect("windows");
        for start in windows.train().iter().chain(windows.valid().iter()).chain(windows.test().iter()) {
            let member = windows.member(start).expect("a series");
            let row = start - member.rows.start;
            let rows = |rows: std::ops::Range<usize>| {
                rows.flat_map(|row| member.columns.iter().map(move |&column| value(member.table, row, column) as f32)).collect::<Vec<_>>()
            };
            prop_assert_eq!(windows.input(start), rows(row..row + layout.window));
            prop_assert_eq!(windows.following(start), rows(row + layout.window..row + layout.window + layout.horizon));
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

#[test]
fn the_time_of_day_gives_waves_and_days_alone_give_none() {
    let dates = |text: Vec<String>| Dates { name: "date".into(), text };
    let hours = dates((0..50).map(|row| format!("2024-03-{:02} {:02}:00:00", 1 + (row + 5) / 24, (row + 5) % 24)).collect());
    let shares = hours.time_of_day().expect("times");
    assert!(shares.iter().enumerate().all(|(row, share)| (share - ((row + 5) % 24) as f64 / 24.0).abs() < 1e-12), "{shares:?}");
    let waves = hours.calendar().expect("times");
    assert_eq!(waves.len(), CALENDAR.len());
    for (index, wave) in waves.iter().enumerate() {
        for (row, value) in wave.iter().enumerate() {
            let angle = std::f64::consts::TAU * (row + 5) as f64 * (index / 2 + 1) as f64 / 24.0;
            let want = if index % 2 == 0 { angle.sin() } else { angle.cos() };
            assert!((value - want).abs() < 1e-9, "wave {index}, row {row}: {value} is not {want}");
        }
    }
    let days = dates((1..20).map(|day| format!("2024-03-{day:02}")).collect());
    assert_eq!((days.time_of_day(), days.calendar()), (None, None));
    for n_row in [1, 9] {
        let closes = dates((1..=n_row).map(|day| format!("2024-03-{day:02} 18:00")).collect());
        assert_eq!(closes.time_of_day(), None);
        let waves = closes.calendar().expect("times");
        assert!(waves.iter().all(|wave| wave.len() == n_row) && waves[0].iter().all(|value| (value + 1.0).abs() < 1e-9), "{waves:?}");
    }
}
