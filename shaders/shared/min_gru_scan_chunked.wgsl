// `chunked`: each entry takes one chunk, an invocation one channel of it. One has summed up before what the chunk does to the state that enters
// it, h -> a h + b (`summarize_forward`, `summarize_backward`), and one invocation a channel has handed states from chunk to chunk
// (`carry_forward`, `carry_backward`): `subgroup` by subgroup operations; `f16` keeps these maps and states as 16-bit floats. Nothing is
// divided by a product of decays.

@group(0) @binding(10) var<storage, read_write> chunks: array<Chunk>; // (batch, chunk, hidden): (a, b), then (entering state, 0)

fn chunk_at(batch: u32, chunk: u32, channel: u32) -> u32 {
    return (batch * params.n_chunk + chunk) * params.n_hidden + channel;
}

@compute @workgroup_size(LANES)
fn summarize_forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    var summary = vec2(1.0, 0.0);
    for (var first = lane.first; first < lane.end; first += AHEAD) {
        var inputs: array<Inputs, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            inputs[i] = inputs_at(lane, min(first + i, lane.end - 1u));
        }
        for (var i = 0u; i < AHEAD; i++) {
            if first + i < lane.end {
                let z = sigmoids(inputs[i].gate);
                let entering = select(summary, vec2(0.0), inputs[i].is_border);
                summary = z.negative * entering + vec2(0.0, z.positive * candidate(inputs[i].candidate));
            }
        }
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

@compute @workgroup_size(LANES)
fn summarize_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane = lane_of(global, workgroups);
    if !lane.exists {
        return;
    }
    var summary = vec2(1.0, 0.0);
    let n_step = lane.end - lane.first;
    for (var done = 0u; done < n_step; done += AHEAD) {
        var gates: array<Value, AHEAD>;
        var grads: array<Value, AHEAD>;
        for (var i = 0u; i < AHEAD; i++) {
            let row = row_of(lane, lane.end - 1u - min(done + i, n_step - 1u));
            gates[i] = p[p_at(lane, row)];
            grads[i] = grad_h_of(lane, row);
        }
        for (var i = 0u; i < AHEAD; i++) {
            if done + i < n_step {
                let leaving = sigmoid(-gates[i]) * (summary + vec2(0.0, grads[i]));
                summary = select(leaving, vec2(0.0), is_border(lane.batch, lane.end - 1u - done - i));
            }
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
        set_grad_initial_state(lane, carry);
    }
}
