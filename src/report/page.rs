//! A page of HTML that stands alone: texts, tables, and pictures within it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Lang, TextTable};

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Its heading and the window's title.
    pub title: String,
    /// Below the heading.
    pub lead: Vec<String>,
    /// What follows, in order.
    pub parts: Vec<Part>,
}

/// A part of a page.
#[derive(Clone, Debug)]
pub enum Part {
    /// A heading.
    Heading(String),
    /// A paragraph that must not be overlooked.
    Warning(String),
    /// A table.
    Table(TextTable),
    /// A PNG file's bytes and what it shows.
    Picture(Vec<u8>, String),
    /// Text that keeps its line breaks, such as a configuration file.
    Verbatim(String),
}

const STYLE: &str = "body{font-family:system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222;line-height:1.5}\
h1{margin-bottom:.2rem}.lead{color:#5f5f5f;margin:.1rem 0}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}\
th,td{padding:.3rem .8rem;border-bottom:1px solid #e2e2e2;text-align:right}th:first-child,td:first-child{text-align:left}\
img{max-width:100%;height:auto}pre{background:#f5f5f5;padding:1rem;overflow-x:auto}.warning{border-left:.4rem solid #d55e00;padding-left:.8rem}";

impl Page {
    /// The page's text, with every text escaped.
    pub fn html(&self, lang: Lang) -> String {
        let code = match lang {
            Lang::En => "en",
            Lang::Zh => "zh-CN",
        };
        let page = html! {
            (DOCTYPE)
            html lang=(code) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (self.title) }
                    @for line in &self.lead { p.lead { (line) } }
                    @for part in &self.parts { (markup(part)) }
                }
            }
        };
        page.into_string()
    }
}

fn markup(part: &Part) -> Markup {
    match part {
        Part::Heading(text) => html! { h2 { (text) } },
        Part::Warning(text) => html! { p.warning { (text) } },
        Part::Table(table) => html! {
            table {
                thead { tr { @for cell in &table.header { th { (cell) } } } }
                tbody { @for row in &table.rows { tr { @for cell in row { td { (cell) } } } } }
            }
        },
        Part::Picture(bytes, alt) => html! { img src={ "data:image/png;base64," (BASE64_STANDARD.encode(bytes)) } alt=(alt); },
        Part::Verbatim(text) => html! { pre { (text) } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_pictures_are_within() {
        let mut table = TextTable::new(["model", "MSE"]);
        table.push(["<b>", "0.5"]);
        let parts = vec![Part::Table(table), Part::Picture(vec![1, 2, 3], "a \"picture\"".into()), Part::Verbatim("a = 1\n".into())];
        let text = Page { title: "A & B".into(), lead: vec!["x < y".into()], parts }.html(Lang::Zh);
        for part in
            ["<html lang=\"zh-CN\">", "A &amp; B", "x &lt; y", "<td>&lt;b&gt;</td>", "base64,AQID", "a &quot;picture&quot;", "a = 1\n"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("http"), "the page stands alone");
    }
}
