// z = sigmoid(p_z)    v = g(p_h), g(a) = a + 1/2 where a >= 0, else sigmoid(a)    h = (1 - z) h' + z v
// with h' the state before. Backward, with e = dL/dh:
// grad_p_z = e (v - h') z (1 - z)    grad_p_h = e z g'(p_h)    dL/dh' = e (1 - z)
//
// One invocation runs one channel of one sequence through the steps of a chunk: all of them (`forward`, `backward`) or those of one of several
// (shared/min_gru_scan_chunked.wgsl); or a workgroup runs the channels of a sequence side by side (shared/min_gru_scan_rows.wgsl). Channels are
// counted in Values, WIDTH neighbouring ones.
// Where not everything can be bound at once, a dispatch takes some sequences of the batch, or the positions from first_position to
// end_position of one.

struct Params {
    n_batch: u32,
    n_step: u32,
    n_hidden: u32, // Values of a row
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
    initial_state_offset: u32,
    initial_state_stride: u32,
    h_offset: u32,
    last_state_offset: u32,
    grad_h_offset: u32,
    grad_h_stride: u32,
    grad_last_state_offset: u32,
    grad_last_state_stride: u32,
    grad_p_offset: u32,
    grad_p_stride: u32,
    grad_initial_state_offset: u32,
    grad_initial_state_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<Value>; // (batch, step, 2 hidden): [z | h]
@group(0) @binding(2) var<storage, read> initial_state: array<Value>; // (batch, hidden)
@group(0) @binding(3) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(4) var<storage, read_write> h: array<Value>; // (batch, step, hidden)
@group(0) @binding(5) var<storage, read_write> last_state: array<Value>; // (batch, hidden)
@group(0) @binding(6) var<storage, read> grad_h: array<Value>; // (batch, step, hidden)
@group(0) @binding(7) var<storage, read> grad_last_state: array<Value>; // (batch, hidden)
@group(0) @binding(8) var<storage, read_write> grad_p: array<Value>; // (batch, step, 2 hidden)
@group(0) @binding(9) var<storage, read_write> grad_initial_state: array<Value>; // (batch, hidden)

fn candidate(a: Value) -> Value {
    return select(sigmoid(a), a + 0.5, a >= Value(0.0));
}

fn candidate_derivative(a: Value) -> Value {
    return select(sigmoid_derivative(a), Value(1.0), a >= Value(0.0));
}

fn initial(batch: u32, channel: u32) -> Value {
    if HAS_INITIAL_STATE {
        return initial_state[(params.initial_state_offset + batch * params.initial_state_stride) / WIDTH + channel];
    }
    return Value();
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
    let index = invocation_of(global, workgroups);
    let channel = index % params.n_hidden;
    let chunk = index / params.n_hidden % params.n_chunk;
    let batch = index / params.n_hidden / params.n_chunk;
    let first = params.first_position + chunk * params.chunk_steps;
    return Lane(batch < params.n_batch, batch, chunk, channel, first, min(first + params.chunk_steps, params.end_position));
}

fn whole_row_of(lane: Lane, position: u32) -> u32 {
    return lane.batch * params.n_step + step_of(position);
}

fn row_of(lane: Lane, position: u32) -> u32 {
    return whole_row_of(lane, position) - params.first_row;
}

fn h_at(lane: Lane, position: u32) -> u32 {
    return params.h_offset / WIDTH + (whole_row_of(lane, position) - params.h_first_row) * params.n_hidden + lane.channel;
}

fn last_at(lane: Lane) -> u32 {
    return params.last_state_offset / WIDTH + lane.batch * params.n_hidden + lane.channel;
}

// The place of a gate's input; its candidate's lies n_hidden behind it.
fn p_at(lane: Lane, row: u32) -> u32 {
    return (params.p_offset + row * params.p_stride) / WIDTH + lane.channel;
}

fn grad_h_of(lane: Lane, row: u32) -> Value {
    if HAS_GRAD_H {
        return grad_h[(params.grad_h_offset + row * params.grad_h_stride) / WIDTH + lane.channel];
    }
    return Value();
}

// What a step reads.
struct Inputs {
    gate: Value,
    candidate: Value,
    begins: bool, // behind the position before
}

fn inputs_at(lane: Lane, position: u32) -> Inputs {
    let at = p_at(lane, row_of(lane, position));
    return Inputs(p[at], p[at + params.n_hidden], begins(lane.batch, position));
}

// Writes the state at a position, given the one before, and returns it.
fn step_forward(lane: Lane, position: u32, inputs: Inputs, before: Value) -> Value {
    let z = sigmoids(inputs.gate);
    let entering = select(before, Value(), inputs.begins);
    let state = z.negative * entering + z.positive * candidate(inputs.candidate);
    h[h_at(lane, position)] = state;
    return state;
}

// Writes the states of a chunk, given the one that enters it, and returns the one that leaves it. AHEAD steps are loaded together: no load
// may pass a store before it, and each would be waited for. A load that only a branch needs is moved behind it, so there is none.
fn run_forward(lane: Lane, entering: Value) -> Value {
    var state = entering;
    var position = lane.first;
    for (; AHEAD > 1u && position + AHEAD <= lane.end; position += AHEAD) {
        var inputs: array<Inputs, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            inputs[i] = inputs_at(lane, position + i);
        }
        for (var i = 0u; i < AHEAD; i++) {
            state = step_forward(lane, position + i, inputs[i], state);
        }
    }
    for (; position < lane.end; position++) {
        state = step_forward(lane, position, inputs_at(lane, position), state);
    }
    return state;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if lane.exists {
        last_state[last_at(lane)] = run_forward(lane, initial(lane.batch, lane.channel));
    }
}

// What a step backward reads.
struct Known {
    inputs: Inputs,
    previous: Value, // the state before, 0 behind a border
    grad_h: Value,
}

fn known_at(lane: Lane, position: u32) -> Known {
    let inputs = inputs_at(lane, position);
    var previous = h[h_at(lane, max(position, 1u) - 1u)];
    if position == 0u {
        previous = initial(lane.batch, lane.channel);
    }
    return Known(inputs, select(previous, Value(), inputs.begins), grad_h_of(lane, row_of(lane, position)));
}

// Writes the gradients at a position, given that of its state by the positions behind, and returns that of the state before.
fn step_backward(lane: Lane, position: u32, known: Known, carry: Value) -> Value {
    let z = sigmoids(known.inputs.gate);
    let e = carry + known.grad_h;
    if HAS_GRAD_P {
        let to = (params.grad_p_offset + row_of(lane, position) * params.grad_p_stride) / WIDTH + lane.channel;
        grad_p[to] = e * (candidate(known.inputs.candidate) - known.previous) * z.positive * z.negative;
        grad_p[to + params.n_hidden] = e * z.positive * candidate_derivative(known.inputs.candidate);
    }
    return select(e * z.negative, Value(), known.inputs.begins);
}

// Writes the gradients of a chunk, given that of the state that leaves it, and returns that of the state that enters it.
fn run_backward(lane: Lane, leaving: Value) -> Value {
    var carry = leaving;
    var end = lane.end;
    for (; AHEAD > 1u && end >= lane.first + AHEAD; end -= AHEAD) {
        var known: array<Known, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            known[i] = known_at(lane, end - 1u - i);
        }
        for (var i = 0u; i < AHEAD; i++) {
            carry = step_backward(lane, end - 1u - i, known[i], carry);
        }
    }
    for (; end > lane.first; end--) {
        carry = step_backward(lane, end - 1u, known_at(lane, end - 1u), carry);
    }
    return carry;
}

fn grad_leaving(batch: u32, channel: u32) -> Value {
    if HAS_GRAD_LAST_STATE {
        return grad_last_state[(params.grad_last_state_offset + batch * params.grad_last_state_stride) / WIDTH + channel];
    }
    return Value();
}

fn set_grad_initial_state(lane: Lane, grad: Value) {
    if HAS_GRAD_INITIAL_STATE {
        grad_initial_state[(params.grad_initial_state_offset + lane.batch * params.grad_initial_state_stride) / WIDTH + lane.channel] = grad;
    }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if lane.exists {
        set_grad_initial_state(lane, run_backward(lane, grad_leaving(lane.batch, lane.channel)));
    }
}
