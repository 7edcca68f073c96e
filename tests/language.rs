//! `--lang zh`: every text has its Chinese, and every Chinese its text.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use clap::builder::StyledStr;
use scanrnn::cli::{Cli, FRAMES};
use scanrnn::report::chinese::CHINESE;

/// The paragraphs of every help text of a command and those below it.
fn help_texts(command: &clap::Command, texts: &mut BTreeSet<String>) {
    let mut add = |text: Option<&StyledStr>| {
        let text = text.map(ToString::to_string).unwrap_or_default();
        texts.extend(text.split("\n\n").filter(|paragraph| !paragraph.is_empty()).map(String::from));
    };
    add(command.get_about());
    add(command.get_long_about());
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        add(arg.get_help());
        add(arg.get_long_help());
        arg.get_possible_values().iter().for_each(|value| add(value.get_help()));
    }
    command.get_subcommands().for_each(|command| help_texts(command, texts));
}

/// The sentences of every `message!` in the sources of a folder.
fn sentences(folder: &Path, texts: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sentences(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("UTF-8");
            let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
            texts.extend(code.split("message!(").skip(1).filter_map(literal));
        }
    }
}

/// The string literal that code begins with.
fn literal(code: &str) -> Option<String> {
    let mut chars = code.trim_start().strip_prefix('"')?.chars().peekable();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                '\n' => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                escaped => text.push(escaped),
            },
            c => text.push(c),
        }
    }
}

#[test]
fn every_text_has_its_chinese_and_nothing_else_has() {
    let mut command = Cli::command();
    command.build();
    let mut texts: BTreeSet<String> = FRAMES.map(String::from).into();
    help_texts(&command, &mut texts);
    sentences(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut texts);
    for (english, chinese) in CHINESE {
        assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{english}");
    }
    let translated: BTreeSet<String> = CHINESE.iter().map(|(english, _)| (*english).into()).collect();
    assert_eq!(translated.len(), CHINESE.len(), "no text is translated twice");
    let missing: Vec<_> = texts.difference(&translated).collect();
    assert!(missing.is_empty(), "without Chinese: {missing:#?}");
    let unused: Vec<_> = translated.difference(&texts).collect();
    assert!(unused.is_empty(), "Chinese of nothing: {unused:#?}");
}

/// What the system says of a file that is missing: it stays as it is.
const SYSTEM: &str = "No such file or directory";

/// A run of the binary; `args` are split at spaces.
fn scanrnn(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scanrnn")).current_dir(folder).args(args.split_whitespace()).output().expect("the binary runs")
}

/// Whether a text has so many words of English in a row.
fn has_words(text: &str, count: usize) -> bool {
    let words = text.split_whitespace().map(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    words.collect::<Vec<_>>().windows(count).any(|words| words.iter().all(|&is_word| is_word))
}

/// Whether a text has a sentence of English.
fn has_english(text: &str) -> bool {
    has_words(text, 4)
}

#[test]
fn help_is_in_chinese_wherever_the_language_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let help = |args: &str| {
        let output = scanrnn(folder.path(), args);
        assert!(output.status.success(), "{args}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = help("--lang zh train --help");
    for part in
        ["用法：scanrnn train [选项]", "选项：", "训练：", "[默认：auto]", "[别名：--column]", "- auto：日期带有时刻时", "--lang <LANG>"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!has_english(&text), "{text}");
    assert_eq!(text, help("train --lang=zh --help"));
    assert_eq!(text, help("train --help --lang zh"));
    assert_eq!(help("help --lang zh"), help("--lang zh help"));
    assert_eq!(help("help train --lang=zh"), help("--lang zh help train"));
    for args in ["--help", "-h", "help", "stream --help", "bench -h", "tune-kernels --help", "bench-op -h"] {
        let text = help(&format!("--lang zh {args}"));
        assert!(text.contains("用法：") && !has_english(&text), "{text}");
    }
    assert!(has_english(&help("train --help")) && help("train --help").contains("Options:"));
}

#[test]
fn errors_and_notes_are_in_chinese() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).expect("written");
    let fails = |args: &str, parts: &[&str]| {
        let output = scanrnn(folder.path(), args);
        let message = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{args}: {message}");
        assert!(message.starts_with("错误：") && !has_english(&message.replace(SYSTEM, "")), "{args}: {message}");
        for part in parts {
            assert!(message.contains(part), "{args}: {part:?} is not in {message}");
        }
    };
    write("bad.csv", "Date,Close\n2024-01-01,1\n2024-01-02,x1\n");
    fails("train --model mamba --csv bad.csv --lang zh", &["bad.csv:3，列 Close：\"x1\" 不是数；请写成 1234.5 的形式，或选择其他列"]);
    fails("--lang zh train --model mamba --csv none.csv", &["none.csv：没有这个文件；请检查路径"]);
    fails("--lang zh train --model mamba --batch 0", &["--batch（0）：至少须为 1"]);
    fails("--lang zh train --model mamba --momentum 0.5", &["--momentum（已给出）：需要 --optimizer sgd 或 rmsprop"]);
    fails("--lang zh evaluate --checkpoint none.safetensors", &["none.safetensors：无法读取：", SYSTEM]);
    write("run.toml", "lang = \"zh\"\nmodel = \"mamba\"\nlayers = 0\n");
    fails("train --config run.toml", &["--layers（0）：至少须为 1"]);

    let hours = (0..200)
        .map(|row| format!("2024-01-{:02} {:02}:00,{}\n", 1 + (row + row / 50) / 24, (row + row / 50) % 24, (row as f64 / 7.0).sin()));
    write("loads.csv", &format!("date,load\n{}", hours.collect::<String>()));
    let train = "train --model min-gru-scan --device cpu --csv loads.csv --window 8 --hidden 4 --epochs 1 --lang zh";
    let output = scanrnn(folder.path(), train);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("loads.csv：有 3 个间隔（共 199 个）不是 1 小时，第一个在第 52 行之前"), "{text}");
    assert!(!has_english(&text), "{text}");
}

#[test]
fn command_lines_are_refused_in_chinese() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |args: &str, parts: &[&str]| {
        let output = scanrnn(folder.path(), args);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{args}: {text}");
        assert!(text.starts_with("错误：") && text.ends_with("更多信息请用 '--help'。\n") && !has_words(&text, 2), "{args}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args}: {part:?} is not in {text}");
        }
    };
    refused("--lang zh train --windw 8", &["多余的参数 '--windw'", "提示：是否想用 '--window'？", "用法：scanrnn train"]);
    refused("--lang zh --window 8 train", &["多余的参数 '--window'", "是否想用 'train --window'？"]);
    refused("bench-op linear --lang=zh -x", &["多余的参数 '-x'", "要把 '-x' 作为值，请写成 '-- -x'"]);
    refused("--lang zh trian", &["没有子命令 'trian'", "是否想用 'stream', 'train'？", "用法：scanrnn [选项] <命令>"]);
    refused("--lang zh", &["需要一个子命令：bench, train"]);
    refused("help trian --lang zh", &["没有子命令 'trian'"]);
    refused("train --lang zh", &["缺少必需的参数：--model <MODEL>", "用法：scanrnn train --model <MODEL>"]);
    refused("--lang zh train --model", &["参数 '--model <MODEL>' 需要一个值"]);
    refused("--lang zh train --model mamba --loss", &["参数 '--loss <LOSS>' 需要一个值；可选值：mse, mae"]);
    refused("--lang zh train --model mamba --loss mze", &["值 'mze' 无效（--loss <LOSS>）；可选值：mse, mae", "是否想用 'mae'？"]);
    refused("--lang zh train --model mamba --window x", &["值 'x' 无效（--window <WINDOW>）：须为 0 至 2^64 - 1 的整数"]);
    refused("--lang zh train --model mamba --lr x", &["值 'x' 无效（--lr <LR>）：须为数"]);
    refused("--lang zh train --model mamba --betas 1", &["值 '1' 无效（--betas <BETA1,BETA2>）：须为两个数，如 0.9,0.999"]);
    refused("--lang zh train --model mamba --split x", &["--split（x）：请给出比例"]);
    refused("--lang zh train --model lstm", &["--model（lstm）：须为以下之一：min-gru"]);
    refused("--lang zh train --model mamba --seed 1 --seed 2", &["参数 '--seed <SEED>' 不能重复使用"]);
    refused("--lang zh bench --csv a.csv --download AAPL", &["不能与以下参数同用"]);
    refused("--lang zh train --model mamba --bidirectional=1", &["多余的值 '1'（--bidirectional）"]);
    fs::write(folder.path().join("run.toml"), "lang = \"zh\"\nmodel = \"mamba\"\nwindow = \"x\"\n").expect("written");
    refused("train --config run.toml", &["值 'x' 无效（--window <WINDOW>）"]);

    let output = scanrnn(folder.path(), "train --model mamba --windw 8");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: unexpected argument '--windw' found\n\n  tip: a similar argument"));
    fs::write(folder.path().join("space.toml"), "windw = [8, 16]\n").expect("written");
    for (options, message) in [
        ("--space space.toml", "error: space.toml: unexpected argument '--windw' found; see `scanrnn train --help`\n"),
        ("--space space.toml --lang zh", "错误：space.toml：多余的参数 '--windw'；参见 `scanrnn train --help`\n"),
    ] {
        let output = scanrnn(folder.path(), &format!("tune {options}"));
        assert_eq!(String::from_utf8_lossy(&output.stderr), message);
    }
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_is_refused_in_chinese() {
    let name = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    let line = ["--lang", "zh", "bench", "--date"].map(std::ffi::OsStr::new).into_iter().chain([name]);
    let output = Command::new(env!("CARGO_BIN_EXE_scanrnn")).args(line).output().expect("the binary runs");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("错误：有参数不是 UTF-8\n"));
}

#[test]
fn what_is_measured_is_shown_in_chinese() {
    let folder = tempfile::tempdir().expect("a folder");
    let shows = |args: &str, parts: &[&str]| {
        let output = scanrnn(folder.path(), &format!("{args} --lang zh"));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!has_words(&text, 2), "{args}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args}: {part:?} is not in {text}");
        }
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rms_norm_0.safetensors");
    fs::copy(golden, folder.path().join("rms_norm_0.safetensors")).expect("copied");
    shows("check --golden . --device cpu", &["通过    rms_norm_0 ", "最大误差", "通过 1 个，失败 0 个"]);
    let profile = ["操作、内核", "按处理器时钟，逐个操作", "设备上限：复制", "跟踪文件："];
    let timed = ["与参考实现比较：", "毫秒（中位数）", "前向与反向", "下限与用时之比"];
    shows("bench-op linear --batch 2 --length 8 --channels 16 --device cpu --profile", &[timed, profile].concat());
    let small = "--models min-gru-scan --window 8 --hidden 4 --epochs 1 --device cpu";
    shows(&format!("bench {small} --profile"), &[&["合成序列（种子 0）"], &profile[..]].concat());
    shows("devices", &["序号", "工作组 KiB"]);
}
