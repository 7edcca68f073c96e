//! The forecasting commands through the binary: runs and what they leave, forecasts, comparisons, walks through time, searches.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn command(folder: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanrnn"));
    command.current_dir(folder).args(args.split_whitespace());
    command
}

fn scanrnn(folder: &Path, args: &str) -> Output {
    command(folder, args).output().expect("the binary runs")
}

/// A training in the folder `cut` that is under way: it has written down so many epochs.
fn under_way(folder: &Path, train: &str, n_epoch: usize) -> Child {
    let child = command(folder, &format!("{train} --run-dir cut")).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let metrics = folder.join("cut/metrics.jsonl");
    while std::fs::read_to_string(&metrics).map_or(0, |lines| lines.lines().count()) < n_epoch {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The output of a run that must end well.
fn succeeds(folder: &Path, args: &str) -> String {
    let output = scanrnn(folder, args);
    assert!(output.status.success(), "{args}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refuses(folder: &Path, args: &str, parts: &[&str]) {
    let output = scanrnn(folder, args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args}: {message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{args}: {message}");
    for part in parts {
        assert!(message.contains(part), "{args}: {part:?} is not in {message:?}");
    }
}

fn hour(row: usize) -> String {
    format!("2024-01-{:02} {:02}:00:00", 1 + row / 24, row % 24)
}

/// Loads of ten days, hour by hour, in two columns: a daily wave with a trend; from row `changed` on something else.
fn loads(changed: usize) -> String {
    let value = |row: usize, phase: f64| {
        let value = 100.0 + 10.0 * (std::f64::consts::TAU * (row as f64 + phase) / 24.0).sin() + 0.02 * row as f64;
        if row < changed { value } else { -value }
    };
    let rows = (0..240).map(|row| format!("{},{:.3},{:.3}\n", hour(row), value(row, 0.0), value(row, 6.0)));
    format!("date,north,south\n{}", rows.collect::<String>())
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("loads.csv"), loads(240)).expect("written");
    folder
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("figures")).expect("JSON")
}

fn is_png(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG"))
}

const SMALL: &str =
    "--device cpu --csv loads.csv --targets all --window 24 --horizon 6 --hidden 8 --batch 16 --epochs 2 --split 0.6,0.2,0.2";

#[test]
fn a_run_leaves_all_that_is_needed_to_read_it_and_to_run_it_again() {
    let folder = folder();
    let text = succeeds(folder.path(), &format!("train --model min-gru-scan {SMALL} --lr 0.05"));
    for part in ["validation", "test", "north", "south", "persistence", "report: runs/min-gru-scan/report.html"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let run = folder.path().join("runs/min-gru-scan");
    assert!(is_png(&run.join("curves.png")) && is_png(&run.join("forecasts.png")));
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).expect("lines");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1]["epoch"] == 2 && lines[1]["valid_mse"].is_number() && lines[2]["test"].is_object());
    let names: Vec<String> = std::fs::read_dir(&run)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("events.out.tfevents.")).count(), 1, "{names:?}");
    let report = std::fs::read_to_string(run.join("report.html")).expect("a report");
    for part in ["<!DOCTYPE html>", "data:image/png;base64,", "persistence", "lr = 0.05"] {
        assert!(report.contains(part), "{part:?} is not in the report");
    }
    succeeds(folder.path(), "train --config runs/min-gru-scan/config.toml --run-dir again");
    let checkpoint = |path: &str| std::fs::read(folder.path().join(path).join("best.safetensors")).expect("a checkpoint");
    assert!(checkpoint("runs/min-gru-scan") == checkpoint("again"), "the same bits");
    let other = succeeds(folder.path(), "train --config runs/min-gru-scan/config.toml --run-dir other --epochs 1");
    succeeds(folder.path(), "train --config runs/min-gru-scan/config.toml --run-dir alias --epochs 1 --column south");
    let alias = std::fs::read_to_string(folder.path().join("alias/config.toml")).expect("a configuration");
    assert!(alias.contains("targets = \"south\""), "{alias}");
    assert!(!other.contains("epoch   2"), "{other}");

    refuses(folder.path(), "train --config runs/min-gru-scan/config.toml --run-dir again", &["--run-dir", "again", "holds a run"]);
    std::fs::write(folder.path().join("wrong.toml"), "model = \"mamba\"\nwindows = 3\n").expect("written");
    refuses(folder.path(), "train --config wrong.toml", &["wrong.toml", "\"windows\""]);
    std::fs::write(folder.path().join("wrong.toml"), "model =\n").expect("written");
    refuses(folder.path(), "train --config wrong.toml", &["wrong.toml"]);
    // whatever is wrong with an option of the file, its line is named; with one of the command line it is not
    for (line, parts) in [
        ("windows = 3", ["wrong.toml:3: train has no option \"windows\"", "train --help"]),
        ("window =", ["wrong.toml:3: ", "option = value"]),
        ("window = { min = 1 }", ["wrong.toml:3: window is a table", "give a text"]),
        ("layers = 0", ["wrong.toml:3: --layers is 0", "at least 1"]),
        ("lr = -1", ["wrong.toml:3: --lr is -1", "above 0"]),
        ("column = \"east\"", ["loads.csv: no column \"east\"", "north"]),
    ] {
        let text = format!("# mine\nmodel = \"mamba\"\n{line}\ncsv = \"loads.csv\"\n");
        std::fs::write(folder.path().join("wrong.toml"), text).expect("written");
        refuses(folder.path(), "train --config wrong.toml", &parts);
    }
    std::fs::write(folder.path().join("wrong.toml"), "model = \"mamba\"\nwindow = \"x\"\n").expect("written");
    let message = |args: &str| stderr(&scanrnn(folder.path(), args));
    assert!(message("train --config wrong.toml").starts_with("error: wrong.toml:2: invalid value 'x' for '--window <WINDOW>'"));
    assert!(message("train --config wrong.toml --window y").starts_with("error: invalid value 'y'"));
    assert!(message("train --config wrong.toml --window 8 --layers 0").starts_with("error: --layers is 0"));
    refuses(folder.path(), "train --config missing.toml", &["missing.toml"]);
}

#[test]
fn a_forecast_goes_on_at_the_series_own_step() {
    let folder = folder();
    for (options, columns) in [
        ("", "date,north,south"),
        ("--window-norm none", "date,north,south"),
        ("--channels mixed --loss quantile", "date,north q0.1,north q0.5,north q0.9,south q0.1"),
    ] {
        succeeds(folder.path(), &format!("train --model mamba {SMALL} {options} --checkpoint a.safetensors"));
        for (horizon, n_row) in [("", 6), ("--horizon 15", 15)] {
            succeeds(folder.path(), &format!("forecast --checkpoint a.safetensors --device cpu --csv loads.csv {horizon}"));
            let text = std::fs::read_to_string(folder.path().join("forecast.csv")).expect("rows");
            let mut lines = text.lines();
            assert!(lines.next().is_some_and(|header| header.starts_with(columns)), "{text}");
            let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
            assert_eq!(rows.len(), n_row);
            for (row, cells) in rows.iter().enumerate() {
                assert_eq!(cells[0], hour(240 + row));
                let values: Vec<f64> = cells[1..].iter().map(|cell| cell.parse().expect("a number")).collect();
                assert!(values.iter().all(|value| (50.0..200.0).contains(value)), "{cells:?}");
                if values.len() == 6 {
                    assert!(values.chunks(3).all(|levels| levels.is_sorted()), "{cells:?}");
                }
            }
            assert!(is_png(&folder.path().join("forecast.png")));
        }
    }
    let covariate = SMALL.replace("--targets all", "--targets north --features all");
    succeeds(folder.path(), &format!("train --model mamba {covariate} --checkpoint b.safetensors"));
    refuses(folder.path(), "forecast --checkpoint b.safetensors --device cpu --csv loads.csv --horizon 7", &["--horizon", "south"]);
    succeeds(folder.path(), "forecast --checkpoint b.safetensors --device cpu --csv loads.csv");
    let short: String = loads(240).lines().take(11).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("short.csv"), short).expect("written");
    refuses(folder.path(), "forecast --checkpoint b.safetensors --device cpu --csv short.csv", &["short.csv", "24"]);
}

/// Of rows to come only the covariate is known: they are forecast, and not filled with the target's last value.
#[test]
fn a_forecast_begins_after_the_targets_last_value() {
    let folder = folder();
    let covariate = SMALL.replace("--targets all", "--targets north --features all");
    succeeds(folder.path(), &format!("train --model mamba {covariate} --checkpoint a.safetensors"));
    succeeds(folder.path(), "forecast --checkpoint a.safetensors --device cpu --csv loads.csv --out want.csv");
    let to_come: String = (240..250).map(|row| format!("{},,100\n", hour(row))).collect();
    std::fs::write(folder.path().join("more.csv"), loads(240) + &to_come).expect("written");
    let text = succeeds(folder.path(), "forecast --checkpoint a.safetensors --device cpu --csv more.csv --missing forward-fill");
    assert!(text.contains("more.csv: 10 rows after the targets' last values are left out"), "{text}");
    let forecast = |file: &str| std::fs::read_to_string(folder.path().join(file)).expect("rows");
    assert_eq!(forecast("forecast.csv"), forecast("want.csv"));
}

/// A hybrid whose window holds a key-value cache, and not the window's rows, has a cache for as many rows as are forecast.
#[test]
fn a_hybrid_forecasts_further_than_its_cache_of_a_stream() {
    let folder = folder();
    let train = "train --model hybrid --csv loads.csv --targets north --window 8 --hidden 8 --epochs 1 --window-norm none --device cpu";
    succeeds(folder.path(), &format!("{train} --checkpoint hybrid.safetensors"));
    succeeds(folder.path(), "forecast --checkpoint hybrid.safetensors --csv loads.csv --device cpu --horizon 1100");
    let forecast = std::fs::read_to_string(folder.path().join("forecast.csv")).expect("a forecast");
    assert_eq!(forecast.lines().count(), 1101);
}

#[test]
fn a_comparison_shows_models_and_baselines_over_seeds() {
    let folder = folder();
    let text = succeeds(
        folder.path(),
        &format!("compare --models min-gru-scan,mamba-lab --seeds 2 {SMALL} --linear-skip none --json figures.json"),
    );
    for part in ["min-gru-scan, seed 1", "mamba-lab", "persistence", "drift", "linear", "+-"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(is_png(&folder.path().join("compare.png")));
    let figures = json(&folder.path().join("figures.json"));
    let entries = figures["entries"].as_array().expect("entries");
    let model = entries.iter().find(|entry| entry["name"] == "mamba-lab").expect("an entry");
    assert_eq!(model["evaluations"].as_array().map(Vec::len), Some(2));
    assert!(model["mse_deviation"].as_f64().is_some_and(|deviation| deviation > 0.0));
    assert_eq!(figures["part"], "test");
    refuses(folder.path(), &format!("compare --seeds 0 {SMALL}"), &["--seeds"]);
    refuses(folder.path(), &format!("compare --models lstm {SMALL}"), &["--models", "lstm"]);
}

#[test]
fn a_backtest_sees_nothing_of_what_comes_after_an_origin() {
    let folder = folder();
    let options = "--device cpu --targets north --window 24 --horizon 6 --hidden 8 --batch 16 --epochs 2 --origins 3 --test-rows 20";
    let origins = |csv: &str, more: &str| {
        succeeds(folder.path(), &format!("backtest --model min-gru-scan --csv {csv} {options} {more} --json figures.json"));
        json(&folder.path().join("figures.json"))["origins"].as_array().expect("origins").clone()
    };
    let whole = origins("loads.csv", "");
    assert_eq!(whole.iter().map(|origin| origin["row"].as_u64()).collect::<Vec<_>>(), [Some(180), Some(200), Some(220)]);
    assert_eq!(whole[0]["date"], hour(180));
    assert_eq!(whole[2]["model"]["n_window"], 15);
    assert!(is_png(&folder.path().join("backtest/backtest.png")) && is_png(&folder.path().join("backtest/origin-03.png")));
    // What comes after the second origin's rows is another story: the first two must not know.
    std::fs::write(folder.path().join("changed.csv"), loads(220)).expect("written");
    let changed = origins("changed.csv", "");
    assert_eq!(whole[..2], changed[..2]);
    assert_ne!(whole[2]["model"], changed[2]["model"]);

    let kept = origins("loads.csv", "--no-refit");
    assert_eq!(kept[0], whole[0]);
    for origin in whole.iter().chain(&kept) {
        let mse = |name: &str| origin["baselines"][name]["overall"]["scaled"]["mse"].as_f64().expect("a figure");
        assert!(mse("seasonal-naive-24") < mse("persistence") && mse("linear") < mse("drift"), "{origin}");
        assert_eq!(origin["persistence"], origin["baselines"]["persistence"]);
    }
    let shown = succeeds(folder.path(), &format!("backtest --model min-gru-scan --csv loads.csv {options}"));
    let rows = shown.split("mean of 3 origins").nth(1).expect("a table").lines().skip(2).map(|line| line.split(' ').next());
    let names = ["min-gru-scan", "persistence", "seasonal-naive-24", "drift", "linear"];
    assert_eq!(rows.take(5).collect::<Vec<_>>(), names.map(Some), "{shown}");
    assert!(kept[1]["best_epoch"].is_null() && kept[1]["model"] != whole[1]["model"]);
    let once = succeeds(folder.path(), &format!("backtest --model min-gru-scan --csv loads.csv {options} --no-refit --sliding 100"));
    assert!(once.contains("Trained at the first origin only.") && !once.contains("Each origin uses"), "{once}");
    assert!(shown.contains("Each origin uses all rows before it."), "{shown}");
    let sliding = origins("loads.csv", "--sliding 100");
    assert!(sliding.iter().all(|origin| origin["training_rows"] == 80));
    refuses(folder.path(), "backtest --device cpu --csv loads.csv --targets north --origins 300", &["--origins", "300"]);
    for (option, rows) in [("--sliding 30", 30), ("--sliding 100 --origins 11", 20)] {
        let parts = [option.rsplit(' ').nth(1).expect("an option"), &format!("only {rows} rows"), "need 38"];
        refuses(
            folder.path(),
            &format!("backtest --model min-gru-scan --csv loads.csv {options} {option}").replacen("--origins 3 ", "", 1),
            &parts,
        );
    }
    refuses(folder.path(), "train --model min-gru --device cpu --csv loads.csv --targets north,north", &["--targets", "north twice"]);
    let wave = "train --model min-gru --device cpu --csv loads.csv --targets north --features north,calendar:day.sin.1";
    refuses(folder.path(), wave, &["--features", "calendar:day.sin.1 is read by --calendar on"]);
    refuses(
        folder.path(),
        "backtest --device cpu --csv loads.csv --targets north --window 24 --horizon 6 --test-rows 3",
        &["--test-rows", "3"],
    );
}

/// A reader that goes away, as `head` does, takes nothing from a training; no file that is read is written over.
#[test]
fn a_run_ends_whole_without_a_reader_and_leaves_what_it_reads() {
    let folder = folder();
    let mut train = command(folder.path(), &format!("train --model min-gru-scan {SMALL} --run-dir unread"));
    let mut child = train.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("the binary ends").code(), Some(0));
    assert!(folder.path().join("unread/report.html").exists());
    #[cfg(target_os = "linux")]
    {
        let full = std::fs::File::create("/dev/full").expect("a device");
        let output = command(folder.path(), "devices").stdout(full).output().expect("the binary runs");
        assert_eq!((output.status.code(), stderr(&output).contains("could not be written")), (Some(2), true), "{}", stderr(&output));
    }
    let forecast = "forecast --checkpoint unread/best.safetensors --device cpu --csv loads.csv";
    refuses(folder.path(), &format!("{forecast} --out loads.csv"), &["loads.csv: is read by this command"]);
    refuses(folder.path(), &format!("{forecast} --picture unread/../loads.csv"), &["is read by this command"]);
    refuses(folder.path(), &format!("{forecast} --picture loads.jpg"), &["--picture", "must end in .png"]);
    refuses(folder.path(), &format!("train --model min-gru-scan {SMALL} --checkpoint loads.csv"), &["is read by this command"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("loads.csv")).expect("rows"), loads(240));
    // a batch that training had is no reason not to score fewer windows
    let short: String = loads(240).lines().take(60).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("short.csv"), short).expect("written");
    let evaluate = "evaluate --checkpoint unread/best.safetensors --device cpu --csv short.csv";
    succeeds(folder.path(), &format!("{evaluate} --split 0.6,0.4"));
}

#[test]
fn a_search_halves_goes_on_and_leaves_its_best() {
    let folder = folder();
    let space = "csv = \"loads.csv\"\ndevice = \"cpu\"\ntargets = \"all\"\nwindow = 24\nhorizon = 6\nbatch = 16\nlinear-skip = \"none\"\nhidden = [4, 8]\n\
        model = [\"min-gru-scan\", \"mamba-lab\"]\nlr = { min = 1e-3, max = 1e-1, log = true }\n";
    std::fs::write(folder.path().join("space.toml"), space).expect("written");
    let search = "tune --space space.toml --trials 4 --halving 2 --epochs 4";
    let text = succeeds(folder.path(), search);
    assert!(text.contains("round 3"), "{text}");
    assert_eq!(text.matches("data: read 240 rows").count(), 1, "{text}");
    let trials = || std::fs::read_to_string(folder.path().join("tune/trials.csv")).expect("trials");
    let first = trials();
    assert_eq!(first.lines().count(), 1 + 4 + 2 + 1);
    // A search that was cut off ends as one that was not.
    let cut: String = first.lines().take(4).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("tune/trials.csv"), cut).expect("written");
    succeeds(folder.path(), search);
    assert_eq!(trials(), first);
    let trained = succeeds(folder.path(), "train --config tune/best.toml");
    let best = first.lines().last().expect("a row").split(',').nth(3).expect("a figure").parse::<f64>().expect("a number");
    assert!(trained.contains(&format!("{:.6e}", best)), "{best} is not in\n{trained}");

    refuses(folder.path(), "tune --space space.toml --trials 4 --seed 1 --epochs 4", &["trials.csv", "other options"]);
    std::fs::write(folder.path().join("space.toml"), space.replace("window = 24", "window = 12")).expect("written");
    refuses(folder.path(), search, &["trials.csv", "other options", "window 24"]);
    std::fs::write(folder.path().join("space.toml"), space.replace("horizon = 6", "horizon = [1, 6]")).expect("written");
    refuses(folder.path(), "tune --space space.toml --out-dir other", &["space.toml", "horizon", "do not compare"]);
    std::fs::write(folder.path().join("space.toml"), "model = \"mamba\"\nlrr = [1]\n").expect("written");
    refuses(folder.path(), "tune --space space.toml --out-dir other", &["space.toml", "--lrr"]);
    std::fs::write(folder.path().join("space.toml"), "model = \"mamba\"\nlr = [0.1, -1]\n").expect("written");
    refuses(folder.path(), "tune --space space.toml --out-dir other", &["space.toml: --lr is -1"]);
    std::fs::write(folder.path().join("space.toml"), space).expect("written");
    std::fs::write(folder.path().join("loads.csv"), loads(200)).expect("written");
    refuses(folder.path(), search, &["trials.csv", "other values of the series"]);
}

#[test]
fn what_is_shown_is_in_chinese_where_that_is_asked_for() {
    let folder = folder();
    let text = succeeds(folder.path(), &format!("train --model min-gru-scan {SMALL} --lang zh"));
    for part in ["数据：读取 240 行", "设备：", "第   1 轮", "测试", "持续性", "检查点：", "运行目录："] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let report = std::fs::read_to_string(folder.path().join("runs/min-gru-scan/report.html")).expect("a report");
    assert!(report.contains("lang=\"zh-CN\"") && report.contains("第 1 步 MSE"));
    let text = succeeds(folder.path(), &format!("compare --models min-gru-scan --seeds 1 {SMALL} --lang zh"));
    assert!(text.contains("种子 0") && text.contains("图片："), "{text}");
    let space = "model = \"min-gru-scan\"\ncsv = \"loads.csv\"\nlang = \"zh\"\nhidden = [4, 8]\n";
    std::fs::write(folder.path().join("space.toml"), space).expect("written");
    let text = succeeds(folder.path(), "tune --space space.toml --trials 1 --epochs 1");
    assert!(text.contains("窗口：") && text.contains("试验") && !text.contains("round"), "{text}");
}

/// Ctrl-C in the middle of a training; what goes on from there ends with the bits of a training that nobody stopped.
#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_with_the_same_bits() {
    let folder = folder();
    let small = SMALL.replace("--epochs 2", "--epochs 900 --optimizer adam --patience 900");
    let train = format!("train --model min-gru {small}");
    succeeds(folder.path(), &format!("{train} --run-dir whole"));
    let (child, cut) = (under_way(folder.path(), &train, 1), folder.path().join("cut"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs").success());
    let output = child.wait_with_output().expect("the binary ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("scanrnn train --resume cut"), "{text}");
    assert!(!cut.join("best.safetensors").exists());
    let goes_on = succeeds(folder.path(), "train --resume cut");
    assert!(goes_on.contains("epoch 900") && !goes_on.contains("epoch   1 "), "{goes_on}");
    for file in ["best.safetensors", "last.safetensors"] {
        let read = |run: &str| scanrnn::checkpoint::Tensors::parse(file, &std::fs::read(folder.path().join(run).join(file)).expect(file));
        assert!(read("whole").expect(file).tensors == read("cut").expect(file).tensors, "{file}");
    }
    let lines = std::fs::read_to_string(cut.join("metrics.jsonl")).expect("lines");
    assert_eq!(lines.lines().count(), 901, "an epoch each, once");
    refuses(folder.path(), "train --resume nowhere", &["nowhere"]);
    refuses(folder.path(), "train --resume cut --window 12", &["other", "begin anew"]);
    std::fs::write(folder.path().join("loads.csv"), loads(200)).expect("written");
    refuses(folder.path(), "train --resume cut", &["other values of the series"]);
}

/// Saving as often as can be changes no bit, and a process that is killed loses what came after the last time alone.
#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_with_the_same_bits() {
    let folder = folder();
    let small = SMALL.replace("--epochs 2", "--epochs 300 --optimizer adam --patience 300");
    let train = format!("train --model min-gru-scan {small}");
    succeeds(folder.path(), &format!("{train} --run-dir whole"));
    let mut child = under_way(folder.path(), &format!("{train} --save-every 0"), 2);
    let cut = folder.path().join("cut");
    let lines = || std::fs::read_to_string(cut.join("metrics.jsonl")).expect("lines");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!cut.join("best.safetensors").exists(), "it was killed in time");
    // an epoch that was written down after the last time that the run was saved
    let ahead = lines().lines().last().expect("a line").replace("\"epoch\":", "\"epoch\":29");
    std::fs::write(cut.join("metrics.jsonl"), format!("{}{ahead}\n", lines())).expect("written");
    succeeds(folder.path(), "train --resume cut --save-every 0.5");
    let read = |run: &str, file: &str| std::fs::read(folder.path().join(run).join(file)).expect("a file");
    assert!(read("whole", "best.safetensors") == read("cut", "best.safetensors"), "the same bits");
    let epochs = |run: &str| {
        let text = String::from_utf8(read(run, "metrics.jsonl")).expect("text");
        text.lines().filter(|line| line.contains("\"epoch\"")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(epochs("whole"), epochs("cut"));
}

#[test]
fn window_and_normalisation_are_chosen_where_they_are_not_given_and_recorded() {
    let folder = folder();
    let options = "--device cpu --csv loads.csv --targets north --horizon 2 --batch 16 --epochs 2 --split 0.6,0.2,0.2";
    let text = succeeds(folder.path(), &format!("train --model min-gru-scan {options} --run-dir first"));
    assert!(text.contains("window: 32 rows, normalised by "), "{text}");
    let config = std::fs::read_to_string(folder.path().join("first/config.toml")).expect("a configuration");
    assert!(config.contains("window = 32") && config.contains("window-norm = "), "{config}");
    let again = succeeds(folder.path(), "train --config first/config.toml --run-dir second");
    assert!(!again.contains("window: 32 rows"), "{again}");
    let scores = |text: &str| text.lines().filter(|line| line.starts_with("min-gru-scan")).map(String::from).collect::<Vec<_>>();
    assert_eq!(scores(&text), scores(&again));
    assert!(config.contains("epochs = 2"), "{config}");
    let long =
        succeeds(folder.path(), "train --model min-gru-scan --device cpu --csv loads.csv --targets north --run-dir long --patience 1");
    assert!(long.contains("window: 32 rows"), "{long}");
    assert!(std::fs::read_to_string(folder.path().join("long/config.toml")).expect("a configuration").contains("epochs = 100"));
    // a series too short for the lab's window
    let few: String = loads(240).lines().take(61).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("few.csv"), few).expect("written");
    let few = "train --model min-gru-scan --device cpu --csv few.csv --targets north --horizon 3 --batch 4 --epochs 1";
    assert!(succeeds(folder.path(), few).contains("window: 8 rows"));
}

#[test]
fn the_batch_follows_from_the_windows_and_is_recorded() {
    let folder = folder();
    // 24 training rows are 16 windows of 8 and a step; 20 targets of a window are 20 series.
    let short: String = loads(240).lines().take(31).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.path().join("short.csv"), short).expect("written");
    let names = (0..20).map(|column| format!(",c{column}")).collect::<String>();
    let wide = (0..200).map(|row| format!("{row}{}\n", (0..20).map(|column| format!(",{}", (row * column) % 7)).collect::<String>()));
    std::fs::write(folder.path().join("wide.csv"), format!("row{names}\n{}", wide.collect::<String>())).expect("written");
    for (csv, batch) in [("short.csv --targets north", 16), ("wide.csv --targets all --features all", 12)] {
        succeeds(folder.path(), &format!("train --model min-gru-scan --csv {csv} --epochs 1 --device cpu --run-dir {batch}"));
        let config = std::fs::read_to_string(folder.path().join(format!("{batch}/config.toml"))).expect("a configuration");
        assert!(config.contains(&format!("batch = {batch}\n")), "{config}");
    }
    // 160 windows: five rows of a batch walk through 32 rows each, four steps of 8
    let carried = "--carry-state --window-norm none --calendar off --window 8 --batch 5 --horizon 1 --hidden 4 --lr 1e-9 --run-dir carried";
    let carried = format!("train --model min-gru-scan --csv loads.csv --targets north --split 168,72 {carried} --device cpu");
    succeeds(folder.path(), &carried);
    let config = std::fs::read_to_string(folder.path().join("carried/config.toml")).expect("a configuration");
    assert!(config.contains("epochs = 100\n"), "{config}");
}

#[test]
fn a_model_starts_as_the_linear_map_and_keeps_it_where_no_epoch_is_better() {
    let folder = folder();
    let options = format!("train --model min-gru-scan {SMALL} --json figures.json");
    let text = succeeds(folder.path(), &format!("{options} --lr 0.5 --patience 2 --run-dir run"));
    assert!(text.contains("min-gru-scan: no epoch of 2 was 1 % better than the start, whose parameters are kept."), "{text}");
    let figures = json(&folder.path().join("figures.json"));
    let mse = |kind: &str, name: &str| figures["test"][kind][name]["overall"]["scaled"]["mse"].as_f64().expect("a figure");
    let (model, linear) = (mse("models", "min-gru-scan"), mse("baselines", "linear"));
    assert!((model - linear).abs() <= 1e-2 * linear, "{model} is not {linear}");
    let compared = succeeds(folder.path(), &format!("compare --models min-gru-scan --seeds 2 {SMALL} --lr 0.5 --patience 2"));
    assert!(compared.contains("min-gru-scan: in 2 of 2 trainings no epoch was 1 % better than the start"), "{compared}");
    let space = "model = \"min-gru-scan\"\ncsv = \"loads.csv\"\ndevice = \"cpu\"\ntargets = \"all\"\nwindow = 24\nhorizon = 6\nhidden = 8\nlr = [0.5]\n";
    std::fs::write(folder.path().join("start.toml"), space).expect("written");
    let searched = succeeds(folder.path(), "tune --space start.toml --trials 1 --epochs 2 --out-dir start");
    assert!(searched.contains("trial 0: no epoch of 2 was 1 % better than the start, whose parameters are kept."), "{searched}");
    // gains too small to be kept still rank trials
    let range = space.replace("[0.5]", "{ min = 1e-10, max = 1e-8, log = true }");
    std::fs::write(folder.path().join("small.toml"), range).expect("written");
    succeeds(folder.path(), "tune --space small.toml --trials 3 --halving 4 --epochs 1 --out-dir small");
    let trials = std::fs::read_to_string(folder.path().join("small/trials.csv")).expect("trials");
    let errors: BTreeSet<&str> = trials.lines().skip(1).filter_map(|line| line.split(',').nth(3)).collect();
    assert!(errors.len() > 1, "{trials}");
    let evaluated = succeeds(folder.path(), "evaluate --checkpoint run/best.safetensors --device cpu --csv loads.csv --json again.json");
    assert!(evaluated.contains("min-gru-scan"), "{evaluated}");
    let again = json(&folder.path().join("again.json"));
    assert_eq!(figures["test"]["models"]["min-gru-scan"]["overall"], again["test"]["models"]["min-gru-scan"]["overall"]);
}

#[test]
fn nothing_that_is_read_or_written_is_written_over() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("a file");
    let train = format!("train --model min-gru-scan {SMALL}");
    // a configuration of the user's own, and one that a run would leave in its place
    std::fs::create_dir(path("own")).expect("a folder");
    let config = "# mine\nmodel = \"min-gru-scan\"\ncsv = \"loads.csv\"\ndevice = \"cpu\"\nwindow = 24\n";
    std::fs::write(path("own/config.toml"), config).expect("written");
    refuses(folder.path(), "train --config own/config.toml --run-dir own", &["own/config.toml", "is read by this command"]);
    refuses(folder.path(), &format!("{train} --run-dir own"), &["own", "holds a run"]);
    assert_eq!(read("own/config.toml"), config);
    // a run that is not gone on with
    succeeds(folder.path(), &format!("{train} --run-dir run"));
    let metrics = read("run/metrics.jsonl");
    refuses(folder.path(), "train --resume run --lr 0.5", &["other settings (learning_rate was ", ", now 0.5)"]);
    refuses(folder.path(), "train --resume run --epochs 20", &["other settings (epochs was 2, now 20)"]);
    refuses(folder.path(), "train --resume run --hidden 4", &["another model (hidden was 8, now 4)"]);
    assert_eq!(read("run/metrics.jsonl"), metrics);
    // two outputs of one name
    refuses(folder.path(), &format!("{train} --run-dir two --json x --checkpoint x"), &["x", "is written by this command already"]);
    refuses(folder.path(), &format!("{train} --run-dir own2 --json ./own/../own/config.toml --config own/config.toml"), &["is read"]);
    refuses(folder.path(), "forecast --checkpoint run/best.safetensors --csv loads.csv --out x.png --picture x.png", &["x.png"]);
    refuses(folder.path(), "train --resume run --json run/config.toml", &["run/config.toml", "is read by this command"]);
    refuses(folder.path(), "train --resume run --json run/best.safetensors", &["run/best.safetensors", "is read by this command"]);
    refuses(folder.path(), "bench --device cpu --csv loads.csv --targets north --profile loads.csv", &["loads.csv", "is read"]);
    refuses(
        folder.path(),
        "bench-op linear --device cpu --json x.json --profile x.json",
        &["x.json", "is written by this command already"],
    );
}

#[test]
fn a_search_compares_like_with_like_and_its_best_can_be_trained() {
    let folder = folder();
    let tune = |space: &str| {
        std::fs::write(folder.path().join("space.toml"), space).expect("written");
        "tune --space space.toml --trials 1 --epochs 1 --out-dir out"
    };
    let base = "model = \"min-gru-scan\"\ncsv = \"loads.csv\"\ndevice = \"cpu\"\nwindow = 24\n";
    refuses(folder.path(), tune(&format!("{base}features = [\"north\", \"south\"]\n")), &["features", "do not compare"]);
    refuses(folder.path(), tune(&format!("{base}resume = \"run\"\n")), &["resume", "single run"]);
    refuses(folder.path(), tune(&format!("{base}linear-skip = [true, false]\n")), &["space.toml", "--linear-skip"]);
    // trials with other windows are scored on the same rows, or not at all
    let panel = (0..120).map(|row| format!("{row},a,{}\n", row % 7)).chain((0..30).map(|row| format!("{row},b,{}\n", row % 5)));
    std::fs::write(folder.path().join("panel.csv"), format!("row,shop,sold\n{}", panel.collect::<String>())).expect("written");
    let of_panel = base.replace("loads.csv\"", "panel.csv\"\nid = \"shop\"\ntargets = \"sold\"").replace("window = 24", "window = [8, 28]");
    std::fs::write(folder.path().join("space.toml"), of_panel).expect("written");
    refuses(
        folder.path(),
        "tune --space space.toml --trials 8 --epochs 1 --out-dir panel",
        &["space.toml", "--window is 28", "b has too few"],
    );
    // nothing is recommended where nothing was learned
    let diverging = format!("{base}lr = [1e30]\noptimizer = \"sgd\"\nlinear-skip = \"none\"\n");
    refuses(folder.path(), &tune(&diverging).replace("--out-dir out", "--out-dir wild"), &["trials.csv", "diverged"]);
    assert!(!folder.path().join("wild/best.toml").exists());
    succeeds(folder.path(), tune(&format!("{base}column = \"north\"\nfeatures = [\"north\", \"south\"]\n")));
    succeeds(folder.path(), "train --config out/best.toml --run-dir best");
}

#[test]
fn a_checkpoint_is_used_on_rows_that_are_said_and_named() {
    let folder = folder();
    let path = folder.path();
    succeeds(path, &format!("train --model min-gru-scan {SMALL} --run-dir run"));
    let evaluate = "evaluate --checkpoint run/best.safetensors --device cpu --csv loads.csv";
    let warning = |args: &str| stderr(&scanrnn(path, args));
    assert_eq!(warning(evaluate), "");
    assert!(warning(&format!("{evaluate} --split 0.3,0.3,0.4")).contains("seen in training"));
    refuses(path, "forecast --checkpoint run/best.safetensors --device cpu", &["prices of AAPL", "--csv"]);
    // shares that leave rows out, on a series that keeps its value
    let rows = (0..60).map(|row| format!("{row},7\n")).collect::<String>();
    std::fs::write(path.join("same.csv"), format!("row,sold\n{rows}")).expect("written");
    let same = "--device cpu --csv same.csv --targets sold --window 4 --hidden 4 --epochs 1 --split 0.7,0.1,0.1";
    for command in ["train --model min-gru-scan --run-dir same", "compare --models min-gru-scan --seeds 1"] {
        let text = succeeds(path, &format!("{command} {same}"));
        assert!(text.contains("--split 0.7,0.1,0.1 sum to less than 1: the newest 10"), "{text}");
        assert!(text.contains("persistence") && text.contains('–') && !text.contains("NaN"), "{text}");
    }
    let same = "backtest --model min-gru-scan --device cpu --csv same.csv --targets sold --window 4 --hidden 4 --epochs 1 --origins 2";
    let text = succeeds(path, same);
    assert!(text.contains("MSE / persistence: – +- – over 2 origins.") && !text.contains("NaN"), "{text}");
    // not a checkpoint, but beside one
    let beside = |name: &str, parts: &[&str]| refuses(path, &format!("forecast --checkpoint {name} --device cpu --csv loads.csv"), parts);
    beside("run/last.safetensors", &["a training goes on from", "name best.safetensors"]);
    beside("run", &["run: is a folder", "run/best.safetensors"]);
    // a time that no covariate is known of
    let covariate = "--targets north --features north,south --window 24 --horizon 6 --hidden 4 --epochs 1 --run-dir covariate";
    succeeds(path, &format!("train --model min-gru-scan --device cpu --csv loads.csv {covariate}"));
    let further = "forecast --checkpoint covariate/best.safetensors --device cpu --csv loads.csv --horizon 7";
    refuses(path, further, &["future values of south: train with --horizon 7"]);
    let carried = "train --model min-gru-scan --device cpu --csv loads.csv --targets all --carry-state --window-norm none --window 6";
    refuses(path, carried, &["--channels mixed"]);
    // a state that is carried comes from the first row, as in a stream
    let carried = "--window-norm none --carry-state --calendar off --targets north --window 6 --horizon 1 --hidden 8 --batch 4 --epochs 2";
    succeeds(path, &format!("train --model mamba --device cpu --csv loads.csv {carried} --run-dir carried"));
    succeeds(path, "forecast --checkpoint carried/best.safetensors --device cpu --csv loads.csv");
    let forecast = std::fs::read_to_string(path.join("forecast.csv")).expect("rows");
    let mut stream = command(path, "stream --checkpoint carried/best.safetensors --device cpu");
    let output = stream.stdin(std::fs::File::open(path.join("loads.csv")).expect("rows")).output().expect("the binary runs");
    let streamed = String::from_utf8(output.stdout).expect("text");
    let number = |text: &str| text.lines().last().expect("a row").split(',').next_back().expect("a cell").parse::<f64>().expect("a number");
    assert!((number(&forecast) - number(&streamed)).abs() < 1e-4, "{forecast} {streamed}");
    // series by name, and dates that keep no step
    let days = (0..60).scan(0, |day, row| {
        *day += 1 + row * row % 5;
        Some(format!("2024-{:02}-{:02}", 1 + *day / 28, 1 + *day % 28))
    });
    let lines = days.enumerate().map(|(row, day)| format!("{day},a,{row}\n{day},b,{}\n", row % 7));
    std::fs::write(path.join("two.csv"), format!("day,shop,sold\n{}", lines.collect::<String>())).expect("written");
    succeeds(
        path,
        "train --model min-gru-scan --device cpu --csv two.csv --id shop --window 4 --hidden 4 --epochs 1 --season 1 --run-dir two",
    );
    let output = scanrnn(path, "forecast --checkpoint two/best.safetensors --device cpu --csv two.csv --id shop");
    assert!(output.status.success() && stderr(&output).contains("no regular step"), "{output:?}");
    let forecast = std::fs::read_to_string(path.join("forecast.csv")).expect("rows");
    assert!(forecast.starts_with("shop,ahead,sold\na,1,") && forecast.contains("\nb,1,"), "{forecast}");
    // the checkpoint knows the column that tells them apart, which a file must have
    succeeds(path, "forecast --checkpoint two/best.safetensors --device cpu --csv two.csv --out again.csv");
    assert_eq!(std::fs::read_to_string(path.join("again.csv")).expect("rows"), forecast);
    let two = std::fs::read_to_string(path.join("two.csv")).expect("rows");
    let nameless = two.lines().filter(|line| !line.contains(",b,")).map(|line| line.replace(",shop", "").replace(",a,", ",") + "\n");
    std::fs::write(path.join("nameless.csv"), nameless.collect::<String>()).expect("written");
    let nameless = "forecast --checkpoint two/best.safetensors --device cpu --csv nameless.csv";
    refuses(path, nameless, &["was trained on 2 series, not 1; give --id and the column that tells these series apart: a, b"]);
    refuses(path, "backtest --device cpu --csv two.csv --id shop", &["--csv is 2 series", "give a CSV file of that series alone"]);
    // a series that no window fits in is left out
    let lines = std::fs::read_to_string(path.join("two.csv")).expect("rows");
    std::fs::write(path.join("three.csv"), format!("{lines}2024-01-01,c,1\n2024-01-02,c,2\n")).expect("written");
    succeeds(
        path,
        "train --model min-gru-scan --device cpu --csv three.csv --id shop --window 4 --hidden 4 --epochs 1 --season 1 --run-dir three",
    );
    let text = succeeds(path, "forecast --checkpoint three/best.safetensors --device cpu --csv three.csv --id shop");
    assert!(text.contains("1 of 3 series have no window and are left out: c"), "{text}");
    let forecast = std::fs::read_to_string(path.join("forecast.csv")).expect("rows");
    assert!(forecast.contains("\nb,1,") && !forecast.contains("\nc,"), "{forecast}");
}

#[test]
fn a_forecast_beyond_the_horizon_is_that_of_its_own_rows_appended() {
    let folder = folder();
    let path = folder.path();
    let train =
        "train --model mamba --device cpu --csv loads.csv --targets north --calendar off --window 8 --horizon 2 --hidden 4 --epochs 1";
    succeeds(path, &format!("{train} --window-norm none --linear-skip none --run-dir run"));
    let forecast = |csv: &str, horizon: usize| {
        succeeds(path, &format!("forecast --checkpoint run/best.safetensors --device cpu --csv {csv} --horizon {horizon}"));
        std::fs::read_to_string(path.join("forecast.csv")).expect("rows")
    };
    let (four, two) = (forecast("loads.csv", 4), forecast("loads.csv", 2));
    let appended = two.lines().skip(1).map(|line| format!("{line},0\n")).collect::<String>();
    std::fs::write(path.join("longer.csv"), loads(240) + &appended).expect("written");
    let further = forecast("longer.csv", 2);
    let numbers = |text: &str| {
        text.lines().skip(1).map(|line| line.split(',').nth(1).expect("a cell").parse::<f64>().expect("a number")).collect::<Vec<_>>()
    };
    let (got, want) = (numbers(&four), [numbers(&two), numbers(&further)].concat());
    assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-3), "{got:?} is not {want:?}");
}

#[test]
fn series_of_several_files_are_known_by_their_names() {
    let folder = folder();
    let path = folder.path();
    for (name, level) in [("big.csv", 4e4), ("small.csv", 50.0)] {
        let rows = (0..120).map(|row| format!("{row},{}\n", level * (1.0 + 0.1 * (f64::from(row) / 5.0).sin())));
        std::fs::write(path.join(name), format!("row,sold\n{}", rows.collect::<String>())).expect("written");
    }
    let train = "train --model min-gru-scan --device cpu --csv big.csv --csv small.csv --targets sold --window 8 --hidden 4 --epochs 1";
    succeeds(path, &format!("{train} --window-norm none --linear-skip none --run-dir two"));
    std::fs::create_dir(path.join("moved")).expect("a folder");
    std::fs::rename(path.join("small.csv"), path.join("moved/small.csv")).expect("moved");
    std::fs::rename(path.join("big.csv"), path.join("moved/big.csv")).expect("moved");
    succeeds(path, "forecast --checkpoint two/best.safetensors --device cpu --csv moved/small.csv --csv moved/big.csv");
    let forecast = std::fs::read_to_string(path.join("forecast.csv")).expect("rows");
    let of = |name: &str| {
        let line = forecast.lines().find(|line| line.contains(name)).expect("a series");
        line.split(',').next_back().expect("a cell").parse::<f64>().expect("a number")
    };
    assert!(of("small.csv") < 100.0 && of("big.csv") > 2e4, "{forecast}");
    // one of them alone, and one that is not among them
    let small = "forecast --checkpoint two/best.safetensors --device cpu --csv moved/small.csv";
    succeeds(path, small);
    let alone = std::fs::read_to_string(path.join("forecast.csv")).expect("rows");
    assert!(
        alone.lines().nth(1).is_some_and(|line| line.split(',').next_back().expect("a cell").parse::<f64>().expect("a number") < 100.0)
    );
    std::fs::copy(path.join("moved/big.csv"), path.join("other.csv")).expect("copied");
    refuses(path, &format!("{small} --csv other.csv"), &["was not trained on the series other.csv", "big.csv"]);
}

#[test]
fn a_checkpoint_takes_rows_as_they_come() {
    let folder = folder();
    let path = folder.path();
    // times of day that keep no step: the calendar of rows to come is not needed within the model's own horizon
    let minutes = (0..240).scan(0, |minute, row| {
        *minute += 20 + row * row % 61;
        Some(*minute)
    });
    let rows = minutes.enumerate().map(|(row, minute)| {
        format!("2024-01-{:02} {:02}:{:02},{}\n", 1 + minute / 1440, minute / 60 % 24, minute % 60, (row as f64 / 7.0).sin())
    });
    std::fs::write(path.join("uneven.csv"), format!("date,load\n{}", rows.collect::<String>())).expect("written");
    succeeds(
        path,
        "train --model min-gru-scan --device cpu --csv uneven.csv --window 8 --horizon 4 --hidden 4 --epochs 1 --run-dir uneven",
    );
    let forecast = "forecast --checkpoint uneven/best.safetensors --device cpu --csv uneven.csv";
    succeeds(path, forecast);
    refuses(path, &format!("{forecast} --horizon 5"), &["no step"]);
    // years of two digits, which go from 2068 to 1969
    let rows: String =
        (0..240).map(|row| format!("{}/12/68 {:02}:00,{:.3}\n", 22 + row / 24, row % 24, (row as f64 / 7.0).sin())).collect();
    std::fs::write(path.join("short.csv"), format!("date,load\n{rows}")).expect("written");
    let forecast = forecast.replace("uneven.csv", "short.csv");
    succeeds(path, &forecast);
    refuses(path, &format!("{forecast} --horizon 5"), &["short.csv: the dates of the rows to come would not be read as times"]);
    // rows that have none to train on are scored
    let train = "train --model min-gru-scan --device cpu --csv loads.csv --targets north --calendar off --window 16 --hidden 4 --epochs 1";
    succeeds(path, &format!("{train} --run-dir run"));
    let short: String = loads(240).lines().take(25).map(|line| format!("{line}\n")).collect();
    std::fs::write(path.join("short.csv"), &short).expect("written");
    let text = succeeds(path, "evaluate --checkpoint run/best.safetensors --device cpu --csv short.csv --split 0.05,0.95");
    assert!(text.contains("persistence") && !text.contains("NaN"), "{text}");
    // no forecast is made of what float32 cannot hold
    std::fs::write(path.join("wild.csv"), format!("{short}2024-01-02 00:00:00,1e300,1\n")).expect("written");
    refuses(path, "forecast --checkpoint run/best.safetensors --device cpu --csv wild.csv", &["wild.csv", "1e300 is beyond float32"]);
}
