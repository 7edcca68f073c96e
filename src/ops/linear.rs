//! Linear layer, `y = x W^T + b`, and its two gradient products.

use super::panel::{self, PANEL, Panels, Source, UNIFORM_QUADS};
use super::{Operation, QUAD, SINGLE, SPREAD, TERMS, present, width};
use crate::error::{Error, Result};
use crate::gpu::{Constant, CooperativeMatrices, MOST_ITERATIONS, Operand, Planner, Shader, UNIFORM_ARRAY_BYTES};
use crate::graph::{Gradients, Graph, Tensor};

const SHADER: Shader = variant(&[SINGLE, panel::SOURCE, SPREAD]);

/// Sums four columns an invocation.
const QUAD_SHADER: Shader = variant(&[QUAD, panel::SOURCE, SPREAD]);

/// Multiply by subgroup operations: what is streamed lies in storage, or in windows of a uniform array.
const SUBGROUP_SHADER: Shader =
    variant(&[SINGLE, panel::SOURCE, SPREAD, TERMS, include_str!("../../shaders/shared/streamed_storage.wgsl"), SUBGROUP]);
const WINDOW_SHADER: Shader =
    variant(&[SINGLE, panel::SOURCE, SPREAD, TERMS, include_str!("../../shaders/shared/streamed_window.wgsl"), SUBGROUP]);
const SUBGROUP: &str = include_str!("../../shaders/shared/linear_subgroup.wgsl");

/// Multiply by cooperative matrices of 8 x 8, and of 16 x 16.
const COOPERATIVE_8_SHADER: Shader =
    variant(&[SINGLE, panel::SOURCE, SPREAD, include_str!("../../shaders/shared/matrix_8.wgsl"), COOPERATIVE]);
const COOPERATIVE_16_SHADER: Shader =
    variant(&[SINGLE, panel::SOURCE, SPREAD, include_str!("../../shaders/shared/matrix_16.wgsl"), COOPERATIVE]);
const COOPERATIVE: &str = include_str!("../../shaders/shared/linear_cooperative.wgsl");

const fn variant(shared: &'static [&'static str]) -> Shader {
    Shader {
        name: "linear",
        source: include_str!("../../shaders/linear.wgsl"),
        shared,
        constants: &[
            ("SIDE", Constant::U32(8)),
            ("PANEL", Constant::U32(PANEL as u32)),
            ("UNIFORM_QUADS", Constant::U32(UNIFORM_QUADS as u32)),
            ("A_BY_TERM", Constant::Bool(false)),
            ("B_BY_TERM", Constant::Bool(false)),
            ("BY_ROW", Constant::Bool(false)),
            ("HAS_BIAS", Constant::Bool(false)),
            ("HAS_FACTORS", Constant::Bool(false)),
            ("HAS_ADDED", Constant::Bool(false)),
            ("WIDTH", Constant::U32(1)),
            ("SPREAD", Constant::Bool(false)),
            ("ACCUMULATE", Constant::Bool(false)),
            ("HELD_TERMS", Constant::U32(32)),
            ("HAS_SUMS", Constant::Bool(false)),
            ("HAS_WEIGHTED_SUMS", Constant::Bool(false)),
            ("MATRIX", Constant::U32(8)),
            ("INVOCATIONS", Constant::U32(32)),
        ],
    }
}

/// Workgroups that fill a GPU: where the tiles of a product are fewer, its terms are split.
const FILLING_WORKGROUPS: usize = 256;

/// The fewest terms of a split: fewer cost less than to add up their sums.
const LEAST_TERMS: usize = 256;

/// The most terms of a split, of which a tile's loops run about two iterations each: see [`MOST_ITERATIONS`].
const MOST_TERMS: usize = MOST_ITERATIONS / 4;

/// Rows whose sum is one part of a gradient of a bias, at least.
const PART_ROWS: usize = 256;

/// Rows of a product with a single column that an invocation takes.
const COLUMN_ROWS: usize = 8;

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `(.., n_in)`, rows may lie apart.
    pub x: Tensor,
    /// `(n_out, n_in)`.
    pub weight: Tensor,
    /// `(n_out)`.
    pub bias: Option<Tensor>,
    /// `(.., n_out)`, rows may lie apart.
    pub y: Tensor,
}

/// Gradients of [`Linear`]: `grad_x = grad_y W`, `grad_weight = grad_y^T x`, `grad_bias` = column sums of `grad_y`.
#[derive(Clone, Debug)]
pub struct LinearBackward {
    /// As in the forward operation.
    pub x: Tensor,
    /// As in the forward operation.
    pub weight: Tensor,
    /// `(.., n_out)`.
    pub grad_y: Tensor,
    /// `(.., n_in)`.
    pub grad_x: Option<Tensor>,
    /// `(n_out, n_in)`.
    pub grad_weight: Option<Tensor>,
    /// `(n_out)`.
    pub grad_bias: Option<Tensor>,
}

impl Graph {
    /// `x W^T + b` for `x (.., n_in)`, `weight (n_out, n_in)`, `bias (n_out)`; the result is `(.., n_out)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn linear(&mut self, label: &str, x: Tensor, weight: Tensor, bias: Option<Tensor>) -> Result<Tensor> {
        let [n_out, n_in] = self.axes("linear", weight)?;
        let mut shape = self.shape(x).to_vec();
        if shape.last() != Some(&n_in) || shape.contains(&0) {
            return Err(Error::shape("linear", &self.spec(x).label, format!("{n_in} columns, no empty axis"), &shape));
        }
        if let Some(bias) = bias {
            self.expect("linear", bias, &[n_out])?;
        }
        if let Some(last) = shape.last_mut() {
            *last = n_out;
        }
        let y = self.tensor(label, &shape);
        self.push(Linear { x, weight, bias, y });
        Ok(y)
    }
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn inputs(&self) -> Vec<Tensor> {
        present([Some(self.x), Some(self.weight), self.bias])
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let Some(grad_y) = gradients.of(graph, self.y) else { return Ok(()) };
        let op = LinearBackward {
            x: self.x,
            weight: self.weight,
            grad_y,
            grad_x: gradients.target(graph, self.x),
            grad_weight: gradients.target(graph, self.weight),
            grad_bias: gradients.optional_target(graph, self.bias),
        };
        graph.push(op);
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        2 * graph.spec(self.x).rows() * graph.spec(self.weight).len() + self.bias.map_or(0, |_| graph.spec(self.y).len())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        if plan.spec(self.x).columns() == 1 && plan.spec(self.weight).is_contiguous() {
            return multiply_column(plan, self.x, self.weight, self.bias, self.y);
        }
        if has_one_row(plan, self.weight) {
            return self.multiply_rows(plan);
        }
        let [x, weight] = [self.x, self.weight].map(|tensor| Source::whole(plan, tensor, false));
        product(plan, x, weight, self.bias, self.y, None)
    }
}

impl Operation for LinearBackward {
    fn name(&self) -> &'static str {
        "linear_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        vec![self.x, self.weight, self.grad_y]
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_x, self.grad_weight, self.grad_bias])
    }

    fn flops(&self, graph: &Graph) -> usize {
        let product = 2 * graph.spec(self.x).rows() * graph.spec(self.weight).len();
        let n_product = usize::from(self.grad_x.is_some()) + usize::from(self.grad_weight.is_some());
        n_product * product + self.grad_bias.map_or(0, |_| graph.spec(self.grad_y).len())
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        if has_one_row(plan, self.weight) {
            if let Some(grad_x) = self.grad_x {
                multiply_column(plan, self.grad_y, self.weight, None, grad_x)?;
            }
            sum_rows(plan, self.x, None, self.grad_weight.map(|grad_weight| (self.grad_y, grad_weight)))?;
            return sum_rows(plan, self.grad_y, self.grad_bias, None);
        }
        if let Some(grad_x) = self.grad_x {
            let (grad_y, weight) = (Source::whole(plan, self.grad_y, false), Source::whole(plan, self.weight, true));
            product(plan, grad_y, weight, None, grad_x, None)?;
        }
        if plan.spec(self.x).columns() == 1 && self.grad_weight.is_none_or(|tensor| plan.spec(tensor).is_contiguous()) {
            return sum_rows(plan, self.grad_y, self.grad_bias, self.grad_weight.map(|grad_weight| (self.x, grad_weight)));
        }
        match self.grad_weight {
            Some(grad_weight) => {
                let [grad_y, x] = [self.grad_y, self.x].map(|tensor| Source::whole(plan, tensor, true));
                product(plan, grad_y, x, None, grad_weight, self.grad_bias)
            }
            None => sum_rows(plan, self.grad_y, self.grad_bias, None),
        }
    }
}

/// Whether a weight has one row, whose elements an invocation can add up.
fn has_one_row(plan: &Planner, weight: Tensor) -> bool {
    plan.spec(weight).rows() == 1 && plan.spec(weight).columns() <= MOST_ITERATIONS
}

impl Linear {
    /// By a weight of one row: each row of `x` an invocation.
    fn multiply_rows(&self, plan: &mut Planner) -> Result<()> {
        let (n_row, n_in) = (plan.spec(self.x).rows(), plan.spec(self.x).columns());
        let width = width(plan, &[self.x, self.weight]);
        for window @ (_, count) in plan.windows(n_row, &[self.x, self.y]) {
            plan.kernel(sum_shader(width), "multiply_rows")
                .constant("WIDTH", width)
                .flops(2 * count * n_in)
                .bind_part("rows", self.x, window, n_row)
                .bind("values", self.weight)
                .bind_optional("bias", self.bias)
                .bind_part("product", self.y, window, n_row)
                .param("n_row", count)
                .param("n_out", n_in / width)
                .lanes(count)?;
        }
        Ok(())
    }
}

/// `to (row, column)`: each element of `factors (row, 1)` by all of `values (1, column)`, and a bias.
fn multiply_column(plan: &mut Planner, factors: Tensor, values: Tensor, bias: Option<Tensor>, to: Tensor) -> Result<()> {
    let (n_row, n_column) = (plan.spec(to).rows(), plan.spec(to).columns());
    let in_fours = |tensor: &Tensor| plan.spec(*tensor).offset.is_multiple_of(4);
    let width = if present([Some(values), bias]).iter().all(in_fours) { width(plan, &[to]) } else { 1 };
    let software = plan.traits().software;
    for window @ (_, count) in plan.windows(n_row, &[factors, to]) {
        plan.kernel(sum_shader(width), "multiply_column")
            .constant("WIDTH", width)
            .constant("SPREAD", software && width == 4)
            .flops(2 * count * n_column)
            .bind_part("factors", factors, window, n_row)
            .bind("values", values)
            .bind_optional("added", bias)
            .bind_part("sums", to, window, n_row)
            .param("n_row", count)
            .param("n_out", n_column / width)
            .param("part_rows", COLUMN_ROWS)
            .lanes(count.div_ceil(COLUMN_ROWS) * n_column / width)?;
    }
    Ok(())
}

fn sum_shader(width: usize) -> &'static Shader {
    if width == 1 { &SHADER } else { &QUAD_SHADER }
}

/// `sum (column)` of all rows, and of all rows each times its element of `factors (row, 1)`: first by parts and then over these.
fn sum_rows(plan: &mut Planner, rows: Tensor, sum: Option<Tensor>, weighted: Option<(Tensor, Tensor)>) -> Result<()> {
    let (factors, weighted_sum) = weighted.unzip();
    let sums = present([sum, weighted_sum]);
    if sums.is_empty() {
        return Ok(());
    }
    let (n_row, n_out) = (plan.spec(rows).rows(), plan.spec(rows).columns());
    let windows = plan.windows(n_row, &[&[rows][..], &present([factors])].concat());
    let part_rows = n_row.div_ceil(MOST_ITERATIONS).max(PART_ROWS);
    let n_part = windows.iter().map(|(_, count)| count.div_ceil(part_rows)).sum();
    let is_aligned = sums.iter().all(|sum| plan.spec(*sum).offset.is_multiple_of(4));
    let width = if is_aligned { width(plan, &[rows]) } else { 1 };
    let software = plan.traits().software;
    let mut place = |sum: Tensor| if n_part > 1 { plan.scratch(n_part * n_out) } else { sum.into() };
    let (parts, weighted_parts) = (sum.map(&mut place), weighted_sum.map(&mut place));
    let mut first_part = 0;
    for window @ (_, count) in windows {
        let of_window = |tensor| Operand::Part { tensor, first: window.0, count, of: n_row };
        plan.kernel(sum_shader(width), "sum_rows")
            .constant("WIDTH", width)
            .constant("SPREAD", software && width == 4)
            .flops((usize::from(sum.is_some()) + 2 * usize::from(factors.is_some())) * count * n_out)
            .bind("rows", of_window(rows))
            .bind_optional("factors", factors.map(of_window))
            .bind_optional("sums", parts)
            .bind_optional("weighted_sums", weighted_parts)
            .param("n_row", count)
            .param("n_out", n_out / width)
            .param("part_rows", part_rows)
            .param("first_part", first_part)
            .lanes(count.div_ceil(part_rows) * n_out / width)?;
        first_part += count.div_ceil(part_rows);
    }
    if n_part > 1 {
        for (sum, parts) in [(sum, parts), (weighted_sum, weighted_parts)] {
            if let (Some(sum), Some(parts)) = (sum, parts) {
                sum_parts(plan, parts, n_part, None, sum.into(), (1, n_out))?;
            }
        }
    }
    Ok(())
}

/// `sum (n_row, n_column)` of parts of as many elements each, and a bias of its columns.
fn sum_parts(
    plan: &mut Planner,
    parts: Operand,
    n_part: usize,
    bias: Option<Tensor>,
    sum: Operand,
    (n_row, n_column): (usize, usize),
) -> Result<()> {
    plan.kernel(&SHADER, "sum_parts")
        .flops(n_part * n_row * n_column)
        .bind("parts", parts)
        .bind_optional("bias", bias)
        .bind("product", sum)
        .param("n_part", n_part)
        .param("part_stride", n_row * n_column)
        .param("n_product_row", n_row)
        .param("n_product_column", n_column)
        .lanes(n_row * n_column)
}

/// How a product is computed.
enum Choice {
    /// By tiles, a workgroup each.
    Tile(Tile),
    /// By packed panels: on software GPUs, where the product can be bound, and the factors once packed.
    Panel,
    /// By subgroups of eight invocations that hold terms of columns, past which rows are streamed, `by_window` through a uniform array: where
    /// all rows are whole vectors of four.
    Subgroup { by_window: bool },
}

impl Choice {
    /// Of the product of two factors.
    fn new(plan: &Planner, a: &Source, b: &Source, bias: Option<Tensor>, to: Tensor) -> Self {
        let is_bound_whole = |tensor: Tensor| plan.windows(plan.spec(tensor).rows(), &[tensor]).len() <= 1;
        let are_bound_whole = [a.tensor, b.tensor, to].into_iter().all(is_bound_whole);
        let tensors = [vec![a.tensor, b.tensor, to], present([bias])].concat();
        let in_fours = width(plan, &tensors) == 4;
        let (a, b) = (a.rows_and_terms(), b.rows_and_terms());
        let packed_bytes = 4 * (b.0 * b.1.next_multiple_of(held_terms(b.1))) as u64;
        let fits = |kernel: &str| match kernel {
            "panel" => are_bound_whole && [a, b].into_iter().all(|(n_row, n_term)| Panels::new(n_row, n_term).fit(plan)),
            "subgroup" | "subgroup_window" => in_fours && are_bound_whole && packed_bytes <= plan.traits().max_binding,
            _ => true,
        };
        let is_wide = a.0.div_ceil(128) * b.0.div_ceil(128) >= FILLING_WORKGROUPS / 2;
        let by_subgroups = if plan.traits().has_avx512 { "subgroup" } else { "subgroup_window" };
        let rule = [by_subgroups, "panel", if is_wide { "tile_128" } else { "tile_64" }];
        let rule = if plan.traits().software { &rule[..] } else { &rule[2..] };
        match (plan.chosen("linear", &[a.0, b.0, a.1], rule, fits), plan.traits().cooperative) {
            ("panel", _) => Choice::Panel,
            ("subgroup", _) => Choice::Subgroup { by_window: false },
            ("subgroup_window", _) => Choice::Subgroup { by_window: true },
            ("cooperative", Some(matrices)) => Choice::Tile(Tile::by_matrices(matrices)),
            ("tile_128", _) => Choice::Tile(Tile::by_invocations(16)),
            _ => Choice::Tile(Tile::by_invocations(8)),
        }
    }
}

/// What computes one tile of a product: a kernel and its constants.
struct Tile {
    shader: &'static Shader,
    entry: &'static str,
    constants: Vec<(&'static str, Constant)>,
    /// Rows and columns.
    span: usize,
}

impl Tile {
    /// By a workgroup of so many invocations on each side, 8 x 8 elements an invocation.
    fn by_invocations(side: usize) -> Self {
        Tile { shader: &SHADER, entry: "multiply_tiles", constants: vec![("SIDE", side.into())], span: 8 * side }
    }

    /// By four subgroups, 2 x 2 matrices a subgroup.
    fn by_matrices(matrices: CooperativeMatrices) -> Self {
        let shader = if matrices.side == 8 { &COOPERATIVE_8_SHADER } else { &COOPERATIVE_16_SHADER };
        let constants = vec![("MATRIX", matrices.side.into()), ("INVOCATIONS", matrices.invocations().into())];
        Tile { shader, entry: "multiply_matrices", constants, span: 4 * matrices.side }
    }
}

/// `to = A B^T + bias`; with `sums`, also those of the rows of A's tensor, where A lies by term.
fn product(plan: &mut Planner, a: Source, b: Source, bias: Option<Tensor>, to: Tensor, sums: Option<Tensor>) -> Result<()> {
    match Choice::new(plan, &a, &b, bias, to) {
        Choice::Tile(tile) => multiply_tiles(plan, &tile, a, b, bias, to)?,
        Choice::Panel => multiply_panels(plan, a, b, bias, to)?,
        Choice::Subgroup { by_window } => return multiply_by_subgroups(plan, by_window, (a, b), bias, to, sums),
    }
    sum_rows(plan, a.tensor, sums, None)
}

/// By tiles, window by window where a factor cannot be bound as a whole: of its rows, or of the terms where these are its rows. The terms of
/// a window are split over workgroups whose sums are added up at the end, or where so many sums cannot be bound, one after the other.
fn multiply_tiles(plan: &mut Planner, tile: &Tile, a: Source, b: Source, bias: Option<Tensor>, to: Tensor) -> Result<()> {
    let ((n_row, n_term), (n_column, _)) = (a.rows_and_terms(), b.rows_and_terms());
    let part = |tensor: Tensor, (first, count): (usize, usize), of: usize| Operand::Part { tensor, first, count, of };
    let most_sums = plan.traits().max_binding as usize / 4 / n_column;
    let are_rows_terms = a.by_term && b.by_term;
    let least_parts = if are_rows_terms { 1 } else { n_term.div_ceil(MOST_TERMS) };
    let most_rows = (plan.traits().max_workgroups as usize * tile.span).min(most_sums / least_parts).max(1);
    let dispatches = |(first, count): (usize, usize)| (0..count).step_by(most_rows).map(move |at| (first + at, most_rows.min(count - at)));
    let row_windows = match a.by_term {
        true => vec![(0, n_row)],
        false => plan.windows(n_row, &[a.tensor, to]).into_iter().flat_map(dispatches).collect(),
    };
    let term_windows = if are_rows_terms { plan.windows(n_term, &[a.tensor, b.tensor]) } else { vec![(0, n_term)] };
    for row_window @ (_, n_row) in row_windows {
        let [x, y] = [n_column.div_ceil(tile.span), n_row.div_ceil(tile.span)];
        let most_parts = most_sums / n_row;
        let to_fill = FILLING_WORKGROUPS.div_ceil(x * y).min(n_term / LEAST_TERMS).min(most_parts / term_windows.len()).max(1);
        let split_terms = n_term.div_ceil(to_fill.max(n_term.div_ceil(MOST_TERMS)));
        let n_part: usize = term_windows.iter().map(|(_, count)| count.div_ceil(split_terms)).sum();
        let in_turn = are_rows_terms && n_part > most_parts;
        let most_terms = if in_turn { split_terms } else { n_term };
        let cut = |&(first, count): &(usize, usize)| (0..count).step_by(most_terms).map(move |at| (first + at, most_terms.min(count - at)));
        let parts = (n_part > 1 && !in_turn).then(|| plan.scratch(n_part * n_row * n_column));
        let result = part(to, row_window, plan.spec(to).rows().max(1));
        let mut first_part = 0;
        for term_window @ (first_term, count) in term_windows.iter().flat_map(cut) {
            let (a_part, b_part) = if are_rows_terms {
                (part(a.tensor, term_window, n_term), part(b.tensor, term_window, n_term))
            } else if a.by_term {
                (a.tensor.into(), b.tensor.into())
            } else {
                (part(a.tensor, row_window, plan.spec(a.tensor).rows()), b.tensor.into())
            };
            let n_split = count.div_ceil(split_terms);
            let kernel = plan.kernel(tile.shader, tile.entry);
            let kernel = tile.constants.iter().fold(kernel, |kernel, &(name, value)| kernel.constant(name, value));
            kernel
                .flops(2 * n_row * n_column * count)
                .constant("A_BY_TERM", a.by_term)
                .constant("B_BY_TERM", b.by_term)
                .constant("ACCUMULATE", in_turn && first_term > 0)
                .bind("a", a_part)
                .bind("b", b_part)
                .bind_optional("bias", bias.filter(|_| parts.is_none()))
                .param("product_stride", n_column)
                .bind("product", parts.unwrap_or(result))
                .param("n_term", count)
                .param("split_terms", split_terms)
                .param("first_part", if in_turn { 0 } else { first_part })
                .param("part_stride", n_row * n_column)
                .param("n_product_row", n_row)
                .param("n_product_column", n_column)
                .workgroups([x, y, n_split])?;
            first_part += n_split;
        }
        if let Some(parts) = parts {
            sum_parts(plan, parts, n_part, bias, result, (n_row, n_column))?;
        }
    }
    Ok(())
}

fn multiply_panels(plan: &mut Planner, a: Source, b: Source, bias: Option<Tensor>, to: Tensor) -> Result<()> {
    let (a, b) = (a.pack(plan, &SHADER)?, b.pack(plan, &SHADER)?);
    let (n_row, n_column) = (plan.spec(to).rows(), plan.spec(to).columns());
    for slice in 0..a.panels.n_slice {
        panel::multiply(plan, a, b, slice, |plan| {
            let kernel = plan.kernel(&SHADER, "multiply_panels").constant("ACCUMULATE", slice > 0);
            let kernel = kernel.bind_optional("bias", bias).bind("product", to);
            Ok(kernel.param("n_product_row", n_row).param("n_product_column", n_column))
        })?;
    }
    Ok(())
}

/// Rows that a workgroup of `multiply_resident` streams past what it holds.
const BLOCK_ROWS: usize = 256;

/// Terms that `multiply_resident` holds at a time, of so many.
fn held_terms(n_term: usize) -> usize {
    if n_term > 96 {
        128
    } else if n_term > 16 {
        32
    } else {
        16
    }
}

/// Each workgroup holds terms of 32 rows of one factor, past which the rows of the other are streamed.
///
/// Of `x W^T` and `grad_y W` the weight is held and A streams from where it lies, so that the product is stored row by row. It is the other
/// way round, and the weight is packed, where not all terms can be held at once, where the weight's rows would fill fewer vectors than A's, and
/// by windows, of which a batch needs many. Of a gradient of a weight the factor of fewer rows is packed and streams; sums are those of what
/// is held, which is A then.
fn multiply_by_subgroups(
    plan: &mut Planner,
    by_window: bool,
    (a, b): (Source, Source),
    bias: Option<Tensor>,
    to: Tensor,
    sums: Option<Tensor>,
) -> Result<()> {
    let shader = if by_window { &WINDOW_SHADER } else { &SUBGROUP_SHADER };
    let ((a_rows, n_term), (b_rows, _)) = (a.rows_and_terms(), b.rows_and_terms());
    let terms = held_terms(n_term);
    let n_slice = n_term.div_ceil(terms);
    let as_it_lies = n_term == terms && !by_window;
    let work = |n_held: usize, n_streamed: usize| n_held.next_multiple_of(4 * PANEL) * n_streamed;
    let by_row = if a.by_term { sums.is_none() && a_rows < b_rows } else { as_it_lies && work(b_rows, a_rows) <= work(a_rows, b_rows) };
    let (resident, streamed) = if by_row { (b, a) } else { (a, b) };
    let (n_column, n_row) = if by_row { (b_rows, a_rows) } else { (a_rows, b_rows) };
    let (operand, stride) = if as_it_lies && !streamed.by_term {
        (streamed.bound, plan.spec(streamed.tensor).row_stride)
    } else {
        let packed = plan.scratch(n_slice * n_row * terms);
        let kernel = plan.kernel(shader, "pack_rows").constant("HELD_TERMS", terms);
        let kernel = streamed.bind("source_fours", kernel).bind("packed", packed).param("n_slice", n_slice);
        kernel.lanes(n_slice * n_row * terms / 16)?;
        (packed, terms)
    };
    let window_rows = UNIFORM_ARRAY_BYTES as usize / 4 / terms;
    let most_rows = if by_window { n_row.min(window_rows) } else { n_row };
    let most_slices = if by_window { (window_rows / n_row).max(1) } else { MOST_ITERATIONS / (3 * BLOCK_ROWS) };
    for first_row in (0..n_row).step_by(most_rows) {
        for first_slice in (0..n_slice).step_by(most_slices) {
            let (n_row_here, n_slice_here) = (most_rows.min(n_row - first_row), most_slices.min(n_slice - first_slice));
            let window = by_window.then(|| plan.uniform_array(operand, (first_slice * n_row + first_row) * terms));
            plan.kernel(shader, "multiply_resident")
                .constant("HELD_TERMS", terms)
                .constant("B_BY_TERM", resident.by_term)
                .constant("BY_ROW", by_row)
                .constant("SPREAD", resident.by_term && !by_row)
                .bind("streamed", window.unwrap_or(operand))
                .bind("resident", resident.tensor)
                .bind_optional("bias_fours", bias)
                .bind_optional("sums", sums)
                .bind("product_fours", to)
                .param("has_bias", bias.is_some())
                .param("streamed_stride", stride)
                .param("n_product_row", n_row_here)
                .param("n_product_column", n_column)
                .param("n_term", n_term)
                .param("first_row", first_row)
                .param("block_rows", BLOCK_ROWS)
                .param("first_slice", first_slice)
                .param("bound_slice", if by_window { first_slice } else { 0 })
                .param("n_slice", n_slice_here)
                .bytes(4 * (n_row_here + n_column) * n_slice_here * terms + 4 * n_row_here * n_column)
                .flops(2 * n_row_here * n_column * n_slice_here * terms)
                .groups(n_column.div_ceil(4 * PANEL) * n_row_here.div_ceil(BLOCK_ROWS))?;
        }
    }
    Ok(())
}
