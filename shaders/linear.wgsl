// y = x W^T + b and its gradient products.
// `tile`: one workgroup computes a TILE x TILE block of the result, one invocation an element; both factors pass through workgroup memory.
// `panel`: both factors are packed, then one invocation computes a PANEL x PANEL block of any of the products: see shared/panel.wgsl.

struct Params {
    n_row: u32,
    n_in: u32,
    n_out: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    grad_x_offset: u32,
    grad_x_stride: u32,
    grad_y_offset: u32,
    grad_y_stride: u32,
    weight_offset: u32,
    bias_offset: u32,
    grad_weight_offset: u32,
    grad_bias_offset: u32,
    first_row: u32,
    n_pack_row: u32,
    n_pack_term: u32,
    slice: u32,
    by_term: u32,
    source_first: u32,
    source_every: u32,
    source_column: u32,
    source_offset: u32,
    source_stride: u32,
    n_panel_a: u32,
    n_panel_b: u32,
    first_panel_a: u32,
    first_panel_b: u32,
    n_product_row: u32,
    n_product_column: u32,
    product_offset: u32,
    product_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (row, in)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // (out, in)
@group(0) @binding(3) var<storage, read> bias: array<f32>; // (out)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // (row, out)
@group(0) @binding(5) var<storage, read> grad_y: array<f32>; // (row, out)
@group(0) @binding(6) var<storage, read_write> grad_x: array<f32>; // (row, in)
@group(0) @binding(7) var<storage, read_write> grad_weight: array<f32>; // (out, in)
@group(0) @binding(8) var<storage, read_write> grad_bias: array<f32>; // (out)
@group(0) @binding(9) var<storage, read_write> product: array<f32>; // (product row, product column)

var<workgroup> tile_a: array<array<f32, TILE>, TILE>;
var<workgroup> tile_b: array<array<f32, TILE>, TILE>;

fn load_x(row: u32, column: u32) -> f32 {
    if row < params.n_row && column < params.n_in {
        return x[params.x_offset + row * params.x_stride + column];
    }
    return 0.0;
}

fn load_weight(row: u32, column: u32) -> f32 {
    if row < params.n_out && column < params.n_in {
        return weight[params.weight_offset + row * params.n_in + column];
    }
    return 0.0;
}

fn load_grad_y(row: u32, column: u32) -> f32 {
    if row < params.n_row && column < params.n_out {
        return grad_y[params.grad_y_offset + row * params.grad_y_stride + column];
    }
    return 0.0;
}

// tile_a and tile_b hold (k, m) and (k, n)
fn tile_product(local: vec3<u32>) -> f32 {
    var sum = 0.0;
    for (var k = 0u; k < TILE; k++) {
        sum += tile_a[k][local.y] * tile_b[k][local.x];
    }
    return sum;
}

// y[row, out] = sum over in of x[row, in] W[out, in]
@compute @workgroup_size(TILE, TILE)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row = group.y * TILE + local.y;
    let out = group.x * TILE + local.x;
    var sum = 0.0;
    for (var k = 0u; k < params.n_in; k += TILE) {
        tile_a[local.x][local.y] = load_x(row, k + local.x);
        tile_b[local.x][local.y] = load_weight(group.x * TILE + local.y, k + local.x);
        workgroupBarrier();
        sum += tile_product(local);
        workgroupBarrier();
    }
    if row < params.n_row && out < params.n_out {
        if HAS_BIAS {
            sum += bias[params.bias_offset + out];
        }
        y[params.y_offset + row * params.y_stride + out] = sum;
    }
}

// grad_x[row, in] = sum over out of grad_y[row, out] W[out, in]
@compute @workgroup_size(TILE, TILE)
fn backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let row = group.y * TILE + local.y;
    let column = group.x * TILE + local.x;
    var sum = 0.0;
    for (var k = 0u; k < params.n_out; k += TILE) {
        tile_a[local.x][local.y] = load_grad_y(row, k + local.x);
        tile_b[local.y][local.x] = load_weight(k + local.y, column);
        workgroupBarrier();
        sum += tile_product(local);
        workgroupBarrier();
    }
    if row < params.n_row && column < params.n_in {
        grad_x[params.grad_x_offset + row * params.grad_x_stride + column] = sum;
    }
}

// grad_weight[out, in] = sum over rows of grad_y[row, out] x[row, in]
@compute @workgroup_size(TILE, TILE)
fn backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let out = group.y * TILE + local.y;
    let column = group.x * TILE + local.x;
    var sum = 0.0;
    for (var k = 0u; k < params.n_row; k += TILE) {
        tile_a[local.y][local.x] = load_grad_y(k + local.y, group.y * TILE + local.x);
        tile_b[local.y][local.x] = load_x(k + local.y, column);
        workgroupBarrier();
        sum += tile_product(local);
        workgroupBarrier();
    }
    if out < params.n_out && column < params.n_in {
        grad_weight[params.grad_weight_offset + out * params.n_in + column] = sum;
    }
}

// grad_bias[out] = sum over rows of grad_y[row, out], from first_row on; one invocation a column
@compute @workgroup_size(LANES)
fn backward_bias(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let out = global.y * workgroups.x * LANES + global.x;
    if out >= params.n_out {
        return;
    }
    var sum = 0.0;
    if params.first_row > 0u {
        sum = grad_bias[params.grad_bias_offset + out];
    }
    for (var row = params.first_row; row < params.n_row; row++) {
        sum += load_grad_y(row, out);
    }
    grad_bias[params.grad_bias_offset + out] = sum;
}

fn product_bias(column: u32) -> vec4<f32> {
    let at = params.bias_offset + column;
    let last = params.bias_offset + params.n_product_column - 1u;
    return vec4(bias[min(at, last)], bias[min(at + 1u, last)], bias[min(at + 2u, last)], bias[min(at + 3u, last)]);
}

fn add_element(row: u32, column: u32, term: f32) {
    if column < params.n_product_column {
        let at = params.product_offset + row * params.product_stride + column;
        if ACCUMULATE {
            product[at] += term;
        } else {
            product[at] = term;
        }
    }
}

fn add_row(row: u32, column: u32, low: vec4<f32>, high: vec4<f32>) {
    if row < params.n_product_row {
        add_element(row, column + 0u, low.x);
        add_element(row, column + 1u, low.y);
        add_element(row, column + 2u, low.z);
        add_element(row, column + 3u, low.w);
        add_element(row, column + 4u, high.x);
        add_element(row, column + 5u, high.y);
        add_element(row, column + 6u, high.z);
        add_element(row, column + 7u, high.w);
    }
}

// one slice of the terms of a block of the product
@compute @workgroup_size(PANEL)
fn multiply_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = global.y * workgroups.x * PANEL + global.x;
    let panel_a = index / params.n_panel_b;
    let panel_b = index % params.n_panel_b;
    if panel_a >= params.n_panel_a {
        return;
    }
    let tile = panel_product(panel_a, panel_b);
    let row = (params.first_panel_a + panel_a) * PANEL;
    let column = (params.first_panel_b + panel_b) * PANEL;
    var bias_low = vec4<f32>();
    var bias_high = vec4<f32>();
    if HAS_BIAS && !ACCUMULATE {
        bias_low = product_bias(column);
        bias_high = product_bias(column + 4u);
    }
    add_row(row + 0u, column, tile.low[0] + bias_low, tile.high[0] + bias_high);
    add_row(row + 1u, column, tile.low[1] + bias_low, tile.high[1] + bias_high);
    add_row(row + 2u, column, tile.low[2] + bias_low, tile.high[2] + bias_high);
    add_row(row + 3u, column, tile.low[3] + bias_low, tile.high[3] + bias_high);
    add_row(row + 4u, column, tile.low[4] + bias_low, tile.high[4] + bias_high);
    add_row(row + 5u, column, tile.low[5] + bias_low, tile.high[5] + bias_high);
    add_row(row + 6u, column, tile.low[6] + bias_low, tile.high[6] + bias_high);
    add_row(row + 7u, column, tile.low[7] + bias_low, tile.high[7] + bias_high);
}
