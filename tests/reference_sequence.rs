//! What every recurrence of the reference offers: a sequence cut anywhere and continued from its state, and packed sequences, give what
//! the whole, or the sequences apart, give: bit by bit, but for gradients that are sums over all steps.

mod reference_cases;

use std::fmt::Debug;

use ndarray::{Array2, ArrayD, Axis, Slice, concatenate};
use reference_cases::{Options, Recurrence, Tensors, attention, attention_tensors, borders};
use scanrnn::reference::Float;

/// A sum of the same terms in another order, in `f64` and `f32`.
fn close<T: Float>(what: &str, got: &ArrayD<T>, want: &ArrayD<T>) {
    let tolerance = 64.0 * T::epsilon().as_f64() * (1.0 + want.iter().fold(0.0, |size, x| x.as_f64().abs().max(size)));
    assert_eq!(got.shape(), want.shape(), "{what}");
    assert!(got.iter().zip(want).all(|(got, want)| (*got - *want).as_f64().abs() <= tolerance), "{what}: {got} is not {want}");
}

fn equal<T: Debug + PartialEq>(what: &str, got: &ArrayD<T>, want: &ArrayD<T>) {
    assert!(got == want, "{what}: {got:?} is not {want:?}");
}

/// The steps of a `(batch, step, ..)` tensor, of one batch row or of all.
fn steps<T: Float>(tensor: &ArrayD<T>, row: Option<usize>, steps: std::ops::Range<usize>) -> ArrayD<T> {
    let rows = row.map_or(Slice::from(..), |row| Slice::from(row..=row));
    tensor.slice_axis(Axis(0), rows).slice_axis(Axis(1), Slice::from(steps)).to_owned()
}

/// The inputs and cotangents of some steps, without states.
fn part<T: Float>(recurrence: &Recurrence<T>, tensors: &Tensors<T>, row: Option<usize>, range: std::ops::Range<usize>) -> Tensors<T> {
    let mut part = Tensors::default();
    for name in recurrence.along_steps() {
        part.set(&name, steps(&tensors.0[&name], row, range.clone()));
    }
    for name in recurrence.parameters {
        part.set(name, tensors.0[*name].clone());
    }
    part
}

fn cut_and_continued<T: Float>(recurrence: &Recurrence<T>, reverse: bool, reset: Option<&Array2<bool>>) {
    const N_STEP: usize = 7;
    let [initial, last] = recurrence.states;
    let (initial_grad, last_out, last_cotangent) = (format!("grad.{initial}"), format!("out.{last}"), format!("cotangent.{last}"));
    let tensors = recurrence.tensors(11, 2, N_STEP);
    let whole = recurrence.run(&recurrence.options(reverse, reset.cloned()), &tensors);
    for cut in 0..=N_STEP {
        // A backward run that is cut at a border hands over a state that a whole run would drop: that cut is for the caller to see.
        if reverse && cut < N_STEP && reset.is_some_and(|reset| reset.column(cut).iter().any(|&begins| begins)) {
            continue;
        }
        let options = |range: std::ops::Range<usize>| -> Options {
            recurrence.options(reverse, reset.map(|reset| reset.slice_axis(Axis(1), Slice::from(range)).to_owned()))
        };
        let (first, second) = if reverse { (cut..N_STEP, 0..cut) } else { (0..cut, cut..N_STEP) };
        let mut tensors_1 = part(recurrence, &tensors, None, first.clone()).with(initial, tensors.0[initial].clone());
        let state = recurrence.run(&options(first.clone()), &tensors_1).0.remove(&last_out).expect("a last state");
        let tensors_2 =
            part(recurrence, &tensors, None, second.clone()).with(initial, state).with(&last_cotangent, tensors.0[&last_cotangent].clone());
        let part_2 = recurrence.run(&options(second), &tensors_2);
        tensors_1.set(&last_cotangent, part_2.0[&initial_grad].clone());
        let part_1 = recurrence.run(&options(first), &tensors_1);

        let what = |name: &str| format!("{}, reverse {reverse}, cut at {cut}: {name}", recurrence.name);
        let (early, late) = if reverse { (&part_2, &part_1) } else { (&part_1, &part_2) };
        for name in recurrence.sequences.iter().map(|name| format!("grad.{name}")).chain([format!("out.{}", recurrence.output)]) {
            let joined = concatenate![Axis(1), early.0[&name].view(), late.0[&name].view()];
            equal(&what(&name), &joined, &whole.0[&name]);
        }
        equal(&what(last), &part_2.0[&last_out], &whole.0[&last_out]);
        equal(&what(initial), &part_1.0[&initial_grad], &whole.0[&initial_grad]);
        for name in recurrence.parameters.iter().map(|name| format!("grad.{name}")) {
            close(&what(&name), &(&part_1.0[&name] + &part_2.0[&name]), &whole.0[&name]);
        }
    }
}

fn packed_and_apart<T: Float>(recurrence: &Recurrence<T>, reverse: bool) {
    let reset = borders(&["|..||....|..", "|.|.....|.|."]);
    let n_step = reset.ncols();
    let [initial, last] = recurrence.states;
    let mut tensors = recurrence.tensors(12, 2, n_step);
    for state in [initial, &format!("cotangent.{last}")] {
        tensors.0.remove(state);
    }
    let packed = recurrence.run(&recurrence.options(reverse, Some(reset.clone())), &tensors);
    let mut sums: Tensors<T> = Tensors::default();
    for (row, begins) in reset.rows().into_iter().enumerate() {
        let mut starts: Vec<usize> = (0..n_step).filter(|&step| begins[step]).collect();
        starts.push(n_step);
        for sequence in starts.windows(2).map(|pair| pair[0]..pair[1]) {
            let apart = recurrence.run(&recurrence.options(reverse, None), &part(recurrence, &tensors, Some(row), sequence.clone()));
            let what = |name: &str| format!("{}, reverse {reverse}, row {row}, steps {sequence:?}: {name}", recurrence.name);
            for name in recurrence.sequences.iter().map(|name| format!("grad.{name}")).chain([format!("out.{}", recurrence.output)]) {
                equal(&what(&name), &steps(&packed.0[&name], Some(row), sequence.clone()), &apart.0[&name]);
            }
            if if reverse { sequence.start == 0 } else { sequence.end == n_step } {
                let name = format!("out.{last}");
                let of_row = packed.0[&name].slice_axis(Axis(0), Slice::from(row..=row)).to_owned();
                equal(&what(&name), &of_row, &apart.0[&name]);
            }
            for name in recurrence.parameters.iter().map(|name| format!("grad.{name}")) {
                let sum = match sums.0.get(&name) {
                    Some(sum) => sum + &apart.0[&name],
                    None => apart.0[&name].clone(),
                };
                sums.set(&name, sum);
            }
        }
    }
    for (name, sum) in &sums.0 {
        close(&format!("{}, reverse {reverse}: {name}", recurrence.name), &packed.0[name], sum);
    }
}

/// Attention cut in two, the keys and values of the first part handed to the second, and their gradients back.
fn attention_cut_and_continued<T: Float>() {
    const N_STEP: usize = 7;
    for reset in [None, Some(borders(&["..|....", "......."]))] {
        let tensors = attention_tensors::<T>(15, 2, 2, N_STEP);
        let options = |range: std::ops::Range<usize>| Options {
            reset: reset.as_ref().map(|reset| reset.slice_axis(Axis(1), Slice::from(range)).to_owned()),
            ..Options::default()
        };
        let whole = attention(&options(0..N_STEP), &tensors);
        for cut in 1..N_STEP {
            let part = |range: std::ops::Range<usize>| {
                let mut part = Tensors::default();
                for name in ["q", "k", "v", "cotangent.y"] {
                    part.set(name, steps(&tensors.0[name], None, range.clone()));
                }
                part
            };
            let mut first = part(0..cut);
            let mut second = part(cut..N_STEP);
            for name in ["k", "v"] {
                let past = format!("past_{name}");
                first.set(&past, tensors.0[&past].clone());
                second.set(&past, concatenate![Axis(1), tensors.0[&past].view(), first.0[name].view()]);
            }
            // A border in the first part hides what came before it from the second.
            let n_past = second.shape("past_k")[1];
            let hidden: Vec<usize> = (0..2)
                .map(|row| reset.as_ref().map_or(0, |reset| (0..cut).rev().find(|&step| reset[[row, step]]).map_or(0, |step| 2 + step)))
                .collect();
            for name in ["past_k", "past_v"] {
                let rows = second.0[name].clone();
                let moved = ArrayD::from_shape_fn(rows.raw_dim(), |at| rows[[at[0], (at[1] + hidden[at[0]]).min(n_past - 1), at[2]]]);
                second.set(name, moved);
            }
            let second_options = Options { length: Some(hidden.iter().map(|hidden| n_past - hidden).collect()), ..options(cut..N_STEP) };
            let (part_1, part_2) = (attention(&options(0..cut), &first), attention(&second_options, &second));
            let what = |name: &str| format!("attention, reset {}, cut at {cut}: {name}", reset.is_some());
            equal(&what("y"), &concatenate![Axis(1), part_1.0["out.y"].view(), part_2.0["out.y"].view()], &whole.0["out.y"]);
            equal(&what("q"), &concatenate![Axis(1), part_1.0["grad.q"].view(), part_2.0["grad.q"].view()], &whole.0["grad.q"]);
            for name in ["k", "v"] {
                let late = &part_2.0[&format!("grad.past_{name}")];
                let from_second = |row: usize, at: usize, channel: usize| match at.checked_sub(hidden[row]) {
                    Some(at) => late[[row, at, channel]],
                    None => T::zero(),
                };
                let (past, new) = (&part_1.0[&format!("grad.past_{name}")], &part_1.0[&format!("grad.{name}")]);
                let past = ArrayD::from_shape_fn(past.raw_dim(), |at| past[&at] + from_second(at[0], at[1], at[2]));
                let new = ArrayD::from_shape_fn(new.raw_dim(), |at| new[&at] + from_second(at[0], 2 + at[1], at[2]));
                close(&what(name), &past, &whole.0[&format!("grad.past_{name}")]);
                let new = concatenate![Axis(1), new.view(), part_2.0[&format!("grad.{name}")].view()];
                close(&what(name), &new, &whole.0[&format!("grad.{name}")]);
            }
        }
    }
}

fn attention_packed_and_apart<T: Float>() {
    let tensors = attention_tensors::<T>(16, 1, 0, 11);
    let packed = attention(&Options { reset: Some(borders(&["|..||....|."])), ..Options::default() }, &tensors);
    for sequence in [0..3, 3..4, 4..9, 9..11] {
        let mut part = Tensors::default();
        for name in ["q", "k", "v", "cotangent.y"] {
            part.set(name, steps(&tensors.0[name], None, sequence.clone()));
        }
        for (name, apart) in &attention(&Options::default(), &part).0 {
            equal(&format!("attention, steps {sequence:?}: {name}"), &steps(&packed.0[name], None, sequence.clone()), apart);
        }
    }
}

fn all<T: Float>() {
    attention_cut_and_continued::<T>();
    attention_packed_and_apart::<T>();
    for recurrence in Recurrence::<T>::all() {
        for reverse in [false, true] {
            cut_and_continued(&recurrence, reverse, None);
            cut_and_continued(&recurrence, reverse, Some(&borders(&["..|....", "|...|.."])));
            packed_and_apart(&recurrence, reverse);
        }
    }
}

#[test]
fn cuts_and_packs_in_f64() {
    all::<f64>();
}

#[test]
fn cuts_and_packs_in_f32() {
    all::<f32>();
}

#[test]
fn a_forward_run_that_begins_a_sequence_ignores_the_state_before_it() {
    for recurrence in Recurrence::<f64>::all() {
        let [initial, _] = recurrence.states;
        let tensors = recurrence.tensors(13, 1, 4);
        let outputs = recurrence.run(&recurrence.options(false, Some(borders(&["|..."]))), &tensors);
        assert!(outputs.0[&format!("grad.{initial}")].iter().all(|&grad| grad == 0.0), "{}", recurrence.name);
        let mut without = tensors.clone();
        without.0.remove(initial);
        let name = format!("out.{}", recurrence.output);
        equal(recurrence.name, &recurrence.run(&recurrence.options, &without).0[&name], &outputs.0[&name]);
    }
}

#[test]
fn backwards_equals_forwards_over_mirrored_steps() {
    for recurrence in Recurrence::<f64>::all() {
        let tensors = recurrence.tensors(14, 2, 5);
        let mirror = |tensor: &ArrayD<f64>| {
            let mut mirrored = tensor.clone();
            mirrored.invert_axis(Axis(1));
            mirrored.as_standard_layout().into_owned()
        };
        let mut mirrored = tensors.clone();
        for name in recurrence.along_steps() {
            mirrored.set(&name, mirror(&tensors.0[&name]));
        }
        let backwards = recurrence.run(&recurrence.options(true, None), &tensors);
        let forwards = recurrence.run(&recurrence.options(false, None), &mirrored);
        for (name, want) in &forwards.0 {
            let along_steps = name.strip_prefix("grad.").is_some_and(|name| recurrence.sequences.contains(&name))
                || name.strip_prefix("out.") == Some(recurrence.output);
            let want = if along_steps { mirror(want) } else { want.clone() };
            equal(&format!("{}: {name}", recurrence.name), &backwards.0[name], &want);
        }
    }
}
