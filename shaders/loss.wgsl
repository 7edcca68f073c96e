// losses[counter[0]] = mean of a function of the error e = prediction - target (`wanted`: WGSL reserves the other word), and its gradient:
//   MSE       e²                                          2 e
//   MAE       |e|                                         sign(e)
//   HUBER     e² / 2 up to delta, then delta (|e| - delta / 2)   e clamped to delta
//   QUANTILE  max(-q e, (1 - q) e) for level q            -q below 0, 1 - q above, 0 at 0
// One workgroup sums up to a few thousand elements; more are summed by several workgroups into partial sums, which one workgroup collects.
// Of more elements than can be bound, one dispatch takes those of some rows.

struct Params {
    n_element: u32,
    n_whole: u32, // elements, of which n_element are bound
    n_level: u32,
    n_prediction_column: u32,
    n_wanted_column: u32,
    n_loss: u32,
    n_partial: u32,
    first_partial: u32,
    delta: f32,
    prediction_offset: u32,
    prediction_stride: u32,
    wanted_offset: u32,
    wanted_stride: u32,
    losses_offset: u32,
    grad_prediction_offset: u32,
    grad_prediction_stride: u32,
    levels: array<vec4<f32>, 8>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> prediction: array<f32>; // (row, output, level)
@group(0) @binding(2) var<storage, read> wanted: array<f32>; // (row, output)
@group(0) @binding(3) var<storage, read> counter: array<u32>; // (2)
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; // (n_loss)
@group(0) @binding(5) var<storage, read_write> partials: array<f32>; // (n_partial)
@group(0) @binding(6) var<storage, read_write> grad_prediction: array<f32>; // (row, output, level)

fn error_of(element: u32) -> f32 {
    let row = element / params.n_prediction_column;
    let value = prediction[params.prediction_offset + row * params.prediction_stride + element % params.n_prediction_column];
    let output = element / params.n_level;
    let wanted_row = output / params.n_wanted_column;
    return value - wanted[params.wanted_offset + wanted_row * params.wanted_stride + output % params.n_wanted_column];
}

fn level_of(element: u32) -> f32 {
    let level = element % params.n_level;
    return params.levels[level / 4u][level % 4u];
}

const MSE = 0u;
const MAE = 1u;
const HUBER = 2u;
const QUANTILE = 3u;

fn loss_of(element: u32) -> f32 {
    let e = error_of(element);
    switch LOSS {
        case MAE: {
            return abs(e);
        }
        case HUBER: {
            return select(params.delta * (abs(e) - 0.5 * params.delta), 0.5 * e * e, abs(e) <= params.delta);
        }
        case QUANTILE: {
            let q = level_of(element);
            return max(-q * e, (1.0 - q) * e);
        }
        default: {
            return e * e;
        }
    }
}

fn derivative_of(element: u32) -> f32 {
    let e = error_of(element);
    switch LOSS {
        case MAE: {
            return sign(e);
        }
        case HUBER: {
            return clamp(e, -params.delta, params.delta);
        }
        case QUANTILE: {
            let q = level_of(element);
            return sign(e) * select(1.0 - q, q, e < 0.0);
        }
        default: {
            return 2.0 * e;
        }
    }
}

// sum over every element that a workgroup of n_group takes
fn sum_losses(group: u32, n_group: u32, lane: u32) -> f32 {
    var sum = 0.0;
    for (var element = group * LANES + lane; element < params.n_element; element += n_group * LANES) {
        sum += loss_of(element);
    }
    return sum_lanes(lane, vec2(sum, 0.0)).x;
}

fn store_mean(lane: u32, sum: f32) {
    let index = counter[0];
    if lane == 0u && index < params.n_loss {
        losses[params.losses_offset + index] = sum / f32(params.n_whole);
    }
}

// one workgroup
@compute @workgroup_size(LANES)
fn forward(@builtin(local_invocation_index) lane: u32) {
    store_mean(lane, sum_losses(0u, 1u, lane));
}

// n_partial workgroups
@compute @workgroup_size(LANES)
fn forward_partial(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sum = sum_losses(group.x, params.n_partial, lane);
    if lane == 0u {
        partials[params.first_partial + group.x] = sum;
    }
}

// one workgroup
@compute @workgroup_size(LANES)
fn forward_collect(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var index = lane; index < params.n_partial; index += LANES) {
        sum += partials[index];
    }
    store_mean(lane, sum_lanes(lane, vec2(sum, 0.0)).x);
}

// grad_prediction = derivative / n_whole; one invocation an element
@compute @workgroup_size(LANES)
fn backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let element = invocation_of(global, workgroups);
    if element >= params.n_element {
        return;
    }
    let row = element / params.n_prediction_column;
    let place = row * params.grad_prediction_stride + element % params.n_prediction_column;
    grad_prediction[params.grad_prediction_offset + place] = derivative_of(element) / f32(params.n_whole);
}
