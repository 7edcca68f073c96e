//! The examples, run.

mod common;
#[path = "../examples/selective_scan_on_your_buffers.rs"]
mod selective_scan_on_your_buffers;
#[path = "../examples/train_in_memory.rs"]
mod train_in_memory;

use common::without_gpu;

#[test]
fn selective_scan_runs_on_buffers_of_the_callers() {
    if without_gpu() {
        return;
    }
    selective_scan_on_your_buffers::main().expect("as the reference");
}

#[test]
fn a_forecaster_is_trained_in_memory() {
    train_in_memory::main().expect("better than persistence");
}
