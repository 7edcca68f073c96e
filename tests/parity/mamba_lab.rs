//! `mamba_lab` against the reference.

use super::harness::{CHANNELS, Case, LENGTHS};
use scanrnn::ops::Recurrence;

fn check(n_batch: usize, n_step: usize, n_hidden: usize, initial: bool, reset: bool, reverse: bool) {
    let mut case = Case::new(format!("mamba_lab {n_batch} x {n_step} x {n_hidden}, initial {initial}, reset {reset}, reverse {reverse}"));
    let n_state = 5;
    let p = case.variable("p", &[n_batch, n_step, n_hidden], -3.0, 3.0);
    let a = case.variable("a", &[n_state], -2.0, -0.05);
    let b = case.variable("b", &[n_hidden, n_state], -0.3, 0.3);
    let c = case.variable("c", &[n_hidden, n_state], -0.5, 0.5);
    let d = case.variable("d", &[n_hidden], 0.5, 1.5);
    let initial_state = initial.then(|| case.variable("initial", &[n_batch, n_state], -1.0, 1.0));
    let reset = reset.then(|| case.reset(n_batch, n_step));
    let recurrence = Recurrence { initial_state, reset, reverse };
    let (y, last) = case.graph.mamba_lab("y", p, a, b, c, d, &recurrence).expect("shapes fit");
    case.check(&[y, last]);
}

#[test]
fn lengths_channels_and_options() {
    for (index, &n_step) in LENGTHS.iter().enumerate() {
        let n_hidden = CHANNELS[index % 3];
        for (initial, reset, reverse) in [(false, false, false), (true, false, true), (true, true, false), (false, true, true)] {
            check(1 + index % 5, n_step, n_hidden, initial, reset, reverse);
        }
    }
}
