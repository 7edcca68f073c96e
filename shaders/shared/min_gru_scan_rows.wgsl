// `rows`: a workgroup of ROW_LANES invocations, one subgroup, runs neighbouring channels of a sequence from step to step, each invocation ROW_VALUES
// Values, a cache line. Rows, and in them the lines, are read in the order of memory, or all against it, so that a processor fetches them ahead.

const ROW_LANES = 8u;
const ROW_VALUES = 4u;

// What each invocation hands itself from step to step. In private memory it would take Mesa's software drivers longer to compile.
var<workgroup> carried: array<array<Value, ROW_LANES>, ROW_VALUES>;

// One of the channels of an invocation that is `nth` in the workgroup; as many of them exist as lie before params.n_hidden.
fn row_lane(group: vec3<u32>, groups: vec3<u32>, nth: u32, i: u32) -> Lane {
    let index = group.y * groups.x + group.x;
    let n_block = (params.n_hidden + ROW_LANES * ROW_VALUES - 1u) / (ROW_LANES * ROW_VALUES);
    let channel = (index % n_block * ROW_LANES + nth) * ROW_VALUES + i;
    let batch = index / n_block;
    return Lane(batch < params.n_batch && channel < params.n_hidden, batch, 0u, channel, params.first_position, params.end_position);
}

@compute @workgroup_size(ROW_LANES)
fn forward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    for (var i = 0u; i < ROW_VALUES; i++) {
        let lane = row_lane(group, groups, local, i);
        if lane.exists {
            carried[i][local] = initial(lane.batch, lane.channel);
        }
    }
    for (var position = params.first_position; position < params.end_position; position++) {
        for (var i = 0u; i < ROW_VALUES; i++) {
            let lane = row_lane(group, groups, local, i);
            if lane.exists {
                carried[i][local] = step_forward(lane, position, carried[i][local]);
            }
        }
    }
    for (var i = 0u; i < ROW_VALUES; i++) {
        let lane = row_lane(group, groups, local, i);
        if lane.exists {
            last[last_at(lane)] = carried[i][local];
        }
    }
}

@compute @workgroup_size(ROW_LANES)
fn backward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // positions go down, and so must lines: ROW_LANES - 1 comes first
    let nth = ROW_LANES - 1u - local;
    for (var i = 0u; i < ROW_VALUES; i++) {
        let lane = row_lane(group, groups, nth, i);
        if lane.exists {
            carried[i][local] = grad_leaving(lane.batch, lane.channel);
        }
    }
    for (var position = params.end_position; position > params.first_position; position--) {
        for (var i = 0u; i < ROW_VALUES; i++) {
            let lane = row_lane(group, groups, nth, i);
            if lane.exists {
                carried[i][local] = step_backward(lane, position - 1u, carried[i][local]);
            }
        }
    }
    for (var i = 0u; i < ROW_VALUES; i++) {
        let lane = row_lane(group, groups, nth, i);
        if lane.exists {
            set_grad_h0(lane, carried[i][local]);
        }
    }
}
