//! Causal multi-head attention over a key-value cache: see `reference/attention.rs`.

mod append;

pub use append::{AttentionAppend, AttentionAppendBackward};

use std::ops::Range;

use super::{Operation, Sequences, Stretch, present, rows_fit};
use crate::error::{Error, Result};
use crate::gpu::{Constant, Kernel, MOST_ITERATIONS, Operand, Planner, Shader};
use crate::graph::{Gradients, Graph, Tensor};

const NAME: &str = "attention";

const SHADER: Shader = Shader {
    name: NAME,
    source: include_str!("../../shaders/attention.wgsl"),
    shared: &[include_str!("../../shaders/shared/exponential.wgsl"), include_str!("../../shaders/shared/attention_append.wgsl")],
    constants: &[
        ("HEAD_DIM", Constant::U32(32)),
        ("QUADS", Constant::U32(8)),
        ("TILE", Constant::U32(32)),
        ("WIDTH", Constant::U32(64)),
        ("HAS_PAST", Constant::Bool(false)),
        ("HAS_LENGTH", Constant::Bool(false)),
        ("HAS_RESET", Constant::Bool(false)),
        ("HAS_GRAD_Y", Constant::Bool(false)),
        ("HAS_GRAD_NEW", Constant::Bool(false)),
        ("HAS_GRAD_PAST", Constant::Bool(false)),
    ],
};

/// Keys and values of earlier steps, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub struct KeyValueCache {
    /// `(batch, capacity, channel)`.
    pub k: Tensor,
    /// `(batch, capacity, channel)`.
    pub v: Tensor,
    /// How many rows are there, `(batch)` whole numbers up to 2^24; all where absent.
    pub length: Option<Tensor>,
}

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs {
    /// Queries `(batch, step, channel)`, rows may lie apart; a head has neighbouring channels.
    pub q: Tensor,
    /// Keys, as `q`.
    pub k: Tensor,
    /// Values, as `q`.
    pub v: Tensor,
    /// Heads: equal parts of the channels.
    pub n_head: usize,
    /// What came before step 0.
    pub past: Option<KeyValueCache>,
    /// `(batch, step)` indices, 1 where a step begins a new sequence, which sees nothing of what lies before it.
    pub reset: Option<Tensor>,
}

impl AttentionInputs {
    /// Pairs of a query and a key that it may see, of the whole batch.
    pub(crate) fn pairs(&self, graph: &Graph) -> usize {
        let (n_batch, n_step) = (graph.shape(self.q)[0], graph.shape(self.q)[1]);
        let n_past = self.past.map_or(0, |past| graph.shape(past.k)[1]);
        n_batch * (n_step * n_past + n_step * (n_step + 1) / 2)
    }

    fn tensors(&self) -> Vec<Tensor> {
        let past = self.past.map_or([None; 3], |past| [Some(past.k), Some(past.v), past.length]);
        [self.q, self.k, self.v].into_iter().chain(present(past)).chain(self.reset).collect()
    }
}

/// Attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// What it reads.
    pub inputs: AttentionInputs,
    /// `(batch, step, channel)`.
    pub y: Tensor,
    /// `(batch, head, step)`: logarithm of the sum of the exponentials of a query's scores, for the gradient.
    pub log_sum: Tensor,
}

/// Gradients of [`Attention`].
#[derive(Clone, Debug)]
pub struct AttentionBackward {
    /// The forward operation.
    pub forward: Attention,
    /// `(batch, step, channel)`.
    pub grad_y: Tensor,
    /// `(batch, step, channel)`.
    pub grad_q: Option<Tensor>,
    /// `(batch, step, channel)`.
    pub grad_k: Option<Tensor>,
    /// `(batch, step, channel)`.
    pub grad_v: Option<Tensor>,
    /// `(batch, capacity, channel)`; 0 beyond the length.
    pub grad_past_k: Option<Tensor>,
    /// `(batch, capacity, channel)`; 0 beyond the length.
    pub grad_past_v: Option<Tensor>,
}

impl Graph {
    /// Causal multi-head attention. Returns `y (batch, step, channel)` and, for the gradient alone, the logarithms of the sums
    /// `(batch, head, step)`, through which no gradient flows.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit or the heads do not divide the channels.
    pub fn attention(&mut self, label: &str, inputs: &AttentionInputs) -> Result<(Tensor, Tensor)> {
        let [n_batch, n_step, n_channel] = self.axes(NAME, inputs.q)?;
        if inputs.n_head == 0 || n_channel % inputs.n_head != 0 {
            let expected = format!("channels in {} equal heads", inputs.n_head);
            return Err(Error::shape(NAME, &self.spec(inputs.q).label, expected, self.shape(inputs.q)));
        }
        for tensor in [inputs.k, inputs.v] {
            self.expect(NAME, tensor, &[n_batch, n_step, n_channel])?;
        }
        if let Some(past) = inputs.past {
            past.check(self, n_batch, n_channel)?;
        }
        if let Some(reset) = inputs.reset {
            self.expect(NAME, reset, &[n_batch, n_step])?;
        }
        let y = self.tensor(label, &[n_batch, n_step, n_channel]);
        let log_sum = self.tensor(&format!("{label}.log_sum"), &[n_batch, inputs.n_head, n_step]);
        self.push(Attention { inputs: *inputs, y, log_sum });
        Ok((y, log_sum))
    }
}

impl KeyValueCache {
    fn check(&self, graph: &Graph, n_batch: usize, n_channel: usize) -> Result<()> {
        let [_, capacity, _] = graph.axes(NAME, self.k)?;
        for tensor in [self.k, self.v] {
            graph.expect(NAME, tensor, &[n_batch, capacity, n_channel])?;
        }
        self.length.map_or(Ok(()), |length| graph.expect(NAME, length, &[n_batch]))
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.inputs.tensors()
    }

    fn outputs(&self) -> Vec<Tensor> {
        vec![self.y, self.log_sum]
    }

    fn backward(&self, graph: &mut Graph, gradients: &mut Gradients) -> Result<()> {
        let Some(grad_y) = gradients.of(graph, self.y) else { return Ok(()) };
        let AttentionInputs { q, k, v, past, .. } = self.inputs;
        let op = AttentionBackward {
            forward: self.clone(),
            grad_y,
            grad_q: gradients.target(graph, q),
            grad_k: gradients.target(graph, k),
            grad_v: gradients.target(graph, v),
            grad_past_k: gradients.optional_target(graph, past.map(|past| past.k)),
            grad_past_v: gradients.optional_target(graph, past.map(|past| past.v)),
        };
        graph.push(op);
        Ok(())
    }

    fn flops(&self, graph: &Graph) -> usize {
        // q k and the product with v
        4 * self.inputs.pairs(graph) * graph.spec(self.y).columns()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        self.inputs.pairs(graph) * self.inputs.n_head
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let past = self.inputs.past.map(|past| [past.k, past.v]).into_iter().flatten();
        let tensors: Vec<_> = [self.inputs.q, self.inputs.k, self.inputs.v, self.y].into_iter().chain(past).collect();
        let layouts = Layout::new(plan, &self.inputs).windows(plan, &tensors);
        let rows = Layout::scratch(&layouts, plan);
        for layout in layouts {
            if layout.is_masked {
                layout.prepare(plan, self, rows, None)?;
            }
            let slices = layout.key_slices(plan, &self.inputs);
            for queries in layout.rows_bound(plan, layout.n_step, &[self.inputs.q, self.y]) {
                for slice in &slices {
                    layout
                        .queries(plan, "forward", self, queries, slice)
                        .bind("rows", rows)
                        .bind("y", queries.part(self.y))
                        .bind("log_sum", layout.window.part(self.log_sum))
                        .groups(layout.blocks(queries.n_step))?;
                }
            }
        }
        Ok(())
    }
}

impl Operation for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.forward.inputs.tensors().into_iter().chain([self.forward.y, self.forward.log_sum, self.grad_y]).collect()
    }

    fn outputs(&self) -> Vec<Tensor> {
        present([self.grad_q, self.grad_k, self.grad_v, self.grad_past_k, self.grad_past_v])
    }

    fn flops(&self, graph: &Graph) -> usize {
        10 * self.forward.inputs.pairs(graph) * graph.spec(self.grad_y).columns()
    }

    fn exponentials(&self, graph: &Graph) -> usize {
        self.forward.exponentials(graph)
    }

    fn encode(&self, plan: &mut Planner) -> Result<()> {
        let op = &self.forward;
        let inputs = &op.inputs;
        let past = inputs.past.map(|past| (past.k, past.v));
        let gradients = [self.grad_q, self.grad_k, self.grad_v, self.grad_past_k, self.grad_past_v];
        let caches = past.map_or(Vec::new(), |(k, v)| vec![k, v]);
        let tensors = [vec![inputs.q, inputs.k, inputs.v, op.y, self.grad_y], caches, present(gradients)].concat();
        let layouts = Layout::new(plan, inputs).windows(plan, &tensors);
        let rows = Layout::scratch(&layouts, plan);
        for layout in layouts {
            layout.prepare(plan, op, rows, Some(self.grad_y))?;
            if let Some(grad_q) = self.grad_q {
                let slices = layout.key_slices(plan, inputs);
                for queries in layout.rows_bound(plan, layout.n_step, &[inputs.q, self.grad_y, grad_q]) {
                    for slice in &slices {
                        layout
                            .queries(plan, "backward_query", op, queries, slice)
                            .bind("rows", rows)
                            .bind("grad_y", queries.part(self.grad_y))
                            .bind("grad_q", queries.part(grad_q))
                            .groups(layout.blocks(queries.n_step))?;
                    }
                }
            }
            let queries = layout.rows_bound(plan, layout.n_step, &[inputs.q, self.grad_y]);
            for (is_past, keys, grad_k, grad_v) in
                [(false, Some((inputs.k, inputs.v)), self.grad_k, self.grad_v), (true, past, self.grad_past_k, self.grad_past_v)]
            {
                let Some((k, v)) = keys else { continue };
                let n_key = plan.spec(k).shape[1];
                for (entry, name, target) in [("backward_key", "grad_k", grad_k), ("backward_value", "grad_v", grad_v)] {
                    let Some(target) = target else { continue };
                    for keys in layout.rows_bound(plan, n_key, &[k, v, target]) {
                        for (queries, tiles) in
                            queries.iter().flat_map(|rows| layout.slices(layout.tiles_of(rows)).map(move |tiles| (rows, tiles)))
                        {
                            layout
                                .tiles(plan, entry, op, tiles)
                                .bind("rows", rows)
                                .bind("q", queries.part(inputs.q))
                                .bind("k", keys.part(k))
                                .bind("v", keys.part(v))
                                .bind("grad_y", queries.part(self.grad_y))
                                .bind(name, keys.part(target))
                                .param("first_query", queries.first_step)
                                .param("first_key", keys.first_step)
                                .param("n_key", keys.n_step)
                                .param("is_past", is_past)
                                .groups(layout.blocks(keys.n_step))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The rows of some sequences' tensors `(batch, row, ..)`, as many at a time as can be bound of each, a multiple of `grain` but for the last.
fn rows_bound(plan: &Planner, window: Sequences, n_row: usize, tensors: &[Tensor], grain: usize) -> Vec<Stretch> {
    let most = Stretch::most_steps(n_row, grain, |n_row| rows_fit(plan, tensors, window.count * n_row));
    Stretch::cut(window, n_row, false, most)
}

/// Tiles of keys that one dispatch meets, counted from the first past one, and the rows that hold them.
struct KeySlice {
    tiles: Range<usize>,
    keys: Stretch,
    past: Option<Stretch>,
}

/// Bytes of a workgroup's two tiles: what fits beside the rest into the 16 KiB that every adapter has.
const TILES: usize = 12 << 10;
/// Rows of a tile, at most.
const MOST_TILE: usize = 32;
/// How the work is cut: a workgroup has `width` queries (or keys) of one head and meets the keys (or queries) tile by tile.
#[derive(Clone, Copy)]
struct Layout {
    /// The sequences in work.
    window: Sequences,
    n_step: usize,
    n_head: usize,
    head_dim: usize,
    /// Rows of the cache.
    n_past: usize,
    has_past: bool,
    has_length: bool,
    /// Whether more than the order of the steps decides what a query sees.
    is_masked: bool,
    quads: usize,
    tile: usize,
    past_tiles: usize,
    width: usize,
}

impl Layout {
    fn new(plan: &Planner, inputs: &AttentionInputs) -> Self {
        let shape = &plan.spec(inputs.q).shape;
        let (n_batch, n_step, head_dim) = (shape[0], shape[1], shape[2] / inputs.n_head);
        let quads = head_dim.div_ceil(4);
        let fitting = (TILES / (32 * quads)).max(1);
        let tile = (fitting.next_power_of_two() >> usize::from(!fitting.is_power_of_two())).clamp(4, MOST_TILE);
        let n_past = inputs.past.map_or(0, |past| plan.spec(past.k).shape[1]);
        let has_length = inputs.past.is_some_and(|past| past.length.is_some());
        let most_width = if plan.traits().software { 8 } else { 64 };
        Layout {
            window: Sequences { first: 0, count: n_batch, of: n_batch },
            n_step,
            n_head: inputs.n_head,
            head_dim,
            n_past,
            has_past: inputs.past.is_some(),
            has_length,
            is_masked: has_length || inputs.reset.is_some(),
            quads,
            tile,
            past_tiles: n_past.div_ceil(tile),
            width: n_step.next_power_of_two().clamp(8, most_width),
        }
    }

    /// Windows of the batch for which tensors can be bound, caches among them.
    fn windows(self, plan: &Planner, tensors: &[Tensor]) -> Vec<Layout> {
        let windows = Sequences::windows(plan, self.window.of, tensors, |count| self.rows(count));
        windows.into_iter().map(|window| Layout { window, ..self }).collect()
    }

    /// Floats that are kept for every query of every head.
    fn rows(&self, n_batch: usize) -> usize {
        4 * n_batch * self.n_head * self.n_step
    }

    /// Scratch memory for them, for one window after the other.
    fn scratch(windows: &[Layout], plan: &mut Planner) -> Operand {
        plan.scratch(windows.first().map_or(0, |layout| layout.rows(layout.window.count)))
    }

    /// Workgroups for so many queries or keys of every head.
    fn blocks(&self, n_row: usize) -> usize {
        self.window.count * self.n_head * n_row.div_ceil(self.width)
    }

    /// The tiles that rows make up.
    fn tiles_of(&self, rows: &Stretch) -> Range<usize> {
        rows.first_step / self.tile..(rows.first_step + rows.n_step).div_ceil(self.tile)
    }

    /// Tiles in ranges that each fit one dispatch.
    fn slices(&self, tiles: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let iterations = self.tile / 4 * (1 + 3 * self.quads) + self.tile * self.quads / self.width + 2;
        let most = (MOST_ITERATIONS / iterations).max(1);
        tiles.clone().step_by(most).map(move |first| first..(first + most).min(tiles.end))
    }

    /// Rows of queries or keys, by tiles where not all of one sequence can be bound.
    fn rows_bound(&self, plan: &Planner, n_row: usize, tensors: &[Tensor]) -> Vec<Stretch> {
        rows_bound(plan, self.window, n_row, tensors, self.tile)
    }

    /// All keys, the past ones first.
    fn key_slices(&self, plan: &Planner, inputs: &AttentionInputs) -> Vec<KeySlice> {
        let keys = self.rows_bound(plan, self.n_step, &[inputs.k, inputs.v]);
        let pasts = inputs.past.map_or(Vec::new(), |past| self.rows_bound(plan, self.n_past, &[past.k, past.v]));
        let of_key = |rows: &Stretch| self.tiles_of(rows).start + self.past_tiles..self.tiles_of(rows).end + self.past_tiles;
        let all = match (&keys[..], &pasts[..]) {
            ([keys], [] | [_]) => vec![(0..of_key(keys).end, *keys, pasts.first().copied())],
            _ => {
                let by_past = pasts.iter().map(|past| (self.tiles_of(past), keys[0], Some(*past)));
                by_past.chain(keys.iter().map(|rows| (of_key(rows), *rows, pasts.first().copied()))).collect()
            }
        };
        let cut = |(tiles, keys, past)| self.slices(tiles).map(move |tiles| KeySlice { tiles, keys, past });
        all.into_iter().flat_map(cut).collect()
    }

    /// Starts a dispatch with everything set that is the same for all of them.
    fn kernel<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str) -> Kernel<'p, 'a> {
        plan.kernel(&SHADER, entry)
            .constant("HEAD_DIM", self.head_dim)
            .constant("QUADS", self.quads)
            .constant("TILE", self.tile)
            .constant("WIDTH", self.width)
            .constant("HAS_PAST", self.has_past)
            .constant("HAS_LENGTH", self.has_length)
            .param("n_batch", self.window.count)
            .param("n_step", self.n_step)
            .param("n_head", self.n_head)
            .param("n_past", self.n_past)
    }

    fn tiles<'p, 'a>(&self, plan: &'p mut Planner<'a>, entry: &'static str, op: &Attention, tiles: Range<usize>) -> Kernel<'p, 'a> {
        self.kernel(plan, entry)
            .constant("HAS_RESET", op.inputs.reset.is_some())
            .param("scale", (self.head_dim as f32).sqrt().recip())
            .param("first_tile", tiles.start)
            .param("end_tile", tiles.end)
    }

    /// A dispatch of some queries over some of the keys.
    fn queries<'p, 'a>(
        &self,
        plan: &'p mut Planner<'a>,
        entry: &'static str,
        op: &Attention,
        queries: Stretch,
        slice: &KeySlice,
    ) -> Kernel<'p, 'a> {
        let AttentionInputs { q, k, v, past, .. } = op.inputs;
        let past = past.zip(slice.past);
        self.tiles(plan, entry, op, slice.tiles.clone())
            .bind("q", queries.part(q))
            .bind("k", slice.keys.part(k))
            .bind("v", slice.keys.part(v))
            .bind_optional("past_k", past.map(|(past, rows)| rows.part(past.k)))
            .bind_optional("past_v", past.map(|(past, rows)| rows.part(past.v)))
            .param("first_query", queries.first_step)
            .param("n_query", queries.n_step)
            .param("first_key", slice.keys.first_step)
            .param("first_past", past.map_or(0, |(_, rows)| rows.first_step))
    }

    /// Computes the figures that are kept for every query: see the shader.
    fn prepare(&self, plan: &mut Planner, op: &Attention, rows: Operand, grad_y: Option<Tensor>) -> Result<()> {
        let part = |tensor: Tensor| self.window.part(tensor);
        let n_back = if op.inputs.reset.is_some() { self.n_step } else { 1 };
        for queries in self.rows_bound(plan, self.n_step, &present([Some(op.y), grad_y])) {
            for first in (0..n_back).step_by(MOST_ITERATIONS) {
                self.kernel(plan, "prepare")
                    .bind("rows", rows)
                    .bind("y", queries.part(op.y))
                    .bind("log_sum", part(op.log_sum))
                    .bind_optional("grad_y", grad_y.map(|grad_y| queries.part(grad_y)))
                    .bind_optional("reset", op.inputs.reset.map(part))
                    .bind_optional("length", op.inputs.past.and_then(|past| past.length).map(part))
                    .param("first_back", first)
                    .param("end_back", (first + MOST_ITERATIONS).min(n_back))
                    .param("first_query", queries.first_step)
                    .param("n_query", queries.n_step)
                    .lanes(self.window.count * self.n_head * queries.n_step)?;
            }
        }
        Ok(())
    }
}
