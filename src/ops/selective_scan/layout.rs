//! How a scan is cut for a GPU: by which kernel, into which chunks of steps and groups of channels, and how its workspace is laid out.

use super::{NAME, SPAN, SelectiveScanInputs};
use crate::gpu::{LANES, MOST_ITERATIONS, Planner};
use crate::ops::{FILLING_CHANNELS, wanted_chunks};

/// Invocations of a workgroup that walks over channels, as many as a vector of a software GPU has elements.
pub(super) const PARTIAL: usize = 8;

/// The most vectors of states that are walked: more would not stay in a processor's nearest cache.
const MOST_WALKED_QUADS: usize = 4;

/// Storage buffers that a backward pass binds which does not copy the saved states.
const BOUND_BUFFERS: u32 = 9;

/// Workgroups that walk, for each thread of a software GPU to have some.
const WALKING: usize = 2;

/// The most spans of a chunk on a software GPU, so that the loops over its steps stay below the 65,535 iterations that Mesa's drivers run.
const MOST_CHUNK_SPANS: usize = 512;

/// The fewest spans of a chunk: shorter ones spend more on carries than they gain.
const MIN_CHUNK_SPANS: usize = 8;

/// As [`FILLING_CHANNELS`], of a backward pass, in which an invocation has a whole channel.
const FILLING_CHANNELS_BACKWARD: usize = 1 << 15;

/// Bytes of workgroup memory that a team takes at most: as many as every GPU has, and so few that several teams run side by side.
const TEAM_MEMORY: usize = 16 << 10;

/// The kernel. `walked` is unrolled throughout: Mesa's drivers compile it within a second or two, SwiftShader does not finish.
pub(super) fn chosen_kernel<'a>(plan: &Planner<'a>, sizes: [usize; 4]) -> &'a str {
    let traits = plan.traits();
    let binds_states = traits.max_storage_buffers >= BOUND_BUFFERS;
    let walks = binds_states && !traits.name.contains("SwiftShader") && sizes[3].div_ceil(4) <= MOST_WALKED_QUADS;
    let rule = match traits.software {
        _ if traits.name.contains("llvmpipe") => &["walked", "sequential"][..],
        true => &["sequential"],
        false => &["chunked"],
    };
    plan.chosen(NAME, &sizes, rule, |kernel| match kernel {
        "walked" => walks,
        "subgroup" | "f16" => binds_states,
        _ => true,
    })
}

/// Steps that a team takes together, whose states are so many vectors of four: most of a span whose step sizes, B, C and sums of outputs
/// fit its memory; none where not one fits, or where its invocations are more than an adapter runs together.
fn steps_ahead(quads: usize, max_invocations: u32) -> Option<usize> {
    let held = quads.div_ceil(4);
    let parts = quads.div_ceil(held);
    if LANES * parts > max_invocations as usize {
        return None;
    }
    let of_step = 8 * LANES + 32 * held * parts + 4 + 4 * parts * (LANES + 8);
    [8, 4, 2, 1].into_iter().find(|ahead| ahead * of_step <= TEAM_MEMORY)
}

/// What the kernels are made of beside the common text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Plain,
    Bound,
    Subgroup,
    F16,
    Walked,
    WalkedSubgroup,
}

impl Variant {
    /// Of a kernel.
    fn of(plan: &Planner, kernel: &str) -> Self {
        match kernel {
            "walked" if plan.traits().subgroups_of_8 => Variant::WalkedSubgroup,
            "walked" => Variant::Walked,
            "subgroup" => Variant::Subgroup,
            "f16" => Variant::F16,
            "chunked" if plan.traits().max_storage_buffers >= BOUND_BUFFERS => Variant::Bound,
            _ => Variant::Plain,
        }
    }

    fn walks(self) -> bool {
        matches!(self, Variant::Walked | Variant::WalkedSubgroup)
    }

    /// Spans of a chunk of which a software driver's loops count all steps.
    fn counted_spans(self, n_span: usize, quads: usize) -> usize {
        // loops over the states of a step; those of the sums by subgroups are not unrolled
        let loops = if self == Variant::Subgroup { quads } else { quads.div_ceil(4) };
        n_span.min((MOST_CHUNK_SPANS / loops).max(1))
    }
}

/// Spans of a chunk of a run that is cut: more than one chunk where the channels of all sequences do not fill a GPU.
fn cut_spans(n_span: usize, n_channel: usize, n_step: usize, is_backward: bool) -> usize {
    let filling = if is_backward { FILLING_CHANNELS_BACKWARD } else { FILLING_CHANNELS };
    n_span.div_ceil(wanted_chunks(n_channel, n_step, filling)).max(MIN_CHUNK_SPANS)
}

/// How the work of a window is cut.
pub(super) struct Layout {
    pub variant: Variant,
    pub n_batch: usize,
    pub n_step: usize,
    pub n_channel: usize,
    pub n_state: usize,
    pub quads: usize,
    pub n_group: usize,
    /// Blocks of channels of a workgroup that walks, else 0.
    pub n_block: usize,
    /// Whether the workspace has a copy of the saved states.
    pub copies_borders: bool,
    /// Parts of the sums over channels.
    pub n_sum: usize,
    pub n_span: usize,
    pub chunk_spans: usize,
    pub n_chunk: usize,
    /// Steps that a team takes together; none where an invocation has all states of a channel.
    pub ahead: Option<usize>,
    pub sections: Sections,
}

/// Where the sections of the workspace begin, in vectors of four; the shader says what they hold.
pub(super) struct Sections {
    pub states: usize,
    pub rows: usize,
    /// Vectors of a row.
    pub row_quads: usize,
    pub slots: usize,
    pub borders: usize,
    pub sums: usize,
    pub end: usize,
}

impl Layout {
    /// Of a window, by a kernel.
    pub fn of(
        plan: &Planner,
        inputs: &SelectiveScanInputs,
        [n_batch, n_step, n_channel, n_state]: [usize; 4],
        kernel: &str,
        is_backward: bool,
    ) -> Self {
        let variant = Variant::of(plan, kernel);
        let (walks, is_software) = (variant.walks(), plan.traits().software);
        let quads = n_state.div_ceil(4);
        let n_span = n_step.div_ceil(SPAN);
        let n_block = if walks { n_channel.div_ceil(PARTIAL).div_ceil(WALKING.div_ceil(n_batch)) } else { 0 };
        let n_group = if walks { n_channel.div_ceil(n_block * PARTIAL) } else { n_channel.div_ceil(LANES) };
        let n_sum = if variant == Variant::Walked { n_group * PARTIAL } else { n_group };
        let copies_borders = variant == Variant::Plain;
        let is_cut = kernel == "chunked" || matches!(variant, Variant::Subgroup | Variant::F16) && !is_software;
        let chunk_spans = if is_cut {
            cut_spans(n_span, n_batch * n_channel, n_step, is_backward)
        } else if is_software && !walks {
            variant.counted_spans(n_span, quads)
        } else {
            n_span
        };
        let n_chunk = n_span.div_ceil(chunk_spans);
        let row_quads = 2 * quads + usize::from(inputs.recurrence.reset.is_some());
        let n_state_quad = n_batch * n_channel * quads;
        let states = n_channel * (quads + 1);
        let rows = states + n_state_quad;
        let slots = rows + n_batch * n_step * row_quads;
        let borders = slots + n_batch * n_chunk * n_channel * (quads + 1);
        let sums = borders + if copies_borders { n_span * n_state_quad } else { 0 };
        let end = if is_backward { sums + n_sum * n_batch * n_step * 2 * quads } else { borders };
        Layout {
            variant,
            n_batch,
            n_step,
            n_channel,
            n_state,
            quads,
            n_group,
            n_block,
            copies_borders,
            n_sum,
            n_span,
            chunk_spans,
            n_chunk,
            ahead: if is_cut { steps_ahead(quads, plan.traits().max_invocations) } else { None },
            sections: Sections { states, rows, row_quads, slots, borders, sums, end },
        }
    }

    /// Of the entries for one invocation a channel, and for a team.
    pub fn entry(&self, [single, team]: [&'static str; 2]) -> &'static str {
        if self.ahead.is_some() { team } else { single }
    }

    /// First span and the span behind the last of each dispatch, from the last to the first: all spans, unless they are walked.
    pub fn walks(&self) -> Vec<(usize, usize)> {
        // of a span and a block: the steps forward and backward, and what is loaded and stored beside them, by quads
        let iterations = self.n_block * (1 + self.quads * (2 * SPAN + 2)) + self.quads * 4 * SPAN;
        let count = if self.n_block > 0 { (MOST_ITERATIONS / iterations).max(1) } else { self.n_span };
        (0..self.n_span).step_by(count).map(|first| (first, (first + count).min(self.n_span))).rev().collect()
    }

    /// Workgroups that have a group of channels in one chunk of one batch each.
    pub fn n_workgroup(&self) -> usize {
        self.n_batch * self.n_chunk * self.n_group
    }

    /// Vectors of the saved borders.
    pub fn n_border(&self) -> usize {
        self.n_batch * self.n_span * self.n_channel * self.quads
    }
}
