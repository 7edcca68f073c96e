//! The reference as a device: every operation by its formula, in `f32` or `f64`.

use std::marker::PhantomData;

use ndarray::{Array2, Ix2};

use super::{
    Float, attention, causal_conv1d, counter, dropout, elementwise, grad_norm, iterate, linear, loss, mamba_lab, min_gru, min_gru_scan,
    optimizer, rms_norm, selective_scan, stack, window,
};
use crate::backend::{Backend, LocalFuture, Session, check_element};
use crate::error::Result;
use crate::graph::{Element, Graph, Program, Tensor};
use crate::memory::Memory;
use crate::ops::{Op, Operation};
use crate::profile::{Clock, Profile, Span};

/// The reference in `T`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference<T>(PhantomData<T>);

impl<T: Float> Reference<T> {
    /// The reference in `T`.
    pub fn new() -> Self {
        Reference(PhantomData)
    }
}

impl<T: Float> Backend for Reference<T> {
    fn name(&self) -> String {
        format!("reference, {}", std::any::type_name::<T>())
    }

    fn load<'a>(&'a self, graph: &'a Graph) -> LocalFuture<'a, Result<Box<dyn Session + 'a>>> {
        Box::pin(async move { Ok(Box::new(ReferenceSession { memory: Memory::<T>::new(graph)? }) as Box<dyn Session>) })
    }
}

struct ReferenceSession<'a, T> {
    memory: Memory<'a, T>,
}

impl<T: Float> Session for ReferenceSession<'_, T> {
    fn write(&mut self, tensor: Tensor, values: &[f32]) -> Result<()> {
        check_element(self.memory.graph(), tensor, Element::F32)?;
        self.memory.write(tensor, values, |value| T::from_f64(f64::from(value)))
    }

    fn write_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()> {
        check_element(self.memory.graph(), tensor, Element::U32)?;
        self.memory.write(tensor, values, |value| T::from_f64(f64::from(value)))
    }

    fn read(&self, tensor: Tensor) -> LocalFuture<'_, Result<Vec<f32>>> {
        Box::pin(async move { Ok(self.memory.view(tensor).iter().map(|value| value.as_f64() as f32).collect()) })
    }

    fn run(&mut self, program: Program, times: usize) -> Result<()> {
        for _ in 0..times {
            for op in self.memory.graph().program(program) {
                execute(op, &mut self.memory);
            }
        }
        Ok(())
    }

    fn wait(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn profile(&mut self, program: Program) -> LocalFuture<'_, Result<Profile>> {
        let graph = self.memory.graph();
        let operations: Vec<_> = graph.program(program).iter().map(|op| (op.name(), op.work(graph))).collect();
        let begin = web_time::Instant::now();
        let mut spans = Vec::new();
        for (operation, op) in graph.program(program).iter().enumerate() {
            let start_ms = 1e3 * begin.elapsed().as_secs_f64();
            execute(op, &mut self.memory);
            let ms = 1e3 * begin.elapsed().as_secs_f64() - start_ms;
            spans.push(Span { name: op.name().into(), operation, start_ms, ms, work: operations[operation].1 });
        }
        Box::pin(async { Ok(Profile { clock: Clock::Processor, operations, spans }) })
    }
}

/// Runs one operation by its formula.
fn execute<T: Float>(op: &Op, memory: &mut Memory<T>) {
    match op {
        Op::Attention(op) => attention::run(op, memory),
        Op::AttentionAppend(op) => attention::run_append(op, memory),
        Op::AttentionAppendBackward(op) => attention::run_append_backward(op, memory),
        Op::AttentionBackward(op) => attention::run_backward(op, memory),
        Op::Elementwise(op) => elementwise::run(op, memory),
        Op::Iterate(op) => iterate::run(op, memory),
        Op::Linear(op) => linear::run(op, memory),
        Op::LinearBackward(op) => linear::run_backward(op, memory),
        Op::MambaLab(op) => mamba_lab::run(op, memory),
        Op::MambaLabBackward(op) => mamba_lab::run_backward(op, memory),
        Op::MinGru(op) => min_gru::run(op, memory),
        Op::MinGruBackward(op) => min_gru::run_backward(op, memory),
        Op::MinGruScan(op) => min_gru_scan::run(op, memory),
        Op::MinGruScanBackward(op) => min_gru_scan::run_backward(op, memory),
        Op::SelectiveScan(op) => selective_scan::run(op, memory),
        Op::SelectiveScanBackward(op) => selective_scan::run_backward(op, memory),
        Op::Stack(op) => stack::run(op, memory),
        Op::CausalConv1d(op) => causal_conv1d::run(op, memory),
        Op::CausalConv1dBackward(op) => causal_conv1d::run_backward(op, memory),
        Op::Dropout(op) => dropout::run(op, memory),
        Op::RmsNorm(op) => rms_norm::run(op, memory),
        Op::RmsNormBackward(op) => rms_norm::run_backward(op, memory),
        Op::MeanLoss(op) => loss::run(op, memory),
        Op::MeanLossBackward(op) => loss::run_backward(op, memory),
        Op::GradNorm(op) => grad_norm::run(op, memory),
        Op::Optimize(op) => optimizer::run(op, memory),
        Op::L1Penalty(op) => optimizer::run_l1_penalty(op, memory),
        Op::Advance(op) => counter::run(op, memory),
        Op::Gather(op) => window::run(op, memory),
        Op::Rescale(op) => window::run_rescale(op, memory),
        Op::Restore(op) => window::run_restore(op, memory),
    }
}

/// A reset mask, `(batch, step)`.
pub(super) fn reset_mask<T: Float>(reset: Option<Tensor>, memory: &Memory<T>) -> Option<Array2<bool>> {
    reset.map(|reset| memory.axes::<Ix2>(reset).mapv(|begins| begins != T::zero()))
}

/// An element of a tensor of indices.
pub(super) fn index<T: Float>(memory: &Memory<T>, indices: Tensor, at: usize) -> usize {
    memory.rows(indices).iter().nth(at).map_or(0, |index| index.as_f64() as usize)
}
