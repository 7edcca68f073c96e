// A cache of keys or values that grows by those of new steps.

// What a cache keeps of the new steps, those from `first`, behind so many rows.
fn kept_of(batch: u32, n_past: u32) -> Seen {
    let border = border_before(batch, params.n_step - 1u);
    if border < params.n_step {
        return Seen(0u, border);
    }
    return Seen(min(n_past, params.n_past), 0u);
}

// A channel of a new row, and its row in the cache: the capacity where it is not kept.
struct NewRow {
    batch: u32,
    step: u32,
    channel: u32,
    row: u32,
}

fn new_row_of(global: vec3<u32>, workgroups: vec3<u32>) -> NewRow {
    let index = invocation_of(global, workgroups);
    let batch = index / params.n_channel / params.n_query;
    let step = params.first_query + index / params.n_channel % params.n_query;
    var row = params.n_past;
    if batch < params.n_batch {
        let kept = kept_of(batch, u32(length[params.length_offset + batch]));
        if step >= kept.first {
            row = min(kept.n_past + step - kept.first, params.n_past);
        }
    }
    return NewRow(batch, step, index % params.n_channel, row);
}

fn is_bound(past: u32) -> bool {
    return past >= params.first_past && past < params.first_past + params.n_bound_past;
}

// row of what is bound of a cache
fn past_row(batch: u32, past: u32) -> u32 {
    return batch * params.n_past + past - params.first_past;
}

// One invocation writes one channel of one new row to the cache of keys or values.
@compute @workgroup_size(LANES)
fn append(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let place = new_row_of(global, workgroups);
    if is_bound(place.row) {
        cache[params.cache_offset + past_row(place.batch, place.row) * params.cache_stride + place.channel] =
            k[params.k_offset + query_row(place.batch, place.step) * params.k_stride + place.channel];
    }
}

// One invocation takes back one channel of one new row: its gradient, 0 where the row was not kept, and what the row replaced has none.
@compute @workgroup_size(LANES)
fn append_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let place = new_row_of(global, workgroups);
    if place.batch >= params.n_batch {
        return;
    }
    var grad = 0.0;
    if is_bound(place.row) {
        let row = past_row(place.batch, place.row);
        grad = grad_last[params.grad_last_offset + row * params.grad_last_stride + place.channel];
        if HAS_GRAD_PAST {
            grad_past[params.grad_past_offset + row * params.grad_past_stride + place.channel] = 0.0;
        }
    }
    if HAS_GRAD_NEW && (is_bound(place.row) || params.first_past == 0u) {
        grad_new[params.grad_new_offset + query_row(place.batch, place.step) * params.grad_new_stride + place.channel] = grad;
    }
}

// One invocation counts the rows of one batch row's cache.
@compute @workgroup_size(LANES)
fn grow(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let batch = invocation_of(global, workgroups);
    if batch >= params.n_batch {
        return;
    }
    let at = params.length_out_offset + batch;
    let kept = kept_of(batch, u32(length_out[at]));
    length_out[at] = f32(min(kept.n_past + params.n_step - kept.first, params.n_past));
}
