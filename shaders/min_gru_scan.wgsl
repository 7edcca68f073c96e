// z = sigmoid(p_z)    v = g(p_h), g(a) = a + 1/2 where a >= 0, else sigmoid(a)    h = (1 - z) h' + z v
// with h' the state before. Backward, with e = dL/dh:
// grad_p_z = e (v - h') z (1 - z)    grad_p_h = e z g'(p_h)    dL/dh' = e (1 - z)
//
// One invocation runs one channel of one sequence through the steps of a chunk: all of them (`forward`, `backward`), or, where there are
// several chunks, those of one (`forward_chunk`, `backward_chunk`). Then one invocation a chunk has summed up before what the chunk does to
// the state that enters it, h -> a h + b (`summarize_forward`, `summarize_backward`), and one invocation a channel has handed states from
// chunk to chunk (`carry_forward`, `carry_backward`): `subgroup` by subgroup operations; `f16` keeps these maps and states as 16-bit floats.
// Nothing is divided by a product of decays.
// Of more than can be bound, one dispatch takes some sequences of the batch, or the positions from first_position to end_position of one.

struct Params {
    n_batch: u32,
    n_step: u32,
    n_hidden: u32,
    reverse: u32,
    chunk_steps: u32,
    n_chunk: u32,
    first_position: u32,
    end_position: u32,
    first_row: u32, // of (batch, step), which is bound first
    h_first_row: u32, // of h
    reset_offset: u32,
    p_offset: u32,
    p_stride: u32,
    h0_offset: u32,
    h0_stride: u32,
    h_offset: u32,
    last_offset: u32,
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
@group(0) @binding(10) var<storage, read_write> chunks: array<Chunk>; // (batch, chunk, hidden): (a, b), then (entering state, 0)

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

// An invocation's place, and the positions of its chunk.
struct Lane {
    exists: bool,
    batch: u32,
    chunk: u32,
    channel: u32,
    first: u32,
    end: u32,
}

// Of (batch, chunk, channel) in row-major order.
fn lane_of(global: vec3<u32>, workgroups: vec3<u32>) -> Lane {
    let index = global.y * workgroups.x * LANES + global.x;
    let channel = index % params.n_hidden;
    let chunk = index / params.n_hidden % params.n_chunk;
    let batch = index / params.n_hidden / params.n_chunk;
    let first = params.first_position + chunk * params.chunk_steps;
    return Lane(batch < params.n_batch, batch, chunk, channel, first, min(first + params.chunk_steps, params.end_position));
}

fn chunk_at(batch: u32, chunk: u32, channel: u32) -> u32 {
    return (batch * params.n_chunk + chunk) * params.n_hidden + channel;
}

fn whole_row_of(lane: Lane, position: u32) -> u32 {
    return lane.batch * params.n_step + step_of(position);
}

fn row_of(lane: Lane, position: u32) -> u32 {
    return whole_row_of(lane, position) - params.first_row;
}

fn h_at(lane: Lane, position: u32) -> u32 {
    return params.h_offset + (whole_row_of(lane, position) - params.h_first_row) * params.n_hidden + lane.channel;
}

// The place of a gate's input; its candidate's lies n_hidden behind it.
fn p_at(lane: Lane, row: u32) -> u32 {
    return params.p_offset + row * params.p_stride + lane.channel;
}

fn grad_h_of(lane: Lane, row: u32) -> f32 {
    if HAS_GRAD_H {
        return grad_h[params.grad_h_offset + row * params.grad_h_stride + lane.channel];
    }
    return 0.0;
}

// Writes the states of a chunk, given the one that enters it, and returns the one that leaves it.
fn run_forward(lane: Lane, entering: f32) -> f32 {
    var state = entering;
    for (var position = lane.first; position < lane.end; position++) {
        let at = p_at(lane, row_of(lane, position));
        let p_z = p[at];
        if is_border(lane.batch, position) {
            state = 0.0;
        }
        state = sigmoid(-p_z) * state + sigmoid(p_z) * candidate(p[at + params.n_hidden]);
        h[h_at(lane, position)] = state;
    }
    return state;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if lane.exists {
        last[params.last_offset + lane.batch * params.n_hidden + lane.channel] = run_forward(lane, initial(lane.batch, lane.channel));
    }
}

@compute @workgroup_size(LANES)
fn summarize_forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    var summary = vec2(1.0, 0.0);
    for (var position = lane.first; position < lane.end; position++) {
        let at = p_at(lane, row_of(lane, position));
        let p_z = p[at];
        if is_border(lane.batch, position) {
            summary = vec2(0.0);
        }
        summary = sigmoid(-p_z) * summary + vec2(0.0, sigmoid(p_z) * candidate(p[at + params.n_hidden]));
    }
    chunks[chunk_at(lane.batch, lane.chunk, lane.channel)] = to_chunk(summary);
}

@compute @workgroup_size(LANES)
fn forward_chunk(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    let state = run_forward(lane, f32(chunks[chunk_at(lane.batch, lane.chunk, lane.channel)].x));
    if lane.end == params.end_position {
        last[params.last_offset + lane.batch * params.n_hidden + lane.channel] = state;
    }
}

// Writes the gradients of a chunk, given that of the state that leaves it, and returns that of the state that enters it.
fn run_backward(lane: Lane, leaving: f32) -> f32 {
    var carry = leaving;
    for (var position = lane.end; position > lane.first; position--) {
        let row = row_of(lane, position - 1u);
        let at = p_at(lane, row);
        let p_z = p[at];
        let p_h = p[at + params.n_hidden];
        let z = sigmoid(p_z);
        let keep = sigmoid(-p_z);
        let border = is_border(lane.batch, position - 1u);
        var previous = 0.0;
        if !border {
            if position == 1u {
                previous = initial(lane.batch, lane.channel);
            } else {
                previous = h[h_at(lane, position - 2u)];
            }
        }
        let e = carry + grad_h_of(lane, row);
        if HAS_GRAD_P {
            let to = params.grad_p_offset + row * params.grad_p_stride + lane.channel;
            grad_p[to] = e * (candidate(p_h) - previous) * z * keep;
            grad_p[to + params.n_hidden] = e * z * candidate_derivative(p_h);
        }
        carry = select(e * keep, 0.0, border);
    }
    return carry;
}

fn grad_leaving(batch: u32, channel: u32) -> f32 {
    if HAS_GRAD_LAST {
        return grad_last[params.grad_last_offset + batch * params.grad_last_stride + channel];
    }
    return 0.0;
}

fn set_grad_h0(lane: Lane, grad: f32) {
    if HAS_GRAD_H0 {
        grad_h0[params.grad_h0_offset + lane.batch * params.grad_h0_stride + lane.channel] = grad;
    }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if lane.exists {
        set_grad_h0(lane, run_backward(lane, grad_leaving(lane.batch, lane.channel)));
    }
}

@compute @workgroup_size(LANES)
fn summarize_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    var summary = vec2(1.0, 0.0);
    for (var position = lane.end; position > lane.first; position--) {
        let row = row_of(lane, position - 1u);
        summary = sigmoid(-p[p_at(lane, row)]) * (summary + vec2(0.0, grad_h_of(lane, row)));
        if is_border(lane.batch, position - 1u) {
            summary = vec2(0.0);
        }
    }
    chunks[chunk_at(lane.batch, lane.chunk, lane.channel)] = to_chunk(summary);
}

@compute @workgroup_size(LANES)
fn backward_chunk(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    let carry = run_backward(lane, f32(chunks[chunk_at(lane.batch, lane.chunk, lane.channel)].x));
    if lane.chunk == 0u {
        set_grad_h0(lane, carry);
    }
}
