//! Daily prices from Yahoo's chart endpoint.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::Deserialize;
use ureq::Agent;
use ureq::http::StatusCode;

use super::{Dates, Source, Table};
use crate::message::{Message, one_line};
use crate::{Error, Result};

/// A chart server and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Scheme and host, without a slash at the end.
    pub base_url: String,
    /// For the whole exchange, from the name's look-up to the last byte.
    pub timeout: Duration,
}

impl Default for Server {
    /// Yahoo, with half a minute.
    fn default() -> Self {
        Server { base_url: "https://query1.finance.yahoo.com".into(), timeout: Duration::from_secs(30) }
    }
}

/// More than any exchange has ever traded days.
const LARGEST_REPLY: u64 = 64 << 20;

/// The file that prices of `ticker` are saved to in `folder`.
pub fn csv_path(folder: &Path, ticker: &str) -> PathBuf {
    folder.join(format!("{ticker}_stock_data.csv"))
}

/// Whether `ticker` has the form of one; it becomes part of an address and of a file name.
///
/// # Errors
/// [`Error::Option`] if it has not.
pub fn check_ticker(ticker: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-^=".contains(c);
    if (1..=20).contains(&ticker.len()) && ticker.chars().all(allowed) && ticker.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::option("--download", format!("{ticker:?}"), message!("give a ticker such as AAPL, BRK-B, ^GSPC or EURUSD=X")))
}

impl Server {
    /// Open, High, Low, Close and Volume of every day in `seconds` (Unix time), oldest first. Prices are adjusted for splits and dividends:
    /// each is multiplied by adjusted close / close. Days without a trade are left out.
    ///
    /// # Errors
    /// [`Error::Option`] for a ticker that cannot be one; [`Error::Download`] for everything that the network or the server does wrong.
    pub fn daily_prices(&self, ticker: &str, seconds: Range<i64>) -> Result<Table> {
        check_ticker(ticker)?;
        let address = format!(
            "{}/v8/finance/chart/{}?period1={}&period2={}&interval=1d&events=div%2Csplits",
            self.base_url,
            percent_encoded(ticker),
            seconds.start,
            seconds.end
        );
        let reply = self.get(&address).and_then(|(status, body)| read_reply(status, &body));
        let (dates, columns) = reply.map_err(|what| Error::Download { url: address, what })?;
        let host = self.base_url.split("://").last().unwrap_or_default().into();
        Table::new(Source::Download { ticker: ticker.into(), host }, Some(dates), columns)
    }

    fn get(&self, address: &str) -> Result<(StatusCode, String), Message> {
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            .user_agent(concat!("Mozilla/5.0 (compatible; scanrnn/", env!("CARGO_PKG_VERSION"), ")"))
            .build()
            .into();
        let explained = |error| match error {
            ureq::Error::Timeout(_) => message!("no full reply within {}; try again later", format!("{:?}", self.timeout)),
            ureq::Error::HostNotFound => message!("the server's name could not be resolved; check the network"),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => message!("the reply was cut short; try again"),
            ureq::Error::BodyExceedsLimit(limit) => message!("the reply is longer than {} bytes", limit),
            other => message!("{}; check the network", one_line(&other.to_string())),
        };
        let mut reply = agent.get(address).call().map_err(explained)?;
        let body = reply.body_mut().with_config().limit(LARGEST_REPLY).lossy_utf8(true).read_to_string().map_err(explained)?;
        Ok((reply.status(), body))
    }
}

#[derive(Deserialize)]
struct Reply {
    chart: Chart,
}

#[derive(Deserialize)]
struct Chart {
    result: Option<Vec<Series>>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Series {
    meta: Meta,
    /// The start of each day's trading, in Unix seconds; absent where there was none.
    #[serde(default)]
    timestamp: Vec<i64>,
    indicators: Indicators,
}

#[derive(Deserialize)]
struct Meta {
    /// Of the exchange's clock now, in seconds.
    #[serde(default)]
    gmtoffset: i32,
}

#[derive(Deserialize)]
struct Indicators {
    quote: Vec<Quote>,
    #[serde(default)]
    adjclose: Vec<Adjusted>,
}

/// A column each, with a null where the exchange gave nothing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Quote {
    open: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
    low: Vec<Option<f64>>,
    close: Vec<Option<f64>>,
    volume: Vec<Option<f64>>,
}

#[derive(Deserialize)]
struct Adjusted {
    adjclose: Option<Vec<Option<f64>>>,
}

/// The dates, and the columns with their names.
type Prices = (Dates, Vec<(String, Vec<f64>)>);

/// The prices in a reply, or what is wrong with it.
fn read_reply(status: StatusCode, body: &str) -> Result<Prices, Message> {
    let reply: Result<Reply, _> = serde_json::from_str(body);
    if let Ok(Reply { chart: Chart { error: Some(refusal), .. } }) = &reply {
        return Err(message!("the server refuses: {}; check the ticker", one_line(&format!("{}: {}", refusal.code, refusal.description))));
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS => return Err(message!("too many requests (429); try again in some minutes")),
        status if status.is_server_error() => return Err(message!("the server failed ({}); try again later", status)),
        status if !status.is_success() => return Err(message!("the server answers {}; check the ticker", status)),
        _ => {}
    }
    let reply = reply.map_err(|error| match error.classify() {
        _ if body.trim_start().starts_with('<') => message!("a web page came instead of JSON; open the address in a browser to see why"),
        serde_json::error::Category::Eof => message!("the reply was cut short; try again"),
        _ => message!("the reply is not the expected JSON: {}", error),
    })?;
    let series = reply.chart.result.unwrap_or_default().into_iter().next();
    let (days, columns) = series.map(read_series).transpose()?.unwrap_or_default();
    if days.is_empty() {
        return Err(message!("the reply has no prices; check the ticker"));
    }
    let names = ["Open", "High", "Low", "Close", "Volume"].map(String::from);
    Ok((Dates { name: "Date".into(), text: days }, names.into_iter().zip(columns).collect()))
}

/// Days, and their open, high, low, close and volume.
fn read_series(series: Series) -> Result<(Vec<String>, [Vec<f64>; 5]), Message> {
    let Some(quote) = series.indicators.quote.into_iter().next() else { return Ok(Default::default()) };
    let adjusted = series.indicators.adjclose.into_iter().next().and_then(|column| column.adjclose);
    let at = |column: &[Option<f64>], row: usize| column.get(row).copied().flatten();

    let mut days: Vec<String> = Vec::new();
    let mut columns: [Vec<f64>; 5] = Default::default();
    for (row, &seconds) in series.timestamp.iter().enumerate() {
        let entry = [&quote.open, &quote.high, &quote.low, &quote.close, &quote.volume].map(|column| at(column, row));
        let [Some(open), Some(high), Some(low), Some(close), Some(volume)] = entry else { continue };
        // Indices and currencies may come without an adjusted close.
        let Some(adjusted) = adjusted.as_ref().map_or(Some(close), |adjusted| at(adjusted, row)) else { continue };
        let factor = adjusted / close;
        let entry = [open * factor, high * factor, low * factor, adjusted, volume];
        if entry.iter().any(|value| !value.is_finite()) {
            continue;
        }
        let day =
            day(seconds, series.meta.gmtoffset).ok_or_else(|| message!("the reply has the timestamp {}, which is not a date", seconds))?;
        match days.last().map(|last| day.cmp(last)) {
            Some(std::cmp::Ordering::Less) => return Err(message!("the reply has {} after {}", day, days[days.len() - 1])),
            // While the exchange is open, the running day comes a second time, with the latest price.
            Some(std::cmp::Ordering::Equal) => columns.iter_mut().zip(entry).for_each(|(column, value)| column[days.len() - 1] = value),
            _ => {
                days.push(day);
                columns.iter_mut().zip(entry).for_each(|(column, value)| column.push(value));
            }
        }
    }
    Ok((days, columns))
}

/// The exchange's date. Its offset is today's, and the day may have begun under the other one, of summer or winter: where days begin at
/// midnight, an hour more keeps them from falling on the day before.
fn day(seconds: i64, offset: i32) -> Option<String> {
    let offset = Offset::from_seconds(offset).ok()?;
    let moment = Timestamp::from_second(seconds.checked_add(3600)?).ok()?;
    Some(offset.to_datetime(moment).date().to_string())
}

fn percent_encoded(ticker: &str) -> String {
    let encoded = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) };
    ticker.chars().map(encoded).collect()
}
