// y = x r weight, with r = 1 / sqrt(mean(x²) + eps) for each row.
// With n = x r: grad_weight = sum over rows of grad_y n, grad_x = r (grad_y weight - n mean(grad_y weight n)).
// ROW_LANES invocations take one row: a whole workgroup, or one alone, which needs no barrier. Each takes Values of WIDTH neighbouring
// channels, which are counted so.

struct Params {
    n_row: u32,
    n_channel: u32, // Values of a row
    eps: f32,
    x_offset: u32,
    x_stride: u32,
    weight_offset: u32,
    y_offset: u32,
    y_stride: u32,
    grad_y_offset: u32,
    grad_y_stride: u32,
    grad_x_offset: u32,
    grad_x_stride: u32,
    grad_weight_offset: u32,
    first_block: u32,
    n_block: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>; // (row, channel)
@group(0) @binding(2) var<storage, read> weight: array<Value>; // (channel)
@group(0) @binding(3) var<storage, read_write> y: array<Value>; // (row, channel)
@group(0) @binding(4) var<storage, read> grad_y: array<Value>; // (row, channel)
@group(0) @binding(5) var<storage, read_write> grad_x: array<Value>; // (row, channel)
@group(0) @binding(6) var<storage, read_write> inverse_rms: array<f32>; // (row)
@group(0) @binding(7) var<storage, read_write> partial_weight: array<Value>; // (block, channel)
@group(0) @binding(8) var<storage, read_write> grad_weight: array<Value>; // (channel)

fn row_of(group: vec3<u32>, workgroups: vec3<u32>, lane: u32) -> u32 {
    return ((group.y * workgroups.x + group.x) * LANES + lane) / ROW_LANES;
}

// means over a row of what each of its invocations has summed
fn mean_row(lane: u32, a: Value, b: Value) -> vec2<f32> {
    var sums = vec2(total(a), total(b));
    if ROW_LANES > 1u {
        sums = sum_lanes(lane, sums);
    }
    return sums / f32(params.n_channel * WIDTH);
}

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, workgroups, lane);
    let first = lane % ROW_LANES;
    let end = select(0u, params.n_channel, row < params.n_row);
    let x_row = (params.x_offset + row * params.x_stride) / WIDTH;
    let y_row = (params.y_offset + row * params.y_stride) / WIDTH;
    var squares = Value();
    for (var channel = first; channel < end; channel += ROW_LANES) {
        let value = x[x_row + channel];
        squares += value * value;
    }
    let r = inverseSqrt(mean_row(lane, squares, Value()).x + params.eps);
    for (var channel = first; channel < end; channel += ROW_LANES) {
        y[y_row + channel] = x[x_row + channel] * r * weight[params.weight_offset / WIDTH + channel];
    }
}

// grad_x, and r for the gradient of the weight
@compute @workgroup_size(LANES)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group, workgroups, lane);
    let first = lane % ROW_LANES;
    let end = select(0u, params.n_channel, row < params.n_row);
    let x_row = (params.x_offset + row * params.x_stride) / WIDTH;
    let grad_y_row = (params.grad_y_offset + row * params.grad_y_stride) / WIDTH;
    let grad_x_row = (params.grad_x_offset + row * params.grad_x_stride) / WIDTH;
    var squares = Value();
    var products = Value();
    for (var channel = first; channel < end; channel += ROW_LANES) {
        let value = x[x_row + channel];
        squares += value * value;
        products += value * grad_y[grad_y_row + channel] * weight[params.weight_offset / WIDTH + channel];
    }
    let means = mean_row(lane, squares, products);
    let r = inverseSqrt(means.x + params.eps);
    if HAS_GRAD_X {
        let mean = means.y * r;
        for (var channel = first; channel < end; channel += ROW_LANES) {
            let grad = grad_y[grad_y_row + channel] * weight[params.weight_offset / WIDTH + channel];
            grad_x[grad_x_row + channel] = (grad - x[x_row + channel] * r * mean) * r;
        }
    }
    if first == 0u && end > 0u {
        inverse_rms[row] = r;
    }
}

// sums of grad_y n over blocks of BLOCK rows, whose first is first_block; one invocation a block and channel
@compute @workgroup_size(LANES)
fn backward_weight_partial(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let item = invocation_of(global, workgroups);
    let first = item / params.n_channel * BLOCK;
    let channel = item % params.n_channel;
    if first >= params.n_row {
        return;
    }
    var sum = Value();
    for (var row = first; row < min(first + BLOCK, params.n_row); row++) {
        let n = x[(params.x_offset + row * params.x_stride) / WIDTH + channel] * inverse_rms[row];
        sum += grad_y[(params.grad_y_offset + row * params.grad_y_stride) / WIDTH + channel] * n;
    }
    partial_weight[params.first_block * params.n_channel + item] = sum;
}

// grad_weight = sum over blocks; a COLUMNS x COLUMNS workgroup sums COLUMNS channels
@compute @workgroup_size(COLUMNS, COLUMNS)
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let channel = (group.y * workgroups.x + group.x) * COLUMNS + local.x;
    var sum = Value();
    if channel < params.n_channel {
        for (var block = local.y; block < params.n_block; block += COLUMNS) {
            sum += partial_weight[block * params.n_channel + channel];
        }
    }
    sum = sum_column(local, sum);
    if local.y == 0u && channel < params.n_channel {
        grad_weight[params.grad_weight_offset / WIDTH + channel] = sum;
    }
}
