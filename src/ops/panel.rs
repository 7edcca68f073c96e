//! Products of packed factors: the host half of `shaders/shared/panel.wgsl`.

use super::width;
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Operand, Planner, Shader, UNIFORM_ARRAY_BYTES};
use crate::graph::Tensor;

/// The text that a shader includes.
pub(super) const SOURCE: &str = include_str!("../../shaders/shared/panel.wgsl");

/// Rows of a panel, and invocations of a subgroup that multiplies panels.
pub(super) const PANEL: usize = 8;

/// Vectors of what a shader reads as a uniform array.
pub(super) const UNIFORM_QUADS: usize = UNIFORM_ARRAY_BYTES as usize / 16;

/// Most terms of a slice: eight panels of them fill a window.
const MOST_TERMS: usize = 128;

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

    /// One slice of all terms; none where a panel would not fit a window.
    pub fn unsliced(n_row: usize, n_term: usize) -> Option<Self> {
        let panels = Panels { count: n_row.div_ceil(PANEL), slice: n_term.next_multiple_of(8), n_slice: 1 };
        (panels.slice * PANEL <= UNIFORM_ARRAY_BYTES as usize / 4).then_some(panels)
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
        let most = UNIFORM_ARRAY_BYTES as usize / 4 / PANEL / self.slice;
        let count = self.count;
        (0..count).step_by(most).map(move |first| (first, most.min(count - first)))
    }

    /// The window of a slice that begins at a panel.
    pub fn window(&self, plan: &mut Planner, packed: Operand, slice: usize, first: usize) -> Operand {
        plan.uniform_array(packed, (slice * self.count + first) * self.slice * PANEL)
    }
}

/// A packed factor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub panels: Panels,
    pub operand: Operand,
}

impl Packed {
    /// Scratch memory for a factor in one slice.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a panel would not fit a window.
    pub fn scratch(plan: &mut Planner, n_row: usize, n_term: usize) -> Result<Packed> {
        let what = || message!("a product over {} terms does not fit a window", n_term);
        let panels = Panels::unsliced(n_row, n_term).ok_or_else(|| Error::Unsupported { operation: "panel", what: what() })?;
        Ok(Packed { panels, operand: plan.scratch(panels.len()) })
    }
}

/// Where a factor lies in a tensor: some of its rows, and columns from one on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub tensor: Tensor,
    /// The part of it that is bound.
    pub bound: Operand,
    /// The first row that is bound.
    pub first: usize,
    /// Rows from one to the next.
    pub every: usize,
    /// The first column.
    pub column: usize,
    pub n_row: usize,
    pub n_column: usize,
    /// Whether the tensor's rows are the factor's terms, not its rows.
    pub by_term: bool,
}

impl Source {
    /// A whole tensor.
    pub fn whole(plan: &Planner, tensor: Tensor, by_term: bool) -> Self {
        let (n_row, n_column) = (plan.spec(tensor).rows(), plan.spec(tensor).columns());
        Source { tensor, bound: tensor.into(), first: 0, every: 1, column: 0, n_row, n_column, by_term }
    }

    /// Rows and terms of the factor.
    pub fn rows_and_terms(&self) -> (usize, usize) {
        if self.by_term { (self.n_column, self.n_row) } else { (self.n_row, self.n_column) }
    }

    /// Packs into scratch memory of its own, cut into slices.
    pub fn pack(&self, plan: &mut Planner, shader: &'static Shader) -> Result<Packed> {
        let (n_row, n_term) = self.rows_and_terms();
        let panels = Panels::new(n_row, n_term);
        let packed = Packed { panels, operand: plan.scratch(panels.len()) };
        self.pack_to(plan, shader, packed)?;
        Ok(packed)
    }

    /// Packs into scratch memory of its own, in one slice.
    ///
    /// # Errors
    /// As [`Packed::scratch`].
    pub fn pack_whole(&self, plan: &mut Planner, shader: &'static Shader) -> Result<Packed> {
        let (n_row, n_term) = self.rows_and_terms();
        let packed = Packed::scratch(plan, n_row, n_term)?;
        self.pack_to(plan, shader, packed)?;
        Ok(packed)
    }

    /// Packs into given scratch memory.
    pub fn pack_to(&self, plan: &mut Planner, shader: &'static Shader, packed: Packed) -> Result<()> {
        let in_fours = width(plan, &[self.tensor]) == 4 && (self.column | self.n_column).is_multiple_of(4);
        let (entry, source, n_element) = if in_fours { ("pack_fours", "source_fours", 16) } else { ("pack", "source", 4) };
        let kernel = self.bind(source, plan.kernel(shader, entry));
        kernel.bind("packed", packed.operand).param("slice", packed.panels.slice).lanes(packed.panels.len() / n_element)
    }

    /// Binds it to a kernel that packs, by the name of the tensor there.
    pub fn bind<'p, 'a>(&self, name: &'static str, kernel: Kernel<'p, 'a>) -> Kernel<'p, 'a> {
        let (n_row, n_term) = self.rows_and_terms();
        kernel
            .bind(name, self.bound)
            .param("n_pack_row", n_row)
            .param("n_pack_term", n_term)
            .param("source_first", self.first)
            .param("source_every", self.every)
            .param("source_column", self.column)
            .param("by_term", self.by_term)
    }
}

/// Multiplies a slice of two factors: for each pair of windows one dispatch of what `kernel` begins.
pub(super) fn multiply<'a>(
    plan: &mut Planner<'a>,
    a: Packed,
    b: Packed,
    slice: usize,
    kernel: impl for<'p> Fn(&'p mut Planner<'a>) -> Result<Kernel<'p, 'a>>,
) -> Result<()> {
    for (first_a, n_a) in a.panels.windows() {
        for (first_b, n_b) in b.panels.windows() {
            let window_a = a.panels.window(plan, a.operand, slice, first_a);
            let window_b = b.panels.window(plan, b.operand, slice, first_b);
            kernel(plan)?
                .bind("panels_a", window_a)
                .bind("panels_b", window_b)
                .param("slice", a.panels.slice)
                .param("n_panel_a", n_a)
                .param("n_panel_b", n_b)
                .param("first_panel_a", first_a)
                .param("first_panel_b", first_b)
                .bytes(4 * PANEL * (n_a + n_b) * a.panels.slice + 4 * n_a * n_b * PANEL * PANEL)
                .flops(2 * n_a * n_b * PANEL * PANEL * a.panels.slice)
                .groups((n_a * n_b).div_ceil(PANEL))?;
        }
    }
    Ok(())
}
