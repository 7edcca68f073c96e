//! Progress of training on the terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Lang;
use crate::report::language::fill;
use crate::train::Event;

/// A bar of training steps with the time left; it shows nothing where standard error is not a terminal.
pub struct Progress(ProgressBar, Lang);

impl Progress {
    /// A bar titled `title`.
    pub fn new(title: String, lang: Lang) -> Self {
        let bar = ProgressBar::new(0).with_message(title);
        let template = format!("{{msg}} [{{bar:30}}] {}", lang.texts().steps_left);
        bar.set_style(ProgressStyle::with_template(&template).expect("a valid template").progress_chars("=> "));
        Progress(bar, lang)
    }

    /// Shows an event; the scores of an epoch go to standard output where `title` is given.
    pub fn observe(&self, event: Event, title: Option<&str>) {
        match event {
            Event::Steps { done, total } => {
                self.0.set_length(total as u64);
                self.0.set_position(done as u64);
            }
            Event::Epoch { epoch, score } => {
                if let Some(title) = title {
                    let [train, valid] = [score.train_mse, score.valid_mse].map(|mse| format!("{mse:.6e}"));
                    let line = fill(self.1.texts().epoch_line, [&format!("{title:12}"), &format!("{epoch:3}"), &train, &valid]);
                    self.0.suspend(|| println!("{line}"));
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
