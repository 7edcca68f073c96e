//! Which series a command works on.

use std::path::PathBuf;

use crate::dataset::download::Server;
use crate::dataset::prices::{self, Request};
use crate::dataset::{Columns, Scaling, Source, Table, Windows};
use crate::error::Result;
use crate::train::Series;

/// Options that choose the series.
#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// A CSV file with a header [default: data/AAPL_stock_data.csv]
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// The column to forecast
    #[arg(long, default_value = "Close")]
    pub column: String,
    /// Download daily prices of a ticker first; where that fails, local prices are used
    #[arg(long, value_name = "TICKER", conflicts_with = "csv")]
    pub download: Option<String>,
    /// Base address of the price server
    #[arg(long, hide = true)]
    pub download_from: Option<String>,
}

/// Share of the rows that are trained on, in time order.
pub const TRAINING_SHARE: f64 = 0.8;

impl DataArgs {
    /// Reads the series; prints each step.
    pub fn table(&self, save_folder: PathBuf, seed: u64) -> Result<Table> {
        let mut server = Server::default();
        if let Some(base_url) = &self.download_from {
            server.base_url.clone_from(base_url);
        }
        let request = Request {
            download: self.download.as_deref(),
            server,
            csv: self.csv.clone(),
            folders: vec!["data".into(), ".".into()],
            default_ticker: "AAPL",
            save_folder,
            columns: Columns::Named(&[&self.column]),
            seed,
        };
        prices::resolve(&request, &mut |line| println!("data: {line}"))
    }

    /// Name of the series for titles: `AAPL Close`.
    pub fn name(&self, table: &Table) -> String {
        let stem = match table.source() {
            Source::File(path) => path.file_stem().map(|stem| stem.to_string_lossy().replace("_stock_data", "")),
            Source::Download { ticker, .. } => Some(ticker.clone()),
            _ => None,
        };
        match stem {
            Some(stem) => format!("{stem} {}", self.column),
            None => format!("{} {}", table.source(), self.column),
        }
    }
}

/// Scales the series on its training part and cuts it into windows.
pub fn windows(table: &Table, window: usize, horizon: usize) -> Result<Windows> {
    Windows::new(table, Scaling::MinMax, table.split(window, horizon, TRAINING_SHARE)?)
}

/// The windows as training takes them.
pub fn series(windows: &Windows) -> Series<'_> {
    Series::new(windows.values(), windows.split().train(), windows.split().valid())
}
