//! The commands through the binary: results, exit codes, messages.

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::without_gpu;
use scanrnn::checkpoint::Checkpoint;
use scanrnn::cpu::Cpu;
use scanrnn::dataset::{Columns, Table, Windows};
use scanrnn::train::{Evaluator, Series};
use serde_json::Value;
use tempfile::TempDir;

/// A run in an empty folder; `args` are split at spaces.
fn scanrnn(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scanrnn")).current_dir(folder).args(args.split_whitespace()).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `scanrnn stream` over lines of standard input.
fn stream(folder: &Path, checkpoint: &str, device: &str, input: &str) -> Output {
    stream_by(folder, checkpoint, device, input, &[])
}

fn stream_by(folder: &Path, checkpoint: &str, device: &str, input: &str, options: &[&str]) -> Output {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_scanrnn"));
    command.current_dir(folder).args(["stream", "--checkpoint", checkpoint, "--device", device]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // A command that has refused its checkpoint reads nothing.
    let _ = child.stdin.take().expect("standard input").write_all(input.as_bytes());
    child.wait_with_output().expect("the binary ends")
}

/// A folder with `prices.csv`: a hundred days of a wave.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write_prices(folder.path(), "prices.csv", |row| format!("{:.4}", 50.0 + 10.0 * (row as f64 / 9.0).sin()));
    folder
}

fn write_prices(folder: &Path, name: &str, close: impl Fn(usize) -> String) {
    let days = (0..100).map(|row| format!("2020-{:02}-{:02},{}\n", 1 + row / 28, 1 + row % 28, close(row)));
    std::fs::write(folder.join(name), format!("Date,Close\n{}", days.collect::<String>())).expect("written");
}

/// Expects exit code 2, one line of error with every part of `parts`, and no new file.
fn refuses(folder: &Path, args: &str, parts: &[&str]) {
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    let output = scanrnn(folder, args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args}: {message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{args}: {message}");
    for part in parts {
        assert!(message.contains(part), "{args}: {part:?} is not in {message:?}");
    }
    assert_eq!(files(), before, "{args}");
}

const SMALL: &str = "--window 8 --hidden 8 --batch 8 --epochs 2";

#[test]
fn bench_compares_models_and_leaves_picture_and_figures() {
    let folder = folder();
    let output = scanrnn(folder.path(), &format!("bench --device cpu --csv prices.csv --models all {SMALL} --json figures.json"));
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for part in ["device: CPU", "min-gru-scan", "mamba-lab", "epoch   2", "persistence", "ms a step", "picture: "] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(std::fs::read(folder.path().join("mamba_vs_mingru.png")).expect("a picture").starts_with(b"\x89PNG"));
    let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
    assert_eq!(figures["device"], "cpu");
    assert!(figures["first_step_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    for model in ["min-gru", "min-gru-scan", "mamba-lab", "mamba"] {
        let figures = &figures["models"][model];
        assert_eq!(figures["epochs"].as_array().map(Vec::len), Some(2), "{model}");
        for path in ["/epochs/0/train_mse", "/epochs/1/valid_mse", "/metrics/mse", "/metrics/rmse", "/metrics/mae", "/metrics/r2"] {
            assert!(figures.pointer(path).is_some_and(Value::is_number), "{model}{path}");
        }
        for name in ["ms_per_step", "tokens_per_second", "cpu_ms_per_step", "first_step_seconds"] {
            assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{model} {name}");
        }
    }
    assert!(figures["persistence"]["mse"].as_f64().is_some_and(|mse| mse > 0.0));
}

#[test]
fn a_profile_is_a_table_and_a_trace_of_every_kernel() {
    let folder = folder();
    let gpu = if without_gpu() { "cpu" } else { "gpu" };
    let trace = |name: &str| -> Vec<Value> {
        let trace: Value = serde_json::from_slice(&std::fs::read(folder.path().join(name)).expect("a trace")).expect("JSON");
        trace["traceEvents"].as_array().expect("events").clone()
    };
    for device in ["cpu", gpu] {
        let bench = format!("bench --device {device} --csv prices.csv {SMALL} --profile");
        let output = scanrnn(folder.path(), &bench);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        for part in [
            "GFLOP/s",
            "floor ms",
            "the device at most",
            "selective_scan_backward",
            "linear_backward",
            "sgd",
            "trace: ./scanrnn_trace.json",
        ] {
            let part = if part == "sgd" && device == "cpu" { "optimizer" } else { part };
            assert!(text.contains(part), "{device}: {part:?} is not in\n{text}");
        }
        let events = trace("scanrnn_trace.json");
        let named: Vec<_> = events.iter().filter(|event| event["ph"] == "M").map(|event| &event["args"]["name"]).collect();
        assert_eq!(named, ["min-gru", "mamba"]);
        let mut end = 0.0;
        for event in events.iter().filter(|event| event["ph"] == "X" && event["tid"] == 1) {
            let [start, duration] = ["ts", "dur"].map(|name| event[name].as_f64().expect("a number"));
            assert!(start >= end - 1.0 && duration >= 0.0, "{device}: {event} begins before {end}");
            end = start + duration;
        }
        assert!(end > 0.0);
    }
    let output = scanrnn(folder.path(), "bench-op linear --device cpu --batch 2 --length 8 --channels 16 --profile linear.json");
    assert!(output.status.success() && stdout(&output).contains("linear_backward"), "{}", stderr(&output));
    assert!(trace("linear.json").len() > 2);
    refuses(folder.path(), "bench --device cpu --csv prices.csv --profile nowhere/trace.json", &["nowhere/trace.json"]);
}

/// What was compiled is kept in the user's cache folder where the driver allows it; nothing there can hinder a run.
#[test]
fn compiled_kernels_are_kept_and_damaged_ones_left_out() {
    if without_gpu() {
        return;
    }
    let folder = folder();
    let run = |cache: &Path| {
        let args = format!("bench --device gpu --models min-gru-scan --csv prices.csv {SMALL} --json figures.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_scanrnn"));
        command.current_dir(folder.path()).args(args.split_whitespace()).env("XDG_CACHE_HOME", cache);
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
        figures["models"]["min-gru-scan"]["metrics"].clone()
    };
    let cache = folder.path().join("cache");
    let first = run(&cache);
    for file in std::fs::read_dir(cache.join("scanrnn")).into_iter().flatten() {
        let path = file.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("readable");
        let last = bytes.last_mut().expect("not empty");
        *last = last.wrapping_add(1);
        std::fs::write(&path, bytes).expect("written");
    }
    assert_eq!(run(&cache), first);
    std::fs::write(folder.path().join("file"), "").expect("written");
    assert_eq!(run(&folder.path().join("file")), first);
}

#[test]
fn a_table_of_kernels_chooses_and_is_recorded() {
    let folder = folder();
    refuses(folder.path(), "tune-kernels softmax", &["softmax", "linear"]);
    refuses(folder.path(), "tune-kernels --device cpu", &["--device", "GPU"]);
    if without_gpu() {
        return;
    }
    let output = scanrnn(folder.path(), "tune-kernels rms_norm --device gpu --out table.json --lang zh");
    assert!(output.status.success(), "{}", stderr(&output));
    for part in ["设备：", "各内核的毫秒数", "表：table.json"] {
        assert!(stdout(&output).contains(part), "{}", stdout(&output));
    }
    let read = || -> Value { serde_json::from_slice(&std::fs::read(folder.path().join("table.json")).expect("a table")).expect("JSON") };
    let mut table = read();
    for row in table["rows"].as_array_mut().expect("rows") {
        assert_eq!(row["ms"].as_object().map(serde_json::Map::len), Some(2), "{row}");
        row["kernel"] = "group".into();
    }
    std::fs::write(folder.path().join("table.json"), table.to_string()).expect("written");
    let bench = format!("bench --device gpu --models mamba --csv prices.csv {SMALL} --json figures.json");
    let run = |options: &str| {
        let output = scanrnn(folder.path(), &format!("{bench} {options}"));
        assert!(output.status.success(), "{}", stderr(&output));
        let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
        (figures["kernels"].clone(), figures["models"]["mamba"]["metrics"].clone())
    };
    let chosen = run("--kernel-table table.json");
    assert_eq!(chosen.0, "table table.json");
    assert_eq!(run("--kernel-table table.json").1, chosen.1);
    assert_eq!(run("--kernel-table table.json --kernel rms_norm=group").1, chosen.1);
    table["driver"] = "another".into();
    std::fs::write(folder.path().join("table.json"), table.to_string()).expect("written");
    refuses(folder.path(), &format!("{bench} --kernel-table table.json"), &["table.json", "another", "tune-kernels"]);
    refuses(folder.path(), &format!("{bench} --kernel-table none.json"), &["none.json"]);
    std::fs::write(folder.path().join("table.json"), "{}").expect("written");
    refuses(folder.path(), &format!("{bench} --kernel-table table.json"), &["table.json", "not a table"]);
}

#[test]
fn a_kernel_that_the_device_does_not_have_is_refused() {
    let folder = folder();
    let bench = format!("bench --device cpu --models mamba --csv prices.csv {SMALL}");
    refuses(folder.path(), &format!("{bench} --kernel selective_scan=chunked"), &["--kernel", "--device"]);
    refuses(folder.path(), &format!("{bench} --kernel-table table.json"), &["--kernel-table", "--device"]);
    if std::env::var("WGPU_BACKEND").is_ok_and(|backend| backend == "gl") {
        let bench = format!("bench --device gpu --models mamba --csv prices.csv {SMALL}");
        refuses(folder.path(), &format!("{bench} --kernel selective_scan=subgroup"), &["selective_scan=subgroup", "subgroup operations"]);
    }
}

#[test]
fn layers_directions_dropout_and_carried_states_train_for_every_model() {
    let folder = folder();
    for options in ["--layers 2 --bidirectional --dropout 0.2", "--layers 2 --window-norm none --carry-state"] {
        let output =
            scanrnn(folder.path(), &format!("bench --device cpu --csv prices.csv --models all {SMALL} {options} --json figures.json"));
        assert!(output.status.success(), "{options}: {}", stderr(&output));
        let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
        for (name, model) in figures["models"].as_object().expect("models") {
            assert!(model["metrics"]["mse"].as_f64().is_some_and(|mse| mse > 0.0), "{name} {options}");
        }
        let trained = scanrnn(
            folder.path(),
            &format!("train --model mamba --device cpu --csv prices.csv {SMALL} {options} --checkpoint mamba.safetensors"),
        );
        assert!(trained.status.success(), "{options}: {}", stderr(&trained));
        let scored = scanrnn(folder.path(), "evaluate --checkpoint mamba.safetensors --device cpu --csv prices.csv");
        let row = |output: &Output| {
            let text = stdout(output);
            text.lines().find(|line| line.starts_with("mamba ") && !line.contains("epoch")).map(str::to_string)
        };
        assert!(row(&trained).is_some() && row(&trained) == row(&scored), "{options}: {}", stderr(&scored));
    }
    let bench = "bench --device cpu --csv prices.csv";
    refuses(folder.path(), &format!("{bench} --carry-state"), &["--carry-state", "--window-norm none"]);
    refuses(folder.path(), &format!("{bench} --carry-state --window-norm none --bidirectional"), &["--carry-state", "--bidirectional"]);
    refuses(folder.path(), &format!("{bench} --carry-state --window-norm none --batch 32"), &["--batch", "--window"]);
    refuses(folder.path(), &format!("{bench} --dropout 0.1"), &["--dropout", "--layers"]);
    refuses(folder.path(), &format!("{bench} --layers 2 --dropout 1"), &["--dropout", "below 1"]);
}

/// A trained model's forecasts of the validation windows, in the column's unit, and the row after which the first is made.
fn validation_forecasts(folder: &Path, checkpoint: &str) -> (Vec<f64>, usize, Vec<f64>) {
    let bytes = std::fs::read(folder.join(checkpoint)).expect("a checkpoint");
    let Checkpoint { description, tensors } = Checkpoint::parse(checkpoint, &bytes).expect("a checkpoint");
    let table = Table::read_csv(&folder.join("prices.csv"), Columns::Named(&["Close"])).expect("prices");
    let windows = Windows::with_scalers(std::slice::from_ref(&table), &description.layout, description.scalers.clone()).expect("windows");
    let series = Series::new(windows.values(), windows.train().clone(), windows.valid().clone());
    let evaluator = Evaluator::new(&description.model, &description.training, &series).expect("as trained");
    let parameters = tensors.parameters(checkpoint, evaluator.graph()).expect("as trained");
    let forecasts = pollster::block_on(evaluator.forecast(&Cpu, &series, &series.valid, &parameters)).expect("forecasts");
    let forecasts = forecasts.iter().map(|&value| description.scalers[0][0].inverse(f64::from(value))).collect();
    (forecasts, windows.valid().get(0).expect("a window"), table.columns().next().expect("a column").to_vec())
}

#[test]
fn a_stream_prints_the_forecasts_of_the_validation() {
    let folder = folder();
    let gpu = if without_gpu() { "cpu" } else { "gpu" };
    for model in ["min-gru", "min-gru-scan", "mamba-lab", "mamba"] {
        for options in ["--layers 2 --window-norm last", "--window-norm none", "--layers 2 --window-norm none --carry-state"] {
            let trained = scanrnn(
                folder.path(),
                &format!("train --model {model} --device cpu --csv prices.csv {SMALL} {options} --checkpoint a.safetensors"),
            );
            assert!(trained.status.success(), "{}", stderr(&trained));
            let (want, first, values) = validation_forecasts(folder.path(), "a.safetensors");
            let rows: String = values[first..].iter().map(|value| format!("{value}\n")).collect();
            let with_header: String = values[first..].iter().map(|value| format!("x,{value}\n")).collect();
            let with_header = format!("Date,Close\n{with_header}");
            for (device, input) in [("cpu", &rows), ("cpu", &with_header), (gpu, &rows)] {
                let output = stream(folder.path(), "a.safetensors", device, input);
                assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
                let text = stdout(&output);
                let lines: Vec<&str> = text.lines().collect();
                assert_eq!(lines.len(), values.len() - first, "{model} {options}");
                assert_eq!(lines[0].is_empty(), !options.contains("--carry-state"));
                for (line, want) in lines[7..].iter().zip(&want) {
                    let got: f64 = line.parse().expect("a number");
                    assert!((got - want).abs() < 1e-5 * want.abs(), "{model} {options} on {device}: {got} is not {want}");
                }
            }
        }
    }
}

#[test]
fn a_stream_by_steps_goes_on_where_a_window_ends() {
    let folder = folder();
    let train = |options: &str| {
        let train = format!("train --model mamba --device cpu --csv prices.csv {SMALL} {options} --checkpoint a.safetensors");
        assert!(scanrnn(folder.path(), &train).status.success());
    };
    let rows: String = (0..12).map(|row| format!("{}\n", 50 + row * row % 7)).collect();
    let forecasts = |options: &[&str]| -> Vec<f64> {
        let output = stream_by(folder.path(), "a.safetensors", "cpu", &rows, options);
        stdout(&output).lines().map(|line| line.parse().unwrap_or(f64::NAN)).collect()
    };
    train("--window-norm none");
    let (windows, steps) = (forecasts(&[]), forecasts(&["--steps"]));
    assert!(windows[..7].iter().all(|value| value.is_nan()) && steps.iter().all(|value| value.is_finite()));
    assert!((windows[7] - steps[7]).abs() < 1e-5 * steps[7] && windows[8] != steps[8], "{windows:?} {steps:?}");
    for options in ["--window-norm last", "--window-norm none --linear-skip shared"] {
        train(options);
        refuses(folder.path(), "stream --checkpoint a.safetensors --device cpu --steps", &["--steps is given", "--window-norm none"]);
    }
}

/// A day of 24 hours and its load, with a delimiter and a decimal mark.
fn hourly(n_row: usize, delimiter: char, mark: &str) -> String {
    let row = |row: usize| {
        let load = format!("{:.2}", 20.0 + 5.0 * (0.26 * row as f64).sin() + 0.01 * row as f64).replace('.', mark);
        format!("2024-01-{:02} {:02}:00{delimiter}{load}\n", 1 + row / 24, row % 24)
    };
    format!("time{delimiter}load\n") + &(0..n_row).map(row).collect::<String>()
}

#[test]
fn a_stream_takes_a_file_as_it_was_trained_on() {
    let folder = folder();
    std::fs::write(folder.path().join("hourly.csv"), hourly(200, ';', ",")).expect("a file");
    let options = "--csv hourly.csv --device cpu --hidden 8 --epochs 1 --window 8 --checkpoint a.safetensors";
    let trained = scanrnn(folder.path(), &format!("train --model min-gru-scan {options}"));
    assert!(trained.status.success(), "{}", stderr(&trained));
    let forecast = scanrnn(folder.path(), "forecast --checkpoint a.safetensors --csv hourly.csv --device cpu --out next.csv");
    assert!(forecast.status.success(), "{}", stderr(&forecast));
    let forecast = std::fs::read_to_string(folder.path().join("next.csv")).expect("a forecast");
    let want: f64 = forecast.lines().nth(1).and_then(|line| line.split(',').nth(1)).expect("a value").parse().expect("a number");
    for (delimiter, mark) in [(';', ","), ('\t', "."), (',', ".")] {
        let output = stream(folder.path(), "a.safetensors", "cpu", &hourly(200, delimiter, mark));
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let last: f64 = text.lines().last().expect("a line").parse().expect("a number");
        assert!(text.lines().count() == 200 && (last - want).abs() < 1e-4, "{delimiter:?}: {last}, {want}");
    }
    let refuses = |input: &str, parts: &[&str]| {
        let output = stream(folder.path(), "a.safetensors", "cpu", input);
        let message = stderr(&output);
        assert!(output.status.code() == Some(2) && parts.iter().all(|part| message.contains(part)), "{input:?}: {message}");
    };
    refuses("20.5\n", &["standard input:1", "no header", "column of dates"]);
    refuses("load;other\n20,5;1\n", &["standard input:2", "no column of dates with times"]);
    refuses("date;load\n2024-01-31;20,5\n", &["standard input:2", "no column of dates with times", "--date"]);
    refuses("time;load\n2024-01-31 16:00;20,512\n", &["load is \"20,512\"", "write it as 20.512"]);
    refuses("time;load\n20,5\n", &["standard input:2", "1 cells where 2"]);
    let twice = "time;load\n2024-01-31 16:00;20,5\n2024-01-31 16:00;20,5\n";
    refuses(twice, &["standard input:3", "the date \"2024-01-31 16:00\" is there twice"]);
    let back = "time;load\n2024-01-31 16:00;20,5\n2024-01-31 15:00;20,5\n";
    refuses(back, &["standard input:3", "the date \"2024-01-31 15:00\" comes after \"2024-01-31 16:00\""]);
    let other = "time;load\n2024-01-31 16:00;20,5\n31.01.2024 17:00;20,5\n";
    refuses(other, &["standard input:3", "\"31.01.2024 17:00\" is not a date like \"2024-01-31 16:00\""]);
    refuses("time;load\n2024-01-31 16:00;20,5\nnoon;20,5\n", &["standard input:3", "\"noon\" is not a date", "2024-01-31 16:00"]);
}

/// Once one run in thirty was killed while it exited: the driver's libraries were unloaded before the process was done with them.
#[test]
fn runs_on_a_gpu_exit_in_peace() {
    if without_gpu() {
        return;
    }
    let folder = folder();
    let trained = scanrnn(folder.path(), &format!("train --model mamba --device cpu --csv prices.csv {SMALL} --checkpoint a.safetensors"));
    assert!(trained.status.success(), "{}", stderr(&trained));
    let runs = || (0..10).map(|_| stream(folder.path(), "a.safetensors", "gpu", "50\n51\n")).collect::<Vec<_>>();
    let threads: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(runs)).collect();
        threads.into_iter().map(|thread| thread.join().expect("runs")).collect()
    });
    for output in threads.iter().flatten() {
        assert!(output.status.success(), "{}: {}", output.status, stderr(output));
    }
}

#[test]
fn a_stream_refuses_bad_rows_and_what_needs_the_future() {
    let folder = folder();
    let train = |options: &str| {
        let trained = scanrnn(
            folder.path(),
            &format!("train --model mamba --device cpu --csv prices.csv {SMALL} {options} --checkpoint mamba.safetensors"),
        );
        assert!(trained.status.success(), "{}", stderr(&trained));
    };
    let refuses = |input: &str, parts: &[&str]| {
        let output = stream(folder.path(), "mamba.safetensors", "cpu", input);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{input:?}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{input:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{input:?}: {part:?} is not in {message:?}");
        }
    };
    train("--window-norm none --carry-state");
    refuses("50\n51\nhigh\n", &["standard input:3", "Close", "high"]);
    refuses("Close\n50\nNaN\n", &["standard input:3", "NaN", "--missing"]);
    refuses("50\n51,52\n", &["standard input:2", "2 cells"]);
    refuses("Date,Price\n2020-01-01,50\n", &["standard input:1", "Close"]);
    refuses("Date,Close\n2020-01-01\n", &["standard input:2", "1 cells where 2"]);
    assert_eq!(stdout(&stream(folder.path(), "mamba.safetensors", "cpu", "")), "");
    let dropped = stream_by(folder.path(), "mamba.safetensors", "cpu", "Close\n50\nNaN\n51\n", &["--missing", "drop"]);
    let whole = stream(folder.path(), "mamba.safetensors", "cpu", "50\n51\n");
    assert_eq!(stdout(&dropped), stdout(&whole).replacen('\n', "\n\n", 1), "{}", stderr(&dropped));
    train("--bidirectional");
    refuses("50\n", &["mamba.safetensors", "bidirectional"]);
}

#[test]
fn two_runs_with_one_seed_give_the_same_bits() {
    let folder = folder();
    let run = |name: &str, seed: usize| {
        let args = format!("train --model mamba --device cpu --csv prices.csv {SMALL} --seed {seed} --checkpoint {name}");
        let output = scanrnn(folder.path(), &args);
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(folder.path().join(name)).expect("a checkpoint")
    };
    let (first, second, other) = (run("a.safetensors", 1), run("b.safetensors", 1), run("c.safetensors", 2));
    assert!(first == second);
    assert!(first != other);
}

#[test]
fn a_checkpoint_scores_as_its_training_did() {
    let folder = folder();
    let trained =
        scanrnn(folder.path(), &format!("train --model min-gru --device cpu --csv prices.csv {SMALL} --checkpoint min-gru.safetensors"));
    assert!(trained.status.success(), "{}", stderr(&trained));
    let scored = scanrnn(folder.path(), "evaluate --checkpoint min-gru.safetensors --device cpu --csv prices.csv");
    assert!(scored.status.success(), "{}", stderr(&scored));
    let scores = |output: &Output| {
        let text = stdout(output);
        let row = text.lines().find(|line| line.starts_with("min-gru ") && !line.contains("epoch"));
        row.unwrap_or_else(|| panic!("no scores in\n{text}")).to_string()
    };
    assert_eq!(scores(&trained), scores(&scored));
}

/// What only a training asks for is not asked of the series that a checkpoint is scored on.
#[test]
fn a_checkpoint_scores_on_a_series_too_short_to_train_on() {
    let folder = folder();
    let prices = std::fs::read_to_string(folder.path().join("prices.csv")).expect("prices");
    std::fs::write(folder.path().join("short.csv"), prices.lines().take(40).map(|line| format!("{line}\n")).collect::<String>())
        .expect("written");
    for options in ["--schedule cosine --warmup-steps 10", "--window-norm none --carry-state"] {
        let train = format!("train --model min-gru --device cpu --csv prices.csv {SMALL} {options} --checkpoint min-gru.safetensors");
        let trained = scanrnn(folder.path(), &train);
        assert!(trained.status.success(), "{options}: {}", stderr(&trained));
        let scored = scanrnn(folder.path(), "evaluate --checkpoint min-gru.safetensors --device cpu --csv short.csv");
        assert!(scored.status.success(), "{options}: {}", stderr(&scored));
    }
}

#[test]
fn mambas_train_and_score_with_the_sizes_they_were_given() {
    let folder = folder();
    for (options, sizes) in [
        ("--model mamba --d-state 5 --d-conv 7 --expand 3", [5, 7, 3]),
        ("--model hybrid --d-state 3 --d-conv 2 --expand 1", [3, 2, 1]),
        ("--model mamba-lab --d-state 6", [6, 4, 2]),
    ] {
        let train = format!("train {options} --device cpu --csv prices.csv {SMALL} --checkpoint sized.safetensors");
        let trained = scanrnn(folder.path(), &train);
        assert!(trained.status.success(), "{options}: {}", stderr(&trained));
        let bytes = std::fs::read(folder.path().join("sized.safetensors")).expect("a checkpoint");
        let model = Checkpoint::parse("sized.safetensors", &bytes).expect("a checkpoint").description.model;
        assert_eq!([model.d_state, model.d_conv, model.expand], sizes, "{options}");
        let scored = scanrnn(folder.path(), "evaluate --checkpoint sized.safetensors --device cpu --csv prices.csv");
        assert!(scored.status.success(), "{options}: {}", stderr(&scored));
    }
}

#[test]
fn a_hybrid_trains_and_scores_with_the_heads_it_was_given() {
    let folder = folder();
    let train =
        |options: &str| format!("train --model hybrid --device cpu --csv prices.csv {SMALL} {options} --checkpoint hybrid.safetensors");
    let trained = scanrnn(folder.path(), &train("--layers 3 --attention-every 3 --heads 2"));
    assert!(trained.status.success(), "{}", stderr(&trained));
    let scored = scanrnn(folder.path(), "evaluate --checkpoint hybrid.safetensors --device cpu --csv prices.csv");
    assert!(scored.status.success(), "{}", stderr(&scored));
    let trained = scanrnn(folder.path(), &train("--window-norm none"));
    assert!(trained.status.success(), "{}", stderr(&trained));
    let by_steps = |n_row: usize| stream_by(folder.path(), "hybrid.safetensors", "cpu", &"50\n".repeat(n_row), &["--steps"]);
    let streamed = by_steps(1024);
    assert_eq!(stdout(&streamed).lines().count(), 1024, "{}", stderr(&streamed));
    let overflown = by_steps(1025);
    assert_eq!(overflown.status.code(), Some(2));
    assert!(stderr(&overflown).contains("1024 steps") && stderr(&overflown).contains("--cache"), "{}", stderr(&overflown));
    let more = scanrnn(folder.path(), "stream --checkpoint hybrid.safetensors --device cpu --steps --cache 2048");
    assert!(more.status.success(), "{}", stderr(&more));
    let train_other =
        format!("train --model min-gru --window-norm none --device cpu --csv prices.csv {SMALL} --checkpoint other.safetensors");
    assert!(scanrnn(folder.path(), &train_other).status.success());
    for options in ["hybrid.safetensors", "other.safetensors --steps"] {
        let stream = format!("stream --checkpoint {options} --device cpu --cache 2048");
        refuses(folder.path(), &stream, &["--cache is given: it needs a hybrid and --steps"]);
    }
    refuses(folder.path(), &train("--heads 3"), &["--heads", "3", "--hidden 8"]);
    refuses(folder.path(), &train("--attention-every 3"), &["--attention-every", "--layers 2"]);
    refuses(folder.path(), &train("--bidirectional"), &["--bidirectional", "causal"]);
    refuses(folder.path(), &train("--carry-state --window-norm none"), &["--carry-state", "cache"]);
}

#[test]
fn without_a_file_the_series_is_synthetic_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = scanrnn(folder.path(), "bench --device cpu --models min-gru --window 8 --hidden 8 --epochs 1 --json figures.json");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("SYNTHETIC"), "{}", stdout(&output));
    assert!(folder.path().join("synthetic_stock_data.csv").exists());
    let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
    assert_eq!(figures["data"]["synthetic"], true);
}

#[test]
fn bad_files_are_refused() {
    let folder = folder();
    let path = folder.path();
    let bench = |csv: &str| format!("bench --device cpu --csv {csv} {SMALL}");
    refuses(path, &bench("missing.csv"), &["missing.csv"]);
    std::fs::write(path.join("empty.csv"), "").expect("written");
    refuses(path, &bench("empty.csv"), &["empty.csv"]);
    refuses(path, &format!("{} --column Price", bench("prices.csv")), &["prices.csv", "Price", "Close"]);
    for (name, cell) in [("text.csv", "high"), ("hole.csv", ""), ("nan.csv", "NaN"), ("inf.csv", "inf")] {
        write_prices(path, name, |row| if row == 40 { cell.into() } else { row.to_string() });
        refuses(path, &bench(name), &[name, "42", "Close"]);
    }
    std::fs::write(path.join("order.csv"), "Date,Close\n2020-01-02,1\n2020-01-03,2\n2020-01-01,3\n").expect("written");
    refuses(path, &bench("order.csv"), &["order.csv", "4", "2020-01-01"]);
    std::fs::write(path.join("short.csv"), "Date,Close\n2020-01-02,1\n2020-01-03,2\n").expect("written");
    refuses(path, &bench("short.csv"), &["short.csv", "rows"]);
}

#[test]
fn bad_options_are_refused() {
    let folder = folder();
    let path = folder.path();
    let bench = "bench --device cpu --csv prices.csv";
    refuses(path, &format!("{bench} --window 0"), &["--window", "at least 1"]);
    refuses(path, &format!("{bench} --batch 0"), &["--batch", "at least 1"]);
    refuses(path, &format!("{bench} --hidden 0"), &["--hidden", "at least 1"]);
    refuses(path, &format!("{bench} --epochs 0"), &["--epochs", "at least 1"]);
    refuses(path, &format!("{bench} --window 8 --batch 500"), &["--batch", "500"]);
    refuses(path, &format!("{bench} --lr nan"), &["--lr"]);
    refuses(path, &format!("{bench} --models gru"), &["--models", "gru", "min-gru"]);
    refuses(path, "bench --csv prices.csv --device nonsense", &["nonsense"]);
    refuses(path, "bench-op linear --batch 0 --device cpu", &["--batch"]);
    refuses(path, "bench-op linear --batch 1000000000 --length 1000000000 --device cpu", &["--length", "take fewer"]);
    refuses(path, "bench-op linear --channels 18446744073709551615 --device cpu", &["--channels", "take fewer"]);
    refuses(path, "evaluate --checkpoint prices.csv --device cpu", &["prices.csv", "safetensors"]);
    refuses(path, "check --golden nowhere --device cpu", &["nowhere"]);
}

#[test]
fn options_of_another_choice_or_out_of_range_are_refused() {
    let folder = folder();
    let refused = |options: &str, parts: &[&str]| refuses(folder.path(), &format!("bench --device cpu --csv prices.csv {options}"), parts);
    refused("--optimizer adam --momentum 0.9", &["--momentum", "--optimizer sgd or rmsprop"]);
    refused("--nesterov", &["momentum", "Nesterov"]);
    refused("--betas 0.9,0.999", &["--betas", "adam"]);
    refused("--optimizer adam --alpha 0.9", &["--alpha", "rmsprop"]);
    refused("--quantiles 0.5", &["--quantiles", "--loss quantile"]);
    refused("--loss quantile --quantiles 0.5,1.5", &["quantile", "between 0 and 1"]);
    refused("--loss huber --huber-delta 0", &["delta", "above 0"]);
    refused("--warmup-steps 3", &["--warmup-steps", "--schedule cosine"]);
    refused("--schedule plateau --plateau-factor 2", &["--plateau-factor", "between 0 and 1"]);
    refused("--window 8 --batch 8 --schedule cosine --warmup-steps 1000", &["--warmup-steps", "must be below"]);
    refused("--clip-norm=-1", &["--clip-norm", "above 0"]);
    refused("--clip-value 0", &["--clip-value", "above 0"]);
    refused("--l1=-1", &["--l1", "0 or more"]);
    refused("--weight-decay nan", &["--weight-decay"]);
    refused("--schedule cosine --min-lr 0.1 --lr 0.01 --window 8 --batch 8", &["--min-lr is 0.1: must be at most --lr 0.01"]);
    refused("--lr -1", &["--lr is -1: must be a finite number above 0"]);
    refused("--heads 2", &["--heads is 2: it is an option of hybrid"]);
    refused("--models all --attention-every 3", &["--attention-every is 3: it is an option of hybrid"]);
    refused("--models mamba-lab --d-conv 3", &["--d-conv is 3: it is an option of mamba, hybrid"]);
    refused("--models min-gru --d-state 8", &["--d-state is 8: it is an option of mamba-lab, mamba, hybrid"]);
    refused("--models mamba --d-conv 1", &["--d-conv is 1: must be at least 2"]);
    refused("--models hybrid,mamba --heads 3 --hidden 8", &["--heads", "--hidden 8"]);
    refused("--loss quantile --quantiles 0.1,0.9", &["--quantiles is 0.1,0.9: 0.5 must be one of them"]);
    refused("--epochs 18446744073709551615", &["--epochs", "must be at most"]);
    let output = scanrnn(folder.path(), "train --model mamba --window -1");
    let message = "error: invalid value '-1' for '--window <WINDOW>': it must be a whole number from 0 to 2^64 - 1\n\n";
    assert!(output.status.code() == Some(2) && stderr(&output).starts_with(message), "{}", stderr(&output));
    refused("--patience 0", &["--patience", "at least 1"]);
}

#[test]
fn every_training_option_trains_and_its_checkpoint_scores_the_same() {
    let folder = folder();
    let small = "--device cpu --csv prices.csv --window 8 --hidden 8 --batch 8";
    for options in [
        "--optimizer sgd --momentum 0.9 --nesterov --schedule plateau --plateau-factor 0.5 --plateau-patience 1 --min-lr 0.001",
        "--optimizer adam --betas 0.8,0.9 --eps 1e-7 --loss mae --clip-norm 0",
        "--optimizer adamw --weight-decay 0.1 --loss huber --huber-delta 0.5 --clip-value 0.1",
        "--optimizer rmsprop --alpha 0.9 --momentum 0.5 --loss quantile --quantiles 0.05,0.5,0.95 --l1 1e-4",
        "--schedule cosine --warmup-steps 5 --epochs 3",
    ] {
        let trained = scanrnn(folder.path(), &format!("train --model min-gru {small} {options} --checkpoint min-gru.safetensors"));
        assert!(trained.status.success(), "{options}: {}", stderr(&trained));
        let scored = scanrnn(folder.path(), "evaluate --checkpoint min-gru.safetensors --device cpu --csv prices.csv");
        assert!(scored.status.success(), "{options}: {}", stderr(&scored));
        let scores = |output: &Output| {
            let text = stdout(output);
            text.lines().find(|line| line.starts_with("min-gru ") && !line.contains("epoch")).unwrap_or_default().to_string()
        };
        assert_eq!(scores(&trained), scores(&scored), "{options}");
        assert_eq!(stdout(&trained).contains("forecast of level 0.95"), options.contains("quantile"), "{}", stdout(&trained));
    }
}

#[test]
fn a_backbone_starts_from_published_names_and_what_does_not_fit_is_listed() {
    let folder = folder();
    let train = |options: &str| scanrnn(folder.path(), &format!("train --model mamba --device cpu --csv prices.csv {SMALL} {options}"));
    let trained = train("--layers 2 --checkpoint first.safetensors");
    assert!(trained.status.success(), "{}", stderr(&trained));
    let started = train("--layers 2 --init-from first.safetensors --checkpoint second.safetensors");
    assert!(started.status.success(), "{}", stderr(&started));
    let line = "first.safetensors: 21 tensors read into the backbone, 6 in the file not used; the other 6 start as usual";
    assert!(stdout(&started).contains(line), "{}", stdout(&started));
    let run =
        stdout(&started).lines().find_map(|line| line.strip_prefix("run: ")?.split_once(", report: ")).map(|(run, _)| run.to_string());
    let again = scanrnn(folder.path(), &format!("train --resume {}", run.expect("a folder")));
    assert!(again.status.success(), "{}", stderr(&again));
    let wrong =
        "train --device cpu --csv prices.csv --window 8 --batch 8 --epochs 1 --init-from first.safetensors --checkpoint c.safetensors";
    refuses(
        folder.path(),
        &format!("{wrong} --model mamba --hidden 8 --layers 3"),
        &["layers.2.norm.weight is missing", "layers.2.mixer.D"],
    );
    refuses(folder.path(), &format!("{wrong} --model mamba --hidden 6"), &["layers.0.mixer.A_log has shape [16, 16], expected [12, 16]"]);
    refuses(folder.path(), &format!("{wrong} --model min-gru"), &["--init-from", "--model mamba"]);
}

#[test]
fn early_stopping_ends_training_and_keeps_the_best_epoch() {
    let folder = folder();
    let args = "bench --device cpu --csv prices.csv --models min-gru --window 8 --hidden 8 --batch 8 --epochs 60 --lr 0.5 --patience 2 \
                --json figures.json";
    let output = scanrnn(folder.path(), args);
    assert!(output.status.success(), "{}", stderr(&output));
    let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
    let model = &figures["models"]["min-gru"];
    let valid: Vec<f64> = model["epochs"].as_array().expect("epochs").iter().filter_map(|epoch| epoch["valid_mse"].as_f64()).collect();
    let best = model["best_epoch"].as_u64().expect("a number") as usize;
    assert_eq!(valid.len(), best + 2, "{valid:?}");
    assert_eq!(valid.iter().copied().fold(f64::INFINITY, f64::min), valid[best - 1]);
    assert_eq!(model["metrics"]["mse"].as_f64(), Some(valid[best - 1]));
    assert!(stdout(&output).contains(&format!("the parameters are those of epoch {best}")), "{}", stdout(&output));
}

#[test]
fn a_learning_rate_that_diverges_is_refused() {
    let folder = folder();
    let args = "train --model min-gru --device cpu --csv prices.csv --window 8 --hidden 8 --batch 8 --epochs 5 --lr 1e30";
    refuses(folder.path(), args, &["loss", "--lr"]);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_training() {
    let folder = folder();
    let bench = "bench --device cpu --csv prices.csv";
    refuses(folder.path(), &format!("{bench} --out-dir prices.csv"), &["prices.csv"]);
    refuses(folder.path(), &format!("{bench} --json nowhere/figures.json"), &["there is no folder nowhere; create it"]);
    refuses(folder.path(), "train --model mamba --csv prices.csv --run-dir prices.csv/run --batch 500", &["prices.csv/run: cannot create"]);
    refuses(folder.path(), &format!("{bench} --json nowhere/figures.json"), &["nowhere/figures.json"]);
    refuses(folder.path(), "train --model mamba --csv prices.csv --checkpoint nowhere/a.safetensors", &["nowhere/a.safetensors"]);
}

#[test]
fn check_passes_the_cases_and_fails_a_wrong_one() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["rms_norm_0", "optimizer_adam", "train_0_min-gru"] {
        let file = format!("{name}.safetensors");
        std::fs::copy(golden.join(&file), folder.path().join(&file)).expect("copied");
    }
    let output = scanrnn(folder.path(), "check --golden . --device cpu");
    assert!(output.status.success(), "{}", stdout(&output));
    assert_eq!(stdout(&output).lines().last(), Some("3 passed, 0 failed"));
    let path = folder.path().join("rms_norm_0.safetensors");
    let mut bytes = std::fs::read(&path).expect("read");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&1e9f32.to_le_bytes());
    std::fs::write(&path, bytes).expect("written");
    let output = scanrnn(folder.path(), "check --golden . --device cpu");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().last(), Some("2 passed, 1 failed"));
}

#[test]
fn bench_op_compares_then_times() {
    let folder = tempfile::tempdir().expect("a folder");
    for op in ["selective_scan", "min_gru", "min_gru_scan", "attention", "mamba_mixer", "linear"] {
        let args = format!("bench-op {op} --batch 2 --length 20 --channels 8 --state 4 --device cpu --json op.json");
        let output = scanrnn(folder.path(), &args);
        assert!(output.status.success(), "{op}: {}", stderr(&output));
        assert!(stdout(&output).contains("compared with the reference"), "{}", stdout(&output));
        let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("op.json")).expect("figures")).expect("JSON");
        assert!(stdout(&output).contains("the device at most: copies"), "{}", stdout(&output));
        let times = ["forward_ms", "forward_floor_ms", "forward_backward_ms", "forward_backward_floor_ms", "tokens_per_second"];
        let rates = ["gb_per_s", "copy_gb_per_s", "multiply_add_gflop_per_s", "exponentials_g_per_s"];
        for name in times.into_iter().chain(rates) {
            assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{op} {name}");
        }
    }
}

#[test]
fn a_gpu_that_is_not_there_exits_2_and_names_a_package() {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_scanrnn"))
        .current_dir(folder.path())
        .env("WGPU_ADAPTER_NAME", "no such adapter")
        .args(["bench", "--device", "gpu", "--csv", "prices.csv"])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("mesa-vulkan-drivers"), "{}", stderr(&output));
}

#[test]
fn auto_takes_the_cpu_where_there_is_no_hardware_and_says_so() {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_scanrnn"))
        .current_dir(folder.path())
        .env("WGPU_ADAPTER_NAME", "no such adapter")
        .args(["train", "--model", "min-gru", "--csv", "prices.csv"])
        .args(SMALL.split(' '))
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("device: CPU"), "{}", stdout(&output));
}

#[test]
fn gpu_trains_as_the_cpu_does() {
    if without_gpu() {
        return;
    }
    let folder = folder();
    let output = scanrnn(folder.path(), &format!("bench --device gpu --csv prices.csv --models all,hybrid {SMALL} --json figures.json"));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "no driver noise");
    let figures: Value = serde_json::from_slice(&std::fs::read(folder.path().join("figures.json")).expect("figures")).expect("JSON");
    assert_eq!(figures["device"], "gpu");
    for (name, model) in figures["models"].as_object().expect("models") {
        let difference = model["largest_loss_difference"].as_f64().expect("a number");
        assert!(difference < 1e-3, "{name}: {difference}");
    }
}
