// `walked`, for software GPUs: a workgroup of PARTIAL invocations takes one span after the other of one batch, holds its B and C, and walks
// over n_block blocks of PARTIAL channels, so that B and C are loaded once for all of them and their gradients gather in the invocation.

// What an invocation that walks holds of its span: B, C and their gradients over the channels so far, and where rows begin; of the channel
// in work what its steps read and sum up; of four states of it what steps backward ask for. Indices are constant once calls and loops over
// quads are unrolled, which keeps all of it out of memory; four states at a time leave registers to what changes at every step.
var<private> walked_b: array<array<vec4<f32>, QUADS>, SPAN>;
var<private> walked_c: array<array<vec4<f32>, QUADS>, SPAN>;
var<private> walked_grad_b: array<array<vec4<f32>, QUADS>, SPAN>;
var<private> walked_grad_c: array<array<vec4<f32>, QUADS>, SPAN>;
var<private> walked_at: array<Places, SPAN>;
var<private> walked_steps: array<WalkedStep, SPAN>;
var<private> walked_rate: vec4<f32>;
var<private> walked_h: vec4<f32>;
var<private> walked_decay: array<vec4<f32>, SPAN>;
var<private> walked_decayed: array<vec4<f32>, SPAN>;
var<private> walked_grad_h: vec4<f32>;
var<private> walked_grad_rate: vec4<f32>;

// Where the row of a step begins in each tensor.
struct Places {
    exists: bool,
    row: u32, // in the workspace
    u: u32,
    delta: u32,
    z: u32,
    y: u32,
    grad_y: u32,
    grad_u: u32,
    grad_delta: u32,
    grad_z: u32,
}

// A step of one channel. One past the end, like a channel past the last, changes nothing: size and gradient are 0.
struct WalkedStep {
    begins: bool,
    dt: f32,
    slope: f32, // of dt by delta
    u: f32,
    read_out: f32,
    grad_read_out: f32,
    grad_gate: f32,
    grad_x: f32,
    grad_dt: f32,
}

fn places_of(batch: u32, position: u32) -> Places {
    let row = batch * params.n_step + step_of(min(position, params.n_step - 1u));
    return Places(
        position < params.n_step,
        params.rows_start + row * params.row_quads,
        params.u_offset + row * params.u_stride,
        params.delta_offset + row * params.delta_stride,
        params.z_offset + row * params.z_stride,
        params.y_offset + row * params.y_stride,
        params.grad_y_offset + row * params.grad_y_stride,
        params.grad_u_offset + row * params.grad_u_stride,
        params.grad_delta_offset + row * params.grad_delta_stride,
        params.grad_z_offset + row * params.grad_z_stride,
    );
}

fn hold_row(batch: u32, start: u32, t: u32) {
    walked_at[t] = places_of(batch, start + t);
    let at_row = walked_at[t].row;
    for (var quad = 0u; quad < QUADS; quad++) {
        walked_b[t][quad] = workspace[at_row + quad];
        walked_c[t][quad] = workspace[at_row + QUADS + quad];
        walked_grad_b[t][quad] = vec4<f32>();
        walked_grad_c[t][quad] = vec4<f32>();
    }
}

fn hold_span(batch: u32, start: u32) {
    hold_row(batch, start, 0u);
    hold_row(batch, start, 1u);
    hold_row(batch, start, 2u);
    hold_row(batch, start, 3u);
    hold_row(batch, start, 4u);
    hold_row(batch, start, 5u);
    hold_row(batch, start, 6u);
    hold_row(batch, start, 7u);
}

// what a step forward reads; `near` is the channel, or the last where it is past that
fn enter_step(t: u32, near: u32, exists: bool, bias: f32) {
    let at = walked_at[t];
    let biased = delta[at.delta + near] + bias;
    walked_steps[t].begins = begins(at.row) && at.exists;
    walked_steps[t].dt = select(0.0, step_size(biased), exists && at.exists);
    walked_steps[t].slope = select(1.0, sigmoid(biased), DELTA_SOFTPLUS);
    walked_steps[t].u = u[at.u + near];
    walked_steps[t].read_out = 0.0;
}

// what a step backward reads beside
fn enter_step_backward(t: u32, near: u32, exists: bool) {
    let at = walked_at[t];
    var grad = 0.0;
    if HAS_GRAD_Y {
        grad = select(0.0, grad_y[at.grad_y + near], exists && at.exists);
    }
    walked_steps[t].grad_read_out = grad;
    walked_steps[t].grad_gate = 0.0;
    if HAS_Z {
        let z_t = z[at.z + near];
        walked_steps[t].grad_read_out = grad * silu(z_t);
        walked_steps[t].grad_gate = grad * silu_derivative(z_t);
    }
    walked_steps[t].grad_x = 0.0;
    walked_steps[t].grad_dt = 0.0;
}

// one step of walked_h; keeps what the step backward asks for
fn step_forward(t: u32, quad: u32) {
    let step = walked_steps[t];
    let decay = select(power_of_two(step.dt * walked_rate), vec4<f32>(), step.begins);
    walked_decay[t] = decay;
    walked_decayed[t] = select(decay * walked_h, vec4<f32>(), step.begins); // a reset clears NaN too, which 0 * NaN would not
    walked_h = walked_decayed[t] + step.dt * step.u * walked_b[t][quad];
}

fn step_output(t: u32, quad: u32) {
    step_forward(t, quad);
    walked_steps[t].read_out += dot(walked_h, walked_c[t][quad]);
}

fn step_backward(t: u32, quad: u32) {
    let step = walked_steps[t];
    let decayed = walked_decayed[t];
    let h = decayed + step.dt * step.u * walked_b[t][quad];
    let grad_h = walked_grad_h + step.grad_read_out * walked_c[t][quad];
    walked_grad_b[t][quad] += step.dt * step.u * grad_h;
    walked_grad_c[t][quad] += step.grad_read_out * h;
    walked_steps[t].read_out += dot(h, walked_c[t][quad]);
    walked_steps[t].grad_x += dot(grad_h, walked_b[t][quad]);
    let through_decay = grad_h * decayed;
    walked_steps[t].grad_dt += dot(through_decay, walked_rate);
    walked_grad_rate += through_decay * step.dt;
    walked_grad_h = grad_h * walked_decay[t];
}

fn leave_step(t: u32, channel: u32, exists: bool, skip: f32) {
    let at = walked_at[t];
    let step = walked_steps[t];
    if exists && at.exists {
        var y_t = step.read_out + skip * step.u;
        if HAS_Z {
            y_t *= silu(z[at.z + channel]);
        }
        y[at.y + channel] = y_t;
    }
}

// returns what it adds to the gradients of D and of the bias
fn leave_step_backward(t: u32, channel: u32, exists: bool, skip: f32) -> vec2<f32> {
    let at = walked_at[t];
    let step = walked_steps[t];
    let grad_biased = (step.grad_dt / LOG2_E + step.grad_x * step.u) * step.slope;
    if !exists || !at.exists {
        return vec2<f32>();
    }
    if HAS_GRAD_U {
        grad_u[at.grad_u + channel] = step.grad_read_out * skip + step.grad_x * step.dt;
    }
    if HAS_GRAD_DELTA {
        grad_delta[at.grad_delta + channel] = grad_biased;
    }
    if HAS_GRAD_Z {
        grad_z[at.grad_z + channel] = step.grad_gate * (step.read_out + skip * step.u);
    }
    return vec2(step.grad_read_out * step.u, grad_biased);
}

// where a part's row of gradients of B and C lies
fn grad_row_at(part: u32, batch: u32, position: u32) -> u32 {
    return params.sums_start + ((part * params.n_batch + batch) * params.n_step + step_of(position)) * 2u * QUADS;
}

// the rows moved down, the next one first
fn next_first(rows: array<array<vec4<f32>, QUADS>, SPAN>) -> array<array<vec4<f32>, QUADS>, SPAN> {
    return array(rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7], rows[0]);
}

// A channel of a block that an invocation walks over, in one span, and where what it carries lies.
struct Walk {
    exists: bool,
    batch: u32,
    span: u32,
    near: u32, // the channel, or the last where it is past that
    at_channel: u32,
    at_state: u32,
    at_border: u32,
    at_slot: u32,
}

fn walk_of(batch: u32, span: u32, channel: u32) -> Walk {
    let near = min(channel, params.n_channel - 1u);
    return Walk(
        channel < params.n_channel,
        batch,
        span,
        near,
        channel_at(near),
        state_at(batch, near),
        border_at(batch, span, near),
        slot_at(batch, 0u, near),
    );
}

// the span of four states
fn walk_quad(walk: Walk, quad: u32) {
    let at_state = walk.at_state + quad;
    walked_rate = workspace[walk.at_channel + quad];
    walked_h = select(workspace[at_state], vec4<f32>(), walk.span == 0u && params.from_zero != 0u);
    if walk.exists {
        borders[params.borders_offset / BORDER_FLOATS + walk.at_border + quad] = to_border(walked_h);
    }
    step_output(0u, quad);
    step_output(1u, quad);
    step_output(2u, quad);
    step_output(3u, quad);
    step_output(4u, quad);
    step_output(5u, quad);
    step_output(6u, quad);
    step_output(7u, quad);
    if walk.exists {
        workspace[at_state] = walked_h;
        if walk.span + 1u == params.n_span {
            let at = params.last_state_offset + (walk.batch * params.n_channel + walk.near) * N_STATE;
            for (var i = 0u; i < min(4u, N_STATE - 4u * quad); i++) {
                last_state[at + 4u * quad + i] = walked_h[i];
            }
        }
    }
}

fn walk_quad_backward(walk: Walk, quad: u32) {
    let at_state = walk.at_state + quad;
    let at_slot = walk.at_slot + quad;
    let is_first = walk.span + 1u == params.n_span;
    walked_rate = workspace[walk.at_channel + quad];
    walked_h = saved_state(walk.at_border + quad);
    walked_grad_h = select(workspace[at_state], vec4<f32>(), is_first && params.from_zero != 0u);
    walked_grad_rate = select(workspace[at_slot], vec4<f32>(), is_first);
    step_forward(0u, quad);
    step_forward(1u, quad);
    step_forward(2u, quad);
    step_forward(3u, quad);
    step_forward(4u, quad);
    step_forward(5u, quad);
    step_forward(6u, quad);
    step_forward(7u, quad);
    step_backward(7u, quad);
    step_backward(6u, quad);
    step_backward(5u, quad);
    step_backward(4u, quad);
    step_backward(3u, quad);
    step_backward(2u, quad);
    step_backward(1u, quad);
    step_backward(0u, quad);
    if walk.exists {
        workspace[at_state] = walked_grad_h;
        workspace[at_slot] = walked_grad_rate;
    }
}

// The outputs of the spans from first_span to end_span, and the states at their borders.
@compute @workgroup_size(PARTIAL)
fn walk_forward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let flat = workgroup.y * workgroups.x + workgroup.x;
    let group = flat % params.n_group;
    let batch = flat / params.n_group;
    if batch >= params.n_batch {
        return;
    }
    for (var span = params.first_span; span < params.end_span; span++) {
        hold_span(batch, span * SPAN);
        for (var block = 0u; block < params.n_block; block++) {
            let walk = walk_of(batch, span, (group * params.n_block + block) * PARTIAL + index);
            let skip_and_bias = workspace[walk.at_channel + QUADS];
            enter_step(0u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(1u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(2u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(3u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(4u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(5u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(6u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(7u, walk.near, walk.exists, skip_and_bias.y);
            walk_quad(walk, 0u);
            if QUADS > 1u {
                walk_quad(walk, 1u % QUADS);
            }
            if QUADS > 2u {
                walk_quad(walk, 2u % QUADS);
            }
            if QUADS > 3u {
                walk_quad(walk, 3u % QUADS);
            }
            leave_step(0u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(1u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(2u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(3u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(4u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(5u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(6u, walk.near, walk.exists, skip_and_bias.x);
            leave_step(7u, walk.near, walk.exists, skip_and_bias.x);
        }
    }
}

// The gradients of the spans from end_span down to first_span, of n_block blocks of channels.
@compute @workgroup_size(PARTIAL)
fn walk_backward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let flat = workgroup.y * workgroups.x + workgroup.x;
    let group = flat % params.n_group;
    let batch = flat / params.n_group;
    if batch >= params.n_batch {
        return;
    }
    for (var span = params.end_span; span > params.first_span; span--) {
        hold_span(batch, (span - 1u) * SPAN);
        for (var block = 0u; block < params.n_block; block++) {
            let walk = walk_of(batch, span - 1u, (group * params.n_block + block) * PARTIAL + index);
            let skip_and_bias = workspace[walk.at_channel + QUADS];
            var grad_skip = select(workspace[walk.at_slot + QUADS], vec4<f32>(), span == params.n_span).xy;
            enter_step(0u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(1u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(2u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(3u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(4u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(5u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(6u, walk.near, walk.exists, skip_and_bias.y);
            enter_step(7u, walk.near, walk.exists, skip_and_bias.y);
            enter_step_backward(0u, walk.near, walk.exists);
            enter_step_backward(1u, walk.near, walk.exists);
            enter_step_backward(2u, walk.near, walk.exists);
            enter_step_backward(3u, walk.near, walk.exists);
            enter_step_backward(4u, walk.near, walk.exists);
            enter_step_backward(5u, walk.near, walk.exists);
            enter_step_backward(6u, walk.near, walk.exists);
            enter_step_backward(7u, walk.near, walk.exists);
            walk_quad_backward(walk, 0u);
            if QUADS > 1u {
                walk_quad_backward(walk, 1u % QUADS);
            }
            if QUADS > 2u {
                walk_quad_backward(walk, 2u % QUADS);
            }
            if QUADS > 3u {
                walk_quad_backward(walk, 3u % QUADS);
            }
            grad_skip += leave_step_backward(0u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(1u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(2u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(3u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(4u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(5u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(6u, walk.near, walk.exists, skip_and_bias.x);
            grad_skip += leave_step_backward(7u, walk.near, walk.exists, skip_and_bias.x);
            if walk.exists {
                workspace[walk.at_slot + QUADS] = vec4(grad_skip, 0.0, 0.0);
            }
        }
        // they move down: written out, the stores would take longer to compile than all else
        for (var position = (span - 1u) * SPAN; position < span * SPAN; position++) {
            leave_row(group, index, batch, position);
            walked_grad_b = next_first(walked_grad_b);
            walked_grad_c = next_first(walked_grad_c);
        }
    }
}
