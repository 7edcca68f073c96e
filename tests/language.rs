//! `--lang zh`: every text has its Chinese, and every Chinese its text.

use std::collections::BTreeSet;
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

#[test]
fn every_text_has_its_chinese_and_nothing_else_has() {
    let mut command = Cli::command();
    command.build();
    let mut texts: BTreeSet<String> = FRAMES.map(String::from).into();
    help_texts(&command, &mut texts);
    let translated: BTreeSet<String> = CHINESE.iter().map(|(english, _)| (*english).into()).collect();
    assert_eq!(translated.len(), CHINESE.len(), "no text is translated twice");
    let missing: Vec<_> = texts.difference(&translated).collect();
    assert!(missing.is_empty(), "without Chinese: {missing:#?}");
    let unused: Vec<_> = translated.difference(&texts).collect();
    assert!(unused.is_empty(), "Chinese of nothing: {unused:#?}");
}

/// A run of the binary; `args` are split at spaces.
fn scanrnn(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scanrnn")).current_dir(folder).args(args.split_whitespace()).output().expect("the binary runs")
}

/// Whether a text has four words of English in a row.
fn has_english(text: &str) -> bool {
    let words = text.split_whitespace().map(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase()));
    words.collect::<Vec<_>>().windows(4).any(|words| words.iter().all(|&is_word| is_word))
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
    for args in ["--help", "-h", "help", "stream --help", "bench -h", "tune-kernels --help", "bench-op -h"] {
        let text = help(&format!("--lang zh {args}"));
        assert!(text.contains("用法：") && !has_english(&text), "{text}");
    }
    assert!(has_english(&help("train --help")) && help("train --help").contains("Options:"));
}
