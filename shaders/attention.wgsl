// For each head, over the keys i that query t sees: the past ones, then those of steps 0 to t, none before the last border:
// s_ti = q_t k_i / sqrt(HEAD_DIM)    lse_t = log sum_i exp(s_ti)    p_ti = exp(s_ti - lse_t)    y_t = sum_i p_ti v_i
// Backward, with e = dL/dy and D_t = e_t y_t:
// grad_v_i = sum_t p_ti e_t    grad_s_ti = p_ti (e_t v_i - D_t)
// grad_q_t = sum_i grad_s_ti k_i / sqrt(HEAD_DIM)    grad_k_i = sum_t grad_s_ti q_t / sqrt(HEAD_DIM)
//
// One invocation has one query (forward, backward_query) or one key (backward_key, backward_value) of one head. A workgroup has WIDTH
// neighbouring ones and meets the other side tile by tile: TILE keys and values, or queries and gradients, in workgroup memory. Four scores
// are taken at a time. A dispatch goes through the tiles from first_tile to end_tile, on from what the one before it left: a query's y and
// lse are all that an online softmax needs. Of one sequence that is too large to bind, it binds n_query steps from first_query on, keys from
// first_key on and past keys from first_past on.

struct Params {
    n_batch: u32,
    n_step: u32,
    n_head: u32,
    n_past: u32,
    n_channel: u32,
    n_key: u32,
    is_past: u32,
    first_tile: u32,
    end_tile: u32,
    first_back: u32,
    end_back: u32,
    first_query: u32,
    n_query: u32,
    first_key: u32, // of those that k holds
    first_past: u32,
    n_bound_past: u32,
    scale: f32,
    q_offset: u32,
    q_stride: u32,
    k_offset: u32,
    k_stride: u32,
    v_offset: u32,
    v_stride: u32,
    past_k_offset: u32,
    past_k_stride: u32,
    past_v_offset: u32,
    past_v_stride: u32,
    log_sum_offset: u32,
    y_offset: u32,
    y_stride: u32,
    grad_y_offset: u32,
    grad_y_stride: u32,
    grad_q_offset: u32,
    grad_q_stride: u32,
    grad_k_offset: u32,
    grad_k_stride: u32,
    grad_v_offset: u32,
    grad_v_stride: u32,
    reset_offset: u32,
    length_offset: u32,
    length_out_offset: u32,
    cache_offset: u32,
    cache_stride: u32,
    grad_last_offset: u32,
    grad_last_stride: u32,
    grad_new_offset: u32,
    grad_new_stride: u32,
    grad_past_offset: u32,
    grad_past_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>; // (batch, step, head, HEAD_DIM), as k, v, y and their gradients
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> past_k: array<f32>; // (batch, past, head, HEAD_DIM)
@group(0) @binding(5) var<storage, read> past_v: array<f32>; // (batch, past, head, HEAD_DIM)
@group(0) @binding(6) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(7) var<storage, read> length: array<f32>; // (batch)
@group(0) @binding(8) var<storage, read_write> rows: array<vec4<f32>>; // (batch, head, step): lse, D, past keys, first step seen
@group(0) @binding(9) var<storage, read_write> y: array<f32>;
@group(0) @binding(10) var<storage, read_write> log_sum: array<f32>; // (batch, head, step)
@group(0) @binding(11) var<storage, read> grad_y: array<f32>;
@group(0) @binding(12) var<storage, read_write> grad_q: array<f32>;
@group(0) @binding(13) var<storage, read_write> grad_k: array<f32>; // of new or of past keys
@group(0) @binding(14) var<storage, read_write> grad_v: array<f32>; // of new or of past values
@group(0) @binding(15) var<storage, read_write> cache: array<f32>; // (batch, past, channel)
@group(0) @binding(16) var<storage, read_write> length_out: array<f32>; // (batch)
@group(0) @binding(17) var<storage, read> grad_last: array<f32>; // (batch, past, channel)
@group(0) @binding(18) var<storage, read_write> grad_new: array<f32>; // (batch, step, channel)
@group(0) @binding(19) var<storage, read_write> grad_past: array<f32>; // (batch, past, channel)

const LOG2_E = 1.4426950408889634;
// the score of a query that has seen nothing yet
const LOWEST = -1e30;
const IS_MASKED = HAS_LENGTH || HAS_RESET;

var<workgroup> tile_a: array<vec4<f32>, TILE * QUADS>; // keys or queries
var<workgroup> tile_b: array<vec4<f32>, TILE * QUADS>; // values or gradients
var<workgroup> tile_rows: array<vec4<f32>, TILE>;
var<workgroup> block_seen: vec2<u32>;

// What a query sees: so many past keys, and those of the steps from `first` to its own.
struct Seen {
    n_past: u32,
    first: u32,
}

// A workgroup's place: WIDTH queries or keys of one head.
struct Place {
    batch: u32,
    head: u32,
    first: u32,
}

fn place_of(workgroup: vec3<u32>, workgroups: vec3<u32>, first: u32, n_row: u32) -> Place {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let n_block = (n_row + WIDTH - 1u) / WIDTH;
    return Place(index / n_block / params.n_head, index / n_block % params.n_head, first + index % n_block * WIDTH);
}

// row of what is bound of (batch, step) for queries
fn query_row(batch: u32, step: u32) -> u32 {
    return batch * params.n_step + step - params.first_query;
}

fn row_at(place: Place, step: u32) -> u32 {
    return (place.batch * params.n_head + place.head) * params.n_step + step;
}

fn seen_by(place: Place, step: u32) -> Seen {
    if !IS_MASKED {
        return Seen(params.n_past, 0u);
    }
    let row = rows[row_at(place, step)];
    return Seen(u32(row.z), u32(row.w));
}

// zeros behind the last channel of a head
fn padded(x: vec4<f32>, quad: u32) -> vec4<f32> {
    if HEAD_DIM % 4u == 0u {
        return x;
    }
    return select(vec4<f32>(), x, vec4(4u * quad) + vec4(0u, 1u, 2u, 3u) < vec4(HEAD_DIM));
}

fn channel_of(head: u32, quad: u32) -> u32 {
    return head * HEAD_DIM + 4u * quad;
}

fn q_at(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = params.q_offset + row * params.q_stride + channel_of(head, quad);
    return padded(vec4(q[at], q[at + 1u], q[at + 2u], q[at + 3u]), quad);
}

fn k_at(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = params.k_offset + row * params.k_stride + channel_of(head, quad);
    return padded(vec4(k[at], k[at + 1u], k[at + 2u], k[at + 3u]), quad);
}

fn v_at(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = params.v_offset + row * params.v_stride + channel_of(head, quad);
    return padded(vec4(v[at], v[at + 1u], v[at + 2u], v[at + 3u]), quad);
}

fn grad_y_at(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = params.grad_y_offset + row * params.grad_y_stride + channel_of(head, quad);
    return padded(vec4(grad_y[at], grad_y[at + 1u], grad_y[at + 2u], grad_y[at + 3u]), quad);
}

fn past_k_at(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = params.past_k_offset + row * params.past_k_stride + channel_of(head, quad);
    return padded(vec4(past_k[at], past_k[at + 1u], past_k[at + 2u], past_k[at + 3u]), quad);
}

fn past_v_at(row: u32, head: u32, quad: u32) -> vec4<f32> {
    let at = params.past_v_offset + row * params.past_v_stride + channel_of(head, quad);
    return padded(vec4(past_v[at], past_v[at + 1u], past_v[at + 2u], past_v[at + 3u]), quad);
}

// The last border at or before a step, at a distance of first_back to end_back; the number of steps where there is none.
fn border_before(batch: u32, step: u32) -> u32 {
    if HAS_RESET {
        for (var back = params.first_back; back < min(params.end_back, step + 1u); back++) {
            if reset[params.reset_offset + batch * params.n_step + step - back] != 0u {
                return step - back;
            }
        }
    }
    return params.n_step;
}

fn past_of(batch: u32) -> u32 {
    if HAS_LENGTH {
        return min(u32(length[params.length_offset + batch]), params.n_past);
    }
    return params.n_past;
}

// What is known of a query before the tiles are met. Dispatched for one range of distances to a border after the other.
@compute @workgroup_size(LANES)
fn prepare(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let step = params.first_query + index % params.n_query;
    let head = index / params.n_query % params.n_head;
    let batch = index / params.n_query / params.n_head;
    if batch >= params.n_batch {
        return;
    }
    let at = (batch * params.n_head + head) * params.n_step + step;
    var row = vec4(0.0, 0.0, f32(past_of(batch)), 0.0);
    if params.first_back > 0u {
        row = rows[at];
    } else if HAS_GRAD_Y {
        row.x = log_sum[params.log_sum_offset + at];
        let y_row = params.y_offset + query_row(batch, step) * params.y_stride + head * HEAD_DIM;
        let grad_row = params.grad_y_offset + query_row(batch, step) * params.grad_y_stride + head * HEAD_DIM;
        for (var channel = 0u; channel < HEAD_DIM; channel++) {
            row.y += y[y_row + channel] * grad_y[grad_row + channel];
        }
    }
    let border = border_before(batch, step);
    if border < params.n_step && row.w == 0.0 {
        row.z = 0.0;
        row.w = f32(border);
    }
    rows[at] = row;
}

// Loads a tile of keys and values: past ones first.
fn load_keys(place: Place, tile: u32, index: u32) {
    let past_tiles = (params.n_past + TILE - 1u) / TILE;
    workgroupBarrier();
    for (var item = index; item < TILE * QUADS; item += WIDTH) {
        let quad = item % QUADS;
        if HAS_PAST && tile < past_tiles {
            let row = place.batch * params.n_past + min(tile * TILE + item / QUADS, params.n_past - 1u) - params.first_past;
            tile_a[item] = past_k_at(row, place.head, quad);
            tile_b[item] = past_v_at(row, place.head, quad);
        } else {
            let row = place.batch * params.n_step + min((tile - past_tiles) * TILE + item / QUADS, params.n_step - 1u) - params.first_key;
            tile_a[item] = k_at(row, place.head, quad);
            tile_b[item] = v_at(row, place.head, quad);
        }
    }
    workgroupBarrier();
}

// Whether no query of the block, which ends at a step, sees a key of the tile. `seen` is what its first query sees.
fn is_hidden(tile: u32, seen: Seen, last: u32) -> bool {
    let past_tiles = (params.n_past + TILE - 1u) / TILE;
    if tile < past_tiles {
        return tile * TILE >= seen.n_past;
    }
    let first = (tile - past_tiles) * TILE;
    return first > last || first + TILE <= seen.first;
}

// Which of four keys of a tile a query sees.
fn sees(tile: u32, item: u32, seen: Seen, step: u32) -> vec4<bool> {
    let past_tiles = (params.n_past + TILE - 1u) / TILE;
    if tile < past_tiles {
        return vec4(tile * TILE + item) + vec4(0u, 1u, 2u, 3u) < vec4(seen.n_past);
    }
    let key = vec4((tile - past_tiles) * TILE + item) + vec4(0u, 1u, 2u, 3u);
    return (key >= vec4(seen.first)) & (key <= vec4(step));
}

// What the first query of a block sees, the same for the whole workgroup.
fn block_sees(place: Place, index: u32) -> Seen {
    if !IS_MASKED {
        return Seen(params.n_past, 0u);
    }
    if index == 0u {
        let seen = seen_by(place, place.first);
        block_seen = vec2(seen.n_past, seen.first);
    }
    let seen = workgroupUniformLoad(&block_seen);
    return Seen(seen.x, seen.y);
}

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let place = place_of(workgroup, workgroups, params.first_query, params.n_query);
    if place.batch >= params.n_batch {
        return;
    }
    let end = params.first_query + params.n_query;
    let step = min(place.first + index, end - 1u);
    let row = query_row(place.batch, step);
    let seen = seen_by(place, step);
    let first_seen = block_sees(place, index);
    var query: array<vec4<f32>, QUADS>;
    var sum: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        query[quad] = q_at(row, place.head, quad);
    }
    var peak = LOWEST;
    var total = 0.0;
    let at_y = params.y_offset + row * params.y_stride + place.head * HEAD_DIM;
    if params.first_tile > 0u {
        peak = log_sum[params.log_sum_offset + row_at(place, step)];
        total = 1.0;
        for (var channel = 0u; channel < HEAD_DIM; channel++) {
            sum[channel / 4u][channel % 4u] = y[at_y + channel];
        }
    }
    for (var tile = params.first_tile; tile < params.end_tile; tile++) {
        if is_hidden(tile, first_seen, place.first + WIDTH - 1u) {
            continue;
        }
        load_keys(place, tile, index);
        for (var item = 0u; item < TILE; item += 4u) {
            var scores = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                scores += vec4(
                    dot(query[quad], tile_a[at]),
                    dot(query[quad], tile_a[at + QUADS]),
                    dot(query[quad], tile_a[at + 2u * QUADS]),
                    dot(query[quad], tile_a[at + 3u * QUADS]),
                );
            }
            let seen_keys = sees(tile, item, seen, step);
            scores = select(vec4(LOWEST), scores * params.scale, seen_keys);
            let before = peak;
            peak = max(peak, max(max(scores.x, scores.y), max(scores.z, scores.w)));
            let p = select(vec4<f32>(), power_of_two((scores - peak) * LOG2_E), seen_keys);
            let kept = power_of_two(vec4((before - peak) * LOG2_E)).x;
            total = total * kept + (p.x + p.y + p.z + p.w);
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                sum[quad] = sum[quad] * kept + p.x * tile_b[at] + p.y * tile_b[at + QUADS]
                    + p.z * tile_b[at + 2u * QUADS] + p.w * tile_b[at + 3u * QUADS];
            }
        }
    }
    if place.first + index >= end {
        return;
    }
    let inverse = select(0.0, 1.0 / total, total > 0.0);
    for (var channel = 0u; channel < HEAD_DIM; channel++) {
        y[at_y + channel] = sum[channel / 4u][channel % 4u] * inverse;
    }
    log_sum[params.log_sum_offset + row_at(place, step)] = select(LOWEST, peak + log(total), total > 0.0);
}

@compute @workgroup_size(WIDTH)
fn backward_query(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let place = place_of(workgroup, workgroups, params.first_query, params.n_query);
    if place.batch >= params.n_batch {
        return;
    }
    let end = params.first_query + params.n_query;
    let step = min(place.first + index, end - 1u);
    let row = query_row(place.batch, step);
    let known = rows[row_at(place, step)];
    let seen = Seen(u32(known.z), u32(known.w));
    let first_seen = block_sees(place, index);
    var query: array<vec4<f32>, QUADS>;
    var grad: array<vec4<f32>, QUADS>;
    var sum: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        query[quad] = q_at(row, place.head, quad);
        grad[quad] = grad_y_at(row, place.head, quad);
    }
    for (var tile = params.first_tile; tile < params.end_tile; tile++) {
        if is_hidden(tile, first_seen, place.first + WIDTH - 1u) {
            continue;
        }
        load_keys(place, tile, index);
        for (var item = 0u; item < TILE; item += 4u) {
            var scores = vec4<f32>();
            var grad_p = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                scores += vec4(
                    dot(query[quad], tile_a[at]),
                    dot(query[quad], tile_a[at + QUADS]),
                    dot(query[quad], tile_a[at + 2u * QUADS]),
                    dot(query[quad], tile_a[at + 3u * QUADS]),
                );
                grad_p += vec4(
                    dot(grad[quad], tile_b[at]),
                    dot(grad[quad], tile_b[at + QUADS]),
                    dot(grad[quad], tile_b[at + 2u * QUADS]),
                    dot(grad[quad], tile_b[at + 3u * QUADS]),
                );
            }
            let p = select(vec4<f32>(), power_of_two((scores * params.scale - known.x) * LOG2_E), sees(tile, item, seen, step));
            let grad_s = p * (grad_p - known.y);
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                sum[quad] += grad_s.x * tile_a[at] + grad_s.y * tile_a[at + QUADS]
                    + grad_s.z * tile_a[at + 2u * QUADS] + grad_s.w * tile_a[at + 3u * QUADS];
            }
        }
    }
    if place.first + index >= end {
        return;
    }
    let at = params.grad_q_offset + row * params.grad_q_stride + place.head * HEAD_DIM;
    for (var channel = 0u; channel < HEAD_DIM; channel++) {
        var before = 0.0;
        if params.first_tile > 0u {
            before = grad_q[at + channel];
        }
        grad_q[at + channel] = before + sum[channel / 4u][channel % 4u] * params.scale;
    }
}

// Loads a tile of queries, their gradients and what is known of them.
fn load_queries(place: Place, tile: u32, index: u32) {
    workgroupBarrier();
    for (var item = index; item < TILE * QUADS; item += WIDTH) {
        let row = query_row(place.batch, min(tile * TILE + item / QUADS, params.n_step - 1u));
        tile_a[item] = q_at(row, place.head, item % QUADS);
        tile_b[item] = grad_y_at(row, place.head, item % QUADS);
    }
    for (var item = index; item < TILE; item += WIDTH) {
        tile_rows[item] = rows[row_at(place, min(tile * TILE + item, params.n_step - 1u))];
    }
    workgroupBarrier();
}

// Whether no query of the tile sees a key of the block.
fn is_blind(tile: u32, place: Place) -> bool {
    return params.is_past == 0u && tile * TILE + TILE <= place.first;
}

// Which of four queries of a tile see a key.
fn seen_from(tile: u32, item: u32, key: u32) -> vec4<bool> {
    let step = vec4(tile * TILE + item) + vec4(0u, 1u, 2u, 3u);
    let exists = step < vec4(params.n_step);
    let a = tile_rows[item];
    let b = tile_rows[item + 1u];
    let c = tile_rows[item + 2u];
    let d = tile_rows[item + 3u];
    if params.is_past != 0u {
        return exists & (vec4(f32(key)) < vec4(a.z, b.z, c.z, d.z));
    }
    return exists & (vec4(key) <= step) & (vec4(f32(key)) >= vec4(a.w, b.w, c.w, d.w));
}

// The probabilities that four queries of a tile give a key, from the products of both.
fn probabilities(tile: u32, item: u32, key: u32, scores: vec4<f32>) -> vec4<f32> {
    let lse = vec4(tile_rows[item].x, tile_rows[item + 1u].x, tile_rows[item + 2u].x, tile_rows[item + 3u].x);
    return select(vec4<f32>(), power_of_two((scores * params.scale - lse) * LOG2_E), seen_from(tile, item, key));
}

@compute @workgroup_size(WIDTH)
fn backward_key(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let place = place_of(workgroup, workgroups, params.first_key, params.n_key);
    if place.batch >= params.n_batch {
        return;
    }
    let end = params.first_key + params.n_key;
    let position = min(place.first + index, end - 1u);
    let row = place.batch * params.n_key + position - params.first_key;
    var key: array<vec4<f32>, QUADS>;
    var value: array<vec4<f32>, QUADS>;
    var sum: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        key[quad] = k_at(row, place.head, quad);
        value[quad] = v_at(row, place.head, quad);
    }
    for (var tile = params.first_tile; tile < params.end_tile; tile++) {
        if is_blind(tile, place) {
            continue;
        }
        load_queries(place, tile, index);
        for (var item = 0u; item < TILE; item += 4u) {
            var scores = vec4<f32>();
            var grad_p = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                scores += vec4(
                    dot(key[quad], tile_a[at]),
                    dot(key[quad], tile_a[at + QUADS]),
                    dot(key[quad], tile_a[at + 2u * QUADS]),
                    dot(key[quad], tile_a[at + 3u * QUADS]),
                );
                grad_p += vec4(
                    dot(value[quad], tile_b[at]),
                    dot(value[quad], tile_b[at + QUADS]),
                    dot(value[quad], tile_b[at + 2u * QUADS]),
                    dot(value[quad], tile_b[at + 3u * QUADS]),
                );
            }
            let d = vec4(tile_rows[item].y, tile_rows[item + 1u].y, tile_rows[item + 2u].y, tile_rows[item + 3u].y);
            let grad_s = probabilities(tile, item, position, scores) * (grad_p - d);
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                sum[quad] += grad_s.x * tile_a[at] + grad_s.y * tile_a[at + QUADS]
                    + grad_s.z * tile_a[at + 2u * QUADS] + grad_s.w * tile_a[at + 3u * QUADS];
            }
        }
    }
    if place.first + index >= end {
        return;
    }
    let at = params.grad_k_offset + row * params.grad_k_stride + place.head * HEAD_DIM;
    for (var channel = 0u; channel < HEAD_DIM; channel++) {
        var before = 0.0;
        if params.first_tile > 0u {
            before = grad_k[at + channel];
        }
        grad_k[at + channel] = before + sum[channel / 4u][channel % 4u] * params.scale;
    }
}

@compute @workgroup_size(WIDTH)
fn backward_value(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let place = place_of(workgroup, workgroups, params.first_key, params.n_key);
    if place.batch >= params.n_batch {
        return;
    }
    let end = params.first_key + params.n_key;
    let position = min(place.first + index, end - 1u);
    let row = place.batch * params.n_key + position - params.first_key;
    var key: array<vec4<f32>, QUADS>;
    var sum: array<vec4<f32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        key[quad] = k_at(row, place.head, quad);
    }
    for (var tile = params.first_tile; tile < params.end_tile; tile++) {
        if is_blind(tile, place) {
            continue;
        }
        load_queries(place, tile, index);
        for (var item = 0u; item < TILE; item += 4u) {
            var scores = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                scores += vec4(
                    dot(key[quad], tile_a[at]),
                    dot(key[quad], tile_a[at + QUADS]),
                    dot(key[quad], tile_a[at + 2u * QUADS]),
                    dot(key[quad], tile_a[at + 3u * QUADS]),
                );
            }
            let p = probabilities(tile, item, position, scores);
            for (var quad = 0u; quad < QUADS; quad++) {
                let at = item * QUADS + quad;
                sum[quad] += p.x * tile_b[at] + p.y * tile_b[at + QUADS] + p.z * tile_b[at + 2u * QUADS] + p.w * tile_b[at + 3u * QUADS];
            }
        }
    }
    if place.first + index >= end {
        return;
    }
    let at = params.grad_v_offset + row * params.grad_v_stride + place.head * HEAD_DIM;
    for (var channel = 0u; channel < HEAD_DIM; channel++) {
        var before = 0.0;
        if params.first_tile > 0u {
            before = grad_v[at + channel];
        }
        grad_v[at + channel] = before + sum[channel / 4u][channel % 4u];
    }
}
