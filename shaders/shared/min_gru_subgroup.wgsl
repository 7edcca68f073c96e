// `subgroup`: a workgroup of 8 invocations, one subgroup, runs ROWS rows, 4, 8 or 16, and all channels through `count` positions. An invocation
// holds a part of the terms of four rows: of what is multiplied with the recurrent weights. These go past, row by row, an invocation GATHERS
// vectors of each, which it hands to the others that hold the same part; the parts' sums are added up. What is held spills to the stack of
// Mesa's software drivers, from where a multiplication reads it by itself, and a load, which takes lanes one by one there, serves all rows.
// States and gradients pass from one position to the next by `factors` and `grad_p`.

@group(0) @binding(30) var<uniform> weights_z: array<vec4<f32>, UNIFORM_QUADS>; // (hidden, hidden): U_z, or its transpose
@group(0) @binding(31) var<uniform> weights_r: array<vec4<f32>, UNIFORM_QUADS>; // (hidden, hidden): U_r, or its transpose
@group(0) @binding(32) var<uniform> weights_h: array<vec4<f32>, UNIFORM_QUADS>; // (hidden, hidden): U_h, or its transpose
@group(0) @binding(33) var<storage, read_write> weights: array<Value>; // (3, params.weight_stride): what these are windows of

// invocations that hold different terms of the same rows
const PARTS = PANEL / QUADS;
// rows that an invocation finishes, of those that it holds terms of: a range of its own, none from 4 on
const OWN_ROWS = max(QUADS / 2, 1u);

// U, or the transposes where IS_TRANSPOSED is set; one invocation 4 x 4 weights
@compute @workgroup_size(LANES)
fn copy_weights(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = invocation_of(global, groups);
    let gate = index / (CHANNELS * CHANNELS);
    if gate >= 3 {
        return;
    }
    let row = index / CHANNELS % CHANNELS;
    let column = index % CHANNELS;
    let source_at = params.u_offset / VALUE_WIDTH + (gate * HIDDEN + 4 * row) * CHANNELS + column;
    var block = mat4x4(u[source_at], u[source_at + CHANNELS], u[source_at + 2 * CHANNELS], u[source_at + 3 * CHANNELS]);
    var to = gate * params.weight_stride + 4 * row * CHANNELS + column;
    if IS_TRANSPOSED {
        block = transpose(block);
        to = gate * params.weight_stride + 4 * column * CHANNELS + row;
    }
    for (var i = 0u; i < 4; i++) {
        weights[to + i * CHANNELS] = block[i];
    }
}

// which rows and terms an invocation holds
struct Share {
    first_row: u32,
    quad: u32, // of the workgroup's rows
    part: u32,
}

fn share_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> Share {
    let quad = lane % QUADS;
    return Share((group.y * groups.x + group.x) * ROWS + 4 * quad, quad, lane / QUADS);
}

// the vectors that an invocation loads of a row of weights
fn loads_of(share: Share) -> vec4<u32> {
    let first = share.part * GATHERS * QUADS + share.quad;
    return min(first + vec4(0, QUADS, 2 * QUADS, 3 * QUADS), vec4(CHANNELS - 1));
}

// what an invocation holds
struct Held {
    terms: array<Terms, 4>,
}

// four terms more, in front of 16, of which the last four go
fn push_to(terms: Terms, four: mat4x4<f32>) -> Terms {
    return Terms(array(four, terms.fours[0], terms.fours[1], terms.fours[2]));
}

// holds four terms more, in front of the others
fn push_four(held: Held, four: mat4x4<f32>) -> Held {
    return Held(array(
        push_to(held.terms[0], four),
        push_to(held.terms[1], held.terms[0].fours[3]),
        push_to(held.terms[2], held.terms[1].fours[3]),
        push_to(held.terms[3], held.terms[2].fours[3]),
    ));
}

// Four terms of four rows, which begin at these places, as terms; 0 beyond the channels.
fn four_factors(rows: vec4<u32>, quad: u32) -> mat4x4<f32> {
    let at = rows + min(quad, CHANNELS - 1);
    return transpose(mat4x4(factors[at.x], factors[at.y], factors[at.z], factors[at.w])) * select(0.0, 1.0, quad < CHANNELS);
}

fn four_gradients(rows: vec4<u32>, quad: u32) -> mat4x4<f32> {
    let at = rows + min(quad, CHANNELS - 1);
    return transpose(mat4x4(grad_p[at.x], grad_p[at.y], grad_p[at.z], grad_p[at.w])) * select(0.0, 1.0, quad < CHANNELS);
}

// where the four rows of a share have a position
fn places_of(share: Share, position: u32) -> vec4<u32> {
    let rows = min(share.first_row + vec4(0, 1, 2, 3), vec4(params.n_batch - 1));
    return vec4(place(rows.x, position), place(rows.y, position), place(rows.z, position), place(rows.w, position));
}

// h' (which 0) or r h' (which 1). The terms move up: written out, the loads would take longer to compile than all else.
fn hold_factors(share: Share, position: u32, which: u32) -> Held {
    let at = places_of(share, position);
    let rows = vec4(factor_at(at.x, which, 0), factor_at(at.y, which, 0), factor_at(at.z, which, 0), factor_at(at.w, which, 0));
    var held: Held;
    let first_quad = share.part * GATHERS * QUADS;
    for (var quad = first_quad + GATHERS * QUADS; quad > first_quad;) {
        quad--;
        held = push_four(held, four_factors(rows, quad));
    }
    return held;
}

// the gradients of a gate's pre-activations
fn hold_gradients(share: Share, position: u32, gate: u32) -> Held {
    let at = places_of(share, position);
    let rows = vec4(grad_p_at(at.x, gate, 0), grad_p_at(at.y, gate, 0), grad_p_at(at.z, gate, 0), grad_p_at(at.w, gate, 0));
    var held: Held;
    let first_quad = share.part * GATHERS * QUADS;
    for (var quad = first_quad + GATHERS * QUADS; quad > first_quad;) {
        quad--;
        held = push_four(held, four_gradients(rows, quad));
    }
    return held;
}

// what the nth of the invocations that hold the same part has loaded
fn from_nth(a: vec4<f32>, share: Share, nth: u32) -> vec4<f32> {
    return subgroupShuffle(a, share.part * QUADS + nth);
}

// 16 terms: those that four invocations have loaded of one vector, or two of two
fn products_of_four(a: vec4<f32>, share: Share, terms: Terms) -> vec4<f32> {
    return term_products(mat4x4(from_nth(a, share, 0), from_nth(a, share, 1), from_nth(a, share, 2), from_nth(a, share, 3)), terms);
}

fn products_of_two(a: vec4<f32>, b: vec4<f32>, share: Share, terms: Terms) -> vec4<f32> {
    return term_products(mat4x4(from_nth(a, share, 0), from_nth(a, share, 1), from_nth(b, share, 0), from_nth(b, share, 1)), terms);
}

// this part's products of a row of weights with four rows
fn part_products(loaded: mat4x4<f32>, share: Share, held: Held) -> vec4<f32> {
    if QUADS == 1 {
        return term_products(loaded, held.terms[0]);
    }
    if QUADS == 2 {
        var sum = products_of_two(loaded[0], loaded[1], share, held.terms[0]);
        if GATHERS > 2 {
            sum += products_of_two(loaded[2], loaded[3], share, held.terms[1]);
        }
        return sum;
    }
    var sum = products_of_four(loaded[0], share, held.terms[0]);
    if GATHERS > 1 {
        sum += products_of_four(loaded[1], share, held.terms[1]);
    }
    if GATHERS > 2 {
        sum += products_of_four(loaded[2], share, held.terms[2]) + products_of_four(loaded[3], share, held.terms[3]);
    }
    return sum;
}

// the products of all terms, for every part
fn sum_parts(products: vec4<f32>) -> vec4<f32> {
    var sum = products + subgroupShuffleXor(products, 4u);
    if PARTS > 2 {
        sum += subgroupShuffleXor(sum, 2u);
    }
    if PARTS > 4 {
        sum += subgroupShuffleXor(sum, 1u);
    }
    return sum;
}

// four channels of one row of four
fn of_row(channels: mat4x4<f32>, row: u32) -> vec4<f32> {
    let rows = transpose(channels);
    let is_odd = (row & 1) != 0;
    return select(select(rows[0], rows[1], is_odd), select(rows[2], rows[3], is_odd), (row & 2) != 0);
}

// the next channel of four
fn push(channels: mat4x4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(channels[1], channels[2], channels[3], rows);
}

@compute @workgroup_size(PANEL)
fn forward_subgroup(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = share_of(group, groups, lane);
    let loads = loads_of(share);
    for (var position = params.first; position < params.first + params.count; position++) {
        let states = hold_factors(share, position, 0);
        for (var channel = 0u; channel < CHANNELS; channel++) {
            var z: mat4x4<f32>;
            var r: mat4x4<f32>;
            for (var i = 0u; i < 4; i++) {
                let at = (4 * channel + i) * CHANNELS + loads;
                let of_z = mat4x4(weights_z[at.x], weights_z[at.y], weights_z[at.z], weights_z[at.w]);
                let of_r = mat4x4(weights_r[at.x], weights_r[at.y], weights_r[at.z], weights_r[at.w]);
                z = push(z, sum_parts(part_products(of_z, share, states)));
                r = push(r, sum_parts(part_products(of_r, share, states)));
            }
            for (var own = share.part * OWN_ROWS; own < (share.part + 1) * OWN_ROWS; own++) {
                let row = share.first_row + own;
                if own < 4 && row < params.n_batch {
                    open_update_gate(row, channel, position, of_row(z, own));
                    open_reset_gate(row, channel, position, of_row(r, own), factors[factor_at(place(row, position), 0, channel)]);
                }
            }
        }
        subgroupBarrier();
        let reset_states = hold_factors(share, position, 1);
        for (var channel = 0u; channel < CHANNELS; channel++) {
            var h: mat4x4<f32>;
            for (var i = 0u; i < 4; i++) {
                let at = (4 * channel + i) * CHANNELS + loads;
                let of_h = mat4x4(weights_h[at.x], weights_h[at.y], weights_h[at.z], weights_h[at.w]);
                h = push(h, sum_parts(part_products(of_h, share, reset_states)));
            }
            for (var own = share.part * OWN_ROWS; own < (share.part + 1) * OWN_ROWS; own++) {
                let row = share.first_row + own;
                if own < 4 && row < params.n_batch {
                    update_state(row, channel, position, of_row(h, own), factors[factor_at(place(row, position), 0, channel)]);
                }
            }
        }
        subgroupBarrier();
    }
}

@compute @workgroup_size(PANEL)
fn backward_subgroup(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = share_of(group, groups, lane);
    let loads = loads_of(share);
    let behind = params.first + params.count;
    for (var own = share.part * OWN_ROWS; own < (share.part + 1) * OWN_ROWS; own++) {
        let row = share.first_row + own;
        for (var channel = 0u; channel < CHANNELS && own < 4 && row < params.n_batch; channel++) {
            if behind == params.n_step {
                begin_carry(row, channel);
            }
            candidate_gradient(row, channel, behind - 1);
        }
    }
    subgroupBarrier();
    for (var left = params.count; left > 0; left--) {
        let position = params.first + left - 1;
        let gradients_h = hold_gradients(share, position, 2);
        for (var channel = 0u; channel < CHANNELS; channel++) {
            var q: mat4x4<f32>;
            for (var i = 0u; i < 4; i++) {
                let at = (4 * channel + i) * CHANNELS + loads;
                let of_h = mat4x4(weights_h[at.x], weights_h[at.y], weights_h[at.z], weights_h[at.w]);
                q = push(q, sum_parts(part_products(of_h, share, gradients_h)));
            }
            for (var own = share.part * OWN_ROWS; own < (share.part + 1) * OWN_ROWS; own++) {
                let row = share.first_row + own;
                if own < 4 && row < params.n_batch {
                    gate_gradients(row, channel, position, of_row(q, own));
                }
            }
        }
        subgroupBarrier();
        let gradients_z = hold_gradients(share, position, 0);
        let gradients_r = hold_gradients(share, position, 1);
        for (var channel = 0u; channel < CHANNELS; channel++) {
            var sums: mat4x4<f32>;
            for (var i = 0u; i < 4; i++) {
                let at = (4 * channel + i) * CHANNELS + loads;
                let of_z = mat4x4(weights_z[at.x], weights_z[at.y], weights_z[at.z], weights_z[at.w]);
                let of_r = mat4x4(weights_r[at.x], weights_r[at.y], weights_r[at.z], weights_r[at.w]);
                sums = push(sums, sum_parts(part_products(of_z, share, gradients_z) + part_products(of_r, share, gradients_r)));
            }
            for (var own = share.part * OWN_ROWS; own < (share.part + 1) * OWN_ROWS; own++) {
                let row = share.first_row + own;
                if own < 4 && row < params.n_batch {
                    carry_back(row, channel, position, of_row(sums, own));
                    // the position before, where it belongs to this dispatch
                    if left > 1 {
                        candidate_gradient(row, channel, position - 1);
                    }
                }
            }
        }
        subgroupBarrier();
    }
}
