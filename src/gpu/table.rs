//! Tables of kernels: which of an operation's kernels is fastest on an adapter, by the sizes of the problem.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::KERNELS;

/// Measurements on an adapter. The same table gives the same choices, and so the same bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelTable {
    /// Name of the adapter.
    pub adapter: String,
    /// Its driver and version.
    pub driver: String,
    /// The measurements, an operation's sizes one after another.
    pub rows: Vec<KernelRow>,
}

/// The kernels of one operation at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// The operation, as [`KERNELS`] names it.
    pub op: String,
    /// What the operation counts by; all at least 1.
    pub sizes: Vec<usize>,
    /// The fastest kernel.
    pub kernel: String,
    /// Median milliseconds of each kernel.
    pub ms: BTreeMap<String, f64>,
}

impl KernelTable {
    /// Checks that every row names an operation and a kernel that there are.
    ///
    /// # Errors
    /// [`Error::Data`] naming the row; `place` is the table's file.
    pub fn check(&self, place: &str) -> Result<()> {
        for (index, KernelRow { op, sizes, kernel, .. }) in self.rows.iter().enumerate() {
            let is_known = KERNELS.iter().any(|(known, kernels)| known == op && kernels.iter().any(|(known, _)| known == kernel));
            if !is_known || sizes.contains(&0) {
                let what = message!("there is no kernel {}={} for sizes {}", op, kernel, format!("{sizes:?}"));
                let remedy = message!("measure again with `scanrnn tune-kernels`");
                return Err(Error::Data { place: message!("{}, row {}", place, index + 1), what, remedy });
            }
        }
        Ok(())
    }

    /// The kernel that was fastest at the nearest sizes: their ratios count, and of equally near ones the first row.
    pub fn fastest(&self, op: &str, sizes: &[usize]) -> Option<&str> {
        let distance =
            |row: &KernelRow| -> f64 { row.sizes.iter().zip(sizes).map(|(&a, &b)| (a.max(1) as f64 / b.max(1) as f64).ln().powi(2)).sum() };
        let rows = self.rows.iter().filter(|row| row.op == op && row.sizes.len() == sizes.len());
        rows.min_by(|a, b| distance(a).total_cmp(&distance(b))).map(|row| row.kernel.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sizes: &[usize], kernel: &str) -> KernelRow {
        KernelRow { op: "linear".into(), sizes: sizes.to_vec(), kernel: kernel.into(), ms: BTreeMap::new() }
    }

    #[test]
    fn the_nearest_row_by_ratio_decides_and_unknown_kernels_are_refused() {
        let mut table = KernelTable {
            adapter: "a".into(),
            driver: "b".into(),
            rows: vec![row(&[16, 16, 16], "tile_64"), row(&[1000, 16, 16], "panel"), row(&[1000, 16, 16], "tile_128")],
        };
        assert_eq!(table.fastest("linear", &[100, 16, 16]), Some("tile_64"));
        assert_eq!(table.fastest("linear", &[200, 16, 16]), Some("panel"));
        assert_eq!(table.fastest("linear", &[200, 16]), None);
        assert_eq!(table.fastest("rms_norm", &[200, 16, 16]), None);
        assert!(table.check("table.json").is_ok());
        table.rows.push(row(&[1, 1, 1], "none"));
        let message = table.check("table.json").expect_err("no such kernel").to_string();
        assert!(message.contains("table.json, row 4") && message.contains("linear=none"), "{message}");
    }
}
