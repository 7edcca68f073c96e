// z = sigmoid(p_z + U_z h')    r = sigmoid(p_r + U_r h')    c = tanh(p_h + U_h (r h'))    h = (1 - z) h' + z c
// with h' the state before. Backward, with e = dL/dh and q = U_h^T grad_p_h:
// grad_p_h = e z (1 - c^2)    grad_p_z = e (c - h') z (1 - z)    grad_p_r = q h' r (1 - r)
// dL/dh' = e (1 - z) + q r + U_z^T grad_p_z + U_r^T grad_p_r
//
// Here stands what is done to a Value, the channels of one row at one position, once the products with U are there. The kernels, which
// compute these products, are shared/min_gru_fused.wgsl, _step, _panel and _subgroup. Channels are counted in Values here, one by one there.
// A position counts the steps in the order in which they are visited. Where not everything can be bound at once, a dispatch takes some sequences
// of the batch, or some positions of one, with the rows of the positions before and behind them.

struct Params {
    n_batch: u32,
    n_step: u32,
    first: u32,
    count: u32,
    first_row: u32, // of (batch, step), which is bound first
    reverse: u32,
    reset_offset: u32,
    p_offset: u32,
    p_stride: u32,
    u_offset: u32,
    initial_state_offset: u32,
    initial_state_stride: u32,
    h_offset: u32,
    last_state_offset: u32,
    gates_offset: u32,
    factors_offset: u32,
    grad_h_offset: u32,
    grad_last_state_offset: u32,
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
    source_fours_offset: u32,
    source_fours_stride: u32,
    n_panel_a: u32,
    n_panel_b: u32,
    first_panel_a: u32,
    first_panel_b: u32,
    next_slice: u32,
    weight_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<Value>; // (batch, step, 3 hidden): [z | r | h]
@group(0) @binding(2) var<storage, read> u: array<Value>; // (3 hidden, hidden): [U_z; U_r; U_h]
@group(0) @binding(3) var<storage, read> initial_state: array<Value>; // (batch, hidden)
@group(0) @binding(4) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(5) var<storage, read_write> h: array<Value>; // (batch, step, hidden)
@group(0) @binding(6) var<storage, read_write> last_state: array<Value>; // (batch, hidden)
@group(0) @binding(7) var<storage, read_write> gates: array<Value>; // (batch, step, 3 hidden): [z | r | c]
@group(0) @binding(8) var<storage, read_write> factors: array<Value>; // (batch, step, 2 hidden): [h' | r h']
@group(0) @binding(9) var<storage, read> grad_h: array<Value>; // (batch, step, hidden)
@group(0) @binding(10) var<storage, read> grad_last_state: array<Value>; // (batch, hidden)
@group(0) @binding(11) var<storage, read_write> grad_p: array<Value>; // (batch, step, 3 hidden)
@group(0) @binding(12) var<storage, read_write> carry: array<Value>; // (batch, hidden): dL/dh of the position in work; at last, of the initial state
@group(0) @binding(13) var<storage, read_write> next: array<vec4<f32>>; // (panel, next_slice / 4, PANEL, 4): A of the product that follows

// rows of the batch that an invocation takes, or a subgroup
const ROWS = 4 * QUADS;

// Values that hold the channels of a row
const CHANNELS = HIDDEN / VALUE_WIDTH;

fn initial(row: u32, channel: u32) -> Value {
    if HAS_INITIAL_STATE && !begins(row, 0) {
        return initial_state[(params.initial_state_offset + row * params.initial_state_stride) / VALUE_WIDTH + channel];
    }
    return Value(0.0);
}

// (batch, step) of a row's position as one index, from the row on that is bound first
fn place(row: u32, position: u32) -> u32 {
    return row * params.n_step + step_of(position) - params.first_row;
}

fn pre_activation(place: u32, column: u32) -> Value {
    return p[(params.p_offset + place * params.p_stride) / VALUE_WIDTH + column];
}

fn gate_at(place: u32, gate: u32, channel: u32) -> u32 {
    return params.gates_offset / VALUE_WIDTH + (place * 3 + gate) * CHANNELS + channel;
}

// of h' (which 0) or r h' (which 1)
fn factor_at(place: u32, which: u32, channel: u32) -> u32 {
    return params.factors_offset / VALUE_WIDTH + (place * 2 + which) * CHANNELS + channel;
}

fn grad_p_at(place: u32, gate: u32, channel: u32) -> u32 {
    return (params.grad_p_offset + place * params.grad_p_stride) / VALUE_WIDTH + gate * CHANNELS + channel;
}

fn carry_at(row: u32, channel: u32) -> u32 {
    return (params.carry_offset + row * params.carry_stride) / VALUE_WIDTH + channel;
}

// z from U_z h'
fn open_update_gate(row: u32, channel: u32, position: u32, product_z: Value) {
    let at = place(row, position);
    gates[gate_at(at, 0, channel)] = sigmoid(pre_activation(at, channel) + product_z);
}

// r from U_r h'; returns r h'
fn open_reset_gate(row: u32, channel: u32, position: u32, product_r: Value, previous: Value) -> Value {
    let at = place(row, position);
    let r = sigmoid(pre_activation(at, CHANNELS + channel) + product_r);
    gates[gate_at(at, 1, channel)] = r;
    factors[factor_at(at, 1, channel)] = r * previous;
    return r * previous;
}

// the state from U_h (r h'); returns what the next position begins with
fn update_state(row: u32, channel: u32, position: u32, product_h: Value, previous: Value) -> Value {
    let at = place(row, position);
    let z = gates[gate_at(at, 0, channel)];
    let c = tanh_guarded(pre_activation(at, 2 * CHANNELS + channel) + product_h);
    let next = (1.0 - z) * previous + z * c;
    gates[gate_at(at, 2, channel)] = c;
    h[params.h_offset / VALUE_WIDTH + at * CHANNELS + channel] = next;
    let carried = select(next, Value(0.0), begins(row, position + 1));
    if position + 1 < params.n_step {
        factors[factor_at(place(row, position + 1), 0, channel)] = carried;
    } else {
        last_state[params.last_state_offset / VALUE_WIDTH + row * CHANNELS + channel] = next;
    }
    return carried;
}

// the gradient of p_h at the position that follows in time; adds the position's own output gradient to the carry
fn candidate_gradient(row: u32, channel: u32, position: u32) -> Value {
    let at = place(row, position);
    var state_gradient = carry[carry_at(row, channel)];
    if HAS_GRAD_H {
        state_gradient += grad_h[params.grad_h_offset / VALUE_WIDTH + at * CHANNELS + channel];
        carry[carry_at(row, channel)] = state_gradient;
    }
    let z = gates[gate_at(at, 0, channel)];
    let c = gates[gate_at(at, 2, channel)];
    let gradient = state_gradient * z * (1.0 - c * c);
    grad_p[grad_p_at(at, 2, channel)] = gradient;
    return gradient;
}

struct GateGradients {
    z: Value,
    r: Value,
}

// the gradients of p_z and p_r from q; leaves e (1 - z) + q r in the carry
fn gate_gradients(row: u32, channel: u32, position: u32, q: Value) -> GateGradients {
    let at = place(row, position);
    let state_gradient = carry[carry_at(row, channel)];
    let z = gates[gate_at(at, 0, channel)];
    let r = gates[gate_at(at, 1, channel)];
    let c = gates[gate_at(at, 2, channel)];
    let previous = factors[factor_at(at, 0, channel)];
    let gradients = GateGradients(state_gradient * (c - previous) * z * (1.0 - z), q * previous * r * (1.0 - r));
    grad_p[grad_p_at(at, 0, channel)] = gradients.z;
    grad_p[grad_p_at(at, 1, channel)] = gradients.r;
    carry[carry_at(row, channel)] = state_gradient * (1.0 - z) + q * r;
    return gradients;
}

// finishes dL/dh'
fn carry_back(row: u32, channel: u32, position: u32, product: Value) {
    let at = carry_at(row, channel);
    carry[at] = select(carry[at] + product, Value(0.0), begins(row, position));
}

fn begin_carry(row: u32, channel: u32) {
    var value = Value(0.0);
    if HAS_GRAD_LAST_STATE {
        value = grad_last_state[params.grad_last_state_offset / VALUE_WIDTH + row * CHANNELS + channel];
    }
    carry[carry_at(row, channel)] = value;
}

// the state before position 0; one invocation a Value
@compute @workgroup_size(LANES)
fn begin(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = invocation_of(global, groups);
    if index < params.n_batch * CHANNELS {
        let row = index / CHANNELS;
        let channel = index % CHANNELS;
        factors[factor_at(place(row, 0), 0, channel)] = initial(row, channel);
    }
}
