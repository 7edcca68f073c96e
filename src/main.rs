//! The `scanrnn` command.

use std::process::ExitCode;

use scanrnn::cli::run;

fn main() -> ExitCode {
    quiet_drivers();
    run(std::env::args_os())
}

/// Mesa complains on the terminal where there is no runtime folder; a folder for temporary files satisfies it.
fn quiet_drivers() {
    for (variable, value) in [("XDG_RUNTIME_DIR", std::env::temp_dir().into_os_string()), ("EGL_LOG_LEVEL", "fatal".into())] {
        if std::env::var_os(variable).is_none() {
            // SAFETY: no other thread runs yet.
            unsafe { std::env::set_var(variable, value) };
        }
    }
}
