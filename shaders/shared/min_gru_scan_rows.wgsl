// `rows`: a workgroup of ROW_LANES invocations, one subgroup, runs neighbouring channels of a sequence from step to step, each invocation
// ROW_VALUES Values, 1, 2 or 4: as many as make a cache line. Rows, and in them the lines, are read in the order of memory, or all against it,
// so that a processor fetches them ahead. Written out: Mesa's software drivers count the iterations of all loops together.

const ROW_LANES = 8u;

// what an invocation carries from step to step
struct Row {
    values: array<Value, 4>,
}

// The first channel of an invocation that is `nth` in the workgroup. params.n_hidden is a multiple of ROW_VALUES.
fn row_lane(group: vec3<u32>, groups: vec3<u32>, nth: u32) -> Lane {
    let index = group.y * groups.x + group.x;
    let n_block = (params.n_hidden + ROW_LANES * ROW_VALUES - 1u) / (ROW_LANES * ROW_VALUES);
    let channel = (index % n_block * ROW_LANES + nth) * ROW_VALUES;
    let batch = index / n_block;
    return Lane(batch < params.n_batch && channel < params.n_hidden, batch, 0u, channel, params.first_position, params.end_position);
}

// one of an invocation's channels
fn row_channel(lane: Lane, i: u32) -> Lane {
    return Lane(lane.exists, lane.batch, lane.chunk, lane.channel + i, lane.first, lane.end);
}

fn row_step_forward(lane: Lane, i: u32, position: u32, before: Value) -> Value {
    let of_value = row_channel(lane, i);
    return step_forward(of_value, position, inputs_at(of_value, position), before);
}

fn row_step_backward(lane: Lane, i: u32, position: u32, carry: Value) -> Value {
    let of_value = row_channel(lane, i);
    return step_backward(of_value, position, known_at(of_value, position), carry);
}

@compute @workgroup_size(ROW_LANES)
fn forward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = row_lane(group, groups, local);
    if !lane.exists {
        return;
    }
    var state: Row;
    for (var i = 0u; i < ROW_VALUES; i++) {
        state.values[i] = initial(lane.batch, lane.channel + i);
    }
    for (var position = lane.first; position < lane.end; position++) {
        state.values[0] = row_step_forward(lane, 0u, position, state.values[0]);
        if ROW_VALUES > 1u {
            state.values[1] = row_step_forward(lane, 1u, position, state.values[1]);
        }
        if ROW_VALUES > 2u {
            state.values[2] = row_step_forward(lane, 2u, position, state.values[2]);
            state.values[3] = row_step_forward(lane, 3u, position, state.values[3]);
        }
    }
    for (var i = 0u; i < ROW_VALUES; i++) {
        last_state[last_at(lane) + i] = state.values[i];
    }
}

@compute @workgroup_size(ROW_LANES)
fn backward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // positions go down, and so must lines
    let lane = row_lane(group, groups, ROW_LANES - 1u - local);
    if !lane.exists {
        return;
    }
    var carry: Row;
    for (var i = 0u; i < ROW_VALUES; i++) {
        carry.values[i] = grad_leaving(lane.batch, lane.channel + i);
    }
    for (var left = lane.end; left > lane.first; left--) {
        let position = left - 1u;
        carry.values[0] = row_step_backward(lane, 0u, position, carry.values[0]);
        if ROW_VALUES > 1u {
            carry.values[1] = row_step_backward(lane, 1u, position, carry.values[1]);
        }
        if ROW_VALUES > 2u {
            carry.values[2] = row_step_backward(lane, 2u, position, carry.values[2]);
            carry.values[3] = row_step_backward(lane, 3u, position, carry.values[3]);
        }
    }
    for (var i = 0u; i < ROW_VALUES; i++) {
        set_grad_initial_state(row_channel(lane, i), carry.values[i]);
    }
}
