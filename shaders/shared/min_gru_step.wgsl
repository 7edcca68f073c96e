// `step`: one position a dispatch, or two; a workgroup computes WIDTH channels of ROWS rows.

fn factor(row: u32, column: u32) -> f32 {
    return factors[factor_at(place(min(row, params.n_batch - 1), params.first), 0, column)];
}

fn grad_pre_activation(row: u32, column: u32) -> f32 {
    return grad_p[grad_p_at(place(min(row, params.n_batch - 1), params.first), 0, column)];
}

// z, r and r h' of one position
@compute @workgroup_size(WIDTH)
fn gate_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = group.x * WIDTH + lane;
    let first_row = group.y * ROWS;
    if channel >= HIDDEN {
        return;
    }
    var product_z: array<f32, ROWS>;
    var product_r: array<f32, ROWS>;
    for (var k = 0u; k < HIDDEN; k++) {
        let u_z = transposed_weight(k, channel);
        let u_r = transposed_weight(k, HIDDEN + channel);
        for (var i = 0u; i < ROWS; i++) {
            let previous = factor(first_row + i, k);
            product_z[i] += u_z * previous;
            product_r[i] += u_r * previous;
        }
    }
    for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
        open_update_gate(first_row + i, channel, params.first, product_z[i]);
        open_reset_gate(first_row + i, channel, params.first, product_r[i], factor(first_row + i, channel));
    }
}

// c and h of one position
@compute @workgroup_size(WIDTH)
fn state_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = group.x * WIDTH + lane;
    let first_row = group.y * ROWS;
    if channel >= HIDDEN {
        return;
    }
    var product_h: array<f32, ROWS>;
    for (var k = 0u; k < HIDDEN; k++) {
        let u_h = transposed_weight(k, 2 * HIDDEN + channel);
        for (var i = 0u; i < ROWS; i++) {
            product_h[i] += u_h * factor(first_row + i, HIDDEN + k);
        }
    }
    for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
        update_state(first_row + i, channel, params.first, product_h[i], factor(first_row + i, channel));
    }
}

// the gradient of p_h of the last position
@compute @workgroup_size(WIDTH)
fn begin_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = group.x * WIDTH + lane;
    let first_row = group.y * ROWS;
    if channel >= HIDDEN {
        return;
    }
    for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
        begin_carry(first_row + i, channel);
        candidate_gradient(first_row + i, channel, params.first);
    }
}

// the gradients of p_z and p_r of one position
@compute @workgroup_size(WIDTH)
fn gate_gradient_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = group.x * WIDTH + lane;
    let first_row = group.y * ROWS;
    if channel >= HIDDEN {
        return;
    }
    var q: array<f32, ROWS>;
    for (var k = 0u; k < HIDDEN; k++) {
        let u_h = u[params.u_offset + (2 * HIDDEN + k) * HIDDEN + channel];
        for (var i = 0u; i < ROWS; i++) {
            q[i] += u_h * grad_pre_activation(first_row + i, 2 * HIDDEN + k);
        }
    }
    for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
        gate_gradients(first_row + i, channel, params.first, q[i]);
    }
}

// dL/dh' of one position, and with it the gradient of p_h of the position before
@compute @workgroup_size(WIDTH)
fn carry_step(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = group.x * WIDTH + lane;
    let first_row = group.y * ROWS;
    if channel >= HIDDEN {
        return;
    }
    var product: array<f32, ROWS>;
    for (var k = 0u; k < HIDDEN; k++) {
        let u_z = u[params.u_offset + k * HIDDEN + channel];
        let u_r = u[params.u_offset + (HIDDEN + k) * HIDDEN + channel];
        for (var i = 0u; i < ROWS; i++) {
            product[i] += u_z * grad_pre_activation(first_row + i, k) + u_r * grad_pre_activation(first_row + i, HIDDEN + k);
        }
    }
    for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
        carry_back(first_row + i, channel, params.first, product[i]);
        if params.first > 0 {
            candidate_gradient(first_row + i, channel, params.first - 1);
        }
    }
}
