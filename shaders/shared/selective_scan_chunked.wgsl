// What comes before the scan of several chunks: a summary of each, by one invocation a channel (by some: selective_scan_team.wgsl), and
// what is carried from one to the next.

// One chunk from a zero state: the state that it ends with, and the sum of its step sizes.
@compute @workgroup_size(LANES)
fn summarize_forward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let lane = lane_of(workgroup, workgroups, index);
    if !lane.exists {
        return;
    }
    let at_channel = channel_at(lane.channel);
    let bias = workspace[at_channel + QUADS].y;
    var decay_rate: array<vec4<f32>, QUADS>;
    var h: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        decay_rate[quad] = workspace[at_channel + quad];
    }
    var total = 0.0;
    var cut = 0.0;
    let start = lane.chunk * params.chunk_spans * SPAN;
    let end = min(start + params.chunk_spans * SPAN, params.n_step);
    for (var position = start; position < end; position++) {
        let step = step_of(position);
        let row = lane.batch * params.n_step + step;
        let at_row = row_at(lane.batch, step);
        let dt = step_size(delta[params.delta_offset + row * params.delta_stride + lane.channel] + bias);
        let x = dt * u[params.u_offset + row * params.u_stride + lane.channel];
        if begins(at_row) {
            cut = 1.0;
            for (var quad = 0u; quad < QUADS; quad++) {
                h[quad] = vec4<f32>();
            }
        }
        total += dt;
        for (var quad = 0u; quad < QUADS; quad++) {
            h[quad] = power_of_two(dt * decay_rate[quad]) * h[quad] + x * workspace[at_row + quad];
        }
    }
    let at_slot = slot_at(lane.batch, lane.chunk, lane.channel);
    for (var quad = 0u; quad < QUADS; quad++) {
        workspace[at_slot + quad] = h[quad];
    }
    workspace[at_slot + QUADS] = vec4<f32>(total, cut, 0.0, 0.0);
}

// One chunk backwards from a zero gradient of its last state: what reaches the state before it, and the sum of its step sizes.
@compute @workgroup_size(LANES)
fn summarize_backward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let lane = lane_of(workgroup, workgroups, index);
    if !lane.exists {
        return;
    }
    let at_channel = channel_at(lane.channel);
    let bias = workspace[at_channel + QUADS].y;
    var decay_rate: array<vec4<f32>, QUADS>;
    var grad_h: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        decay_rate[quad] = workspace[at_channel + quad];
    }
    var total = 0.0;
    var cut = 0.0;
    let start = lane.chunk * params.chunk_spans * SPAN;
    let end = min(start + params.chunk_spans * SPAN, params.n_step);
    for (var position = end; position > start; position--) {
        let step = step_of(position - 1u);
        let row = lane.batch * params.n_step + step;
        let at_row = row_at(lane.batch, step);
        let dt = step_size(delta[params.delta_offset + row * params.delta_stride + lane.channel] + bias);
        var grad_read_out = 0.0;
        if HAS_GRAD_Y {
            grad_read_out = grad_y[params.grad_y_offset + row * params.grad_y_stride + lane.channel];
        }
        if HAS_Z {
            grad_read_out *= silu(z[params.z_offset + row * params.z_stride + lane.channel]);
        }
        total += dt;
        for (var quad = 0u; quad < QUADS; quad++) {
            grad_h[quad] = power_of_two(dt * decay_rate[quad]) * (grad_h[quad] + grad_read_out * workspace[at_row + QUADS + quad]);
        }
        if begins(at_row) {
            cut = 1.0;
            for (var quad = 0u; quad < QUADS; quad++) {
                grad_h[quad] = vec4<f32>();
            }
        }
    }
    let at_slot = slot_at(lane.batch, lane.chunk, lane.channel);
    for (var quad = 0u; quad < QUADS; quad++) {
        workspace[at_slot + quad] = grad_h[quad];
    }
    workspace[at_slot + QUADS] = vec4<f32>(total, cut, 0.0, 0.0);
}

// The place of an invocation that carries four states of one channel over all chunks: (batch, channel, quad) in row-major order.
struct Carrier {
    exists: bool,
    batch: u32,
    channel: u32,
    quad: u32,
}

fn carrier_of(global: vec3<u32>, workgroups: vec3<u32>) -> Carrier {
    let index = invocation_of(global, workgroups);
    let batch = index / QUADS / params.n_channel;
    return Carrier(batch < params.n_batch, batch, index / QUADS % params.n_channel, index % QUADS);
}

// What leaves a chunk, given what enters it and its summary.
fn leave(entering: vec4<f32>, decay_rate: vec4<f32>, at_slot: u32, quad: u32) -> vec4<f32> {
    let summary = workspace[at_slot + QUADS];
    let reached = power_of_two(summary.x * decay_rate) * entering;
    return select(reached, vec4<f32>(), summary.y != 0.0) + workspace[at_slot + quad];
}

// The state before each chunk.
@compute @workgroup_size(LANES)
fn carry_forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = carrier_of(global, workgroups);
    if !lane.exists {
        return;
    }
    let decay_rate = workspace[channel_at(lane.channel) + lane.quad];
    var h = workspace[state_at(lane.batch, lane.channel) + lane.quad];
    for (var chunk = 0u; chunk < params.n_chunk; chunk++) {
        borders[saved_at(lane.batch, chunk * params.chunk_spans, lane.channel) + lane.quad] = to_border(h);
        h = leave(h, decay_rate, slot_at(lane.batch, chunk, lane.channel), lane.quad);
    }
}

// The gradient of the state after each chunk, and of the initial state.
@compute @workgroup_size(LANES)
fn carry_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = carrier_of(global, workgroups);
    if !lane.exists {
        return;
    }
    let decay_rate = workspace[channel_at(lane.channel) + lane.quad];
    let at_state = state_at(lane.batch, lane.channel) + lane.quad;
    var grad_h = workspace[at_state];
    for (var chunk = params.n_chunk; chunk > 0u; chunk--) {
        let at_slot = slot_at(lane.batch, chunk - 1u, lane.channel);
        let entering = grad_h;
        grad_h = leave(entering, decay_rate, at_slot, lane.quad);
        workspace[at_slot + lane.quad] = entering;
    }
    workspace[at_state] = grad_h;
}
