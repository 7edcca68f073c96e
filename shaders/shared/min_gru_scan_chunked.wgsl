// `chunked`: each entry takes one chunk, an invocation one channel of it. One has summed up before what the chunk does to the state that enters
// it, h -> a h + b (`summarize_forward`, `summarize_backward`), and one invocation a channel has handed states from chunk to chunk
// (`carry_forward`, `carry_backward`): `subgroup` by subgroup operations; `f16` keeps these maps and states as 16-bit floats. Nothing is
// divided by a product of decays.

@group(0) @binding(10) var<storage, read_write> chunks: array<Chunk>; // (batch, chunk, hidden): (a, b), then (entering state, 0)

fn chunk_at(batch: u32, chunk: u32, channel: u32) -> u32 {
    return (batch * params.n_chunk + chunk) * params.n_hidden + channel;
}

// a map and then a step
fn with_step(summary: vec2<f32>, inputs: Inputs) -> vec2<f32> {
    let z = sigmoids(inputs.gate);
    let entering = select(summary, vec2(0.0), inputs.begins);
    return z.negative * entering + vec2(0.0, z.positive * candidate(inputs.candidate));
}

@compute @workgroup_size(LANES)
fn summarize_forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    var summary = vec2(1.0, 0.0);
    var position = lane.first;
    for (; position + AHEAD <= lane.end; position += AHEAD) {
        var inputs: array<Inputs, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            inputs[i] = inputs_at(lane, position + i);
        }
        for (var i = 0u; i < AHEAD; i++) {
            summary = with_step(summary, inputs[i]);
        }
    }
    for (; position < lane.end; position++) {
        summary = with_step(summary, inputs_at(lane, position));
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
        last_state[last_at(lane)] = state;
    }
}

// What a step backward reads that the summary needs.
struct GradientStep {
    gate: Value,
    grad_h: Value,
    begins: bool, // behind the position before
}

fn gradient_step_at(lane: Lane, position: u32) -> GradientStep {
    let row = row_of(lane, position);
    return GradientStep(p[p_at(lane, row)], grad_h_of(lane, row), begins(lane.batch, position));
}

// a map and then a step backward
fn with_gradient_step(summary: vec2<f32>, step: GradientStep) -> vec2<f32> {
    return select(sigmoid(-step.gate) * (summary + vec2(0.0, step.grad_h)), vec2(0.0), step.begins);
}

@compute @workgroup_size(LANES)
fn summarize_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    var summary = vec2(1.0, 0.0);
    var end = lane.end;
    for (; end >= lane.first + AHEAD; end -= AHEAD) {
        var steps: array<GradientStep, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            steps[i] = gradient_step_at(lane, end - 1u - i);
        }
        for (var i = 0u; i < AHEAD; i++) {
            summary = with_gradient_step(summary, steps[i]);
        }
    }
    for (; end > lane.first; end--) {
        summary = with_gradient_step(summary, gradient_step_at(lane, end - 1u));
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
        set_grad_initial_state(lane, carry);
    }
}
