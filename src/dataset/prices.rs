//! Where the prices come from: a download if one is asked for, else a local file, else a synthetic series.

use std::path::{Path, PathBuf};

use csv::Reader;
use jiff::Timestamp;

use super::download::{Server, check_ticker, csv_path};
use super::{Columns, CsvOptions, CsvTables, Table, read_csv, synthetic};
use crate::Message;
use crate::error::{Error, Result};

/// The first day that is downloaded, 2000-01-01, in Unix seconds.
const FIRST_SECOND: i64 = 946_684_800;
/// Rows of the synthetic series: as many working days as the bundled prices have.
const SYNTHETIC_ROWS: usize = 3270;

/// What prices are wanted, and where they may be found.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The ticker to download, if any.
    pub download: Option<&'a str>,
    /// Where it is downloaded from.
    pub server: Server,
    /// The files the user names: they must exist where no download replaces them.
    pub csv: Vec<PathBuf>,
    /// Where `TICKER_stock_data.csv` is looked for if no file is named, in this order; after a failed download `save_folder` comes first.
    pub folders: Vec<PathBuf>,
    /// Whose file is looked for if nothing is downloaded.
    pub default_ticker: &'a str,
    /// Where a download or the synthetic series is saved.
    pub save_folder: PathBuf,
    /// The columns that are wanted, and how files are read.
    pub options: CsvOptions<'a>,
    /// Of the synthetic series; none where such a series cannot stand in for prices that are not there.
    pub seed: Option<u64>,
}

/// Finds the prices, a table for each series, and announces each step in one line.
///
/// # Errors
/// A ticker that cannot be one; a file that is named but missing, or cannot be used; no such column; a folder that cannot be written; no
/// prices where a synthetic series cannot stand in for them; a file with other columns where they would be saved.
/// A failed download is announced, but it is not an error.
pub fn resolve(request: &Request<'_>, announce: &mut dyn FnMut(Message)) -> Result<Vec<Table>> {
    if let Some(ticker) = request.download {
        check_ticker(ticker)?;
        let seconds = FIRST_SECOND..Timestamp::now().as_second();
        announce(message!("downloading daily prices of {} from {}", ticker, &request.server.base_url));
        match request.server.daily_prices(ticker, seconds) {
            Ok(table) => return Ok(vec![save(request, &table, &csv_path(&request.save_folder, ticker), announce)?]),
            Err(error) => announce(message!("download failed: {}").with(error.message())),
        }
    }

    let ticker = request.download.unwrap_or(request.default_ticker);
    let saved = request.download.map(|_| &request.save_folder);
    let local = || saved.into_iter().chain(&request.folders).map(|folder| csv_path(folder, ticker)).find(|path| path.exists());
    let files = if request.csv.is_empty() { local().into_iter().collect() } else { request.csv.clone() };
    if !files.is_empty() {
        let mut all = Vec::new();
        for path in files {
            let CsvTables { tables, notes } = read_csv(&path, &request.options)?;
            let n_row: usize = tables.iter().map(Table::n_row).sum();
            announce(match request.options.id {
                Some(_) => message!("read {} rows of {} series from {}", n_row, tables.len(), path.display()),
                None => message!("read {} rows from {}", n_row, path.display()),
            });
            notes.into_iter().for_each(&mut *announce);
            all.extend(tables);
        }
        return Ok(all);
    }

    let Some(seed) = request.seed else {
        return Err(Error::data(message!("prices of {}", ticker), message!("were not found"), message!("name a file with --csv")));
    };
    announce(message!("no local prices of {}: a SYNTHETIC series is used, which no market ever quoted", ticker));
    let table = synthetic::daily_prices(SYNTHETIC_ROWS, seed)?;
    Ok(vec![save(request, &table, &csv_path(&request.save_folder, "synthetic"), announce)?])
}

/// Checks that a file in a table's place, if there is one, has the same columns: that it is an older download.
fn check_replaceable(table: &Table, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let header = Reader::from_path(path).and_then(|mut reader| reader.headers().cloned());
    let columns = table.dates().map(|dates| &dates.name).into_iter().chain(table.names());
    if header.is_ok_and(|header| header.iter().eq(columns)) {
        return Ok(());
    }
    let what = message!("has other columns than the table that would take its place");
    Err(Error::data(path.display(), what, message!("rename it, or run in another folder")))
}

/// Saves a table that was just made, and keeps the columns that are wanted.
fn save(request: &Request<'_>, table: &Table, path: &Path, announce: &mut dyn FnMut(Message)) -> Result<Table> {
    let wanted = match request.options.columns {
        Columns::All => table.clone(),
        Columns::CloseOrAll => table.select(&["Close"])?,
        Columns::Named(names) => table.select(names)?,
    };
    check_replaceable(table, path)?;
    table.save_csv(path)?;
    announce(message!("saved {} rows of {} to {}", table.n_row()).with(table.source().message()).with(path.display().into()));
    Ok(wanted)
}
