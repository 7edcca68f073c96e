// x = (window - shift) / scale and y = (what follows - shift) / scale, for each window and feature:
//   LAST      shift = the last value, scale = root mean square of the one-step differences
//   MEAN_STD  shift = the mean, scale = the population's standard deviation
//   else      shift = 0, scale = 1
// A scale that float32 could not resolve at the level of the shift is 1. One workgroup takes one feature of one window, if that begins in
// first_row..end_row; the series is bound from first_row on.

struct Params {
    n_batch: u32,
    n_start: u32,
    n_step: u32,
    n_feature: u32,
    horizon: u32,
    n_target: u32,
    n_level: u32,
    n_prediction_column: u32,
    is_root: u32,
    series_offset: u32,
    series_stride: u32,
    prediction_offset: u32,
    prediction_stride: u32,
    out_offset: u32,
    first_row: u32,
    end_row: u32,
    first_batch: u32, // of a window of the batch, which has n_batch of n_whole_batch
    n_whole_batch: u32,
    first_item: u32, // of the items of out that are bound
    n_bound_item: u32,
    x_offset: u32,
    y_offset: u32,
    shift_offset: u32,
    scale_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> series: array<f32>; // (row, feature)
@group(0) @binding(2) var<storage, read> starts: array<u32>; // (n_start, batch)
@group(0) @binding(3) var<storage, read> targets: array<u32>; // (target)
@group(0) @binding(4) var<storage, read> counter: array<u32>; // (2)
@group(0) @binding(5) var<storage, read_write> x: array<f32>; // (batch, step, feature)
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // (batch, horizon, target)
@group(0) @binding(7) var<storage, read_write> shift: array<f32>; // (batch, feature)
@group(0) @binding(8) var<storage, read_write> scale: array<f32>; // (batch, feature)
@group(0) @binding(9) var<storage, read> prediction: array<f32>; // (batch, horizon, target, level)
@group(0) @binding(10) var<storage, read_write> out: array<f32>; // (n_item, horizon, target, level)

const LAST = 1u;
const MEAN_STD = 2u;
const LEAST_SCALE = 0.1;

fn value_at(row: u32, feature: u32) -> f32 {
    return series[params.series_offset + row * params.series_stride + feature];
}

// scale, or 1 where it is too small to divide by
fn guarded(scale: f32, shift: f32) -> f32 {
    return select(1.0, scale, scale > max(1.1920929e-7 * abs(shift), 1e-30));
}

// shift and scale of a window that begins at a row
fn statistics(start: u32, feature: u32, lane: u32) -> vec2<f32> {
    let count = f32(params.n_step);
    let last = value_at(start + params.n_step - 1u, feature);
    if NORMALISATION == LAST {
        var squares = 0.0;
        for (var step = lane + 1u; step < params.n_step; step += LANES) {
            let difference = value_at(start + step, feature) - value_at(start + step - 1u, feature);
            squares += difference * difference;
        }
        squares = sum_lanes(lane, vec2(squares, 0.0)).x;
        return vec2(last, guarded(sqrt(squares / max(count - 1.0, 1.0)), last));
    }
    if NORMALISATION == MEAN_STD {
        // differences from the last value, so that a high level costs no digits
        var sum = 0.0;
        for (var step = lane; step < params.n_step; step += LANES) {
            sum += value_at(start + step, feature) - last;
        }
        let offset = sum_lanes(lane, vec2(sum, 0.0)).x / count;
        var squares = 0.0;
        for (var step = lane; step < params.n_step; step += LANES) {
            let difference = value_at(start + step, feature) - last - offset;
            squares += difference * difference;
        }
        squares = sum_lanes(lane, vec2(squares, 0.0)).x;
        return vec2(last + offset, guarded(sqrt(squares / count), last + offset));
    }
    return vec2(0.0, 1.0);
}

@compute @workgroup_size(LANES)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = group.y * workgroups.x + group.x;
    if item >= params.n_batch * params.n_feature {
        return;
    }
    let batch = item / params.n_feature;
    let feature = item % params.n_feature;
    let start_row = min(counter[0], params.n_start - 1u);
    let begin = starts[start_row * params.n_whole_batch + params.first_batch + batch];
    if begin < params.first_row || begin >= params.end_row {
        return;
    }
    let start = begin - params.first_row;
    let by = statistics(start, feature, lane);
    for (var step = lane; step < params.n_step; step += LANES) {
        x[params.x_offset + (batch * params.n_step + step) * params.n_feature + feature] = (value_at(start + step, feature) - by.x) / by.y;
    }
    for (var index = lane; index < params.horizon * params.n_target; index += LANES) {
        if targets[index % params.n_target] == feature {
            let value = value_at(start + params.n_step + index / params.n_target, feature);
            y[params.y_offset + batch * params.horizon * params.n_target + index] = (value - by.x) / by.y;
        }
    }
    if lane == 0u {
        shift[params.shift_offset + item] = by.x;
        scale[params.scale_offset + item] = by.y;
    }
}

// out[counter[0] n_batch + batch] = prediction scale + shift of its target; one invocation an element of the prediction
@compute @workgroup_size(LANES)
fn restore(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let n_column = params.n_target * params.n_level;
    let batch = index / (params.horizon * n_column);
    let item = counter[0] * params.n_whole_batch + params.first_batch + batch;
    if batch >= params.n_batch || item < params.first_item || item >= params.first_item + params.n_bound_item {
        return;
    }
    let feature = targets[index % n_column / params.n_level];
    let row = index / params.n_prediction_column;
    let value = prediction[params.prediction_offset + row * params.prediction_stride + index % params.n_prediction_column];
    let place = batch * params.n_feature + feature;
    let within = index % (params.horizon * n_column);
    out[params.out_offset + (item - params.first_item) * params.horizon * n_column + within] =
        value * scale[params.scale_offset + place] + shift[params.shift_offset + place];
}

// out = prediction factor, where the factor is the scale of the target or scale / sqrt(max(scale, 0.1)); one invocation an element
@compute @workgroup_size(LANES)
fn rescale(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let n_column = params.n_target * params.n_level;
    let batch = index / (params.horizon * n_column);
    if batch >= params.n_batch {
        return;
    }
    let feature = targets[index % n_column / params.n_level];
    let value = prediction[params.prediction_offset + index / n_column * params.prediction_stride + index % n_column];
    let by = scale[params.scale_offset + batch * params.n_feature + feature];
    out[params.out_offset + index] = value * select(by, by / sqrt(max(by, LEAST_SCALE)), params.is_root == 1u);
}
