// g = SiLU(clip(p, -50, 50))    s = exp(A) s' + B^T g    u = C s + D p    y = g clip(u, -10, 10)
// with s' the state before. Backward, with w = dL/du = dL/dy g where |u| <= 10 and e = dL/ds, which runs against the steps:
// e = C^T w + exp(A) e''    dL/dg = dL/dy clip(u) + B e    dL/dp = D w + dL/dg SiLU'(clip(p)) where |p| <= 50
// dL/dA = sum e s' exp(A)    dL/dB = sum g e    dL/dC = sum w s    dL/dD = sum w p
//
// Products with B and C, and those that give their gradients, are the linear layer's kernels'. In entries named gates, output and so on an
// invocation takes one Value, WIDTH neighbouring elements, of STRIP rows; in scan and its gradient WIDTH states of one sequence through all
// steps; backward_decay (dA) and backward_skip (dD, from what each strip left) sum COLUMNS columns of Values a workgroup. Gates are computed
// again where the rows they come from are read. Channels and states are counted in Values.
// Where not everything can be bound at once, a dispatch takes some sequences of the batch, or the positions from first_position to
// end_position of one.

struct Params {
    n_batch: u32,
    n_step: u32,
    first_position: u32,
    end_position: u32,
    first_row: u32, // of (batch, step), which is bound first
    states_first_row: u32, // of states
    n_hidden: u32, // Values of a row
    n_state: u32, // Values of a state
    reverse: u32,
    accumulate: u32, // whether sums go on from what was taken before
    reset_offset: u32,
    p_offset: u32,
    p_stride: u32,
    a_offset: u32,
    d_offset: u32,
    gate_offset: u32,
    states_offset: u32,
    read_out_offset: u32,
    y_offset: u32,
    last_state_offset: u32,
    grad_read_out_offset: u32,
    grad_states_offset: u32,
    grad_gate_offset: u32,
    initial_state_offset: u32,
    initial_state_stride: u32,
    grad_y_offset: u32,
    grad_y_stride: u32,
    grad_last_state_offset: u32,
    grad_last_state_stride: u32,
    grad_p_offset: u32,
    grad_p_stride: u32,
    grad_a_offset: u32,
    skip_sums_offset: u32,
    grad_d_offset: u32,
    grad_initial_state_offset: u32,
    grad_initial_state_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> p: array<Value>; // (batch, step, hidden)
@group(0) @binding(2) var<storage, read> a: array<Value>; // (state)
@group(0) @binding(5) var<storage, read> d: array<Value>; // (hidden)
@group(0) @binding(6) var<storage, read> initial_state: array<Value>; // (batch, state)
@group(0) @binding(7) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(8) var<storage, read_write> gate: array<Value>; // (batch, step, hidden): g
@group(0) @binding(9) var<storage, read_write> states: array<Value>; // (batch, step, state): s, first B^T g
@group(0) @binding(10) var<storage, read_write> read_out: array<Value>; // (batch, step, hidden): u, first C s
@group(0) @binding(11) var<storage, read_write> y: array<Value>; // (batch, step, hidden)
@group(0) @binding(12) var<storage, read_write> last_state: array<Value>; // (batch, state)
@group(0) @binding(13) var<storage, read> grad_y: array<Value>; // (batch, step, hidden)
@group(0) @binding(14) var<storage, read> grad_last_state: array<Value>; // (batch, state)
@group(0) @binding(15) var<storage, read_write> grad_read_out: array<Value>; // (batch, step, hidden): w
@group(0) @binding(16) var<storage, read_write> grad_states: array<Value>; // (batch, step, state): e, first C^T w
@group(0) @binding(3) var<storage, read_write> grad_gate: array<Value>; // (batch, step, hidden): B e
@group(0) @binding(17) var<storage, read_write> grad_p: array<Value>; // (batch, step, hidden)
@group(0) @binding(18) var<storage, read_write> grad_a: array<Value>; // (state)
@group(0) @binding(4) var<storage, read_write> skip_sums: array<Value>; // (strip, hidden): sums of w p
@group(0) @binding(19) var<storage, read_write> grad_d: array<Value>; // (hidden)
@group(0) @binding(20) var<storage, read_write> grad_initial_state: array<Value>; // (batch, state)

fn n_row() -> u32 {
    return params.n_batch * (params.end_position - params.first_position);
}

// row of (batch, step), counted from the one that is bound first
fn row_of(batch: u32, position: u32, first_row: u32) -> u32 {
    return batch * params.n_step + step_of(position) - first_row;
}

fn p_at(row: u32, channel: u32) -> Value {
    return p[(params.p_offset + row * params.p_stride) / WIDTH + channel];
}

fn grad_y_at(row: u32, channel: u32) -> Value {
    if HAS_GRAD_Y {
        return grad_y[(params.grad_y_offset + row * params.grad_y_stride) / WIDTH + channel];
    }
    return Value();
}

fn initial_at(batch: u32, n: u32) -> Value {
    if HAS_INITIAL_STATE {
        return initial_state[(params.initial_state_offset + batch * params.initial_state_stride) / WIDTH + n];
    }
    return Value();
}

// rows of one channel
struct Strip {
    nth: u32,
    channel: u32,
    first_row: u32,
    end_row: u32,
}

fn strip_of(global: vec3<u32>, workgroups: vec3<u32>) -> Strip {
    let lane = invocation_of(global, workgroups);
    let nth = lane / params.n_hidden;
    let channel = spread(lane % params.n_hidden, params.n_hidden);
    return Strip(nth, channel, min(nth * STRIP, n_row()), min((nth + 1u) * STRIP, n_row()));
}

fn clip_input(input: Value) -> Value {
    return clamp(input, Value(-50.0), Value(50.0));
}

// w, from dL/dy
fn grad_read_out_of(grad: Value, input: Value, u: Value) -> Value {
    return select(Value(), grad * silu(clip_input(input)), abs(u) <= Value(10.0));
}

@compute @workgroup_size(LANES)
fn gates(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let strip = strip_of(global, workgroups);
    for (var row = strip.first_row; row < strip.end_row; row++) {
        gate[params.gate_offset / WIDTH + row * params.n_hidden + strip.channel] = silu(clip_input(p_at(row, strip.channel)));
    }
}

@compute @workgroup_size(LANES)
fn scan(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = invocation_of(global, workgroups);
    if lane >= params.n_batch * params.n_state {
        return;
    }
    let batch = lane / params.n_state;
    let n = lane % params.n_state;
    let decay = exp(a[params.a_offset / WIDTH + n]);
    var state = initial_at(batch, n);
    for (var position = params.first_position; position < params.end_position; position++) {
        let at = row_of(batch, position, params.states_first_row) * params.n_state + n;
        if begins(batch, position) {
            state = Value();
        }
        state = decay * state + states[params.states_offset / WIDTH + at];
        states[params.states_offset / WIDTH + at] = state;
    }
    last_state[params.last_state_offset / WIDTH + lane] = state;
}

@compute @workgroup_size(LANES)
fn output(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let strip = strip_of(global, workgroups);
    let skip = d[params.d_offset / WIDTH + strip.channel];
    for (var row = strip.first_row; row < strip.end_row; row++) {
        let at = row * params.n_hidden + strip.channel;
        let input = p_at(row, strip.channel);
        let u = read_out[params.read_out_offset / WIDTH + at] + skip * input;
        read_out[params.read_out_offset / WIDTH + at] = u;
        y[params.y_offset / WIDTH + at] = silu(clip_input(input)) * clamp(u, Value(-10.0), Value(10.0));
    }
}

@compute @workgroup_size(LANES)
fn backward_output(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let strip = strip_of(global, workgroups);
    var sum = Value();
    for (var row = strip.first_row; row < strip.end_row; row++) {
        let at = row * params.n_hidden + strip.channel;
        let input = p_at(row, strip.channel);
        let w = grad_read_out_of(grad_y_at(row, strip.channel), input, read_out[params.read_out_offset / WIDTH + at]);
        grad_read_out[params.grad_read_out_offset / WIDTH + at] = w;
        sum += w * input;
    }
    if strip.first_row < strip.end_row {
        skip_sums[params.skip_sums_offset / WIDTH + strip.nth * params.n_hidden + strip.channel] = sum;
    }
}

@compute @workgroup_size(LANES)
fn backward_scan(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = invocation_of(global, workgroups);
    if lane >= params.n_batch * params.n_state {
        return;
    }
    let batch = lane / params.n_state;
    let n = lane % params.n_state;
    let decay = exp(a[params.a_offset / WIDTH + n]);
    var carry = Value();
    if HAS_GRAD_LAST_STATE {
        carry = grad_last_state[(params.grad_last_state_offset + batch * params.grad_last_state_stride) / WIDTH + n];
    }
    for (var position = params.end_position; position > params.first_position;) {
        position--;
        let at = row_of(batch, position, params.first_row) * params.n_state + n;
        let e = carry + grad_states[params.grad_states_offset / WIDTH + at];
        grad_states[params.grad_states_offset / WIDTH + at] = e;
        carry = select(e * decay, Value(), begins(batch, position));
    }
    if HAS_GRAD_INITIAL_STATE {
        grad_initial_state[(params.grad_initial_state_offset + batch * params.grad_initial_state_stride) / WIDTH + n] = carry;
    }
}

@compute @workgroup_size(LANES)
fn backward_input(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let strip = strip_of(global, workgroups);
    let channel = strip.channel;
    let skip = d[params.d_offset / WIDTH + channel];
    for (var row = strip.first_row; row < strip.end_row; row++) {
        let at = row * params.n_hidden + channel;
        let input = p_at(row, channel);
        let u = read_out[params.read_out_offset / WIDTH + at];
        let grad = grad_y_at(row, channel);
        let grad_g = grad_gate[params.grad_gate_offset / WIDTH + at] + grad * clamp(u, Value(-10.0), Value(10.0));
        let through_gate = select(Value(), grad_g * silu_derivative(clip_input(input)), abs(input) <= Value(50.0));
        grad_p[(params.grad_p_offset + row * params.grad_p_stride) / WIDTH + channel] =
            skip * grad_read_out_of(grad, input, u) + through_gate;
    }
}

// e s' of one element, s' being what the step before left; rows in the order of the visits
fn decay_term(row: u32, n: u32) -> Value {
    let n_position = params.end_position - params.first_position;
    let batch = row / n_position;
    let position = params.first_position + row % n_position;
    if begins(batch, position) {
        return Value();
    }
    var previous = Value();
    if position > 0u {
        let before = row_of(batch, position - 1u, params.states_first_row);
        previous = states[params.states_offset / WIDTH + before * params.n_state + n];
    } else {
        previous = initial_at(batch, n);
    }
    let at = row_of(batch, position, params.first_row);
    return grad_states[params.grad_states_offset / WIDTH + at * params.n_state + n] * previous;
}

@compute @workgroup_size(COLUMNS, COLUMNS)
fn backward_decay(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let n = (group.y * workgroups.x + group.x) * COLUMNS + local.x;
    var sum = Value();
    if n < params.n_state {
        for (var row = local.y; row < n_row(); row += COLUMNS) {
            sum += decay_term(row, n);
        }
    }
    sum = sum_column(local, sum);
    if local.y == 0u && n < params.n_state {
        let at = params.grad_a_offset / WIDTH + n;
        grad_a[at] = select(Value(), grad_a[at], params.accumulate != 0u) + sum * exp(a[params.a_offset / WIDTH + n]);
    }
}

@compute @workgroup_size(COLUMNS, COLUMNS)
fn backward_skip(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let channel = (group.y * workgroups.x + group.x) * COLUMNS + local.x;
    var sum = Value();
    if channel < params.n_hidden {
        for (var strip = local.y; strip * STRIP < n_row(); strip += COLUMNS) {
            sum += skip_sums[params.skip_sums_offset / WIDTH + strip * params.n_hidden + channel];
        }
    }
    sum = sum_column(local, sum);
    if local.y == 0u && channel < params.n_hidden {
        let at = params.grad_d_offset / WIDTH + channel;
        grad_d[at] = select(Value(), grad_d[at], params.accumulate != 0u) + sum;
    }
}
