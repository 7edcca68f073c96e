// h_t[n] = exp(delta_t A[n]) h_{t-1}[n] + delta_t u_t B_t[n]
// y_t    = (sum over n of h_t[n] C_t[n] + D u_t) SiLU(z_t)
//
// One invocation has one channel of one batch and all its states, four to a vector, over one chunk of steps: the whole run, where
// batches times channels fill the device, or a part of it, and then a pass of summaries and one of carries between chunks come first.
// One workgroup has LANES neighbouring channels of one batch and one chunk. Of `chunked`, and on real GPUs of `subgroup` and `f16`, some
// invocations share a channel in all that does not sum over channels: shared/selective_scan_team.wgsl.
// `subgroup` sums over channels by subgroup operations; `f16` saves states as 16-bit floats.
// A chunk consists of spans of SPAN steps. Forward saves the states at the borders of the spans; backward recomputes them inside.
// Steps are counted as `position` in the order in which they are visited, and as `step` where they lie in memory.
// Where not everything can be bound at once, a dispatch takes some sequences of the batch, or a range of one sequence's steps: all counts are
// those of this window.
//
// The workspace holds, in vectors of four:
//   channels  (channel, QUADS + 1)              A log2(e) by quads, then (D, delta_bias, 0, 0)
//   states    (batch, channel, QUADS)           forward: the initial state, then the last; backward: the gradient of the last, then of
//                                               the initial state
//   rows      (batch, step, row_quads)          B by quads, C by quads, and with a reset mask (1 where the state is cut, 0, 0, 0)
//   slots     (batch, chunk, channel, QUADS + 1)   summary of a chunk and (sum of delta, 1 if the state is cut in it, 0, 0), then what is
//                                               carried into it; at last its part of grad_A and (grad_D, grad_delta_bias, 0, 0)
//   borders   (batch, span, channel, QUADS)     backward only, where they are copied
//   sums      (group, batch, step, 2 QUADS)     backward only: grad_B and grad_C, summed over the channels of one workgroup, or of one
//                                               invocation that walks

struct Params {
    n_batch: u32,
    n_step: u32,
    n_channel: u32,
    n_group: u32,
    n_chunk: u32,
    n_span: u32,
    chunk_spans: u32,
    row_quads: u32,
    rows_start: u32,
    states_start: u32,
    slots_start: u32,
    borders_start: u32,
    sums_start: u32,
    first_span: u32,
    end_span: u32,
    n_block: u32,
    n_whole_step: u32, // steps of a sequence
    first_step: u32, // of the window
    keep_states: u32, // whether the states are not packed: those that the window before left, or none
    from_zero: u32, // `walked`: whether the states are zero at first
    accumulate: u32, // whether sums go on from a window before
    reverse: u32,
    u_offset: u32,
    u_stride: u32,
    delta_offset: u32,
    delta_stride: u32,
    z_offset: u32,
    z_stride: u32,
    y_offset: u32,
    y_stride: u32,
    last_state_offset: u32,
    borders_offset: u32,
    saved_borders_offset: u32,
    grad_y_offset: u32,
    grad_y_stride: u32,
    grad_u_offset: u32,
    grad_u_stride: u32,
    grad_delta_offset: u32,
    grad_delta_stride: u32,
    grad_z_offset: u32,
    grad_z_stride: u32,
    a_offset: u32,
    b_offset: u32,
    b_stride: u32,
    c_offset: u32,
    c_stride: u32,
    d_offset: u32,
    delta_bias_offset: u32,
    state_offset: u32,
    reset_offset: u32,
    n_part: u32,
    n_row: u32,
    n_column: u32,
    component: u32,
    is_vector: u32,
    part_start: u32,
    part_stride: u32,
    part_row_stride: u32,
    sum_target_offset: u32,
    sum_target_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<f32>; // (batch, step, channel)
@group(0) @binding(2) var<storage, read> delta: array<f32>; // (batch, step, channel)
@group(0) @binding(3) var<storage, read> z: array<f32>; // (batch, step, channel)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // (batch, step, channel)
@group(0) @binding(5) var<storage, read_write> last_state: array<f32>; // (batch, channel, state)
@group(0) @binding(6) var<storage, read_write> borders: array<Border>; // (batch, span, channel, QUADS)
@group(0) @binding(7) var<storage, read_write> workspace: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> grad_y: array<f32>; // (batch, step, channel)
@group(0) @binding(9) var<storage, read_write> grad_u: array<f32>; // (batch, step, channel)
@group(0) @binding(10) var<storage, read_write> grad_delta: array<f32>; // (batch, step, channel)
@group(0) @binding(11) var<storage, read_write> grad_z: array<f32>; // (batch, step, channel)
@group(0) @binding(12) var<storage, read> a: array<f32>; // (channel, state)
@group(0) @binding(13) var<storage, read> b: array<f32>; // (batch, step, state)
@group(0) @binding(14) var<storage, read> c: array<f32>; // (batch, step, state)
@group(0) @binding(15) var<storage, read> d: array<f32>; // (channel)
@group(0) @binding(16) var<storage, read> delta_bias: array<f32>; // (channel)
@group(0) @binding(17) var<storage, read> state: array<f32>; // (batch, channel, state)
@group(0) @binding(18) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(19) var<storage, read> saved_borders: array<Border>; // (batch, span, channel, QUADS)
@group(0) @binding(20) var<storage, read_write> sum_target: array<f32>; // (row, column)

const LOG2_E = 1.4426950408889634;

// The invocation's place.
struct Lane {
    exists: bool,
    has_batch: bool,
    batch: u32, // of those that there are
    chunk: u32,
    group: u32,
    channel: u32,
}

fn lane_of(workgroup: vec3<u32>, workgroups: vec3<u32>, index: u32) -> Lane {
    let flat = workgroup.y * workgroups.x + workgroup.x;
    let group = flat % params.n_group;
    let chunk = flat / params.n_group % params.n_chunk;
    let batch = flat / params.n_group / params.n_chunk;
    let has_batch = batch < params.n_batch;
    let channel = group * LANES + index;
    let exists = has_batch && channel < params.n_channel;
    return Lane(exists, has_batch, min(batch, params.n_batch - 1u), chunk, group, min(channel, params.n_channel - 1u));
}

fn step_of(position: u32) -> u32 {
    return select(position, params.n_step - 1u - position, params.reverse != 0u);
}

fn channel_at(channel: u32) -> u32 {
    return channel * (QUADS + 1u);
}

fn row_at(batch: u32, step: u32) -> u32 {
    return params.rows_start + (batch * params.n_step + step) * params.row_quads;
}

fn state_at(batch: u32, channel: u32) -> u32 {
    return params.states_start + (batch * params.n_channel + channel) * QUADS;
}

fn slot_at(batch: u32, chunk: u32, channel: u32) -> u32 {
    return params.slots_start + ((batch * params.n_chunk + chunk) * params.n_channel + channel) * (QUADS + 1u);
}

fn saved_at(batch: u32, span: u32, channel: u32) -> u32 {
    return params.borders_offset / BORDER_FLOATS + border_at(batch, span, channel);
}

fn saved_state(at_border: u32) -> vec4<f32> {
    return vec4<f32>(saved_borders[params.saved_borders_offset / BORDER_FLOATS + at_border]);
}

// without the section's start: the forward pass has the borders in a tensor of their own
fn border_at(batch: u32, span: u32, channel: u32) -> u32 {
    return ((batch * params.n_span + span) * params.n_channel + channel) * QUADS;
}

fn begins(row: u32) -> bool {
    return HAS_RESET && workspace[row + 2u * QUADS].x != 0.0;
}

fn step_size(biased_delta: f32) -> f32 {
    if DELTA_SOFTPLUS {
        return softplus(biased_delta);
    }
    return biased_delta;
}

// Copies what is small into the workspace, padded to vectors: one invocation a vector.
@compute @workgroup_size(LANES)
fn pack(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = invocation_of(global, workgroups);
    let is_behind_states = params.keep_states != 0u && lane >= params.states_start;
    let index = lane + select(0u, params.rows_start - params.states_start, is_behind_states);
    var value = vec4<f32>();
    if index < params.states_start {
        let channel = index / (QUADS + 1u);
        let quad = index % (QUADS + 1u);
        if quad < QUADS {
            for (var i = 0u; i < min(4u, N_STATE - 4u * quad); i++) {
                value[i] = LOG2_E * a[params.a_offset + channel * N_STATE + 4u * quad + i];
            }
        } else {
            if HAS_D {
                value.x = d[params.d_offset + channel];
            }
            if HAS_DELTA_BIAS {
                value.y = delta_bias[params.delta_bias_offset + channel];
            }
        }
    } else if index < params.rows_start {
        let row = (index - params.states_start) / QUADS;
        let quad = (index - params.states_start) % QUADS;
        if HAS_STATE {
            for (var i = 0u; i < min(4u, N_STATE - 4u * quad); i++) {
                value[i] = state[params.state_offset + row * N_STATE + 4u * quad + i];
            }
        }
    } else if index < params.slots_start {
        let row = (index - params.rows_start) / params.row_quads;
        let quad = (index - params.rows_start) % params.row_quads;
        let step = params.first_step + row % params.n_step;
        let at_reset = params.reset_offset + row / params.n_step * params.n_whole_step + step;
        if quad < QUADS {
            for (var i = 0u; i < min(4u, N_STATE - 4u * quad); i++) {
                value[i] = b[params.b_offset + row * params.b_stride + 4u * quad + i];
            }
        } else if quad < 2u * QUADS {
            for (var i = 0u; i < min(4u, N_STATE - 4u * (quad - QUADS)); i++) {
                value[i] = c[params.c_offset + row * params.c_stride + 4u * (quad - QUADS) + i];
            }
        } else if params.reverse == 0u {
            value.x = f32(reset[at_reset]);
        } else if step + 1u < params.n_whole_step {
            value.x = f32(reset[at_reset + 1u]);
        }
    } else {
        return;
    }
    workspace[index] = value;
}

// The outputs of one chunk, and the states at its borders.
@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let lane = lane_of(workgroup, workgroups, index);
    if !lane.exists {
        return;
    }
    let at_channel = channel_at(lane.channel);
    let channel = workspace[at_channel + QUADS];
    let at_state = state_at(lane.batch, lane.channel);
    let first_span = lane.chunk * params.chunk_spans;
    let end_span = min(first_span + params.chunk_spans, params.n_span);
    let at_first_border = saved_at(lane.batch, first_span, lane.channel);
    var decay_rate: array<vec4<f32>, QUADS>;
    var h: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        decay_rate[quad] = workspace[at_channel + quad];
        if params.n_chunk == 1u {
            h[quad] = workspace[at_state + quad];
        } else {
            h[quad] = vec4<f32>(borders[at_first_border + quad]);
        }
    }
    for (var span = first_span; span < end_span; span++) {
        let at_border = saved_at(lane.batch, span, lane.channel);
        for (var quad = 0u; SAVES_BORDERS && quad < QUADS; quad++) {
            borders[at_border + quad] = to_border(h[quad]);
        }
        let end = min((span + 1u) * SPAN, params.n_step);
        for (var position = span * SPAN; position < end; position++) {
            let step = step_of(position);
            let row = lane.batch * params.n_step + step;
            let at_row = row_at(lane.batch, step);
            let dt = step_size(delta[params.delta_offset + row * params.delta_stride + lane.channel] + channel.y);
            let u_t = u[params.u_offset + row * params.u_stride + lane.channel];
            if begins(at_row) {
                for (var quad = 0u; quad < QUADS; quad++) {
                    h[quad] = vec4<f32>();
                }
            }
            var read_out = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                h[quad] = power_of_two(dt * decay_rate[quad]) * h[quad] + dt * u_t * workspace[at_row + quad];
                read_out += h[quad] * workspace[at_row + QUADS + quad];
            }
            var y_t = read_out.x + read_out.y + read_out.z + read_out.w + channel.x * u_t;
            if HAS_Z {
                y_t *= silu(z[params.z_offset + row * params.z_stride + lane.channel]);
            }
            y[params.y_offset + row * params.y_stride + lane.channel] = y_t;
        }
    }
    if lane.chunk + 1u == params.n_chunk {
        for (var quad = 0u; quad < QUADS; quad++) {
            workspace[at_state + quad] = h[quad];
        }
        for (var n = 0u; n < N_STATE; n++) {
            last_state[params.last_state_offset + (lane.batch * params.n_channel + lane.channel) * N_STATE + n] = h[n / 4u][n % 4u];
        }
    }
}

// What a channel reads and gives in the steps of a span.
struct Steps {
    u: array<f32, SPAN>,
    dt: array<f32, SPAN>,
    slope: array<f32, SPAN>, // of dt
    grad_read_out: array<f32, SPAN>,
    grad_gate: array<f32, SPAN>,
    read_out: array<f32, SPAN>,
    grad_x: array<f32, SPAN>,
    grad_dt: array<f32, SPAN>,
}

// Loads first and then computes: what is loaded behind a branch would be waited for alone. A step past the end changes nothing: its size
// and its gradient are 0.
fn steps_of(lane: Lane, start: u32, bias: f32) -> Steps {
    var steps: Steps;
    var biased: array<f32, SPAN>;
    var gates: array<f32, SPAN>;
    for (var t = 0u; t < SPAN; t++) {
        let row = lane.batch * params.n_step + step_of(min(start + t, params.n_step - 1u));
        biased[t] = delta[params.delta_offset + row * params.delta_stride + lane.channel] + bias;
        steps.u[t] = u[params.u_offset + row * params.u_stride + lane.channel];
        if HAS_GRAD_Y {
            steps.grad_read_out[t] = grad_y[params.grad_y_offset + row * params.grad_y_stride + lane.channel];
        }
        if HAS_Z {
            gates[t] = z[params.z_offset + row * params.z_stride + lane.channel];
        }
    }
    for (var t = 0u; t < SPAN; t++) {
        let exists = lane.exists && start + t < params.n_step;
        steps.dt[t] = select(0.0, step_size(biased[t]), exists);
        steps.slope[t] = select(1.0, sigmoid(biased[t]), DELTA_SOFTPLUS);
        let grad = select(0.0, steps.grad_read_out[t], exists);
        steps.grad_read_out[t] = grad;
        if HAS_Z {
            steps.grad_read_out[t] = grad * silu(gates[t]);
            steps.grad_gate[t] = grad * silu_derivative(gates[t]);
        }
    }
    return steps;
}

// Four states of a channel in the steps of a span.
struct Quad {
    decay_rate: vec4<f32>,
    decay: array<vec4<f32>, SPAN>,
    decayed: array<vec4<f32>, SPAN>,
    grad_h: vec4<f32>, // behind the step that comes next
    grad_rate: vec4<f32>,
}

// One step backward. Its number is written out by the caller: where a compiler does not unroll, a register cannot be found by a number.
fn lane_step_backward(t: u32, index: u32, at_row: u32, quad: u32, steps: ptr<function, Steps>, states: ptr<function, Quad>) {
    let b_t = workspace[at_row + quad];
    let c_t = workspace[at_row + QUADS + quad];
    let dt = (*steps).dt[t];
    let x = dt * (*steps).u[t];
    let grad_read_out = (*steps).grad_read_out[t];
    let decayed = (*states).decayed[t];
    let h_t = decayed + x * b_t;
    let grad_h = (*states).grad_h + grad_read_out * c_t;
    keep_term(2u * t, index, x * grad_h);
    keep_term(2u * t + 1u, index, grad_read_out * h_t);
    (*steps).read_out[t] += dot(h_t, c_t);
    (*steps).grad_x[t] += dot(grad_h, b_t);
    let through_decay = grad_h * decayed;
    (*steps).grad_dt[t] += dot(through_decay, (*states).decay_rate);
    (*states).grad_rate += through_decay * dt;
    (*states).grad_h = grad_h * (*states).decay[t];
}

// The gradients of one chunk, walked from its last step to its first, span by span; within a span four states at a time.
fn run_backward(workgroup: vec3<u32>, workgroups: vec3<u32>, index: u32) {
    let lane = lane_of(workgroup, workgroups, index);
    let at_channel = channel_at(lane.channel);
    let channel = workspace[at_channel + QUADS];
    let at_state = state_at(lane.batch, lane.channel);
    let at_slot = slot_at(lane.batch, lane.chunk, lane.channel);
    // the same for the whole workgroup, which a compiler sees only without the index
    let first_span = lane_of(workgroup, workgroups, 0u).chunk * params.chunk_spans;
    let end_span = min(first_span + params.chunk_spans, params.n_span);
    var carry: array<vec4<f32>, QUADS>;
    var grad_a: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        if params.n_chunk == 1u {
            carry[quad] = workspace[at_state + quad];
        } else {
            carry[quad] = workspace[at_slot + quad];
        }
    }
    var grad_d = 0.0;
    var grad_bias = 0.0;

    for (var span = end_span; span > first_span; span--) {
        let start = (span - 1u) * SPAN;
        var steps = steps_of(lane, start, channel.y);
        var at_rows: array<u32, SPAN>;
        for (var t = 0u; t < SPAN; t++) {
            at_rows[t] = row_at(lane.batch, step_of(min(start + t, params.n_step - 1u)));
        }
        for (var quad = 0u; quad < QUADS; quad++) {
            var states: Quad;
            states.decay_rate = workspace[at_channel + quad];
            states.grad_h = carry[quad];
            var h = state_before(border_at(lane.batch, span - 1u, lane.channel) + quad);
            for (var t = 0u; t < SPAN; t++) {
                states.decay[t] = power_of_two(steps.dt[t] * states.decay_rate);
                if begins(at_rows[t]) && start + t < params.n_step {
                    states.decay[t] = vec4<f32>();
                }
                states.decayed[t] = states.decay[t] * h;
                h = states.decayed[t] + steps.dt[t] * steps.u[t] * workspace[at_rows[t] + quad];
            }
            lane_step_backward(7u, index, at_rows[7], quad, &steps, &states);
            lane_step_backward(6u, index, at_rows[6], quad, &steps, &states);
            lane_step_backward(5u, index, at_rows[5], quad, &steps, &states);
            lane_step_backward(4u, index, at_rows[4], quad, &steps, &states);
            lane_step_backward(3u, index, at_rows[3], quad, &steps, &states);
            lane_step_backward(2u, index, at_rows[2], quad, &steps, &states);
            lane_step_backward(1u, index, at_rows[1], quad, &steps, &states);
            lane_step_backward(0u, index, at_rows[0], quad, &steps, &states);
            workgroupBarrier();
            let sum = sum_terms(index);
            let position = start + index / 2u;
            if index < 2u * SPAN && position < params.n_step && lane.has_batch {
                let row = (lane.group * params.n_batch + lane.batch) * params.n_step + step_of(position);
                workspace[params.sums_start + row * 2u * QUADS + index % 2u * QUADS + quad] = sum;
            }
            carry[quad] = states.grad_h;
            grad_a[quad] += states.grad_rate;
        }
        for (var t = 0u; t < SPAN; t++) {
            let row = lane.batch * params.n_step + step_of(min(start + t, params.n_step - 1u));
            let exists = lane.exists && start + t < params.n_step;
            let grad_biased = (steps.grad_dt[t] / LOG2_E + steps.grad_x[t] * steps.u[t]) * steps.slope[t];
            grad_d += steps.grad_read_out[t] * steps.u[t];
            grad_bias += select(0.0, grad_biased, exists);
            if exists {
                if HAS_GRAD_U {
                    grad_u[params.grad_u_offset + row * params.grad_u_stride + lane.channel] =
                        steps.grad_read_out[t] * channel.x + steps.grad_x[t] * steps.dt[t];
                }
                if HAS_GRAD_DELTA {
                    grad_delta[params.grad_delta_offset + row * params.grad_delta_stride + lane.channel] = grad_biased;
                }
                if HAS_GRAD_Z {
                    grad_z[params.grad_z_offset + row * params.grad_z_stride + lane.channel] =
                        steps.grad_gate[t] * (steps.read_out[t] + channel.x * steps.u[t]);
                }
            }
        }
    }
    if lane.exists {
        for (var quad = 0u; quad < QUADS; quad++) {
            workspace[at_slot + quad] = grad_a[quad];
            if params.n_chunk == 1u {
                workspace[at_state + quad] = carry[quad];
            }
        }
        workspace[at_slot + QUADS] = vec4<f32>(grad_d, grad_bias, 0.0, 0.0);
    }
}

// sum_target[row, column] = sum over parts, in their order, of a section of the workspace; one invocation four columns.
// A vector is one component of each row.
@compute @workgroup_size(LANES)
fn sum_parts(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let n_quad = (params.n_column + 3u) / 4u;
    let row = index / n_quad;
    let quad = index % n_quad;
    if row >= params.n_row {
        return;
    }
    let at = params.sum_target_offset + row * params.sum_target_stride + 4u * quad;
    var sum = vec4<f32>();
    for (var part = 0u; part < params.n_part; part++) {
        sum += workspace[params.part_start + part * params.part_stride + row * params.part_row_stride + quad];
    }
    if params.is_vector != 0u {
        let before = select(0.0, sum_target[params.sum_target_offset + row], params.accumulate != 0u);
        sum_target[params.sum_target_offset + row] = before + sum[params.component];
        return;
    }
    for (var i = 0u; i < min(4u, params.n_column - 4u * quad); i++) {
        sum_target[at + i] = select(0.0, sum_target[at + i], params.accumulate != 0u) + sum[i];
    }
}
