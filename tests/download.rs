//! The download of prices, against a server of our own that answers well and badly.
#![cfg(feature = "cli")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use scanrnn::dataset::download::{Server, csv_path};
use scanrnn::dataset::prices::{Request, resolve};
use scanrnn::dataset::{Columns, CsvOptions, Source, Table};
use scanrnn::{Error, Result};

/// Three days of prices and one without: 2024-01-30 to 2024-02-02 at 9:30 in New York. The first day is before a split of 2 for 1.
const PRICES: &str = r#"{"chart":{"result":[{
    "meta":{"currency":"USD","symbol":"AAPL","gmtoffset":-18000,"timezone":"EST"},
    "timestamp":[1706625000,1706711400,1706797800,1706884200],
    "indicators":{
        "quote":[{"open":[10.0,5.0,null,6.0],"high":[12.0,5.5,null,7.0],"low":[8.0,4.5,null,5.0],"close":[11.0,5.25,null,6.5],
                  "volume":[1000,2000,null,3000]}],
        "adjclose":[{"adjclose":[5.5,5.25,null,6.5]}]}}],"error":null}}"#;

/// A server for one request: sends `reply` as it is, waits, and closes. Gives its base URL and the first line of the request.
fn serve(reply: String, wait: Duration) -> (Server, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, asked) = channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
        let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        sender.send(head[0].clone()).expect("a test that listens");
        stream.write_all(reply.as_bytes()).expect("a client that listens");
        thread::sleep(wait);
    });
    (Server { base_url, timeout: Duration::from_secs(5) }, asked)
}

fn reply(status: &str, content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn json(status: &str, body: &str) -> String {
    reply(status, "application/json", body)
}

fn download(reply: String) -> Result<Table> {
    serve(reply, Duration::ZERO).0.daily_prices("AAPL", 0..2_000_000_000)
}

/// What the error of a failed download says after the address, in one line.
fn failure(reply: String) -> String {
    what(download(reply).expect_err("a failure"))
}

fn what(error: Error) -> String {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    match error {
        Error::Download { url, what } => {
            assert!(url.contains("/v8/finance/chart/"), "{url}");
            what.to_string()
        }
        other => panic!("not a download error: {other}"),
    }
}

#[test]
fn prices_are_read_and_adjusted() {
    let (server, asked) = serve(json("200 OK", PRICES), Duration::ZERO);
    let table = server.daily_prices("AAPL", 1..2).expect("prices");
    let line = asked.recv().expect("a request");
    assert_eq!(line, "GET /v8/finance/chart/AAPL?period1=1&period2=2&interval=1d&events=div%2Csplits HTTP/1.1");
    assert_eq!(table.dates().expect("dates").text, ["2024-01-30", "2024-01-31", "2024-02-02"]);
    assert_eq!(table.names(), ["Open", "High", "Low", "Close", "Volume"]);
    let columns: Vec<_> = table.columns().collect();
    assert_eq!(columns, [[5.0, 5.0, 6.0], [6.0, 5.5, 7.0], [4.0, 4.5, 5.0], [5.5, 5.25, 6.5], [1000.0, 2000.0, 3000.0]]);
    assert_eq!(table.source().to_string(), format!("AAPL from {}", &server.base_url["http://".len()..]));
}

#[test]
fn a_chunked_reply_is_read() {
    let half = PRICES.len() / 2;
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let body = format!("{}{}0\r\n\r\n", chunk(&PRICES[..half]), chunk(&PRICES[half..]));
    let table = download(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).expect("prices");
    assert_eq!(table.n_row(), 3);
}

#[test]
fn without_an_adjusted_close_prices_stay() {
    let body = PRICES.replace(r#""adjclose":[{"adjclose":[5.5,5.25,null,6.5]}]"#, r#""adjclose":[]"#);
    let table = download(json("200 OK", &body)).expect("prices");
    assert_eq!(table.column("Close").expect("Close"), [11.0, 5.25, 6.5]);
}

#[test]
fn the_running_day_counts_once_with_its_latest_price() {
    let body = PRICES.replace("1706884200]", "1706715000]");
    let table = download(json("200 OK", &body)).expect("prices");
    assert_eq!(table.dates().expect("dates").text, ["2024-01-30", "2024-01-31"]);
    assert_eq!(table.column("Close").expect("Close"), [5.5, 6.5]);
}

#[test]
fn tickers_are_encoded_or_refused() {
    let (server, asked) = serve(json("200 OK", PRICES), Duration::ZERO);
    server.daily_prices("^GSPC", 0..1).expect("prices");
    assert!(asked.recv().expect("a request").starts_with("GET /v8/finance/chart/%5EGSPC?"));
    for ticker in ["", "A/B", "..", "A B", "A\n", "AAPL?x", "ÄÖ", "AAAAAAAAAAAAAAAAAAAAA"] {
        let error = Server::default().daily_prices(ticker, 0..1).expect_err("no ticker");
        assert!(matches!(error, Error::Option { .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn each_failure_says_what_happened() {
    let refusal = r#"{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found,\nsymbol may be delisted"}}}"#;
    let html = "<!DOCTYPE html><html><body>Before you continue</body></html>";
    let cases = [
        (reply("429 Too Many Requests", "text/html", "Too Many Requests"), "too many requests (429); try again in some minutes"),
        (reply("500 Internal Server Error", "text/html", html), "the server failed (500 Internal Server Error); try again later"),
        (reply("403 Forbidden", "text/plain", "no"), "the server answers 403 Forbidden; check the ticker"),
        (json("404 Not Found", refusal), "the server refuses: Not Found: No data found, symbol may be delisted; check the ticker"),
        (json("200 OK", refusal), "the server refuses: Not Found: No data found, symbol may be delisted; check the ticker"),
        (reply("200 OK", "text/html", html), "a web page came instead of JSON; open the address in a browser to see why"),
        (json("200 OK", r#"{"chart":{"result":[],"error":null}}"#), "the reply has no prices; check the ticker"),
        (
            json("200 OK", r#"{"chart":{"result":[{"meta":{},"indicators":{"quote":[{}],"adjclose":[{}]}}],"error":null}}"#),
            "the reply has no prices; check the ticker",
        ),
        (json("200 OK", ""), "the reply was cut short; try again"),
        (json("200 OK", &PRICES.replace("1706711400", "1606746600")), "the reply has 2020-11-30 after 2024-01-30"),
    ];
    for (reply, expected) in cases {
        assert_eq!(failure(reply), expected);
    }
    let failure = failure(json("200 OK", r#"{"finance":{}}"#));
    assert!(failure.starts_with("the reply is not the expected JSON: missing field `chart`"), "{failure}");
}

#[test]
fn a_cut_reply_is_noticed() {
    let half = &PRICES[..PRICES.len() / 2];
    let with_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{half}", PRICES.len());
    let until_the_end = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{half}");
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}", PRICES.len());
    for reply in [with_length, until_the_end, chunked] {
        assert_eq!(failure(reply), "the reply was cut short; try again");
    }
    let in_the_head = failure("HTTP/1.1 200 OK\r\nContent-Le".into());
    assert!(!in_the_head.is_empty());
}

#[test]
fn a_slow_server_is_left() {
    let begin = Instant::now();
    for reply in [String::new(), format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{{", PRICES.len())] {
        let (server, _asked) = serve(reply, Duration::from_secs(5));
        let server = Server { timeout: Duration::from_millis(200), ..server };
        assert_eq!(what(server.daily_prices("AAPL", 0..1).expect_err("a timeout")), "no full reply within 200ms; try again later");
    }
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let server = Server { base_url, timeout: Duration::from_secs(5) };
    assert!(what(server.daily_prices("AAPL", 0..1).expect_err("nobody there")).ends_with("; check the network"));
}

fn request<'a>(folder: &Path, server: Server) -> Request<'a> {
    Request {
        download: Some("AAPL"),
        server,
        csv: Vec::new(),
        folders: vec![folder.into()],
        default_ticker: "AAPL",
        save_folder: folder.into(),
        options: CsvOptions { columns: Columns::Named(&["Close"]), ..CsvOptions::default() },
        seed: Some(0),
    }
}

#[test]
fn a_download_is_saved_announced_and_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _asked) = serve(json("200 OK", PRICES), Duration::ZERO);
    let mut lines = Vec::new();
    let table = resolve(&request(folder.path(), server), &mut |line| lines.push(line.to_string())).expect("prices").remove(0);
    assert_eq!(table.names(), ["Close"]);
    assert!(matches!(table.source(), Source::Download { .. }));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("downloading daily prices of AAPL from http://"), "{lines:?}");
    assert!(lines[1].starts_with("saved 3 rows of AAPL from "), "{lines:?}");
    let path = csv_path(folder.path(), "AAPL");
    let saved = fs::read_to_string(&path).expect("the file");
    assert_eq!(saved.lines().take(2).collect::<Vec<_>>(), ["Date,Open,High,Low,Close,Volume", "2024-01-30,5,6,4,5.5,1000"]);

    // an older download is replaced, any other file is left as it is
    let again = |path: &Path| {
        let (server, _asked) = serve(json("200 OK", PRICES), Duration::ZERO);
        resolve(&request(path, server), &mut |_| ()).map(|_| ())
    };
    again(folder.path()).expect("replaced");
    fs::write(&path, "Date,Close,Notes\n2024-01-30,1,mine\n").expect("written");
    assert!(again(folder.path()).expect_err("another's file").to_string().contains("has other columns"));
    assert!(fs::read_to_string(&path).expect("the file").contains("mine"));
}

#[test]
fn a_failed_download_falls_back_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let resolve = || {
        let (server, _asked) = serve(reply("500 Internal Server Error", "text/plain", ""), Duration::ZERO);
        let mut lines = Vec::new();
        let table = resolve(&request(folder.path(), server), &mut |line| lines.push(line.to_string())).expect("prices").remove(0);
        assert!(lines.iter().all(|line| line.lines().count() == 1), "{lines:?}");
        assert!(lines[1].starts_with("download failed: ") && lines[1].contains("500"), "{lines:?}");
        (table, lines)
    };

    let (table, lines) = resolve();
    assert!(matches!(table.source(), Source::Synthetic { .. }));
    assert!(lines[2].contains("SYNTHETIC") && lines[3].contains("synthetic_stock_data.csv"), "{lines:?}");

    let local = csv_path(folder.path(), "AAPL");
    fs::write(&local, "Date,Close\n2024-01-30,1\n2024-01-31,2\n").expect("a file");
    let (table, lines) = resolve();
    assert_eq!(table.source(), &Source::File(local));
    assert!(lines[2].starts_with("read 2 rows from "), "{lines:?}");
}

#[test]
fn a_failed_download_falls_back_on_an_earlier_one_first() {
    let [bundled, saved] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    for (folder, rows) in [(&bundled, "2024-01-30,1\n"), (&saved, "2024-01-30,1\n2024-01-31,2\n")] {
        fs::write(csv_path(folder.path(), "AAPL"), format!("Date,Close\n{rows}")).expect("a file");
    }
    let (server, _asked) = serve(reply("500 Internal Server Error", "text/plain", ""), Duration::ZERO);
    let failed = Request { save_folder: saved.path().into(), ..request(bundled.path(), server.clone()) };
    assert_eq!(resolve(&failed, &mut |_| ()).expect("prices")[0].n_row(), 2);
    let plain = Request { download: None, save_folder: saved.path().into(), ..request(bundled.path(), server) };
    assert_eq!(resolve(&plain, &mut |_| ()).expect("prices")[0].n_row(), 1);
}

/// Eighty days of prices.
fn many_prices() -> String {
    let list = |of: &dyn Fn(usize) -> String| format!("[{}]", (0..80).map(of).collect::<Vec<_>>().join(","));
    let seconds = list(&|day| (1_706_625_000 + 86_400 * day).to_string());
    let price = list(&|day| format!("{:.3}", 10.0 + (day as f64 / 5.0).sin()));
    format!(
        r#"{{"chart":{{"result":[{{"meta":{{"gmtoffset":-18000}},"timestamp":{seconds},"indicators":{{"quote":[{{
            "open":{price},"high":{price},"low":{price},"close":{price},"volume":{price}}}]}}}}],"error":null}}}}"#
    )
}

#[test]
fn a_run_on_a_download_goes_on_and_runs_again_on_the_file_that_it_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let scanrnn = |args: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_scanrnn"))
            .current_dir(folder.path())
            .args(args.split_whitespace())
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (server, _asked) = serve(json("200 OK", &many_prices()), Duration::ZERO);
    let train = "train --model min-gru --device cpu --window 8 --hidden 8 --batch 8 --epochs 2 --run-dir run";
    let text = scanrnn(&format!("{train} --download AAPL --download-from {}", server.base_url));
    assert!(text.contains("saved 80 rows"), "{text}");
    let config = fs::read_to_string(folder.path().join("run/config.toml")).expect("a configuration");
    assert!(config.contains("csv = \"./AAPL_stock_data.csv\"") && !config.contains("download ="), "{config}");
    for again in ["train --resume run", "train --config run/config.toml --run-dir again"] {
        let text = scanrnn(again);
        assert!(text.contains("read 80 rows from ./AAPL_stock_data.csv") && !text.contains("downloading"), "{text}");
    }
    // a search leaves the file that it read, too
    let (server, _asked) = serve(json("200 OK", &many_prices()), Duration::ZERO);
    let space = format!(
        "model = \"min-gru\"\ndevice = \"cpu\"\nwindow = 8\nhidden = 8\nbatch = 8\ndownload = \"AAPL\"\ndownload-from = \"{}\"\n",
        server.base_url
    );
    fs::write(folder.path().join("space.toml"), space).expect("written");
    scanrnn("tune --space space.toml --trials 1 --epochs 1");
    let best = fs::read_to_string(folder.path().join("tune/best.toml")).expect("options");
    assert!(best.contains("csv = \"./AAPL_stock_data.csv\"") && !best.contains("download ="), "{best}");
    scanrnn("train --config tune/best.toml --run-dir best");
}
