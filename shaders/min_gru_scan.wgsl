// z = sigmoid(p_z)    v = g(p_h), g(a) = a + 1/2 where a >= 0, else sigmoid(a)    h = (1 - z) h' + z v
// with h' the state before. Backward, with e = dL/dh:
// grad_p_z = e (v - h') z (1 - z)    grad_p_h = e z g'(p_h)    dL/dh' = e (1 - z)
//
// One invocation runs one channel of one sequence through all steps.

struct Params {
    n_batch: u32,
    n_step: u32,
    n_hidden: u32,
    reverse: u32,
    reset_offset: u32,
    p_offset: u32,
    p_stride: u32,
    h0_offset: u32,
    h0_stride: u32,
    grad_h_offset: u32,
    grad_h_stride: u32,
    grad_last_offset: u32,
    grad_last_stride: u32,
    grad_p_offset: u32,
    grad_p_stride: u32,
    grad_h0_offset: u32,
    grad_h0_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<f32>; // (batch, step, 2 hidden): [z | h]
@group(0) @binding(2) var<storage, read> h0: array<f32>; // (batch, hidden)
@group(0) @binding(3) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(4) var<storage, read_write> h: array<f32>; // (batch, step, hidden)
@group(0) @binding(5) var<storage, read_write> last: array<f32>; // (batch, hidden)
@group(0) @binding(6) var<storage, read> grad_h: array<f32>; // (batch, step, hidden)
@group(0) @binding(7) var<storage, read> grad_last: array<f32>; // (batch, hidden)
@group(0) @binding(8) var<storage, read_write> grad_p: array<f32>; // (batch, step, 2 hidden)
@group(0) @binding(9) var<storage, read_write> grad_h0: array<f32>; // (batch, hidden)

fn candidate(a: f32) -> f32 {
    return select(sigmoid(a), a + 0.5, a >= 0.0);
}

fn candidate_derivative(a: f32) -> f32 {
    return select(sigmoid_derivative(a), 1.0, a >= 0.0);
}

fn initial(batch: u32, channel: u32) -> f32 {
    if HAS_H0 {
        return h0[params.h0_offset + batch * params.h0_stride + channel];
    }
    return 0.0;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = global.y * workgroups.x * LANES + global.x;
    if lane >= params.n_batch * params.n_hidden {
        return;
    }
    let batch = lane / params.n_hidden;
    let channel = lane % params.n_hidden;
    var state = initial(batch, channel);
    for (var position = 0u; position < params.n_step; position++) {
        let row = batch * params.n_step + step_of(position);
        let at = params.p_offset + row * params.p_stride + channel;
        let p_z = p[at];
        if is_border(batch, position) {
            state = 0.0;
        }
        state = sigmoid(-p_z) * state + sigmoid(p_z) * candidate(p[at + params.n_hidden]);
        h[row * params.n_hidden + channel] = state;
    }
    last[lane] = state;
}

@compute @workgroup_size(LANES)
fn backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = global.y * workgroups.x * LANES + global.x;
    if lane >= params.n_batch * params.n_hidden {
        return;
    }
    let batch = lane / params.n_hidden;
    let channel = lane % params.n_hidden;
    var carry = 0.0;
    if HAS_GRAD_LAST {
        carry = grad_last[params.grad_last_offset + batch * params.grad_last_stride + channel];
    }
    for (var visited = 0u; visited < params.n_step; visited++) {
        let position = params.n_step - 1u - visited;
        let row = batch * params.n_step + step_of(position);
        let at = params.p_offset + row * params.p_stride + channel;
        let p_z = p[at];
        let p_h = p[at + params.n_hidden];
        let z = sigmoid(p_z);
        let keep = sigmoid(-p_z);
        let border = is_border(batch, position);
        var previous = 0.0;
        if !border {
            if position == 0u {
                previous = initial(batch, channel);
            } else {
                previous = h[(batch * params.n_step + step_of(position - 1u)) * params.n_hidden + channel];
            }
        }
        var e = carry;
        if HAS_GRAD_H {
            e += grad_h[params.grad_h_offset + row * params.grad_h_stride + channel];
        }
        if HAS_GRAD_P {
            let to = params.grad_p_offset + row * params.grad_p_stride + channel;
            grad_p[to] = e * (candidate(p_h) - previous) * z * keep;
            grad_p[to + params.n_hidden] = e * z * candidate_derivative(p_h);
        }
        carry = select(e * keep, 0.0, border);
    }
    if HAS_GRAD_H0 {
        grad_h0[params.grad_h0_offset + batch * params.grad_h0_stride + channel] = carry;
    }
}
