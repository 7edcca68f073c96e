// `subgroup`: a subgroup of 8 invocations holds HELD_TERMS terms of 32 columns of the product, four an invocation, and streams rows past them, an
// invocation one vector in 8, which it hands to the others. On Mesa's software drivers a load is a gather of 30 instructions; resident terms
// spill to the stack, from where a multiplication reads them by itself. HELD_TERMS is 16, 32 or 128; every multiplication is written out.
// `subgroup_window` streams windows of 64 KiB, a dispatch each: for CPUs on which loads from storage take far longer.

@group(0) @binding(31) var<storage, read> resident: array<vec4<f32>>; // (column, term), or (term, column) where B_BY_TERM
@group(0) @binding(32) var<storage, read> bias_fours: array<vec4<f32>>; // of a line of the product, where params.has_bias is set
@group(0) @binding(33) var<storage, read_write> product_fours: array<vec4<f32>>; // (row, column) where BY_ROW, or (column, row)

const COLUMNS = 4u * PANEL;

// one row of a factor that lies term by term or of one that does not; 0 beyond its terms
fn resident_four(row: u32, quad: u32, is_within: bool) -> vec4<f32> {
    let at = (params.resident_offset + row * params.resident_stride) / 4u + quad;
    return select(vec4<f32>(), resident[at], is_within);
}

// four terms of four columns
fn resident_terms(column: u32, term: u32) -> mat4x4<f32> {
    let last = params.n_term - 1u;
    let last_column = params.n_product_column - 1u;
    if B_BY_TERM {
        let quad = min(column, last_column) / 4u;
        return mat4x4(
            resident_four(min(term, last), quad, term <= last),
            resident_four(min(term + 1u, last), quad, term + 1u <= last),
            resident_four(min(term + 2u, last), quad, term + 2u <= last),
            resident_four(min(term + 3u, last), quad, term + 3u <= last),
        );
    }
    let quad = min(term, last) / 4u;
    let is_within = term <= last;
    return transpose(mat4x4(
        resident_four(min(column, last_column), quad, is_within),
        resident_four(min(column + 1u, last_column), quad, is_within),
        resident_four(min(column + 2u, last_column), quad, is_within),
        resident_four(min(column + 3u, last_column), quad, is_within),
    ));
}

// four terms more, behind those that are held
fn push_four(terms: Terms, four: mat4x4<f32>) -> Terms {
    return Terms(array(terms.fours[1], terms.fours[2], terms.fours[3], four));
}

// 16 terms of a row, of which the first four invocations hold four each, by those of four columns
fn products_of_first(a: vec4<f32>, terms: Terms) -> vec4<f32> {
    let row = mat4x4(subgroupBroadcast(a, 0u), subgroupBroadcast(a, 1u), subgroupBroadcast(a, 2u), subgroupBroadcast(a, 3u));
    return term_products(row, terms);
}

// the same of the last four invocations
fn products_of_last(a: vec4<f32>, terms: Terms) -> vec4<f32> {
    let row = mat4x4(subgroupBroadcast(a, 4u), subgroupBroadcast(a, 5u), subgroupBroadcast(a, 6u), subgroupBroadcast(a, 7u));
    return term_products(row, terms);
}

// 32 terms of a row
fn products(a: vec4<f32>, first: Terms, second: Terms) -> vec4<f32> {
    return products_of_first(a, first) + products_of_last(a, second);
}

// four neighbours of a line of the product
fn put_four(line: u32, first: u32, values: vec4<f32>, is_first: bool) {
    let at = (params.product_fours_offset + line * params.product_fours_stride + first) / 4u;
    var sum = values;
    if !is_first {
        sum += product_fours[at];
    }
    product_fours[at] = sum;
}

// column sums of the resident factor, over the slices so far
fn put_sums(column: u32, slice: u32, of_slice: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if column + i < params.n_product_column {
            let at = params.sums_offset + column + i;
            sums[at] = select(sums[at], 0.0, slice == 0u) + of_slice[i];
        }
    }
}

// block_rows rows of the product, or fewer; n_slice slices of HELD_TERMS terms, from first_slice on. Of what is streamed n_product_row rows are
// bound, from first_row on, and slices from bound_slice on.
@compute @workgroup_size(PANEL)
fn multiply_resident(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * workgroups.x + group.x;
    let n_group = (params.n_product_column + COLUMNS - 1u) / COLUMNS;
    let first_column = index % n_group * COLUMNS;
    let first = index / n_group * params.block_rows;
    if first >= params.n_product_row {
        return;
    }
    let end = min(first + params.block_rows, params.n_product_row);
    let column = 4u * spread(first_column / 4u + lane, params.n_product_column / 4u);
    let row_quads = params.streamed_stride / 4u;
    let first_at = params.streamed_offset / 4u + first * row_quads + select(lane, lane / 4u * row_quads + lane % 4u, HELD_TERMS == 16u);
    for (var slice = params.first_slice; slice < params.first_slice + params.n_slice; slice++) {
        var held_0: Terms;
        var held_1: Terms;
        var held_2: Terms;
        var held_3: Terms;
        var held_4: Terms;
        var held_5: Terms;
        var held_6: Terms;
        var held_7: Terms;
        var sum_held = vec4<f32>();
        // loops whose terms move up: written out, the loads would take longer to compile than all else
        for (var term = slice * HELD_TERMS; term < (slice + 1u) * HELD_TERMS; term += 16u) {
            held_0 = held_1;
            held_1 = held_2;
            held_2 = held_3;
            held_3 = held_4;
            held_4 = held_5;
            held_5 = held_6;
            held_6 = held_7;
            for (var i = term; i < term + 16u; i += 4u) {
                let four = resident_terms(column, i);
                held_7 = push_four(held_7, four);
                if HAS_SUMS {
                    sum_held += four * vec4(1.0);
                }
            }
        }
        if HAS_SUMS && params.first_row + first == 0u {
            put_sums(column, slice, sum_held);
        }
        var at = first_at + (slice - params.bound_slice) * params.n_product_row * row_quads;
        for (var row = first; row < end; row += 4u) {
            var rows: mat4x4<f32>; // the last four, a column of the matrix each
            for (var i = 0u; i < 2u && HELD_TERMS == 16u; i++) {
                let two = streamed[at];
                rows = mat4x4(rows[2], rows[3], products_of_first(two, held_7), products_of_last(two, held_7));
                at += 2u * row_quads;
            }
            for (var i = 0u; i < 4u && HELD_TERMS != 16u; i++) {
                var sum = products(streamed[at + HELD_TERMS / 4u - PANEL], held_6, held_7);
                if HELD_TERMS == 128u {
                    sum += products(streamed[at], held_0, held_1);
                    sum += products(streamed[at + PANEL], held_2, held_3);
                    sum += products(streamed[at + 2u * PANEL], held_4, held_5);
                }
                rows = mat4x4(rows[1], rows[2], rows[3], sum);
                at += row_quads;
            }
            let to = params.first_row + row;
            var added = vec4<f32>();
            if slice == 0u && params.has_bias != 0u {
                added = bias_fours[(params.bias_fours_offset + select(to, column, BY_ROW)) / 4u];
            }
            let columns = transpose(rows);
            for (var i = 0u; i < 4u; i++) {
                if BY_ROW && column < params.n_product_column && row + i < end {
                    put_four(to + i, column, rows[i] + added, slice == 0u);
                } else if !BY_ROW && column + i < params.n_product_column {
                    put_four(column + i, to, columns[i] + added, slice == 0u);
                }
            }
        }
    }
}

// a streamed factor: one invocation four terms of four rows
@compute @workgroup_size(LANES)
fn pack_rows(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let n_quad = params.n_pack_row / 4u;
    let quads = index / (HELD_TERMS / 4u);
    let row = quads % n_quad * 4u;
    let slice = quads / n_quad;
    let quad = index % (HELD_TERMS / 4u);
    if slice >= params.n_slice {
        return;
    }
    let block = source_block(row, slice * HELD_TERMS + 4u * quad);
    for (var i = 0u; i < 4u; i++) {
        packed[(slice * params.n_pack_row + row + i) * (HELD_TERMS / 4u) + quad] = block[i];
    }
}
