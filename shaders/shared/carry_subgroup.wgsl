// States handed from chunk to chunk: one subgroup a channel of a sequence, (batch, channel) in row-major order, a lane a chunk. The maps of
// the chunks are composed by an inclusive scan, as many at a time as the subgroup has lanes.

// Carries one channel over all chunks, in the order of the visits or against it.
fn carry(batch: u32, channel: u32, lane: u32, width: u32, entering_first: f32, is_backward: bool) {
    var state = entering_first;
    for (var start = 0u; start < params.n_chunk; start += width) {
        let visited = start + lane;
        let exists = visited < params.n_chunk;
        let near = min(visited, params.n_chunk - 1u);
        let at = chunk_at(batch, select(near, params.n_chunk - 1u - near, is_backward), channel);
        var scanned = select(vec2(1.0, 0.0), vec2<f32>(chunks[at]), exists);
        for (var distance = 1u; distance < width; distance *= 2u) {
            let before = subgroupShuffleUp(scanned, distance);
            let composed = vec2(scanned.x * before.x, scanned.x * before.y + scanned.y);
            scanned = select(scanned, composed, lane >= distance);
        }
        let before = subgroupShuffleUp(scanned, 1u);
        if exists {
            chunks[at] = to_chunk(vec2(select(before.x * state + before.y, state, lane == 0u), 0.0));
        }
        let whole = subgroupShuffle(scanned, width - 1u);
        state = whole.x * state + whole.y;
    }
}

@compute @workgroup_size(LANES)
fn carry_forward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) size: u32,
) {
    let first = (workgroup.y * workgroups.x + workgroup.x) * CARRIED;
    for (var carried = first + subgroup; carried < min(first + CARRIED, params.n_batch * params.n_hidden); carried += n_subgroup) {
        let batch = carried / params.n_hidden;
        let channel = carried % params.n_hidden;
        carry(batch, channel, lane, min(size, LANES), initial(batch, channel), false);
    }
}

@compute @workgroup_size(LANES)
fn carry_backward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) n_subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) size: u32,
) {
    let first = (workgroup.y * workgroups.x + workgroup.x) * CARRIED;
    for (var carried = first + subgroup; carried < min(first + CARRIED, params.n_batch * params.n_hidden); carried += n_subgroup) {
        let batch = carried / params.n_hidden;
        let channel = carried % params.n_hidden;
        carry(batch, channel, lane, min(size, LANES), grad_leaving(batch, channel), true);
    }
}
