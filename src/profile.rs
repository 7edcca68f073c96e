//! What one run of a program spends its time on, operation by operation and kernel by kernel.

use crate::backend::Session;
use crate::error::Result;
use crate::graph::Program;

/// Bytes and floating-point operations, counted from shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Each tensor that is read or written, once.
    pub bytes: f64,
    /// Additions and multiplications, each of a fused pair; an exponential counts as one. Zero where it was not counted.
    pub flops: f64,
    /// Exponentials, and functions made of them. Zero where none were counted.
    pub exponentials: f64,
}

/// How times were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps that the GPU writes before and after each kernel.
    Timestamps,
    /// Each kernel submitted and waited for by itself: the times hold the submission.
    Waits,
    /// The processor's clock around each operation.
    Processor,
}

/// One kernel, or on the CPU one operation.
#[derive(Clone, Debug)]
pub struct Span {
    /// `operation.entry` of a kernel, or the operation's name.
    pub name: String,
    /// Index into [`Profile::operations`].
    pub operation: usize,
    /// Milliseconds since the run's begin.
    pub start_ms: f64,
    /// Milliseconds.
    pub ms: f64,
    /// Of this kernel alone.
    pub work: Work,
}

/// One run of a program.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How times were taken.
    pub clock: Clock,
    /// The program's operations in their order: name and work.
    pub operations: Vec<(&'static str, Work)>,
    /// What ran, in its order.
    pub spans: Vec<Span>,
}

/// Runs of which the fastest is kept.
const RUNS: usize = 5;

impl Profile {
    /// Runs a program some times, after one run that warms up, and keeps the fastest.
    ///
    /// # Errors
    /// As [`Session::profile`].
    pub async fn fastest(session: &mut dyn Session, program: Program) -> Result<Profile> {
        session.run(program, 1)?;
        let mut fastest = session.profile(program).await?;
        for _ in 1..RUNS {
            let profile = session.profile(program).await?;
            if profile.total_ms() < fastest.total_ms() {
                fastest = profile;
            }
        }
        Ok(fastest)
    }

    /// The sum of all spans, milliseconds.
    pub fn total_ms(&self) -> f64 {
        self.spans.iter().map(|span| span.ms).sum()
    }
}
