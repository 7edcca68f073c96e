// States handed from chunk to chunk: one invocation a channel of a sequence, (batch, channel) in row-major order.

// Replaces a chunk's summary by what enters it, and returns what leaves it.
fn pass_chunk(at: u32, entering: f32) -> f32 {
    let summary = vec2<f32>(chunks[at]);
    chunks[at] = to_chunk(vec2(entering, 0.0));
    return summary.x * entering + summary.y;
}

@compute @workgroup_size(LANES)
fn carry_forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let batch = index / params.n_hidden;
    let channel = index % params.n_hidden;
    if batch >= params.n_batch {
        return;
    }
    var state = initial(batch, channel);
    for (var chunk = 0u; chunk < params.n_chunk; chunk++) {
        state = pass_chunk(chunk_at(batch, chunk, channel), state);
    }
}

@compute @workgroup_size(LANES)
fn carry_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let batch = index / params.n_hidden;
    let channel = index % params.n_hidden;
    if batch >= params.n_batch {
        return;
    }
    var state = grad_leaving(batch, channel);
    for (var chunk = params.n_chunk; chunk > 0u; chunk--) {
        state = pass_chunk(chunk_at(batch, chunk - 1u, channel), state);
    }
}
