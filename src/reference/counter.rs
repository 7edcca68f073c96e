//! The count of training steps: `counter += 1`, both the step within what was last uploaded and all steps so far.

use super::Float;
use crate::memory::Memory;
use crate::ops::Advance;

pub(crate) fn run<T: Float>(op: &Advance, memory: &mut Memory<T>) {
    memory.view_mut(op.counter).mapv_inplace(|count| count + T::one());
}
