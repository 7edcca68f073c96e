// Sums over the channels of a workgroup, in a fixed order: the steps of a span, grad_B and grad_C, for one quad.

// a term of each channel
var<workgroup> tile: array<array<vec4<f32>, LANES>, 2u * SPAN>;

// Rows of the tile that one invocation sums.
const TILE_ROWS = LANES / PARTS;
const PARTS = LANES / (2u * SPAN);

fn keep_term(column: u32, index: u32, term: vec4<f32>) {
    tile[column][index] = term;
}

// Sums the tile over its lanes: first TILE_ROWS of them by each invocation, then PARTS of these sums by some.
// The caller has passed a barrier after the tile was written; a barrier is passed before the return.
fn sum_terms(index: u32) -> vec4<f32> {
    let column = index % (2u * SPAN);
    let first = index / (2u * SPAN) * TILE_ROWS;
    var sum = vec4<f32>();
    for (var i = 0u; i < TILE_ROWS; i++) {
        sum += tile[column][first + (i + column) % TILE_ROWS];
    }
    tile[column][first] = sum;
    workgroupBarrier();
    var total = vec4<f32>();
    if index < 2u * SPAN {
        for (var part = 0u; part < PARTS; part++) {
            total += tile[column][part * TILE_ROWS];
        }
    }
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(LANES)
fn backward(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    run_backward(workgroup, workgroups, index);
}
