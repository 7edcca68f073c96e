// `subgroup`: a workgroup of 8 invocations, one subgroup, runs ROWS rows, 4 or 8, and all channels through `count` positions. An invocation computes
// four channels of every 32, and holds one row in 8 for the others; states and gradients pass between them by `factors` and `grad_p`.
// The recurrent weights are read as uniforms: see shared/panel.wgsl.

@group(0) @binding(30) var<uniform> weights_z: array<vec4<f32>, WINDOW>; // (hidden, hidden): U_z
@group(0) @binding(31) var<uniform> weights_r: array<vec4<f32>, WINDOW>; // (hidden, hidden): U_r
@group(0) @binding(32) var<uniform> weights_h: array<vec4<f32>, WINDOW>; // (hidden, hidden): U_h
@group(0) @binding(33) var<storage, read_write> weights: array<Value>; // (3, params.weight_stride): what these are windows of

// one invocation a Value
@compute @workgroup_size(LANES)
fn copy_weights(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = global.y * groups.x * LANES + global.x;
    let len = HIDDEN * CHANNELS;
    if index < 3 * len {
        weights[index / len * params.weight_stride + index % len] = u[params.u_offset / VALUE_WIDTH + index];
    }
}

// products of PANEL rows with the weights of this invocation's four channels
struct PanelRows {
    rows: array<vec4<f32>, PANEL>,
}

// four terms more of one row
fn row_with_terms(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(a.w), b[3], fma(vec4(a.z), b[2], fma(vec4(a.y), b[1], fma(vec4(a.x), b[0], sum))));
}

// four terms more: `a` of the row that this invocation holds, `b` of its own channels
fn add_four_terms(tile: ptr<function, PanelRows>, a: vec4<f32>, b: mat4x4<f32>) {
    (*tile).rows[0] = row_with_terms((*tile).rows[0], subgroupBroadcast(a, 0u), b);
    (*tile).rows[1] = row_with_terms((*tile).rows[1], subgroupBroadcast(a, 1u), b);
    (*tile).rows[2] = row_with_terms((*tile).rows[2], subgroupBroadcast(a, 2u), b);
    (*tile).rows[3] = row_with_terms((*tile).rows[3], subgroupBroadcast(a, 3u), b);
    (*tile).rows[4] = row_with_terms((*tile).rows[4], subgroupBroadcast(a, 4u), b);
    (*tile).rows[5] = row_with_terms((*tile).rows[5], subgroupBroadcast(a, 5u), b);
    (*tile).rows[6] = row_with_terms((*tile).rows[6], subgroupBroadcast(a, 6u), b);
    (*tile).rows[7] = row_with_terms((*tile).rows[7], subgroupBroadcast(a, 7u), b);
}

// What each invocation keeps for itself. In private memory it would take Mesa's software drivers seconds more to compile.
var<workgroup> own: array<array<vec4<f32>, PANEL>, 2 * CHANNELS>; // of its row, what the product in work multiplies the weights with
var<workgroup> products: array<array<vec4<f32>, PANEL>, PANEL>; // of every row, in its own channels

// where the row that this invocation holds, of those from first_row on, has its position
fn own_place(first_row: u32, lane: u32, position: u32) -> u32 {
    return place(min(first_row + lane, params.n_batch - 1), position);
}

// holds h' (which 0) or r h' (which 1)
fn hold_factors(first_row: u32, lane: u32, position: u32, which: u32) {
    let at = factor_at(own_place(first_row, lane, position), which, 0);
    for (var k = 0u; k < CHANNELS; k++) {
        own[k][lane] = factors[at + k];
    }
}

// holds the gradients of the pre-activations of some gates
fn hold_gradients(first_row: u32, lane: u32, position: u32, first_gate: u32, n_gate: u32) {
    let at = grad_p_at(own_place(first_row, lane, position), first_gate, 0);
    for (var k = 0u; k < n_gate * CHANNELS; k++) {
        own[k][lane] = grad_p[at + k];
    }
}

// of a gate's weights: where the rows of four channels begin
fn weight_rows(channel: u32) -> vec4<u32> {
    return min(4 * channel, HIDDEN - 4) * CHANNELS + vec4(0, CHANNELS, 2 * CHANNELS, 3 * CHANNELS);
}

fn hold_products(lane: u32, tile: PanelRows) {
    products[0][lane] = tile.rows[0];
    products[1][lane] = tile.rows[1];
    products[2][lane] = tile.rows[2];
    products[3][lane] = tile.rows[3];
    if ROWS > 4 {
        products[4][lane] = tile.rows[4];
        products[5][lane] = tile.rows[5];
        products[6][lane] = tile.rows[6];
        products[7][lane] = tile.rows[7];
    }
}

@compute @workgroup_size(PANEL)
fn forward_subgroup(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (group.y * groups.x + group.x) * ROWS;
    for (var position = params.first; position < params.first + params.count; position++) {
        hold_factors(first_row, lane, position, 0);
        for (var block = 0u; block < CHANNELS; block += PANEL) {
            let channel = spread(block + lane, CHANNELS);
            let at = weight_rows(channel);
            var tile: PanelRows;
            for (var k = 0u; k < CHANNELS; k++) {
                let z = mat4x4(weights_z[at.x + k], weights_z[at.y + k], weights_z[at.z + k], weights_z[at.w + k]);
                add_four_terms(&tile, own[k][lane], transpose(z));
            }
            hold_products(lane, tile);
            for (var i = 0u; i < ROWS; i++) {
                if first_row + i < params.n_batch && channel < CHANNELS {
                    open_update_gate(first_row + i, channel, position, products[i][lane]);
                }
            }
        }
        for (var block = 0u; block < CHANNELS; block += PANEL) {
            let channel = spread(block + lane, CHANNELS);
            let at = weight_rows(channel);
            var tile: PanelRows;
            for (var k = 0u; k < CHANNELS; k++) {
                let r = mat4x4(weights_r[at.x + k], weights_r[at.y + k], weights_r[at.z + k], weights_r[at.w + k]);
                add_four_terms(&tile, own[k][lane], transpose(r));
            }
            hold_products(lane, tile);
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                if row < params.n_batch && channel < CHANNELS {
                    open_reset_gate(row, channel, position, products[i][lane], factors[factor_at(place(row, position), 0, channel)]);
                }
            }
        }
        subgroupBarrier();
        hold_factors(first_row, lane, position, 1);
        for (var block = 0u; block < CHANNELS; block += PANEL) {
            let channel = spread(block + lane, CHANNELS);
            let at = weight_rows(channel);
            var tile: PanelRows;
            for (var k = 0u; k < CHANNELS; k++) {
                let h = mat4x4(weights_h[at.x + k], weights_h[at.y + k], weights_h[at.z + k], weights_h[at.w + k]);
                add_four_terms(&tile, own[k][lane], transpose(h));
            }
            hold_products(lane, tile);
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                if row < params.n_batch && channel < CHANNELS {
                    update_state(row, channel, position, products[i][lane], factors[factor_at(place(row, position), 0, channel)]);
                }
            }
        }
        subgroupBarrier();
    }
}

@compute @workgroup_size(PANEL)
fn backward_subgroup(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (group.y * groups.x + group.x) * ROWS;
    let behind = params.first + params.count;
    for (var channel = lane; channel < CHANNELS; channel += PANEL) {
        for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
            if behind == params.n_step {
                begin_carry(first_row + i, channel);
            }
            candidate_gradient(first_row + i, channel, behind - 1);
        }
    }
    subgroupBarrier();
    for (var left = params.count; left > 0; left--) {
        let position = params.first + left - 1;
        hold_gradients(first_row, lane, position, 2, 1);
        for (var block = 0u; block < CHANNELS; block += PANEL) {
            let channel = spread(block + lane, CHANNELS);
            let column = min(channel, CHANNELS - 1);
            var tile: PanelRows;
            for (var k = 0u; k < CHANNELS; k++) {
                let at = weight_rows(k) + column;
                let h = mat4x4(weights_h[at.x], weights_h[at.y], weights_h[at.z], weights_h[at.w]);
                add_four_terms(&tile, own[k][lane], h);
            }
            hold_products(lane, tile);
            for (var i = 0u; i < ROWS; i++) {
                if first_row + i < params.n_batch && channel < CHANNELS {
                    gate_gradients(first_row + i, channel, position, products[i][lane]);
                }
            }
        }
        subgroupBarrier();
        hold_gradients(first_row, lane, position, 0, 2);
        for (var block = 0u; block < CHANNELS; block += PANEL) {
            let channel = spread(block + lane, CHANNELS);
            let column = min(channel, CHANNELS - 1);
            var tile: PanelRows;
            for (var k = 0u; k < CHANNELS; k++) {
                let at = weight_rows(k) + column;
                let z = mat4x4(weights_z[at.x], weights_z[at.y], weights_z[at.z], weights_z[at.w]);
                let r = mat4x4(weights_r[at.x], weights_r[at.y], weights_r[at.z], weights_r[at.w]);
                add_four_terms(&tile, own[k][lane], z);
                add_four_terms(&tile, own[CHANNELS + k][lane], r);
            }
            hold_products(lane, tile);
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                if row < params.n_batch && channel < CHANNELS {
                    carry_back(row, channel, position, products[i][lane]);
                    // the position before, where it belongs to this dispatch
                    if left > 1 {
                        candidate_gradient(row, channel, position - 1);
                    }
                }
            }
        }
        subgroupBarrier();
    }
}
