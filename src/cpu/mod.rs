//! The CPU backend: each operation by its fast half where there is one. Three that take next to no time are the reference's, in `f32`.
//!
//! Tasks over batch and channels run on a pool of threads of the backend's own, which take subnormal floats for 0 (`threads`); within a
//! task, channels are the lanes of vectors (`simd`). The order of additions depends on shapes alone: two runs give the same bits, on
//! any number of threads. Tensors and scratch memory are allocated when a graph is loaded.

mod attention;
mod causal_conv1d;
mod dropout;
mod elementwise;
mod grad_norm;
mod iterate;
mod linear;
mod loss;
mod mamba_lab;
mod min_gru;
mod min_gru_scan;
mod optimizer;
mod product;
mod rms_norm;
mod rows;
mod scan_step;
mod selective_scan;
mod simd;
mod stack;
mod threads;
mod walk;
mod window;

use crate::backend::{Backend, LocalFuture, Session, check_element};
use crate::error::{Error, Result};
use crate::graph::{Element, Graph, Program, Tensor};
use crate::memory::{Memory, Zeros};
use crate::ops::{MinGru, Op, Operation};
use crate::profile::{Clock, Profile, Span};
use crate::reference;
use rows::Rows;
pub(crate) use threads::flushing_subnormals;

/// The processor, all its threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> String {
        format!("CPU, {} threads", threads::count())
    }

    fn load<'a>(&'a self, graph: &'a Graph) -> LocalFuture<'a, Result<Box<dyn Session + 'a>>> {
        Box::pin(async move { Ok(Box::new(CpuSession::new(graph)?) as Box<dyn Session>) })
    }
}

struct CpuSession<'a> {
    memory: Memory<'a, f32>,
    /// Sized for the operation that needs most; nothing in it outlives an operation.
    scratch: Zeros<f32>,
    /// Of each program, whether it is too small for several threads.
    small: Vec<bool>,
    /// Whether a program has the scan's gradients, for which its forward pass saves states.
    saves_states: bool,
}

/// What a program's operations run through: it is given each with what executes it.
type Step<'a> = dyn FnMut(&Op, &mut dyn FnMut(&Op)) + Send + 'a;

/// Floating-point operations below which a program is done sooner than another thread is awake.
const LEAST_FLOPS: usize = 1 << 21;

impl<'a> CpuSession<'a> {
    fn new(graph: &'a Graph) -> Result<Self> {
        product::prepare();
        let ops = graph.programs().iter().flat_map(|(_, ops)| ops);
        let scratch = ops.map(|op| scratch(op, graph)).max().unwrap_or(0);
        let is_small = |ops: &[Op]| ops.iter().map(|op| op.flops(graph)).sum::<usize>() < LEAST_FLOPS;
        let saves_states = graph.programs().iter().flat_map(|(_, ops)| ops).any(|op| matches!(op, Op::SelectiveScanBackward(_)));
        let small = graph.programs().iter().map(|(_, ops)| is_small(ops)).collect();
        Ok(CpuSession { memory: Memory::new(graph)?, scratch: Zeros::new(scratch)?, small, saves_states })
    }

    /// Runs a program's operations, each through `step`.
    fn run_with(&mut self, program: Program, times: usize, step: &mut Step) {
        let CpuSession { memory, scratch, small, saves_states } = self;
        let graph = memory.graph();
        let mut execute = |op: &Op| match op {
            Op::SelectiveScan(op) if !*saves_states && scan_step::fits(op, graph) => {
                scan_step::forward(op, memory, Rows::of_slice(scratch.as_mut_slice()));
            }
            _ => execute(op, memory, Rows::of_slice(scratch.as_mut_slice())),
        };
        let work = || {
            for op in (0..times).flat_map(|_| graph.program(program)) {
                step(op, &mut execute);
            }
        };
        if small[program.index()] {
            threads::run_here(work);
        } else {
            threads::run(work);
        }
    }
}

/// The largest index: memory holds them as `f32`.
const MOST_INDEX: u32 = 1 << 24;

impl Session for CpuSession<'_> {
    fn write(&mut self, tensor: Tensor, values: &[f32]) -> Result<()> {
        check_element(self.memory.graph(), tensor, Element::F32)?;
        self.memory.write(tensor, values, |value| value)
    }

    fn write_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        check_element(self.memory.graph(), tensor, Element::U32)?;
        if let Some(index) = values.iter().find(|&&index| index > MOST_INDEX) {
            let what = message!("{} is beyond {}, up to which the CPU keeps indices: give fewer rows, or use a GPU", index, MOST_INDEX);
            return Err(Error::Unsupported { operation: "indices", what });
        }
        self.memory.write(tensor, values, |value| value as f32)
    }

    fn read(&self, tensor: Tensor) -> LocalFuture<'_, Result<Vec<f32>>> {
        Box::pin(async move { Ok(self.memory.view(tensor).iter().copied().collect()) })
    }

    fn run(&mut self, program: Program, times: usize) -> Result<()> {
        self.run_with(program, times, &mut |op, execute| execute(op));
        Ok(())
    }

    fn wait(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn profile(&mut self, program: Program) -> LocalFuture<'_, Result<Profile>> {
        let graph = self.memory.graph();
        let mut spans: Vec<Span> = Vec::new();
        let begin = web_time::Instant::now();
        self.run_with(program, 1, &mut |op, execute| {
            let start = begin.elapsed();
            execute(op);
            let ms = 1e3 * (begin.elapsed() - start).as_secs_f64();
            let (name, start_ms) = (op.name().to_string(), 1e3 * start.as_secs_f64());
            spans.push(Span { name, operation: spans.len(), start_ms, ms, work: op.work(graph) });
        });
        let operations = graph.program(program).iter().map(|op| (op.name(), op.work(graph))).collect();
        Box::pin(async { Ok(Profile { clock: Clock::Processor, operations, spans }) })
    }
}

/// Floats of scratch memory that an operation needs.
fn scratch(op: &Op, graph: &Graph) -> usize {
    let min_gru = |op: &MinGru| min_gru::scratch(graph.spec(op.last_state).rows(), graph.spec(op.last_state).columns());
    match op {
        Op::MinGru(op) => min_gru(op),
        Op::MinGruBackward(op) => min_gru(&op.forward),
        Op::Attention(op) => attention::scratch(op, graph),
        Op::AttentionBackward(op) => attention::scratch_backward(op, graph),
        Op::CausalConv1d(op) => causal_conv1d::scratch(op, graph),
        Op::CausalConv1dBackward(op) => causal_conv1d::scratch_backward(op, graph),
        Op::GradNorm(op) => grad_norm::scratch(op, graph),
        Op::Linear(op) => linear::scratch(op, graph),
        Op::LinearBackward(op) => linear::scratch_backward(op, graph),
        Op::MambaLab(op) => mamba_lab::scratch(op, graph),
        Op::MeanLoss(op) => loss::scratch(op, graph),
        Op::MambaLabBackward(op) => mamba_lab::scratch_backward(op, graph),
        Op::RmsNormBackward(op) => rms_norm::scratch_backward(op, graph),
        Op::SelectiveScan(op) => selective_scan::scratch(op, graph).max(scan_step::scratch(op, graph)),
        Op::SelectiveScanBackward(op) => selective_scan::scratch_backward(op, graph),
        _ => 0,
    }
}

fn execute(op: &Op, memory: &mut Memory<f32>, scratch: Rows) {
    match op {
        Op::Advance(op) => reference::counter::run(op, memory),
        Op::Attention(op) => attention::forward(op, memory, scratch),
        Op::AttentionAppend(op) => attention::append(op, memory),
        Op::AttentionAppendBackward(op) => reference::attention::run_append_backward(op, memory),
        Op::AttentionBackward(op) => attention::backward(op, memory, scratch),
        Op::CausalConv1d(op) => causal_conv1d::forward(op, memory, scratch),
        Op::CausalConv1dBackward(op) => causal_conv1d::backward(op, memory, scratch),
        Op::Dropout(op) => dropout::run(op, memory),
        Op::Elementwise(op) => elementwise::run(op, memory),
        Op::Gather(op) => window::gather(op, memory),
        Op::GradNorm(op) => grad_norm::run(op, memory, scratch),
        Op::Iterate(op) => iterate::run(op, memory),
        Op::L1Penalty(op) => reference::optimizer::run_l1_penalty(op, memory),
        Op::Linear(op) => linear::forward(op, memory, scratch),
        Op::LinearBackward(op) => linear::backward(op, memory, scratch),
        Op::MambaLab(op) => mamba_lab::forward(op, memory, scratch),
        Op::MambaLabBackward(op) => mamba_lab::backward(op, memory, scratch),
        Op::MeanLoss(op) => loss::forward(op, memory, scratch),
        Op::MeanLossBackward(op) => loss::backward(op, memory),
        Op::MinGru(op) => min_gru::forward(op, memory, scratch),
        Op::MinGruBackward(op) => min_gru::backward(op, memory, scratch),
        Op::MinGruScan(op) => min_gru_scan::forward(op, memory),
        Op::MinGruScanBackward(op) => min_gru_scan::backward(op, memory),
        Op::Optimize(op) => optimizer::run(op, memory),
        Op::Rescale(op) => window::rescale(op, memory),
        Op::Restore(op) => window::restore(op, memory),
        Op::RmsNorm(op) => rms_norm::forward(op, memory),
        Op::RmsNormBackward(op) => rms_norm::backward(op, memory, scratch),
        Op::SelectiveScan(op) => selective_scan::forward(op, memory, scratch),
        Op::SelectiveScanBackward(op) => selective_scan::backward(op, memory, scratch),
        Op::Stack(op) => stack::run(op, memory),
    }
}
