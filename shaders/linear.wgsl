// y = x W^T + b and its gradient products, each a product A B^T of two factors, `a` (product row, term) and `b` (product column, term),
// either of which may lie transposed: y of x and W, grad_x of grad_y and W^T, grad_weight of grad_y^T and x^T.
//
// `tile_64`, `tile_128`: a workgroup of SIDE x SIDE invocations computes a TILE x TILE tile of the product, an invocation 8 x 8 of it in
// registers. Blocks of TERMS terms of both factors pass through workgroup memory; while one is multiplied, the next is on its way. A block
// is 2 TILE TERMS floats of storage for 2 TILE^2 TERMS operations: TILE / 4 operations a byte; a term is 16 floats of workgroup memory for
// 128 operations of an invocation: 2 a byte. Where tiles are few, the terms are split over workgroups, whose parts are added up in order.
// `panel`: both factors are packed, then one invocation computes a PANEL x PANEL block of the product: see shared/panel.wgsl.
// `subgroup`, `subgroup_window`: see shared/linear_subgroup.wgsl; `cooperative`: see shared/linear_cooperative.wgsl.

struct Params {
    n_row: u32,
    n_out: u32, // Values of a row
    part_rows: u32,
    factors_offset: u32,
    factors_stride: u32,
    added_offset: u32,
    rows_offset: u32,
    rows_stride: u32,
    values_offset: u32,
    sums_offset: u32,
    sums_stride: u32,
    weighted_sums_offset: u32,
    bias_offset: u32,
    n_part: u32,
    first_part: u32,
    part_stride: u32,
    a_offset: u32,
    a_stride: u32,
    b_offset: u32,
    b_stride: u32,
    n_term: u32,
    split_terms: u32,
    n_pack_row: u32,
    n_pack_term: u32,
    slice: u32,
    by_term: u32,
    source_first: u32,
    source_every: u32,
    source_column: u32,
    source_offset: u32,
    source_stride: u32,
    source_fours_offset: u32,
    source_fours_stride: u32,
    n_panel_a: u32,
    n_panel_b: u32,
    first_panel_a: u32,
    first_panel_b: u32,
    n_product_row: u32,
    n_product_column: u32,
    product_offset: u32,
    product_stride: u32,
    first_slice: u32,
    n_slice: u32,
    bound_slice: u32,
    first_row: u32,
    block_rows: u32,
    streamed_offset: u32,
    streamed_stride: u32,
    has_bias: u32,
    bias_fours_offset: u32,
    product_fours_offset: u32,
    product_fours_stride: u32,
    resident_offset: u32,
    resident_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>; // (product row, term), or (term, product row) where A_BY_TERM
@group(0) @binding(2) var<storage, read> b: array<f32>; // (product column, term), or (term, product column) where B_BY_TERM
@group(0) @binding(3) var<storage, read> bias: array<f32>; // (product column)
@group(0) @binding(5) var<storage, read> parts: array<f32>; // (part, product row, product column)
@group(0) @binding(6) var<storage, read_write> product: array<f32>; // (product row, product column)
@group(0) @binding(7) var<storage, read> factors: array<f32>; // (row)
@group(0) @binding(8) var<storage, read> values: array<Value>; // (out)
@group(0) @binding(9) var<storage, read> added: array<Value>; // (out)
@group(0) @binding(10) var<storage, read> rows: array<Value>; // (row, out)
@group(0) @binding(11) var<storage, read_write> sums: array<Value>; // (row, out), or (part, out)
@group(0) @binding(12) var<storage, read_write> weighted_sums: array<Value>; // (part, out)

const TILE = 8u * SIDE;
const TILE_QUADS = 2u * SIDE;
const TERMS = 128u / SIDE;
const BLOCK = TERMS * TILE_QUADS;
// vectors of a block that one invocation loads
const LOADS = BLOCK / (SIDE * SIDE);

// two blocks of a factor each, a vector four rows of one term
var<workgroup> blocks_a: array<vec4<f32>, 2u * BLOCK>;
var<workgroup> blocks_b: array<vec4<f32>, 2u * BLOCK>;

// The place of four rows in a block. Neighbouring terms lie in different banks, and so do neighbouring rows.
fn block_at(term: u32, quad: u32) -> u32 {
    return term * TILE_QUADS + (quad ^ term);
}

// Element of a factor; beyond its rows and terms one that exists.
fn near_a(row: u32, term: u32) -> f32 {
    let near_row = min(row, params.n_product_row - 1u);
    let near_term = min(term, params.n_term - 1u);
    return a[params.a_offset + select(near_row * params.a_stride + near_term, near_term * params.a_stride + near_row, A_BY_TERM)];
}

fn near_b(column: u32, term: u32) -> f32 {
    let near_column = min(column, params.n_product_column - 1u);
    let near_term = min(term, params.n_term - 1u);
    return b[params.b_offset + select(near_column * params.b_stride + near_term, near_term * params.b_stride + near_column, B_BY_TERM)];
}

// (term, quad) of a vector that an invocation loads, so that neighbours read neighbouring elements
fn term_and_quad(vector: u32, by_term: bool) -> vec2<u32> {
    return select(vec2(vector % TERMS, vector / TERMS), vec2(vector / TILE_QUADS, vector % TILE_QUADS), by_term);
}

// Four rows of a term. What is beyond the factor is made 0 where it is stored: there the load has had its time.
fn load_a(vector: u32, row: u32, term: u32) -> vec4<f32> {
    let place = term_and_quad(vector, A_BY_TERM);
    let r = row + 4u * place.y;
    let t = term + place.x;
    return vec4(near_a(r, t), near_a(r + 1u, t), near_a(r + 2u, t), near_a(r + 3u, t));
}

fn load_b(vector: u32, column: u32, term: u32) -> vec4<f32> {
    let place = term_and_quad(vector, B_BY_TERM);
    let c = column + 4u * place.y;
    let t = term + place.x;
    return vec4(near_b(c, t), near_b(c + 1u, t), near_b(c + 2u, t), near_b(c + 3u, t));
}

// Of a block from whose first term on the split has n_left; rows beyond the factor are sums that nobody reads.
fn store_a(vector: u32, start: u32, value: vec4<f32>, n_left: u32) {
    let place = term_and_quad(vector, A_BY_TERM);
    blocks_a[start + block_at(place.x, place.y)] = select(vec4<f32>(), value, place.x < n_left);
}

fn store_b(vector: u32, start: u32, value: vec4<f32>, n_left: u32) {
    let place = term_and_quad(vector, B_BY_TERM);
    blocks_b[start + block_at(place.x, place.y)] = select(vec4<f32>(), value, place.x < n_left);
}

fn product_bias(column: u32) -> vec4<f32> {
    let at = params.bias_offset + column;
    let last = params.bias_offset + params.n_product_column - 1u;
    return vec4(bias[min(at, last)], bias[min(at + 1u, last)], bias[min(at + 2u, last)], bias[min(at + 3u, last)]);
}

fn put_element(part: u32, row: u32, column: u32, value: f32) {
    if column < params.n_product_column {
        let at = params.product_offset + part * params.part_stride + row * params.product_stride + column;
        if ACCUMULATE {
            product[at] += value;
        } else {
            product[at] = value;
        }
    }
}

fn put_quad(part: u32, row: u32, column: u32, values: vec4<f32>) {
    put_element(part, row, column, values.x);
    put_element(part, row, column + 1u, values.y);
    put_element(part, row, column + 2u, values.z);
    put_element(part, row, column + 3u, values.w);
}

// Where an invocation's block of the product lies: its rows 4 to 7 and columns 4 to 7 are `gap` behind its first ones.
struct Place {
    part: u32,
    row: u32,
    column: u32,
    gap: u32,
    bias_low: vec4<f32>,
    bias_high: vec4<f32>,
}

fn place_of(part: u32, row: u32, column: u32, gap: u32) -> Place {
    var place = Place(part, row, column, gap, vec4<f32>(), vec4<f32>());
    if HAS_BIAS && !ACCUMULATE {
        place.bias_low = product_bias(column);
        place.bias_high = product_bias(column + gap);
    }
    return place;
}

fn put_row(place: Place, row: u32, low: vec4<f32>, high: vec4<f32>) {
    if row < params.n_product_row {
        put_quad(place.part, row, place.column, low + place.bias_low);
        put_quad(place.part, row, place.column + place.gap, high + place.bias_high);
    }
}

fn put_tile(place: Place, tile: Tile) {
    put_row(place, place.row, tile.low[0], tile.high[0]);
    put_row(place, place.row + 1u, tile.low[1], tile.high[1]);
    put_row(place, place.row + 2u, tile.low[2], tile.high[2]);
    put_row(place, place.row + 3u, tile.low[3], tile.high[3]);
    put_row(place, place.row + place.gap, tile.low[4], tile.high[4]);
    put_row(place, place.row + place.gap + 1u, tile.low[5], tile.high[5]);
    put_row(place, place.row + place.gap + 2u, tile.low[6], tile.high[6]);
    put_row(place, place.row + place.gap + 3u, tile.low[7], tile.high[7]);
}

// one tile of the product, over the terms of one split
@compute @workgroup_size(SIDE, SIDE)
fn multiply_tiles(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group.y * TILE;
    let column = group.x * TILE;
    let first = group.z * params.split_terms;
    let end = min(first + params.split_terms, params.n_term);
    let n_block = (end - first + TERMS - 1u) / TERMS;
    var next_a: array<vec4<f32>, LOADS>;
    var next_b: array<vec4<f32>, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        let vector = index + i * SIDE * SIDE;
        store_a(vector, 0u, load_a(vector, row, first), end - first);
        store_b(vector, 0u, load_b(vector, column, first), end - first);
    }
    workgroupBarrier();
    var tile: Tile;
    for (var block = 0u; block < n_block; block++) {
        let next = first + (block + 1u) * TERMS; // the first term of the next block
        if block + 1u < n_block {
            for (var i = 0u; i < LOADS; i++) {
                let vector = index + i * SIDE * SIDE;
                next_a[i] = load_a(vector, row, next);
                next_b[i] = load_b(vector, column, next);
            }
        }
        let start = block % 2u * BLOCK;
        for (var term = 0u; term < TERMS; term++) {
            add_outer_product(
                &tile,
                blocks_a[start + block_at(term, local.y)],
                blocks_a[start + block_at(term, SIDE + local.y)],
                blocks_b[start + block_at(term, local.x)],
                blocks_b[start + block_at(term, SIDE + local.x)],
            );
        }
        if block + 1u < n_block {
            for (var i = 0u; i < LOADS; i++) {
                let vector = index + i * SIDE * SIDE;
                store_a(vector, BLOCK - start, next_a[i], end - next);
                store_b(vector, BLOCK - start, next_b[i], end - next);
            }
        }
        workgroupBarrier();
    }
    put_tile(place_of(params.first_part + group.z, row + 4u * local.y, column + 4u * local.x, TILE / 2u), tile);
}

// product = the sum of its parts, in their order, and the bias; one invocation an element
@compute @workgroup_size(LANES)
fn sum_parts(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let row = index / params.n_product_column;
    let column = index % params.n_product_column;
    if row >= params.n_product_row {
        return;
    }
    var sum = 0.0;
    for (var part = 0u; part < params.n_part; part++) {
        sum += parts[part * params.part_stride + index];
    }
    if HAS_BIAS {
        sum += bias[params.bias_offset + column];
    }
    product[params.product_offset + row * params.product_stride + column] = sum;
}

// A Value of part_rows rows; none where there are no such rows.
struct PartOfRows {
    out: u32,
    first: u32,
    end: u32,
}

fn part_of_rows(global: vec3<u32>, workgroups: vec3<u32>) -> PartOfRows {
    let index = invocation_of(global, workgroups);
    let first = index / params.n_out * params.part_rows;
    return PartOfRows(spread(index % params.n_out, params.n_out), first, min(first + params.part_rows, params.n_row));
}

// Of one column of factors: sums (row, out) = factors (row) values (out) + added (out); one invocation a Value of part_rows rows.
@compute @workgroup_size(LANES)
fn multiply_column(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let part = part_of_rows(global, workgroups);
    if part.first >= part.end {
        return;
    }
    let value = values[params.values_offset / WIDTH + part.out];
    var sum = Value();
    if HAS_ADDED {
        sum = added[params.added_offset / WIDTH + part.out];
    }
    for (var row = part.first; row < part.end; row++) {
        let factor = factors[params.factors_offset + row * params.factors_stride];
        sums[(params.sums_offset + row * params.sums_stride) / WIDTH + part.out] = factor * value + sum;
    }
}

// Of one row of values: product (row) = the sum of rows (row, out) values (out), and the bias; one invocation a row.
@compute @workgroup_size(LANES)
fn multiply_rows(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let row = invocation_of(global, workgroups);
    if row >= params.n_row {
        return;
    }
    let first = (params.rows_offset + row * params.rows_stride) / WIDTH;
    var sum = Value();
    for (var i = 0u; i < params.n_out; i++) {
        sum += rows[first + i] * values[params.values_offset / WIDTH + i];
    }
    var result = total(sum);
    if HAS_BIAS {
        result += bias[params.bias_offset];
    }
    product[params.product_offset + row * params.product_stride] = result;
}

// Sums over part_rows rows, as they are and each times its factor, as far as asked for, from one part of the rows to the next: (part, out);
// one invocation a Value.
@compute @workgroup_size(LANES)
fn sum_rows(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let part = part_of_rows(global, workgroups);
    if part.first >= part.end {
        return;
    }
    var sum = Value();
    var weighted = Value();
    for (var row = part.first; row < part.end; row++) {
        let value = rows[(params.rows_offset + row * params.rows_stride) / WIDTH + part.out];
        sum += value;
        if HAS_FACTORS {
            weighted += factors[params.factors_offset + row * params.factors_stride] * value;
        }
    }
    let to = (params.first_part + part.first / params.part_rows) * params.n_out + part.out;
    if HAS_SUMS {
        sums[params.sums_offset / WIDTH + to] = sum;
    }
    if HAS_WEIGHTED_SUMS {
        weighted_sums[params.weighted_sums_offset / WIDTH + to] = weighted;
    }
}

// one slice of the terms of a block of the product
@compute @workgroup_size(PANEL)
fn multiply_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = global.y * workgroups.x * PANEL + global.x;
    let panel_a = index / params.n_panel_b;
    let panel_b = index % params.n_panel_b;
    if panel_a >= params.n_panel_a {
        return;
    }
    let row = (params.first_panel_a + panel_a) * PANEL;
    let column = (params.first_panel_b + panel_b) * PANEL;
    put_tile(place_of(0u, row, column, PANEL / 2u), panel_product(panel_a, panel_b));
}
