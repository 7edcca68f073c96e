//! Texts of errors and notes: sentences kept apart from the values in them, so that they can be shown in another language.

use std::fmt;

/// A text of an error or a note. It is shown in English; [`Message::text`] shows it in another language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A name, a number, or what another program says: the same in every language.
    Verbatim(String),
    /// A sentence, made by [`message!`](crate::message).
    Sentence {
        /// The English, with `{}` where a value comes.
        template: &'static str,
        /// One for each `{}`.
        values: Vec<Message>,
    },
}

/// Makes a [`Message`]: a sentence in English, and what is shown in place of each `{}` in it.
///
/// ```
/// let text = scanrnn::message!("{} rows are fewer than the window of {}", 17, 32);
/// assert_eq!(text.to_string(), "17 rows are fewer than the window of 32");
/// ```
#[macro_export]
macro_rules! message {
    ($template:literal $(, $value:expr)* $(,)?) => {
        $crate::Message::Sentence { template: $template, values: vec![$($crate::Message::verbatim(&$value)),*] }
    };
}

/// A text on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Message {
    /// A text that is the same in every language.
    pub fn verbatim(text: impl fmt::Display) -> Self {
        Message::Verbatim(text.to_string())
    }

    /// This sentence, the next `{}` of which is another message.
    #[must_use]
    pub fn with(mut self, message: Message) -> Self {
        if let Message::Sentence { values, .. } = &mut self {
            values.push(message);
        }
        self
    }

    /// Several messages as one.
    pub fn list(messages: impl IntoIterator<Item = Message>) -> Self {
        let both = |first, second| message!("{}; {}").with(first).with(second);
        messages.into_iter().reduce(both).unwrap_or_else(|| Message::Verbatim(String::new()))
    }

    /// Whether both are the same sentence, of whatever names and numbers.
    #[cfg(feature = "cli")]
    pub(crate) fn is_alike(&self, other: &Message) -> bool {
        match (self, other) {
            (Message::Verbatim(_), Message::Verbatim(_)) => true,
            (Message::Sentence { template, values }, Message::Sentence { template: other, values: others }) => {
                template == other && values.iter().zip(others).all(|(value, other)| value.is_alike(other))
            }
            _ => false,
        }
    }

    /// The text, with every sentence as `translate` gives it for its English.
    pub fn text(&self, translate: &dyn Fn(&'static str) -> &'static str) -> String {
        match self {
            Message::Verbatim(text) => text.clone(),
            Message::Sentence { template, values } => fill(translate(template), values.iter().map(|value| value.text(translate))),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&|english| english))
    }
}

impl std::error::Error for Message {}

/// Makes messages of names and texts that are the same in every language.
macro_rules! verbatim {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Message {
            fn from(text: $kind) -> Self {
                Message::verbatim(text)
            }
        }
    )*};
}

verbatim!(&str, String, &String, std::path::Display<'_>);

/// Puts each of `values` where `text` has the next `{}`.
pub(crate) fn fill(text: &str, values: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut pieces = text.split("{}");
    let mut filled = pieces.next().unwrap_or_default().to_string();
    for (value, piece) in values.into_iter().zip(pieces) {
        filled += value.as_ref();
        filled += piece;
    }
    filled
}
