//! Options that choose the data, through the binary.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn scanrnn(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scanrnn")).current_dir(folder).args(args.split_whitespace()).output().expect("the binary runs")
}

/// What a run that has to succeed prints.
fn prints(folder: &Path, args: &str) -> String {
    let output = scanrnn(folder, args);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a run that has to fail says, one line.
fn refuses(folder: &Path, args: &str) -> String {
    let output = scanrnn(folder, args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), message.lines().count()), (Some(2), 1), "{args}: {message}");
    message
}

fn figures(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("scores.json")).expect("figures")).expect("JSON")
}

/// A folder with `load.csv`: 300 hours of three columns with a day's season, decimal commas and one empty cell.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = String::from("time;north;south;temperature\n");
    for hour in 0..300 {
        let day = std::f64::consts::TAU * f64::from(hour) / 24.0;
        let cell = |value: f64| format!("{value:.3}").replace('.', ",");
        let north = if hour == 100 { String::new() } else { cell(10.0 + day.sin()) };
        text +=
            &format!("{:02}.01.2024 {:02}:00;{north};{};{}\n", 1 + hour / 24, hour % 24, cell(200.0 + 20.0 * day.cos()), cell(day.sin()));
    }
    std::fs::write(folder.path().join("load.csv"), text).expect("written");
    folder
}

const TRAIN: &str =
    "train --model min-gru-scan --device cpu --hidden 8 --epochs 1 --batch 16 --json scores.json --checkpoint min-gru-scan.safetensors";

#[test]
fn every_table_has_the_baselines_and_test_windows_their_own() {
    let folder = folder();
    let path = folder.path();
    assert!(refuses(path, &format!("{TRAIN} --csv load.csv --window 24")).contains("load.csv:102, column north: the cell is empty"));
    let options =
        "--csv load.csv --missing interpolate --targets north,south --split 0.6,0.2,0.2 --scaler standard --window 24 --horizon 6";
    let text = prints(path, &format!("{TRAIN} {options}"));
    for part in
        ["cells have no value", "season: 24 rows", "validation  ", "test  ", "seasonal-naive-24", "linear", "drift", "MASE", "MSE 6 ahead"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let figures = figures(path);
    for part in ["validation", "test"] {
        for (group, name) in
            [("models", "min-gru-scan"), ("baselines", "persistence"), ("baselines", "linear"), ("baselines", "seasonal-naive-24")]
        {
            let evaluation = &figures[part][group][name];
            // 60 rows give 55 windows of two columns; none is dropped.
            assert_eq!(evaluation["n_window"], 55, "{part} {name}");
            assert_eq!(evaluation["steps"].as_array().map(Vec::len), Some(6));
            assert_eq!(evaluation["targets"][1]["target"], "south");
            assert!(evaluation["overall"]["original"]["mse"].is_number() && evaluation["overall"]["mase"].is_number());
        }
    }
    let seasonal = figures["test"]["baselines"]["seasonal-naive-24"]["overall"]["scaled"]["mse"].as_f64().expect("a number");
    let persistence = figures["test"]["baselines"]["persistence"]["overall"]["scaled"]["mse"].as_f64().expect("a number");
    assert!(seasonal < 0.01 * persistence, "{seasonal} {persistence}");

    let trained = figures["test"].clone();
    let scored =
        prints(path, "evaluate --checkpoint min-gru-scan.safetensors --device cpu --csv load.csv --missing interpolate --json scores.json");
    assert!(scored.contains("test  "), "{scored}");
    assert_eq!(self::figures(path)["test"], trained);
}

#[test]
fn covariates_are_read_and_not_forecast() {
    let folder = folder();
    let path = folder.path();
    for (channels, n_window) in [("independent", 60), ("mixed", 60)] {
        let options =
            format!("--csv load.csv --missing forward-fill --targets north,south --features all --window 24 --channels {channels}");
        prints(path, &format!("{TRAIN} {options}"));
        let evaluation = &figures(path)["validation"]["models"]["min-gru-scan"];
        assert_eq!(evaluation["n_window"], n_window, "{channels}");
        assert_eq!(evaluation["targets"].as_array().map(Vec::len), Some(2), "{channels}");
        prints(path, "evaluate --checkpoint min-gru-scan.safetensors --device cpu --csv load.csv --missing drop");
    }
    assert!(
        refuses(path, &format!("{TRAIN} --csv load.csv --targets north,west")).contains("no column \"west\"; choose one of: time, north")
    );
}

#[test]
fn one_model_learns_from_many_series() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let mut both = String::from("day,store,sales\n");
    let mut each = [String::from("day,sales\n"), String::from("day,sales\n")];
    for day in 0..120 {
        for (store, text) in each.iter_mut().enumerate() {
            let row = format!("{}-{:02}-{:02},", 2020, 1 + day / 28, 1 + day % 28);
            let sales = (1 + 10 * store) as f64 * (2.0 + (f64::from(day) * 0.9).sin());
            *text += &format!("{row}{sales:.3}\n");
            both += &format!("{row}{store},{sales:.3}\n");
        }
    }
    std::fs::write(path.join("both.csv"), both).expect("written");
    std::fs::write(path.join("a.csv"), &each[0]).expect("written");
    std::fs::write(path.join("b.csv"), &each[1]).expect("written");
    let small = "--window 7 --split 60,30,30";
    let by_id = prints(path, &format!("{TRAIN} --csv both.csv --id store --targets sales {small}"));
    assert!(by_id.contains("read 240 rows of 2 series from both.csv"), "{by_id}");
    let first = figures(path);
    // scalers go by a series' name, wherever it stands
    let row =
        |name: &'static str, store: usize| each[store].lines().skip(1).map(move |line| line.replacen(',', &format!(",{name},"), 1) + "\n");
    let header = std::iter::once("day,store,sales\n".to_string());
    let swapped: String = header.clone().chain(row("1", 1)).chain(row("0", 0)).collect();
    std::fs::write(path.join("swapped.csv"), swapped).expect("written");
    let evaluate = "evaluate --checkpoint min-gru-scan.safetensors --device cpu --id store --json scores.json --csv";
    prints(path, &format!("{evaluate} swapped.csv"));
    let mse = |figures: &Value| figures["test"]["models"]["min-gru-scan"]["overall"]["scaled"]["mse"].as_f64().expect("a figure");
    assert!((mse(&figures(path)) / mse(&first) - 1.0).abs() < 1e-6);
    let renamed: String = header.chain(row("1", 1)).chain(row("2", 0)).collect();
    std::fs::write(path.join("renamed.csv"), renamed).expect("written");
    assert!(refuses(path, &format!("{evaluate} renamed.csv")).contains("was not trained on the series \"2\""));
    // two files with the same names: one by one again, here with other scalers under a name
    let crossed: String = std::iter::once("day,store,sales\n".to_string()).chain(row("1", 0)).chain(row("0", 1)).collect();
    std::fs::write(path.join("crossed.csv"), crossed).expect("written");
    prints(path, &format!("{TRAIN} --csv both.csv --csv crossed.csv --id store --targets sales {small}"));
    let trained = mse(&figures(path));
    prints(path, &format!("{evaluate} both.csv --csv crossed.csv"));
    assert_eq!(mse(&figures(path)), trained);
    prints(path, &format!("{TRAIN} --csv a.csv --csv b.csv --targets sales {small}"));
    assert_eq!(figures(path), first);
    assert_eq!(first["test"]["models"]["min-gru-scan"]["n_window"], 2 * 30);
    // a file is known by its name: one of those trained on will do, another alone will not
    prints(path, "evaluate --checkpoint min-gru-scan.safetensors --device cpu --csv a.csv");
    std::fs::copy(path.join("a.csv"), path.join("other.csv")).expect("copied");
    let other = refuses(path, "evaluate --checkpoint min-gru-scan.safetensors --device cpu --csv other.csv");
    assert!(other.contains("was trained on 2 series, not 1"), "{other}");
    assert!(refuses(path, "bench --device cpu --csv a.csv --csv b.csv").contains("bench compares on one series"));
    assert!(refuses(path, &format!("{TRAIN} --csv both.csv --targets sales")).contains("--id"));
    // the file's column is not called as the one of ids is
    let named = |name: &str| std::fs::read_to_string(path.join(name)).expect("rows").replacen("store", "series", 1);
    for name in ["both.csv", "crossed.csv"] {
        std::fs::write(path.join(format!("series-{name}")), named(name)).expect("written");
    }
    prints(path, &format!("{TRAIN} --csv series-both.csv --csv series-crossed.csv --id series --targets sales {small} --run-dir named"));
    let by_series = std::fs::read_to_string(path.join("named/scores_by_series.csv")).expect("scores");
    assert!(by_series.starts_with("part,file,series,windows,"), "{by_series}");
}

#[test]
fn a_model_that_loses_is_said_to_lose() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: String = (0..200).map(|day| format!("{:.4}\n", 100.0 + f64::from(day) + f64::from(day * day % 13) * 0.01)).collect();
    std::fs::write(folder.path().join("walk.csv"), format!("Close\n{rows}")).expect("written");
    let text = prints(
        folder.path(),
        "train --model mamba-lab --device cpu --csv walk.csv --window 8 --hidden 8 --epochs 1 --window-norm none --season 1",
    );
    assert!(text.contains("mamba-lab is worse than persistence (the last value again) on these windows"), "{text}");
    assert!(!text.contains("seasonal"), "{text}");
}

#[test]
fn splits_and_seasons_that_cannot_be_are_refused() {
    let folder = folder();
    let refused = |options: &str| refuses(folder.path(), &format!("train --model min-gru --csv load.csv --targets south {options}"));
    assert!(refused("--season 0").contains("--season is 0"));
    assert!(refused("--season 5000").contains("--season is 5000: must be below 240, the training rows of the longest series"));
    assert!(refused("--season 240").contains("--season is 240"));
    prints(folder.path(), &format!("{TRAIN} --csv load.csv --targets south --season 239"));
    let evaluate = "evaluate --checkpoint min-gru-scan.safetensors --device cpu --csv load.csv --season 240";
    assert!(refuses(folder.path(), evaluate).contains("--season is 240"));
    assert!(refused("--split 200,100,100").contains("300 rows are fewer than --split 200,100,100 asks for"));
    assert!(refused("--date month").contains("no column \"month\""));
    assert!(refused("--horizon 100 --window 32").contains("none is left for validation"));
    let output = scanrnn(folder.path(), "train --model min-gru --csv load.csv --split 0.5,0.6");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--split"), "{output:?}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn series_without_a_window_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = |name: &'static str, n_row: usize| (0..n_row).map(move |row| format!("{name},{}\n", row * row % 7));
    let text: String = rows("long", 100).chain(rows("short", 7)).chain(rows("also long", 90)).chain(rows("single", 1)).collect();
    std::fs::write(folder.path().join("shops.csv"), format!("shop,sold\n{text}")).expect("written");
    let options = "--csv shops.csv --id shop";
    let line = "data: 2 of 4 series have no window and are left out: short, single\n";
    let text = prints(folder.path(), &format!("{TRAIN} {options} --targets sold --window 8"));
    assert!(text.contains(line), "{text}");
    let evaluate = format!("evaluate --checkpoint min-gru-scan.safetensors --device cpu {options} --by-series series.csv");
    let text = prints(folder.path(), &evaluate);
    assert!(text.contains(line) && text.contains(" of 2 series.\n"), "{text}");
    // 20 and 18 rows of the last fifth; none of those left out
    let rows = |file: &str| std::fs::read_to_string(folder.path().join(file)).expect("rows");
    let scores = rows("series.csv");
    let starts = ["part,shop,windows,mse,mae,mase,persistence_mse,", "validation,long,20,", "validation,also long,18,"];
    assert!(scores.lines().zip(starts).all(|(line, start)| line.starts_with(start)) && scores.lines().count() == 3, "{scores}");
    assert_eq!(scores, rows("runs/min-gru-scan/scores_by_series.csv"));
    assert!(rows("runs/min-gru-scan/report.html").contains("<h1>min-gru-scan: shops: long, also long sold</h1>"));
    let text = prints(folder.path(), &format!("{TRAIN} {options} --targets sold --window 4 --split 0.6,0.4"));
    assert!(text.contains("1 of 4 series"), "{text}");
}

/// One time of day in all of a series' rows neither keeps the hours of the others from the model nor the model from the series.
#[test]
fn series_at_one_time_of_day_have_a_calendar() {
    let folder = tempfile::tempdir().expect("a folder");
    let row = |shop: &str, hour: usize| format!("2024-01-{:02} {:02}:00,{shop},{}\n", 1 + hour / 24, hour % 24, hour * hour % 7);
    let hours = (0..200).map(|hour| row("hourly", hour)).collect::<String>();
    let days = (0..25).map(|day| row("daily", 24 * day + 16)).collect::<String>();
    std::fs::write(folder.path().join("shops.csv"), format!("date,shop,sold\n{hours}{days}{}", row("single", 5))).expect("written");
    let options = "--csv shops.csv --id shop";
    prints(folder.path(), &format!("{TRAIN} {options} --targets sold --window 8 --split 0.5,0.5"));
    let checkpoint = std::fs::read(folder.path().join("min-gru-scan.safetensors")).expect("a checkpoint");
    assert!(String::from_utf8_lossy(&checkpoint).contains("calendar:day.sin.1"));
    prints(folder.path(), &format!("evaluate --checkpoint min-gru-scan.safetensors --device cpu {options}"));
    std::fs::write(folder.path().join("daily.csv"), format!("date,shop,sold\n{days}")).expect("written");
    prints(folder.path(), "forecast --checkpoint min-gru-scan.safetensors --device cpu --csv daily.csv --id shop");
}

#[test]
fn values_that_float32_makes_equal_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let rows: String = (0..120).map(|row| format!("{},{},7\n", 1e9 + f64::from(row).sin(), row % 5)).collect();
    std::fs::write(path.join("far.csv"), format!("far,near,same\n{rows}")).expect("written");
    for (scaler, is_warned) in [("none", true), ("standard", false)] {
        let output = scanrnn(path, &format!("{TRAIN} --csv far.csv --window 8 --targets all --scaler {scaler}"));
        assert!(output.status.success(), "{output:?}");
        let warned = String::from_utf8_lossy(&output.stderr).contains("float32 has too few digits for far, whose values");
        assert_eq!(warned, is_warned, "{scaler}: {output:?}");
    }
}

#[test]
fn names_are_found_without_case_and_brackets() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let rows: String = (0..120).map(|row| format!("{},{},{}\n", row * row % 7, row % 5, row % 3)).collect();
    std::fs::write(path.join("stooq.csv"), format!("<OPEN>,<CLOSE>,<VOL>\n{rows}")).expect("written");
    std::fs::write(path.join("plain.csv"), format!("open,close,Close\n{rows}")).expect("written");
    let train = format!("{TRAIN} --csv stooq.csv --window 8");
    prints(path, &format!("{train} --targets Close,CLOSE --features close,open"));
    let evaluation = &figures(path)["validation"]["models"]["min-gru-scan"];
    let targets: Vec<_> = evaluation["targets"].as_array().expect("targets").iter().map(|target| target["target"].clone()).collect();
    assert_eq!(targets, ["<CLOSE>"]);
    let use_on = |command: &str, file: &str| format!("{command} --checkpoint min-gru-scan.safetensors --device cpu --csv {file}");
    prints(path, &use_on("forecast", "stooq.csv"));
    // two are as near
    assert!(refuses(path, &use_on("forecast", "plain.csv")).contains("no column \"<CLOSE>\"; choose one of: open, close, Close"));
    std::fs::write(path.join("plain.csv"), format!("open,Close,x\n{rows}")).expect("written");
    prints(path, &use_on("forecast", "plain.csv"));
    prints(path, &use_on("evaluate", "plain.csv"));
    assert!(refuses(path, &format!("{train} --targets shut")).contains("no column \"shut\"; choose one of: <OPEN>, <CLOSE>, <VOL>"));
}

#[test]
fn a_name_with_a_comma_stands_between_quotes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let rows: String = (0..120).map(|row| format!("{},{},{}\n", row * row % 7, row % 5, row % 3)).collect();
    std::fs::write(path.join("loads.csv"), format!("\"north,east\",south,west\n{rows}")).expect("written");
    let train = format!("{TRAIN} --csv loads.csv --window 8 --run-dir");
    let refused = refuses(path, &format!("{train} plain --targets north,east"));
    assert!(refused.contains("no column \"north\"; choose one of: \"north,east\", south, west"), "{refused}");
    assert!(refuses(path, &format!("{train} none --targets south --features south,,west")).contains("no column \"\""));
    prints(path, &format!("{train} one --targets \"north,east\",south --features west"));
    let evaluation = &figures(path)["validation"]["models"]["min-gru-scan"];
    let targets: Vec<_> = evaluation["targets"].as_array().expect("targets").iter().map(|target| target["target"].clone()).collect();
    assert_eq!(targets, ["north,east", "south"]);
    let first = figures(path);
    prints(path, "train --config one/config.toml --run-dir again --json scores.json --checkpoint min-gru-scan.safetensors");
    assert_eq!(figures(path), first);
    // several times the option, as a list in a configuration is
    prints(path, &format!("{train} several --targets \"north,east\" --targets south --features west"));
    assert_eq!(figures(path), first);
    prints(path, "train --config several/config.toml --run-dir once-more --json scores.json --checkpoint min-gru-scan.safetensors");
    assert_eq!(figures(path), first);
    prints(path, "forecast --checkpoint min-gru-scan.safetensors --device cpu --csv loads.csv");
    let forecast = std::fs::read_to_string(path.join("forecast.csv")).expect("rows");
    assert!(forecast.starts_with("ahead,\"north,east\",south\n"), "{forecast}");
}
