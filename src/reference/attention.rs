//! Causal multi-head attention: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; gradients from the saved log-sum-exp as in Dao 2023,
//! arXiv 2307.08691, section 3.1.
//!
//! Queries, keys and values of a head are neighbouring channels, `d` of them. With `S_t` the keys that query `t` sees:
//! ```text
//! s_ti = q_t · k_i / sqrt(d)      lse_t = log Σ_{i ∈ S_t} exp(s_ti)      p_ti = exp(s_ti - lse_t)      y_t = Σ_{i ∈ S_t} p_ti v_i
//! ```
//! `S_t` are the past keys, in the order in which they came, then the keys of steps 0 to `t`. A border cuts it: what lies before the last
//! step at or before `t` that begins a sequence is not seen. Backward, with `η_t = ∂L/∂y_t` and `D_t = Σ_i p_ti (η_t · v_i) = η_t · y_t`:
//! ```text
//! ∂v_i = Σ_t p_ti η_t      ∂s_ti = p_ti (η_t · v_i - D_t)      ∂q_t = Σ_i ∂s_ti k_i / sqrt(d)      ∂k_i = Σ_t ∂s_ti q_t / sqrt(d)
//! ```
//! since `∂p_ti/∂s_tj = p_ti ([i = j] - p_tj)`.

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, concatenate, s};

use super::Float;
use super::session::reset_mask;
use crate::memory::Memory;
use crate::ops::{Attention, AttentionAppend, AttentionAppendBackward, AttentionBackward, AttentionInputs, KeyValueCache};

/// What the operation reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T> {
    /// Queries `(batch, step, channel)`.
    pub q: ArrayView3<'a, T>,
    /// Keys `(batch, step, channel)`.
    pub k: ArrayView3<'a, T>,
    /// Values `(batch, step, channel)`.
    pub v: ArrayView3<'a, T>,
    /// Heads: equal parts of the channels.
    pub n_head: usize,
    /// Keys and values of earlier steps.
    pub past: Option<Past<'a, T>>,
    /// `(batch, step)`: true where a sequence begins.
    pub reset: Option<ArrayView2<'a, bool>>,
}

/// Keys and values of earlier steps.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a, T> {
    /// `(batch, capacity, channel)`.
    pub k: ArrayView3<'a, T>,
    /// `(batch, capacity, channel)`.
    pub v: ArrayView3<'a, T>,
    /// How many of them are there, `(batch)`; all where absent.
    pub length: Option<&'a [usize]>,
}

/// What the operation computes.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `(batch, step, channel)`.
    pub y: Array3<T>,
    /// `lse (batch, head, step)`.
    pub log_sum: Array3<T>,
}

/// The gradients of the inputs of the same names and shapes.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// `(batch, step, channel)`.
    pub grad_q: Array3<T>,
    /// `(batch, step, channel)`.
    pub grad_k: Array3<T>,
    /// `(batch, step, channel)`.
    pub grad_v: Array3<T>,
    /// Of the past keys and values, `(batch, capacity, channel)`, where there are any; 0 for those beyond the length.
    pub grad_past: Option<[Array3<T>; 2]>,
}

impl<T: Float> Inputs<'_, T> {
    fn n_past(&self, batch: usize) -> usize {
        self.past.map_or(0, |past| past.length.map_or(past.k.dim().1, |length| length[batch]))
    }

    /// Past rows, then new ones, of one head: `(n_past + step, head_dim)`.
    fn joined(&self, past: Option<ArrayView3<T>>, new: ArrayView3<T>, batch: usize, head: usize) -> Array2<T> {
        let columns = self.columns(head);
        let new = new.slice(s![batch, .., columns.clone()]).to_owned();
        match past {
            Some(past) => concatenate![Axis(0), past.slice(s![batch, ..self.n_past(batch), columns]), new],
            None => new,
        }
    }

    fn columns(&self, head: usize) -> Range<usize> {
        let head_dim = self.q.dim().2 / self.n_head;
        head * head_dim..(head + 1) * head_dim
    }

    /// The rows of [`Inputs::joined`] that a query sees.
    fn seen(&self, batch: usize, step: usize) -> Range<usize> {
        let border = self.reset.and_then(|reset| (0..=step).rev().find(|&step| reset[[batch, step]]));
        let n_past = self.n_past(batch);
        border.map_or(0, |border| n_past + border)..n_past + step + 1
    }

    fn scale(&self) -> T {
        T::from_f64((self.columns(0).len() as f64).sqrt().recip())
    }
}

/// The outputs.
pub fn forward<T: Float>(inputs: &Inputs<T>) -> Outputs<T> {
    let (n_batch, n_step, n_channel) = inputs.q.dim();
    let mut y = Array3::zeros((n_batch, n_step, n_channel));
    let mut log_sum = Array3::zeros((n_batch, inputs.n_head, n_step));
    for (batch, head) in (0..n_batch).flat_map(|batch| (0..inputs.n_head).map(move |head| (batch, head))) {
        let k = inputs.joined(inputs.past.map(|past| past.k), inputs.k, batch, head);
        let v = inputs.joined(inputs.past.map(|past| past.v), inputs.v, batch, head);
        for step in 0..n_step {
            let q = inputs.q.slice(s![batch, step, inputs.columns(head)]);
            let seen = inputs.seen(batch, step);
            let scores: Vec<T> = seen.clone().map(|key| inputs.scale() * q.dot(&k.row(key))).collect();
            let peak = scores.iter().fold(T::neg_infinity(), |peak, &score| peak.max(score));
            let sum: T = scores.iter().map(|&score| (score - peak).exp()).sum();
            let mut y = y.slice_mut(s![batch, step, inputs.columns(head)]);
            for (key, score) in seen.zip(scores) {
                y.scaled_add((score - peak).exp() / sum, &v.row(key));
            }
            log_sum[[batch, head, step]] = peak + sum.ln();
        }
    }
    Outputs { y, log_sum }
}

/// The gradients, given `grad_y (batch, step, channel)`.
pub fn backward<T: Float>(inputs: &Inputs<T>, grad_y: ArrayView3<T>) -> Gradients<T> {
    let (n_batch, n_step, _) = inputs.q.dim();
    let Outputs { y, log_sum } = forward(inputs);
    let zeros = || Array3::zeros(inputs.q.dim());
    let (mut grad_q, mut grad_k, mut grad_v) = (zeros(), zeros(), zeros());
    let mut grad_past = inputs.past.map(|past| [past.k, past.v].map(|past| Array3::zeros(past.dim())));
    for (batch, head) in (0..n_batch).flat_map(|batch| (0..inputs.n_head).map(move |head| (batch, head))) {
        let columns = inputs.columns(head);
        let k = inputs.joined(inputs.past.map(|past| past.k), inputs.k, batch, head);
        let v = inputs.joined(inputs.past.map(|past| past.v), inputs.v, batch, head);
        let mut grads = [Array2::zeros(k.dim()), Array2::zeros(v.dim())];
        for step in 0..n_step {
            let at = s![batch, step, columns.clone()];
            let (q, grad_y) = (inputs.q.slice(at), grad_y.slice(at));
            let d = grad_y.dot(&y.slice(at));
            for key in inputs.seen(batch, step) {
                let p = (inputs.scale() * q.dot(&k.row(key)) - log_sum[[batch, head, step]]).exp();
                let grad_score = inputs.scale() * p * (grad_y.dot(&v.row(key)) - d);
                grad_q.slice_mut(at).scaled_add(grad_score, &k.row(key));
                grads[0].row_mut(key).scaled_add(grad_score, &q);
                grads[1].row_mut(key).scaled_add(p, &grad_y);
            }
        }
        let n_past = inputs.n_past(batch);
        for (grad, joined) in [&mut grad_k, &mut grad_v].into_iter().zip(&grads) {
            grad.slice_mut(s![batch, .., columns.clone()]).assign(&joined.slice(s![n_past.., ..]));
        }
        for (grad, joined) in grad_past.iter_mut().flatten().zip(&grads) {
            grad.slice_mut(s![batch, ..n_past, columns.clone()]).assign(&joined.slice(s![..n_past, ..]));
        }
    }
    Gradients { grad_q, grad_k, grad_v, grad_past }
}

/// What an operation's tensors say beside their elements.
struct Mask {
    reset: Option<Array2<bool>>,
    length: Option<Vec<usize>>,
}

impl Mask {
    fn of<T: Float>(reset: Option<crate::graph::Tensor>, past: Option<KeyValueCache>, memory: &Memory<T>) -> Self {
        let length = past.and_then(|past| past.length.map(|length| (past.k, length)));
        Mask {
            reset: reset_mask(reset, memory),
            length: length.map(|(k, length)| {
                let capacity = memory.spec(k).shape[1];
                memory.view(length).iter().map(|length| (length.as_f64() as usize).min(capacity)).collect()
            }),
        }
    }

    fn inputs<'a, T: Float>(&'a self, inputs: &AttentionInputs, memory: &'a Memory<T>) -> Inputs<'a, T> {
        let past = inputs.past.map(|past| Past { k: memory.axes(past.k), v: memory.axes(past.v), length: self.length.as_deref() });
        Inputs {
            q: memory.axes(inputs.q),
            k: memory.axes(inputs.k),
            v: memory.axes(inputs.v),
            n_head: inputs.n_head,
            past,
            reset: self.reset.as_ref().map(|reset| reset.view()),
        }
    }
}

pub(super) fn run<T: Float>(op: &Attention, memory: &mut Memory<T>) {
    let mask = Mask::of(op.inputs.reset, op.inputs.past, memory);
    let Outputs { y, log_sum } = forward(&mask.inputs(&op.inputs, memory));
    memory.store(op.y, &y);
    memory.store(op.log_sum, &log_sum);
}

pub(super) fn run_backward<T: Float>(op: &AttentionBackward, memory: &mut Memory<T>) {
    let mask = Mask::of(op.forward.inputs.reset, op.forward.inputs.past, memory);
    let gradients = backward(&mask.inputs(&op.forward.inputs, memory), memory.axes(op.grad_y));
    let [grad_past_k, grad_past_v] = gradients.grad_past.map_or([None, None], |grads| grads.map(Some));
    for (tensor, grad) in [
        (op.grad_q, Some(gradients.grad_q)),
        (op.grad_k, Some(gradients.grad_k)),
        (op.grad_v, Some(gradients.grad_v)),
        (op.grad_past_k, grad_past_k),
        (op.grad_past_v, grad_past_v),
    ] {
        if let (Some(tensor), Some(grad)) = (tensor, grad) {
            memory.store(tensor, &grad);
        }
    }
}

/// Where the new rows of one batch row go.
struct Appended {
    /// The first step that is kept.
    first: usize,
    /// Its row in the cache.
    start: usize,
}

impl Appended {
    /// A row that begins a sequence begins the cache anew.
    fn new(reset: Option<ArrayView2<bool>>, batch: usize, n_step: usize, length: usize) -> Self {
        let border = reset.and_then(|reset| (0..n_step).rev().find(|&step| reset[[batch, step]]));
        border.map_or(Appended { first: 0, start: length }, |first| Appended { first, start: 0 })
    }

    /// Steps and their rows; those beyond the capacity are dropped.
    fn places(&self, n_step: usize, capacity: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        (self.first..n_step).zip(self.start..capacity)
    }
}

/// A cache `(batch, capacity, channel)` with new rows `(batch, step, channel)` behind the `length` that it holds.
pub fn append<T: Float>(past: ArrayView3<T>, length: &[usize], new: ArrayView3<T>, reset: Option<ArrayView2<bool>>) -> Array3<T> {
    let mut last = past.to_owned();
    for (batch, &length) in length.iter().enumerate() {
        for (step, row) in Appended::new(reset, batch, new.dim().1, length).places(new.dim().1, past.dim().1) {
            last.slice_mut(s![batch, row, ..]).assign(&new.slice(s![batch, step, ..]));
        }
    }
    last
}

/// The rows that each cache then holds.
pub fn append_length(length: &[usize], n_step: usize, capacity: usize, reset: Option<ArrayView2<bool>>) -> Vec<usize> {
    let places = |(batch, &length): (usize, &usize)| Appended::new(reset, batch, n_step, length);
    length.iter().enumerate().map(places).map(|to| (to.start + n_step - to.first).min(capacity)).collect()
}

/// The gradients of [`append`] with respect to `new` and `past`, given `grad_last (batch, capacity, channel)`.
pub fn append_backward<T: Float>(
    grad_last: ArrayView3<T>,
    length: &[usize],
    n_step: usize,
    reset: Option<ArrayView2<bool>>,
) -> [Array3<T>; 2] {
    let (n_batch, capacity, n_channel) = grad_last.dim();
    let (mut grad_new, mut grad_past) = (Array3::zeros((n_batch, n_step, n_channel)), grad_last.to_owned());
    for (batch, &length) in length.iter().enumerate() {
        for (step, row) in Appended::new(reset, batch, n_step, length).places(n_step, capacity) {
            grad_new.slice_mut(s![batch, step, ..]).assign(&grad_last.slice(s![batch, row, ..]));
            grad_past.slice_mut(s![batch, row, ..]).fill(T::zero());
        }
    }
    [grad_new, grad_past]
}

pub(super) fn run_append<T: Float>(op: &AttentionAppend, memory: &mut Memory<T>) {
    let Mask { reset, length } = Mask::of(op.reset, Some(op.past), memory);
    let reset = reset.as_ref().map(|reset| reset.view());
    let (Some(length), Some(last_length)) = (length, op.last.length) else { return };
    for (new, past, last) in [(op.k, op.past.k, op.last.k), (op.v, op.past.v, op.last.v)] {
        let values = append(memory.axes(past), &length, memory.axes(new), reset);
        memory.store(last, &values);
    }
    let (n_step, capacity) = (memory.spec(op.k).shape[1], memory.spec(op.past.k).shape[1]);
    let grown = append_length(&length, n_step, capacity, reset);
    memory.store(last_length, &ndarray::Array1::from_iter(grown.into_iter().map(|length| T::from_f64(length as f64))));
}

pub(crate) fn run_append_backward<T: Float>(op: &AttentionAppendBackward, memory: &mut Memory<T>) {
    let cache = KeyValueCache { k: op.grad_last, v: op.grad_last, length: Some(op.length) };
    let Mask { reset, length } = Mask::of(op.reset, Some(cache), memory);
    let Some(length) = length else { return };
    let reset = reset.as_ref().map(|reset| reset.view());
    let [grad_new, grad_past] = append_backward(memory.axes(op.grad_last), &length, op.n_step, reset);
    for (tensor, grad) in [(op.grad_new, grad_new), (op.grad_past, grad_past)] {
        if let Some(tensor) = tensor {
            memory.store(tensor, &grad);
        }
    }
}
