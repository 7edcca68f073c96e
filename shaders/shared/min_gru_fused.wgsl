// `fused`: a workgroup runs ROWS rows and all channels through `count` positions, states in workgroup memory. An invocation owns hidden
// channels: of each it computes ROWS rows of the batch, so that a weight that it reads meets ROWS states. It loads TOGETHER weights before
// it takes the first, as each would be waited for.

@group(0) @binding(14) var<storage, read> u_transposed: array<f32>; // (hidden, 3 hidden): neighbouring channels read neighbouring weights
@group(0) @binding(15) var<storage, read_write> transposed: array<f32>; // the same, to be written

@compute @workgroup_size(LANES)
fn transpose_weights(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = invocation_of(global, groups);
    if index < 3 * HIDDEN * HIDDEN {
        transposed[index] = u[params.u_offset + index % (3 * HIDDEN) * HIDDEN + index / (3 * HIDDEN)];
    }
}

// a weight from state k to a row of U
fn transposed_weight(k: u32, row: u32) -> f32 {
    return u_transposed[3 * HIDDEN * k + row];
}

// 8 weights, or as many as divide HIDDEN
const TOGETHER = 1 + u32(HIDDEN % 2 == 0) + 2 * u32(HIDDEN % 4 == 0) + 4 * u32(HIDDEN % 8 == 0);

// rows of the batch, four to a vector
alias Rows = array<vec4<f32>, QUADS>;

var<workgroup> state: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row): h'
var<workgroup> reset_state: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row): r h'
var<workgroup> grad_p_z: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row)
var<workgroup> grad_p_r: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row)
var<workgroup> grad_p_h: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row)

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (group.y * groups.x + group.x) * ROWS;
    for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
        for (var i = 0u; i < ROWS; i++) {
            let row = first_row + i;
            var value = 0.0;
            if row < params.n_batch {
                let at = factor_at(place(row, params.first), 0, channel);
                if params.first == 0 {
                    factors[at] = initial(row, channel);
                }
                value = factors[at];
            }
            state[channel * QUADS + i / 4][i % 4] = value;
        }
    }
    workgroupBarrier();
    for (var position = params.first; position < params.first + params.count; position++) {
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var product_z: Rows;
            var product_r: Rows;
            for (var k = 0u; k < HIDDEN; k += TOGETHER) {
                var u_z: array<f32, TOGETHER>;
                var u_r: array<f32, TOGETHER>;
                for (var i = 0u; i < TOGETHER; i++) {
                    u_z[i] = transposed_weight(k + i, channel);
                    u_r[i] = transposed_weight(k + i, HIDDEN + channel);
                }
                for (var i = 0u; i < TOGETHER; i++) {
                    for (var quad = 0u; quad < QUADS; quad++) {
                        product_z[quad] += u_z[i] * state[(k + i) * QUADS + quad];
                        product_r[quad] += u_r[i] * state[(k + i) * QUADS + quad];
                    }
                }
            }
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                var value = 0.0;
                if row < params.n_batch {
                    let previous = state[channel * QUADS + i / 4][i % 4];
                    open_update_gate(row, channel, position, product_z[i / 4][i % 4]);
                    value = open_reset_gate(row, channel, position, product_r[i / 4][i % 4], previous);
                }
                reset_state[channel * QUADS + i / 4][i % 4] = value;
            }
        }
        workgroupBarrier();
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var product_h: Rows;
            for (var k = 0u; k < HIDDEN; k += TOGETHER) {
                var u_h: array<f32, TOGETHER>;
                for (var i = 0u; i < TOGETHER; i++) {
                    u_h[i] = transposed_weight(k + i, 2 * HIDDEN + channel);
                }
                for (var i = 0u; i < TOGETHER; i++) {
                    for (var quad = 0u; quad < QUADS; quad++) {
                        product_h[quad] += u_h[i] * reset_state[(k + i) * QUADS + quad];
                    }
                }
            }
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                if row < params.n_batch {
                    let previous = state[channel * QUADS + i / 4][i % 4];
                    state[channel * QUADS + i / 4][i % 4] = update_state(row, channel, position, product_h[i / 4][i % 4], previous);
                }
            }
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (group.y * groups.x + group.x) * ROWS;
    let behind = params.first + params.count;
    for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
        for (var i = 0u; i < ROWS; i++) {
            let row = first_row + i;
            var gradient = 0.0;
            if row < params.n_batch {
                if behind == params.n_step {
                    begin_carry(row, channel);
                }
                gradient = candidate_gradient(row, channel, behind - 1);
            }
            grad_p_h[channel * QUADS + i / 4][i % 4] = gradient;
        }
    }
    workgroupBarrier();
    for (var left = params.count; left > 0; left--) {
        let position = params.first + left - 1;
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var q: Rows;
            for (var k = 0u; k < HIDDEN; k += TOGETHER) {
                var u_h: array<f32, TOGETHER>;
                for (var i = 0u; i < TOGETHER; i++) {
                    u_h[i] = u[params.u_offset + (2 * HIDDEN + k + i) * HIDDEN + channel];
                }
                for (var i = 0u; i < TOGETHER; i++) {
                    for (var quad = 0u; quad < QUADS; quad++) {
                        q[quad] += u_h[i] * grad_p_h[(k + i) * QUADS + quad];
                    }
                }
            }
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                var gradient: GateGradients;
                if row < params.n_batch {
                    gradient = gate_gradients(row, channel, position, q[i / 4][i % 4]);
                }
                grad_p_z[channel * QUADS + i / 4][i % 4] = gradient.z;
                grad_p_r[channel * QUADS + i / 4][i % 4] = gradient.r;
            }
        }
        workgroupBarrier();
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var product: Rows;
            for (var k = 0u; k < HIDDEN; k += TOGETHER) {
                var u_z: array<f32, TOGETHER>;
                var u_r: array<f32, TOGETHER>;
                for (var i = 0u; i < TOGETHER; i++) {
                    u_z[i] = u[params.u_offset + (k + i) * HIDDEN + channel];
                    u_r[i] = u[params.u_offset + (HIDDEN + k + i) * HIDDEN + channel];
                }
                for (var i = 0u; i < TOGETHER; i++) {
                    for (var quad = 0u; quad < QUADS; quad++) {
                        product[quad] += u_z[i] * grad_p_z[(k + i) * QUADS + quad] + u_r[i] * grad_p_r[(k + i) * QUADS + quad];
                    }
                }
            }
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                if row < params.n_batch {
                    carry_back(row, channel, position, product[i / 4][i % 4]);
                    if left > 1 {
                        grad_p_h[channel * QUADS + i / 4][i % 4] = candidate_gradient(row, channel, position - 1);
                    }
                }
            }
        }
        workgroupBarrier();
    }
}
