// z = sigmoid(p_z + U_z h')    r = sigmoid(p_r + U_r h')    c = tanh(p_h + U_h (r h'))    h = (1 - z) h' + z c
// with h' the state before. Backward, with e = dL/dh and q = U_h^T grad_p_h:
// grad_p_h = e z (1 - c^2)    grad_p_z = e (c - h') z (1 - z)    grad_p_r = q h' r (1 - r)
// dL/dh' = e (1 - z) + q r + U_z^T grad_p_z + U_r^T grad_p_r
//
// An invocation owns hidden channels: of each it computes ROWS rows of the batch, so that a weight that it reads meets ROWS states.
// Fused (forward, backward): a workgroup runs ROWS rows and all channels through `count` positions, states in workgroup memory.
// Step by step (the entries on *_step): a workgroup computes WIDTH channels of ROWS rows of one position.
// By panels (the entries on *_panels), also step by step: an invocation computes a block of PANEL rows and channels, see shared/panel.wgsl.
// A position counts the steps in the order in which they are visited.

struct Params {
    n_batch: u32,
    n_step: u32,
    first: u32,
    count: u32,
    reverse: u32,
    reset_offset: u32,
    p_offset: u32,
    p_stride: u32,
    u_offset: u32,
    h0_offset: u32,
    h0_stride: u32,
    h_offset: u32,
    last_offset: u32,
    gates_offset: u32,
    factors_offset: u32,
    grad_h_offset: u32,
    grad_last_offset: u32,
    grad_p_offset: u32,
    grad_p_stride: u32,
    carry_offset: u32,
    carry_stride: u32,
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
    next_slice: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<f32>; // (batch, step, 3 hidden): [z | r | h]
@group(0) @binding(2) var<storage, read> u: array<f32>; // (3 hidden, hidden): [U_z; U_r; U_h]
@group(0) @binding(3) var<storage, read> h0: array<f32>; // (batch, hidden)
@group(0) @binding(4) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(5) var<storage, read_write> h: array<f32>; // (batch, step, hidden)
@group(0) @binding(6) var<storage, read_write> last: array<f32>; // (batch, hidden)
@group(0) @binding(7) var<storage, read_write> gates: array<f32>; // (batch, step, 3 hidden): [z | r | c]
@group(0) @binding(8) var<storage, read_write> factors: array<f32>; // (batch, step, 2 hidden): [h' | r h']
@group(0) @binding(9) var<storage, read> grad_h: array<f32>; // (batch, step, hidden)
@group(0) @binding(10) var<storage, read> grad_last: array<f32>; // (batch, hidden)
@group(0) @binding(11) var<storage, read_write> grad_p: array<f32>; // (batch, step, 3 hidden)
@group(0) @binding(12) var<storage, read_write> carry: array<f32>; // (batch, hidden): dL/dh of the position in work; at last, of h0
@group(0) @binding(13) var<storage, read_write> next: array<f32>; // (panel, next_slice, PANEL): A of the product that follows

const ROWS = 4 * QUADS;

// rows of the batch, four to a vector
alias Rows = array<vec4<f32>, QUADS>;

var<workgroup> state: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row): h'
var<workgroup> reset_state: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row): r h'
var<workgroup> grad_p_z: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row)
var<workgroup> grad_p_r: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row)
var<workgroup> grad_p_h: array<vec4<f32>, HIDDEN * QUADS>; // (channel, row)

fn initial(row: u32, channel: u32) -> f32 {
    if HAS_H0 && !is_border(row, 0) {
        return h0[params.h0_offset + row * params.h0_stride + channel];
    }
    return 0.0;
}

// (batch, step) of a row's position as one index
fn place(row: u32, position: u32) -> u32 {
    return row * params.n_step + step_of(position);
}

fn pre_activation(place: u32, column: u32) -> f32 {
    return p[params.p_offset + place * params.p_stride + column];
}

// the gates of one element from U_z h' and U_r h'; returns r h'
fn open_gates(row: u32, channel: u32, position: u32, product_z: f32, product_r: f32, previous: f32) -> f32 {
    let at = place(row, position);
    let r = sigmoid(pre_activation(at, HIDDEN + channel) + product_r);
    gates[params.gates_offset + at * 3 * HIDDEN + channel] = sigmoid(pre_activation(at, channel) + product_z);
    gates[params.gates_offset + at * 3 * HIDDEN + HIDDEN + channel] = r;
    factors[params.factors_offset + at * 2 * HIDDEN + HIDDEN + channel] = r * previous;
    return r * previous;
}

// the state of one element from U_h (r h'); returns what the next position begins with
fn update_state(row: u32, channel: u32, position: u32, product_h: f32, previous: f32) -> f32 {
    let at = place(row, position);
    let z = gates[params.gates_offset + at * 3 * HIDDEN + channel];
    let c = tanh_guarded(pre_activation(at, 2 * HIDDEN + channel) + product_h);
    let next = (1.0 - z) * previous + z * c;
    gates[params.gates_offset + at * 3 * HIDDEN + 2 * HIDDEN + channel] = c;
    h[params.h_offset + at * HIDDEN + channel] = next;
    let carried = select(next, 0.0, is_border(row, position + 1));
    if position + 1 < params.n_step {
        factors[params.factors_offset + place(row, position + 1) * 2 * HIDDEN + channel] = carried;
    } else {
        last[params.last_offset + row * HIDDEN + channel] = next;
    }
    return carried;
}

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
                let at = place(row, params.first) * 2 * HIDDEN + channel;
                if params.first == 0 {
                    factors[params.factors_offset + at] = initial(row, channel);
                }
                value = factors[params.factors_offset + at];
            }
            state[channel * QUADS + i / 4][i % 4] = value;
        }
    }
    workgroupBarrier();
    for (var position = params.first; position < params.first + params.count; position++) {
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var product_z: Rows;
            var product_r: Rows;
            for (var k = 0u; k < HIDDEN; k++) {
                let u_z = u[params.u_offset + channel * HIDDEN + k];
                let u_r = u[params.u_offset + (HIDDEN + channel) * HIDDEN + k];
                for (var quad = 0u; quad < QUADS; quad++) {
                    product_z[quad] += u_z * state[k * QUADS + quad];
                    product_r[quad] += u_r * state[k * QUADS + quad];
                }
            }
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                var value = 0.0;
                if row < params.n_batch {
                    let previous = state[channel * QUADS + i / 4][i % 4];
                    value = open_gates(row, channel, position, product_z[i / 4][i % 4], product_r[i / 4][i % 4], previous);
                }
                reset_state[channel * QUADS + i / 4][i % 4] = value;
            }
        }
        workgroupBarrier();
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var product_h: Rows;
            for (var k = 0u; k < HIDDEN; k++) {
                let u_h = u[params.u_offset + (2 * HIDDEN + channel) * HIDDEN + k];
                for (var quad = 0u; quad < QUADS; quad++) {
                    product_h[quad] += u_h * reset_state[k * QUADS + quad];
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

// the gradient of p_h of one element at the position that follows in time; adds the position's own output gradient to the carry
fn candidate_gradient(row: u32, channel: u32, position: u32) -> f32 {
    let at = place(row, position);
    let carried = params.carry_offset + row * params.carry_stride + channel;
    var state_gradient = carry[carried];
    if HAS_GRAD_H {
        state_gradient += grad_h[params.grad_h_offset + at * HIDDEN + channel];
        carry[carried] = state_gradient;
    }
    let z = gates[params.gates_offset + at * 3 * HIDDEN + channel];
    let c = gates[params.gates_offset + at * 3 * HIDDEN + 2 * HIDDEN + channel];
    let gradient = state_gradient * z * (1.0 - c * c);
    grad_p[params.grad_p_offset + at * params.grad_p_stride + 2 * HIDDEN + channel] = gradient;
    return gradient;
}

// the gradients of (p_z, p_r) of one element from q; leaves e (1 - z) + q r in the carry
fn gate_gradients(row: u32, channel: u32, position: u32, q: f32) -> vec2<f32> {
    let at = place(row, position);
    let carried = params.carry_offset + row * params.carry_stride + channel;
    let state_gradient = carry[carried];
    let z = gates[params.gates_offset + at * 3 * HIDDEN + channel];
    let r = gates[params.gates_offset + at * 3 * HIDDEN + HIDDEN + channel];
    let c = gates[params.gates_offset + at * 3 * HIDDEN + 2 * HIDDEN + channel];
    let previous = factors[params.factors_offset + at * 2 * HIDDEN + channel];
    let gradient_z = state_gradient * (c - previous) * z * (1.0 - z);
    let gradient_r = q * previous * r * (1.0 - r);
    grad_p[params.grad_p_offset + at * params.grad_p_stride + channel] = gradient_z;
    grad_p[params.grad_p_offset + at * params.grad_p_stride + HIDDEN + channel] = gradient_r;
    carry[carried] = state_gradient * (1.0 - z) + q * r;
    return vec2(gradient_z, gradient_r);
}

// finishes dL/dh' of one element
fn carry_back(row: u32, channel: u32, position: u32, product: f32) {
    let carried = params.carry_offset + row * params.carry_stride + channel;
    carry[carried] = select(carry[carried] + product, 0.0, is_border(row, position));
}

fn begin_carry(row: u32, channel: u32) {
    var value = 0.0;
    if HAS_GRAD_LAST {
        value = grad_last[params.grad_last_offset + row * HIDDEN + channel];
    }
    carry[params.carry_offset + row * params.carry_stride + channel] = value;
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
            for (var k = 0u; k < HIDDEN; k++) {
                let u_h = u[params.u_offset + (2 * HIDDEN + k) * HIDDEN + channel];
                for (var quad = 0u; quad < QUADS; quad++) {
                    q[quad] += u_h * grad_p_h[k * QUADS + quad];
                }
            }
            for (var i = 0u; i < ROWS; i++) {
                let row = first_row + i;
                var gradient = vec2(0.0);
                if row < params.n_batch {
                    gradient = gate_gradients(row, channel, position, q[i / 4][i % 4]);
                }
                grad_p_z[channel * QUADS + i / 4][i % 4] = gradient.x;
                grad_p_r[channel * QUADS + i / 4][i % 4] = gradient.y;
            }
        }
        workgroupBarrier();
        for (var channel = lane; channel < HIDDEN; channel += WIDTH) {
            var product: Rows;
            for (var k = 0u; k < HIDDEN; k++) {
                let u_z = u[params.u_offset + k * HIDDEN + channel];
                let u_r = u[params.u_offset + (HIDDEN + k) * HIDDEN + channel];
                for (var quad = 0u; quad < QUADS; quad++) {
                    product[quad] += u_z * grad_p_z[k * QUADS + quad] + u_r * grad_p_r[k * QUADS + quad];
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

// the state before position 0
@compute @workgroup_size(LANES)
fn begin(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = global.y * groups.x * LANES + global.x;
    if index < params.n_batch * HIDDEN {
        let row = index / HIDDEN;
        let channel = index % HIDDEN;
        factors[params.factors_offset + place(row, 0) * 2 * HIDDEN + channel] = initial(row, channel);
    }
}

fn factor(row: u32, column: u32) -> f32 {
    return factors[params.factors_offset + place(min(row, params.n_batch - 1), params.first) * 2 * HIDDEN + column];
}

fn grad_pre_activation(row: u32, column: u32) -> f32 {
    let at = place(min(row, params.n_batch - 1), params.first);
    return grad_p[params.grad_p_offset + at * params.grad_p_stride + column];
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
        let u_z = u[params.u_offset + channel * HIDDEN + k];
        let u_r = u[params.u_offset + (HIDDEN + channel) * HIDDEN + k];
        for (var i = 0u; i < ROWS; i++) {
            let previous = factor(first_row + i, k);
            product_z[i] += u_z * previous;
            product_r[i] += u_r * previous;
        }
    }
    for (var i = 0u; i < ROWS && first_row + i < params.n_batch; i++) {
        open_gates(first_row + i, channel, params.first, product_z[i], product_r[i], factor(first_row + i, channel));
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
        let u_h = u[params.u_offset + (2 * HIDDEN + channel) * HIDDEN + k];
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

// first row of the batch and first column of the block that an invocation computes; none where n_panel_a panels do not reach
struct Block {
    exists: bool,
    panel_a: u32,
    panel_b: u32,
    row: u32,
    column: u32,
}

fn block_of(global: vec3<u32>, groups: vec3<u32>) -> Block {
    let index = global.y * groups.x * PANEL + global.x;
    let a = index / params.n_panel_b;
    let b = index % params.n_panel_b;
    return Block(a < params.n_panel_a, a, b, (params.first_panel_a + a) * PANEL, (params.first_panel_b + b) * PANEL);
}

fn keep_for_next(row: u32, term: u32, value: f32) {
    next[(row / PANEL * params.next_slice + term) * PANEL + row % PANEL] = value;
}

// z, r and r h' of one position: A is h', B is [U_z; U_r], next is r h'
@compute @workgroup_size(PANEL)
fn gate_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let column = block.column + i % PANEL;
        if row < params.n_batch && column < 2 * HIDDEN {
            let at = place(row, params.first);
            let gate = sigmoid(pre_activation(at, column) + products[i]);
            gates[params.gates_offset + at * 3 * HIDDEN + column] = gate;
            if column >= HIDDEN {
                let kept = gate * factors[params.factors_offset + at * 2 * HIDDEN + column - HIDDEN];
                factors[params.factors_offset + at * 2 * HIDDEN + column] = kept;
                keep_for_next(row, column - HIDDEN, kept);
            }
        }
    }
}

// c and h of one position: A is r h', B is U_h, next is what the next position begins with
@compute @workgroup_size(PANEL)
fn state_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let channel = block.column + i % PANEL;
        if row < params.n_batch && channel < HIDDEN {
            keep_for_next(row, channel, update_state(row, channel, params.first, products[i], factor(row, channel)));
        }
    }
}

// the gradients of p_z and p_r of one position: A is the gradient of p_h, B is U_h^T, next is these gradients
@compute @workgroup_size(PANEL)
fn gate_gradient_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let channel = block.column + i % PANEL;
        if row < params.n_batch && channel < HIDDEN {
            let gradients = gate_gradients(row, channel, params.first, products[i]);
            keep_for_next(row, channel, gradients.x);
            keep_for_next(row, HIDDEN + channel, gradients.y);
        }
    }
}

// dL/dh' of one position, and with it the gradient of p_h of the position before, which is next: A is the gradients of p_z and p_r,
// B is [U_z; U_r]^T
@compute @workgroup_size(PANEL)
fn carry_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let channel = block.column + i % PANEL;
        if row < params.n_batch && channel < HIDDEN {
            carry_back(row, channel, params.first, products[i]);
            if params.first > 0 {
                keep_for_next(row, channel, candidate_gradient(row, channel, params.first - 1));
            }
        }
    }
}
