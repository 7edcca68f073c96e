//! Products of packed factors: the host half of `shaders/shared/panel.wgsl`.

use crate::error::Result;
use crate::gpu::{Operand, Planner, Shader, WINDOW_BYTES};
use crate::graph::Tensor;

/// The text that a shader includes.
pub(super) const SOURCE: &str = include_str!("../../shaders/shared/panel.wgsl");

/// Rows of a panel.
pub(super) const PANEL: usize = 8;

/// Most terms of a slice: eight panels of them fill a window.
const MOST_TERMS: usize = 256;

/// How a factor of `rows x terms` elements is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    /// Panels of a slice.
    pub count: usize,
    /// Terms of a slice, a multiple of 8 so that windows begin at multiples of 256 bytes.
    pub slice: usize,
    /// Slices.
    pub n_slice: usize,
}

impl Panels {
    pub fn new(n_row: usize, n_term: usize) -> Self {
        let n_slice = n_term.div_ceil(MOST_TERMS);
        let slice = n_term.div_ceil(n_slice).next_multiple_of(8);
        Panels { count: n_row.div_ceil(PANEL), slice, n_slice }
    }

    /// Floats of all slices.
    pub fn len(&self) -> usize {
        self.n_slice * self.count * self.slice * PANEL
    }

    /// Whether they can be bound to be written.
    pub fn fit(&self, plan: &Planner) -> bool {
        4 * self.len() as u64 <= plan.traits().max_binding
    }

    /// First panel and number of panels of each window: as many as fit.
    pub fn windows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let most = WINDOW_BYTES as usize / 4 / PANEL / self.slice;
        let count = self.count;
        (0..count).step_by(most).map(move |first| (first, most.min(count - first)))
    }

    /// The window of a slice that begins at a panel.
    pub fn window(&self, plan: &mut Planner, packed: Operand, slice: usize, first: usize) -> Operand {
        plan.window(packed, (slice * self.count + first) * self.slice * PANEL)
    }
}

/// A packed factor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub panels: Panels,
    pub operand: Operand,
}

/// Packs `source (row, term)`, or `(term, row)` where `by_term`, into scratch memory.
pub(super) fn pack(plan: &mut Planner, shader: &'static Shader, source: Tensor, by_term: bool) -> Result<Packed> {
    let (rows, columns) = (plan.spec(source).rows(), plan.spec(source).columns());
    let (n_row, n_term) = if by_term { (columns, rows) } else { (rows, columns) };
    let panels = Panels::new(n_row, n_term);
    let operand = plan.scratch(panels.len());
    plan.kernel(shader, "pack")
        .bind("source", source)
        .bind("packed", operand)
        .param("n_pack_row", n_row)
        .param("n_pack_term", n_term)
        .param("slice", panels.slice)
        .param("by_term", by_term)
        .lanes(panels.len() / PANEL)?;
    Ok(Packed { panels, operand })
}
