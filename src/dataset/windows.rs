//! Scaled series, one below another, and the windows in them, as views.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Partition, Scaler, Scaling, Split, Starts, Table};
use crate::Message;
use crate::{Error, Result};

/// How the columns that are forecast reach the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Channels {
    /// Each target is a series of its own, with the covariates; one model for all
    #[default]
    Independent,
    /// All targets together, as features of one series
    Mixed,
}

/// How tables become windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The columns that are forecast.
    pub targets: Vec<String>,
    /// Columns that are only read.
    pub covariates: Vec<String>,
    /// How the targets reach the model.
    pub channels: Channels,
    /// How each column of each table is scaled, fitted on its training rows.
    pub scaling: Scaling,
    /// How each table's rows are divided.
    pub partition: Partition,
    /// Input rows of a window.
    pub window: usize,
    /// Target rows of a window.
    pub horizon: usize,
}

impl Layout {
    /// One column, forecast from itself, with the smallest training value at 0 and the largest at 1, four fifths of the rows training.
    pub fn one_column(name: &str, window: usize, horizon: usize) -> Self {
        Layout {
            targets: vec![name.into()],
            covariates: Vec::new(),
            channels: Channels::Independent,
            scaling: Scaling::MinMax,
            partition: Partition::default(),
            window,
            horizon,
        }
    }

    /// The columns that are read: targets, then covariates.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().chain(&self.covariates).map(String::as_str)
    }

    /// Features of a series.
    pub fn n_feature(&self) -> usize {
        self.n_target() + self.covariates.len()
    }

    /// Features of a series that are targets, the first ones.
    pub fn n_target(&self) -> usize {
        match self.channels {
            Channels::Mixed => self.targets.len(),
            Channels::Independent => 1,
        }
    }

    /// The columns that are features of each series of a table, as indices into [`Layout::columns`].
    pub fn features(&self) -> Vec<Vec<usize>> {
        let n_column = self.targets.len() + self.covariates.len();
        match self.channels {
            Channels::Mixed => vec![(0..n_column).collect()],
            Channels::Independent => {
                let with_covariates = |target| std::iter::once(target).chain(self.targets.len()..n_column).collect();
                (0..self.targets.len()).map(with_covariates).collect()
            }
        }
    }
}

/// One of the series that lie one below another.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The table that it is from.
    pub table: usize,
    /// Its features, as indices into [`Layout::columns`].
    pub columns: Vec<usize>,
    /// Its rows among those of all series; the first is row 0 of the table.
    pub rows: Range<usize>,
    /// Its parts, in rows of the table.
    pub split: Split,
}

/// The scaled values of tables, cut into windows. A window is a slice of the values: nothing is copied for it.
#[derive(Debug, Clone)]
pub struct Windows {
    layout: Layout,
    /// `(row, feature)`, all series.
    values: Vec<f32>,
    /// For each table, one a column of the layout.
    scalers: Vec<Vec<Scaler>>,
    members: Vec<Member>,
    train: Starts,
    valid: Starts,
    test: Starts,
}

impl Windows {
    /// Scales the columns of every table by scalers fitted on its training rows.
    ///
    /// # Errors
    /// [`Error::Data`] where there is no table or no target, a table lacks a column, a part has no window in any table, or a scaled value is
    /// beyond float32; those of [`Partition::split`].
    ///
    /// ```
    /// use scanrnn::dataset::{Layout, Scaling, Source, Table, Windows};
    /// let ramp = (0..100).map(f64::from).collect();
    /// let table = Table::new(Source::Memory("ramp".into()), None, vec![("ramp".into(), ramp)])?;
    /// let layout = Layout { scaling: Scaling::None, ..Layout::one_column("ramp", 4, 1) };
    /// let windows = Windows::new(&[table], &layout)?;
    /// let first = windows.valid().get(0).unwrap();
    /// assert_eq!(windows.input(first), [76.0, 77.0, 78.0, 79.0]);
    /// assert_eq!(windows.following(first), [80.0]);
    /// # Ok::<(), scanrnn::Error>(())
    /// ```
    pub fn new(tables: &[Table], layout: &Layout) -> Result<Self> {
        let scalers = tables.iter().map(|table| fitted(table, layout)).collect::<Result<_>>()?;
        Self::in_parts(tables, layout, scalers, true)
    }

    /// Scales the columns of the tables by scalers fitted before, such as a checkpoint's: for each table, one a column of the layout. There may
    /// be no window to train on.
    ///
    /// # Errors
    /// As [`Windows::new`]; [`Error::Shape`] if there is not one scaler a column.
    pub fn with_scalers(tables: &[Table], layout: &Layout, scalers: Vec<Vec<Scaler>>) -> Result<Self> {
        Self::in_parts(tables, layout, scalers, false)
    }

    /// `trains` says that there must be windows to train on.
    fn in_parts(tables: &[Table], layout: &Layout, scalers: Vec<Vec<Scaler>>, trains: bool) -> Result<Self> {
        let splits = tables.iter().map(|table| split(table, layout)).collect::<Result<Vec<_>>>()?;
        let windows = Self::stacked(tables, layout, scalers, &splits)?;
        let has_test = splits.iter().any(|split| split.valid_end < split.end);
        let parts = [
            (message!("training"), if trains { windows.train.len() } else { 1 }),
            (message!("validation"), windows.valid.len()),
            (message!("test"), if has_test { windows.test.len() } else { 1 }),
        ];
        match parts.into_iter().find(|(_, n_window)| *n_window == 0) {
            Some((part, _)) => Err(too_short(tables, layout, &windows.members, part)),
            None => Ok(windows),
        }
    }

    /// The scaled values without parts, for forecasts of what comes after them.
    ///
    /// # Errors
    /// [`Error::Data`] where a table lacks a column, is shorter than a window, or a scaled value is beyond float32; [`Error::Shape`] if there
    /// is not one scaler a column.
    pub fn unsplit(tables: &[Table], layout: &Layout, scalers: Vec<Vec<Scaler>>) -> Result<Self> {
        let Layout { window, horizon, .. } = *layout;
        if let Some(table) = tables.iter().find(|table| table.n_row() < window) {
            let what = message!("{} rows are fewer than the window of {}", table.n_row(), window);
            return Err(Error::data(table.source(), what, message!("give more rows")));
        }
        let none = Split { train_end: 0, valid_end: 0, end: 0, window, horizon };
        Self::stacked(tables, layout, scalers, &vec![none; tables.len()])
    }

    fn stacked(tables: &[Table], layout: &Layout, scalers: Vec<Vec<Scaler>>, splits: &[Split]) -> Result<Self> {
        let n_column = layout.columns().count();
        if tables.is_empty() || layout.targets.is_empty() {
            return Err(no_target());
        }
        if scalers.len() != tables.len() || scalers.iter().any(|scalers| scalers.len() != n_column) {
            let got: Vec<usize> = scalers.iter().map(Vec::len).collect();
            return Err(Error::shape("windows", "scalers", format!("{n_column} for each of {} tables", tables.len()), &got));
        }
        let (mut values, mut members) = (Vec::new(), Vec::new());
        for (index, (table, scalers)) in tables.iter().zip(&scalers).enumerate() {
            let sources = layout.columns().map(|name| table.column(name)).collect::<Result<Vec<_>>>()?;
            for columns in layout.features() {
                let (n_feature, first) = (columns.len(), values.len());
                values.resize(first + table.n_row() * n_feature, 0.0);
                for (feature, &column) in columns.iter().enumerate() {
                    scale(table, layout, column, &scalers[column], sources[column], &mut values[first + feature..], n_feature)?;
                }
                let first = first / n_feature;
                members.push(Member { table: index, columns, rows: first..first + table.n_row(), split: splits[index] });
            }
        }
        let starts = |part: fn(&Split) -> Range<usize>| {
            let shifted = |member: &Member| {
                let windows = part(&member.split);
                member.rows.start + windows.start..member.rows.start + windows.end
            };
            Starts::new(members.iter().map(shifted))
        };
        let (train, valid, test) = (starts(Split::train), starts(Split::valid), starts(Split::test));
        Ok(Windows { layout: layout.clone(), values, scalers, members, train, valid, test })
    }

    /// Checks that nothing a model learns from, or is chosen by, comes from rows that it must not see: every scaler is that of its table's
    /// training rows, and the windows `[train, valid, test]` have their targets in their own part of their own series.
    ///
    /// # Errors
    /// [`Error::Data`] naming the table and the scaler or window that has seen too much; [`Error::Shape`] if there are more or fewer tables.
    pub fn check_no_leak(&self, tables: &[Table], parts: [&Starts; 3]) -> Result<()> {
        let error = |table: usize, what: Message| {
            let place = tables.get(table).map_or_else(|| "".into(), |table| table.source().message());
            Err(Error::data(place, what, message!("fit on training rows only and take windows by the split")))
        };
        if tables.len() != self.scalers.len() {
            return Err(Error::shape("windows", "tables", self.scalers.len().to_string(), &[tables.len()]));
        }
        for (index, table) in tables.iter().enumerate() {
            for ((name, scaler), fitted) in self.layout.columns().zip(&self.scalers[index]).zip(fitted(table, &self.layout)?) {
                if *scaler != fitted {
                    return error(index, message!("the scaler of column {} is not that of the training rows", format!("{name:?}")));
                }
            }
        }
        for (part, starts) in parts.into_iter().enumerate() {
            for start in starts.iter() {
                let Some(member) = self.member(start) else { return error(0, message!("no series has row {}", start)) };
                let Split { train_end, valid_end, end, window, horizon } = member.split;
                let rows = [0..train_end, train_end..valid_end, valid_end..end][part].clone();
                let first = start - member.rows.start + window;
                if first < rows.start || first + horizon > rows.end {
                    let name = [message!("training"), message!("validation"), message!("test")][part].clone();
                    let what = message!("a {} window has its targets in rows {}, outside {}")
                        .with(name)
                        .with(Message::verbatim(format!("{first}..{}", first + horizon)))
                        .with(Message::verbatim(format!("{rows:?}")));
                    return error(member.table, what);
                }
            }
        }
        Ok(())
    }

    /// How the tables became windows.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All scaled values, `(row, feature)`; the targets are the first features.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The scalers: for each table, one a column of [`Layout::columns`].
    pub fn scalers(&self) -> &[Vec<Scaler>] {
        &self.scalers
    }

    /// The series, in the order of their rows.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// First rows of the training windows.
    pub fn train(&self) -> &Starts {
        &self.train
    }

    /// First rows of the validation windows.
    pub fn valid(&self) -> &Starts {
        &self.valid
    }

    /// First rows of the test windows; none where the partition has no test part.
    pub fn test(&self) -> &Starts {
        &self.test
    }

    /// The windows that scores are reported on: those of the test part, of the validation part where there is no other.
    pub fn scored(&self) -> &Starts {
        if self.test.is_empty() { &self.valid } else { &self.test }
    }

    /// Features of a row.
    pub fn n_feature(&self) -> usize {
        self.layout.n_feature()
    }

    /// Features that are targets, the first ones.
    pub fn n_target(&self) -> usize {
        self.layout.n_target()
    }

    /// The series that holds a row; none behind the last.
    pub fn member(&self, row: usize) -> Option<&Member> {
        self.members.get(self.members.partition_point(|member| member.rows.end <= row))
    }

    /// The scaler of a series' feature.
    pub fn scaler(&self, member: &Member, feature: usize) -> &Scaler {
        &self.scalers[member.table][member.columns[feature]]
    }

    /// The inputs `(step, feature)` of the window that starts at row `start`.
    ///
    /// # Panics
    /// If the window ends past the last row.
    pub fn input(&self, start: usize) -> &[f32] {
        self.rows(start, self.layout.window)
    }

    /// What follows the window that starts at row `start`, `(step, feature)`.
    ///
    /// # Panics
    /// As [`input`](Self::input).
    pub fn following(&self, start: usize) -> &[f32] {
        self.rows(start + self.layout.window, self.layout.horizon)
    }

    fn rows(&self, start: usize, n_row: usize) -> &[f32] {
        &self.values[start * self.n_feature()..(start + n_row) * self.n_feature()]
    }
}

fn split(table: &Table, layout: &Layout) -> Result<Split> {
    layout.partition.split(table.source(), table.n_row(), layout.window, layout.horizon)
}

/// Scalers of a table's columns, fitted on its training rows.
fn fitted(table: &Table, layout: &Layout) -> Result<Vec<Scaler>> {
    let rows = split(table, layout)?.training_rows();
    layout.columns().map(|name| Ok(Scaler::fit(layout.scaling, &table.column(name)?[rows.clone()]))).collect()
}

/// Writes a column's scaled values `stride` apart.
fn scale(table: &Table, layout: &Layout, column: usize, scaler: &Scaler, from: &[f64], to: &mut [f32], stride: usize) -> Result<()> {
    for (&value, place) in from.iter().zip(to.iter_mut().step_by(stride)) {
        *place = scaler.scale(value) as f32;
        if place.is_finite() {
            continue;
        }
        // A value too large for the scaler's mean or deviation takes the others with it: the one farthest off is to blame.
        let scaled = |row: usize| scaler.scale(from[row]).abs();
        let order = |&a: &usize, &b: &usize| scaled(a).total_cmp(&scaled(b)).then(from[a].abs().total_cmp(&from[b].abs()));
        let row = (0..from.len()).max_by(order).unwrap_or(0);
        let name = format!("{:?}", layout.columns().nth(column).unwrap_or_default());
        let named = || message!("{}, column {}, row {}").with(table.source().message()).with(name.into()).with(Message::verbatim(row));
        return scaler.scaled(from[row], named).map(drop);
    }
    Ok(())
}

fn no_target() -> Error {
    Error::data(message!("data"), message!("there is no column to forecast"), message!("give at least one column of at least one row"))
}

fn too_short(tables: &[Table], layout: &Layout, members: &[Member], part: Message) -> Error {
    let Some(Member { table, split, .. }) = members.iter().max_by_key(|member| member.rows.len()) else { return no_target() };
    let Layout { window, horizon, .. } = layout;
    let Split { train_end, valid_end, end, .. } = *split;
    let rows = [train_end, valid_end - train_end, end - valid_end].map(|rows| rows.to_string());
    let what = message!(
        "{} rows give {} for training, validation and test, but a window of {} and a horizon of {} need {} rows in all and \
         {} for each part: none is left for {}",
        tables[*table].n_row(),
        rows.join(", "),
        window,
        horizon,
        window.saturating_add(*horizon),
        horizon
    );
    let remedy = message!("use more rows, other parts (--split), or a smaller window or horizon");
    Error::Data { place: tables[*table].source().message(), what: what.with(part), remedy }
}
