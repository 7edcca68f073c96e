// `chunked`, and on real GPUs `subgroup` and `f16`: MEMBERS invocations share a channel, HELD quads of its states each; a workgroup has
// LANES neighbouring channels of one batch and one chunk. AHEAD steps are taken together. What they read is to be loaded while the steps
// before are computed: no load may pass a store before it, and few invocations have all a GPU's memory to wait for. Step sizes and gates are
// computed once, a channel and step an invocation; B and C, the same for all channels, lie in workgroup memory.

const HELD = (QUADS + 3u) / 4u;
const MEMBERS = (QUADS + HELD - 1u) / HELD;
const TEAM = LANES * MEMBERS;
// channels and steps that an invocation prepares
const ITEMS = (AHEAD + MEMBERS - 1u) / MEMBERS;
// vectors of B and C, padded to those that are held, that an invocation loads
const ROW_LEN = 2u * HELD * MEMBERS;
const LOADS = (AHEAD * ROW_LEN + TEAM - 1u) / TEAM;

// What a workgroup needs of AHEAD steps.
var<workgroup> sizes: array<array<vec2<f32>, LANES>, AHEAD>; // of a channel's step: its size, and that times u, or dL/d(read-out)
var<workgroup> held_rows: array<array<vec4<f32>, ROW_LEN>, AHEAD>; // B, then C
var<workgroup> cuts: array<u32, AHEAD>;
var<workgroup> read_outs: array<array<f32, MEMBERS * (LANES + 8u)>, AHEAD>; // sums over the states of an invocation, by sum_at

// What a workgroup runs: the same for all its invocations.
struct Chunk {
    exists: bool,
    batch: u32, // of those that there are
    number: u32,
    group: u32, // of channels
    first: u32, // position
    end: u32,
}

fn chunk_of(workgroup: vec3<u32>, workgroups: vec3<u32>) -> Chunk {
    let lane = lane_of(workgroup, workgroups, 0u);
    let first = lane.chunk * params.chunk_spans * SPAN;
    let end = min(first + params.chunk_spans * SPAN, params.n_step);
    return Chunk(lane.has_batch, lane.batch, lane.chunk, lane.group, first, end);
}

// An invocation's place in it.
struct Member {
    index: u32,
    channel: u32, // of whose states it holds some
    is_held: bool, // whether there are such a channel and batch
    part: u32,
    first_quad: u32,
    at_item: u32, // of the workgroup's channels the one of which it prepares steps
    item_channel: u32,
    is_prepared: bool,
    item_step: u32, // the first of these steps; the next are MEMBERS further
}

fn member_of(chunk: Chunk, index: u32) -> Member {
    let channel = chunk.group * LANES + index / MEMBERS;
    let item_channel = chunk.group * LANES + index % LANES;
    return Member(
        index,
        min(channel, params.n_channel - 1u),
        chunk.exists && channel < params.n_channel,
        index % MEMBERS,
        index % MEMBERS * HELD,
        index % LANES,
        min(item_channel, params.n_channel - 1u),
        chunk.exists && item_channel < params.n_channel,
        index / LANES,
    );
}

// A row of the batch, of a position; behind the chunk's end its last.
fn row_of(chunk: Chunk, position: u32) -> u32 {
    return chunk.batch * params.n_step + step_of(min(position, chunk.end - 1u));
}

// What an invocation loads of AHEAD steps.
struct Fetched {
    delta: array<f32, ITEMS>,
    factor: array<f32, ITEMS>, // forward u, backward the output's gradient
    z: array<f32, ITEMS>,
    rows: array<vec4<f32>, LOADS>,
    cut: u32,
}

// All but the factors.
fn fetch_common(chunk: Chunk, member: Member, first: u32) -> Fetched {
    var fetched: Fetched;
    for (var i = 0u; i < ITEMS; i++) {
        let row = row_of(chunk, first + member.item_step + i * MEMBERS);
        fetched.delta[i] = delta[params.delta_offset + row * params.delta_stride + member.item_channel];
        if HAS_Z {
            fetched.z[i] = z[params.z_offset + row * params.z_stride + member.item_channel];
        }
    }
    for (var i = 0u; i < LOADS; i++) {
        let at = i * TEAM + member.index;
        let row = row_of(chunk, first + at / ROW_LEN);
        let quad = min(at % (ROW_LEN / 2u), QUADS - 1u) + at % ROW_LEN / (ROW_LEN / 2u) * QUADS;
        fetched.rows[i] = workspace[params.rows_start + row * params.row_quads + quad];
    }
    if HAS_RESET {
        fetched.cut = u32(begins(params.rows_start + row_of(chunk, first + member.index % AHEAD) * params.row_quads));
    }
    return fetched;
}

fn fetch_forward(chunk: Chunk, member: Member, first: u32) -> Fetched {
    var fetched = fetch_common(chunk, member, first);
    for (var i = 0u; i < ITEMS; i++) {
        let row = row_of(chunk, first + member.item_step + i * MEMBERS);
        fetched.factor[i] = u[params.u_offset + row * params.u_stride + member.item_channel];
    }
    return fetched;
}

fn fetch_backward(chunk: Chunk, member: Member, first: u32) -> Fetched {
    var fetched = fetch_common(chunk, member, first);
    for (var i = 0u; i < ITEMS && HAS_GRAD_Y; i++) {
        let row = row_of(chunk, first + member.item_step + i * MEMBERS);
        fetched.factor[i] = grad_y[params.grad_y_offset + row * params.grad_y_stride + member.item_channel];
    }
    return fetched;
}

// Hands B, C and cuts of what has been fetched to the workgroup, as prepare_forward and prepare_backward do the rest. The caller passes a
// barrier before and behind.
fn prepare_rows(member: Member, fetched: Fetched) {
    for (var i = 0u; i < LOADS; i++) {
        let at = i * TEAM + member.index;
        if at < AHEAD * ROW_LEN {
            held_rows[at / ROW_LEN][at % ROW_LEN] = select(vec4<f32>(), fetched.rows[i], at % (ROW_LEN / 2u) < QUADS);
        }
    }
    if HAS_RESET && member.index < AHEAD {
        cuts[member.index] = fetched.cut;
    }
}

// What an invocation keeps of the steps that it prepares, for their outputs.
struct Outputs {
    skip: array<f32, ITEMS>, // D u
    gate: array<f32, ITEMS>,
}

fn prepare_forward(member: Member, fetched: Fetched, scalars: vec4<f32>) -> Outputs {
    var outputs: Outputs;
    for (var i = 0u; i < ITEMS; i++) {
        let step = member.item_step + i * MEMBERS;
        let size = step_size(fetched.delta[i] + scalars.y);
        if step < AHEAD {
            sizes[step][member.at_item] = vec2(size, size * fetched.factor[i]);
        }
        outputs.skip[i] = scalars.x * fetched.factor[i];
        outputs.gate[i] = 1.0;
        if HAS_Z {
            outputs.gate[i] = silu(fetched.z[i]);
        }
    }
    prepare_rows(member, fetched);
    return outputs;
}

fn prepare_backward(member: Member, fetched: Fetched, scalars: vec4<f32>) {
    for (var i = 0u; i < ITEMS; i++) {
        let step = member.item_step + i * MEMBERS;
        var grad_read_out = fetched.factor[i];
        if HAS_Z {
            grad_read_out *= silu(fetched.z[i]);
        }
        if step < AHEAD {
            sizes[step][member.at_item] = vec2(step_size(fetched.delta[i] + scalars.y), grad_read_out);
        }
    }
    prepare_rows(member, fetched);
}

// Whether the states are cut before one of AHEAD steps.
fn begins_at(t: u32) -> bool {
    return HAS_RESET && cuts[t] != 0u;
}

fn decay_rates_of(member: Member) -> array<vec4<f32>, HELD> {
    var rates: array<vec4<f32>, HELD>;
    for (var i = 0u; i < HELD; i++) {
        rates[i] = workspace[channel_at(member.channel) + min(member.first_quad + i, QUADS - 1u)];
    }
    return rates;
}

// D and the bias of the channel of which it prepares steps.
fn scalars_of(member: Member) -> vec4<f32> {
    return workspace[channel_at(member.item_channel) + QUADS];
}

// The place of a sum over the states of an invocation; the parts lie in different banks.
fn sum_at(part: u32, channel: u32) -> u32 {
    return part * (LANES + 8u) + channel;
}

// The outputs of one chunk, and the states at its borders.
@compute @workgroup_size(TEAM)
fn forward_team(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let chunk = chunk_of(workgroup, workgroups);
    let member = member_of(chunk, index);
    let scalars = scalars_of(member);
    let decay_rate = decay_rates_of(member);
    let at_state = state_at(chunk.batch, member.channel);
    let at_first_border = saved_at(chunk.batch, chunk.first / SPAN, member.channel);
    var h: array<vec4<f32>, HELD>;
    for (var i = 0u; i < HELD; i++) {
        let quad = min(member.first_quad + i, QUADS - 1u);
        if params.n_chunk == 1u {
            h[i] = workspace[at_state + quad];
        } else {
            h[i] = vec4<f32>(borders[at_first_border + quad]);
        }
    }
    var fetched = fetch_forward(chunk, member, chunk.first);
    for (var first = chunk.first; first < chunk.end; first += AHEAD) {
        let count = min(AHEAD, chunk.end - first);
        let outputs = prepare_forward(member, fetched, scalars);
        workgroupBarrier();
        fetched = fetch_forward(chunk, member, first + AHEAD);
        if SAVES_BORDERS && first % SPAN == 0u && member.is_held {
            let at_border = saved_at(chunk.batch, first / SPAN, member.channel) + member.first_quad;
            for (var i = 0u; i < HELD && member.first_quad + i < QUADS; i++) {
                borders[at_border + i] = to_border(h[i]);
            }
        }
        for (var t = 0u; t < count; t++) {
            if begins_at(t) {
                h = array<vec4<f32>, HELD>();
            }
            let size = sizes[t][index / MEMBERS];
            var read_out = vec4<f32>();
            for (var i = 0u; i < HELD; i++) {
                let b = held_rows[t][member.first_quad + i];
                let c = held_rows[t][ROW_LEN / 2u + member.first_quad + i];
                h[i] = power_of_two(size.x * decay_rate[i]) * h[i] + size.y * b;
                read_out += h[i] * c;
            }
            read_outs[t][sum_at(member.part, index / MEMBERS)] = read_out.x + read_out.y + read_out.z + read_out.w;
        }
        workgroupBarrier();
        for (var i = 0u; i < ITEMS; i++) {
            let t = member.item_step + i * MEMBERS;
            if t < count && member.is_prepared {
                var y_t = outputs.skip[i];
                for (var part = 0u; part < MEMBERS; part++) {
                    y_t += read_outs[t][sum_at(part, member.at_item)];
                }
                y[params.y_offset + row_of(chunk, first + t) * params.y_stride + member.item_channel] = y_t * outputs.gate[i];
            }
        }
    }
    if chunk.number + 1u == params.n_chunk && member.is_held {
        for (var i = 0u; i < HELD && member.first_quad + i < QUADS; i++) {
            let quad = member.first_quad + i;
            workspace[at_state + quad] = h[i];
            for (var n = 0u; n < min(4u, N_STATE - 4u * quad); n++) {
                let row = chunk.batch * params.n_channel + member.channel;
                last_state[params.last_state_offset + row * N_STATE + 4u * quad + n] = h[i][n];
            }
        }
    }
}

// Writes what a chunk does to four states after the other, with the sum of its step sizes and whether they are cut in it.
fn put_summary(chunk: Chunk, member: Member, states: array<vec4<f32>, HELD>, total: f32, cut: f32) {
    if !member.is_held {
        return;
    }
    let at_slot = slot_at(chunk.batch, chunk.number, member.channel);
    for (var i = 0u; i < HELD && member.first_quad + i < QUADS; i++) {
        workspace[at_slot + member.first_quad + i] = states[i];
    }
    if member.part == 0u {
        workspace[at_slot + QUADS] = vec4<f32>(total, cut, 0.0, 0.0);
    }
}

// One chunk from a zero state: the state that it ends with, and the sum of its step sizes.
@compute @workgroup_size(TEAM)
fn summarize_forward_team(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let chunk = chunk_of(workgroup, workgroups);
    let member = member_of(chunk, index);
    let scalars = scalars_of(member);
    let decay_rate = decay_rates_of(member);
    var h: array<vec4<f32>, HELD>;
    var total = 0.0;
    var cut = 0.0;
    var fetched = fetch_forward(chunk, member, chunk.first);
    for (var first = chunk.first; first < chunk.end; first += AHEAD) {
        prepare_forward(member, fetched, scalars);
        workgroupBarrier();
        fetched = fetch_forward(chunk, member, first + AHEAD);
        for (var t = 0u; t < min(AHEAD, chunk.end - first); t++) {
            if begins_at(t) {
                cut = 1.0;
                h = array<vec4<f32>, HELD>();
            }
            let size = sizes[t][index / MEMBERS];
            total += size.x;
            for (var i = 0u; i < HELD; i++) {
                h[i] = power_of_two(size.x * decay_rate[i]) * h[i] + size.y * held_rows[t][member.first_quad + i];
            }
        }
        workgroupBarrier();
    }
    put_summary(chunk, member, h, total, cut);
}

// One chunk backwards from a zero gradient of its last state: what reaches the state before it, and the sum of its step sizes.
@compute @workgroup_size(TEAM)
fn summarize_backward_team(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let chunk = chunk_of(workgroup, workgroups);
    let member = member_of(chunk, index);
    let scalars = scalars_of(member);
    let decay_rate = decay_rates_of(member);
    var grad_h: array<vec4<f32>, HELD>;
    var total = 0.0;
    var cut = 0.0;
    // from the last AHEAD steps, or what is left of them, to the first
    let last = chunk.first + (chunk.end - 1u - chunk.first) / AHEAD * AHEAD;
    var fetched = fetch_backward(chunk, member, last);
    for (var done = 0u; done <= last - chunk.first; done += AHEAD) {
        let first = last - done;
        prepare_backward(member, fetched, scalars);
        workgroupBarrier();
        fetched = fetch_backward(chunk, member, max(first, AHEAD) - AHEAD);
        for (var left = min(AHEAD, chunk.end - first); left > 0u; left--) {
            let t = left - 1u;
            let size = sizes[t][index / MEMBERS];
            total += size.x;
            for (var i = 0u; i < HELD; i++) {
                let c = held_rows[t][ROW_LEN / 2u + member.first_quad + i];
                grad_h[i] = power_of_two(size.x * decay_rate[i]) * (grad_h[i] + size.y * c);
            }
            if begins_at(t) {
                cut = 1.0;
                grad_h = array<vec4<f32>, HELD>();
            }
        }
        workgroupBarrier();
    }
    put_summary(chunk, member, grad_h, total, cut);
}
