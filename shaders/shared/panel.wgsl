// Products of packed factors, for software GPUs, whose loads from uniform buffers cost a tenth of those from storage or workgroup memory.
// A panel holds PANEL rows of a factor over params.slice terms of the sum: (term / 4, PANEL, 4). What lies beyond the factor is 0.
// An invocation multiplies a panel of A by a panel of B, all in registers.

@group(0) @binding(20) var<uniform> panels_a: array<vec4<f32>, UNIFORM_QUADS>; // (panel, term / 4, PANEL, 4)
@group(0) @binding(21) var<uniform> panels_b: array<vec4<f32>, UNIFORM_QUADS>; // (panel, term / 4, PANEL, 4)
@group(0) @binding(22) var<storage, read> source: array<f32>; // (.., row, .., term), or (.., term, .., row) where params.by_term is set
@group(0) @binding(23) var<storage, read_write> packed: array<vec4<f32>>; // (slice, panel, term / 4, PANEL, 4)

// read at a place that exists and then selected: a branch around a load costs a software GPU more than the load
fn packed_element(row: u32, term: u32) -> f32 {
    let by_term = params.by_term != 0u;
    let near_row = min(row, params.n_pack_row - 1u);
    let near_term = min(term, params.n_pack_term - 1u);
    let source_row = params.source_first + select(near_row, near_term, by_term) * params.source_every;
    let value = source[params.source_offset + source_row * params.source_stride + params.source_column + select(near_term, near_row, by_term)];
    return select(0.0, value, row < params.n_pack_row && term < params.n_pack_term);
}

// one invocation four terms of a row of a panel
@compute @workgroup_size(LANES)
fn pack(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let panel_len = 2u * params.slice; // vectors
    let n_panel = (params.n_pack_row + PANEL - 1u) / PANEL;
    let n_slice = (params.n_pack_term + params.slice - 1u) / params.slice;
    if index >= n_slice * n_panel * panel_len {
        return;
    }
    let panel = index / panel_len;
    let row = panel % n_panel * PANEL + index % PANEL;
    let term = panel / n_panel * params.slice + index % panel_len / PANEL * 4u;
    packed[index] = vec4(packed_element(row, term), packed_element(row, term + 1u), packed_element(row, term + 2u), packed_element(row, term + 3u));
}

@group(0) @binding(24) var<storage, read> source_fours: array<vec4<f32>>; // `source`, whose rows begin and end at multiples of four

// four elements of a row of `source`, from column 4 quad on; 0 beyond the last row
fn source_four(row: u32, quad: u32, n_row: u32) -> vec4<f32> {
    let source_row = params.source_first + min(row, n_row - 1u) * params.source_every;
    let at = (params.source_fours_offset + source_row * params.source_fours_stride + params.source_column) / 4u;
    return select(vec4<f32>(), source_fours[at + quad], row < n_row);
}

// Four terms of four rows of the source, a row a column of the matrix; 0 beyond the factor.
fn source_block(row: u32, term: u32) -> mat4x4<f32> {
    let is_within = row < params.n_pack_row && term < params.n_pack_term;
    var block: mat4x4<f32>;
    if params.by_term != 0u {
        let quad = min(row, params.n_pack_row - 4u) / 4u;
        let n = params.n_pack_term;
        block = transpose(mat4x4(
            source_four(term, quad, n), source_four(term + 1u, quad, n), source_four(term + 2u, quad, n), source_four(term + 3u, quad, n),
        ));
    } else {
        let quad = min(term, params.n_pack_term - 4u) / 4u;
        let n = params.n_pack_row;
        block = mat4x4(
            source_four(row, quad, n), source_four(row + 1u, quad, n), source_four(row + 2u, quad, n), source_four(row + 3u, quad, n),
        );
    }
    for (var i = 0u; i < 4u; i++) {
        block[i] = select(vec4<f32>(), block[i], is_within);
    }
    return block;
}

// one invocation four terms of four rows of a panel
@compute @workgroup_size(LANES)
fn pack_fours(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    let n_panel = (params.n_pack_row + PANEL - 1u) / PANEL;
    let n_slice = (params.n_pack_term + params.slice - 1u) / params.slice;
    let panel = index / (params.slice / 2u);
    if panel >= n_slice * n_panel {
        return;
    }
    let row = panel % n_panel * PANEL + index % 2u * 4u;
    let term = panel / n_panel * params.slice + index % (params.slice / 2u) / 2u * 4u;
    let block = source_block(row, term);
    for (var i = 0u; i < 4u; i++) {
        packed[4u * index + i] = block[i];
    }
}

// PANEL rows of A by PANEL rows of B: columns 0 to 3, then 4 to 7
struct Tile {
    low: array<vec4<f32>, PANEL>,
    high: array<vec4<f32>, PANEL>,
}

// tile += a b^T for 8 elements each; written out, since indices that are not constant keep the tile out of registers
fn add_outer_product(tile: ptr<function, Tile>, a_low: vec4<f32>, a_high: vec4<f32>, b_low: vec4<f32>, b_high: vec4<f32>) {
    (*tile).low[0] = fma(vec4(a_low.x), b_low, (*tile).low[0]);
    (*tile).low[1] = fma(vec4(a_low.y), b_low, (*tile).low[1]);
    (*tile).low[2] = fma(vec4(a_low.z), b_low, (*tile).low[2]);
    (*tile).low[3] = fma(vec4(a_low.w), b_low, (*tile).low[3]);
    (*tile).low[4] = fma(vec4(a_high.x), b_low, (*tile).low[4]);
    (*tile).low[5] = fma(vec4(a_high.y), b_low, (*tile).low[5]);
    (*tile).low[6] = fma(vec4(a_high.z), b_low, (*tile).low[6]);
    (*tile).low[7] = fma(vec4(a_high.w), b_low, (*tile).low[7]);
    (*tile).high[0] = fma(vec4(a_low.x), b_high, (*tile).high[0]);
    (*tile).high[1] = fma(vec4(a_low.y), b_high, (*tile).high[1]);
    (*tile).high[2] = fma(vec4(a_low.z), b_high, (*tile).high[2]);
    (*tile).high[3] = fma(vec4(a_low.w), b_high, (*tile).high[3]);
    (*tile).high[4] = fma(vec4(a_high.x), b_high, (*tile).high[4]);
    (*tile).high[5] = fma(vec4(a_high.y), b_high, (*tile).high[5]);
    (*tile).high[6] = fma(vec4(a_high.z), b_high, (*tile).high[6]);
    (*tile).high[7] = fma(vec4(a_high.w), b_high, (*tile).high[7]);
}

// four terms of four rows: a column a term
fn four_rows_a(at: u32) -> mat4x4<f32> {
    return transpose(mat4x4(panels_a[at], panels_a[at + 1u], panels_a[at + 2u], panels_a[at + 3u]));
}

fn four_rows_b(at: u32) -> mat4x4<f32> {
    return transpose(mat4x4(panels_b[at], panels_b[at + 1u], panels_b[at + 2u], panels_b[at + 3u]));
}

fn panel_product(panel_a: u32, panel_b: u32) -> Tile {
    var tile: Tile;
    var at_a = 2u * panel_a * params.slice;
    var at_b = 2u * panel_b * params.slice;
    for (var term = 0u; term < params.slice; term += 4u) {
        let a_low = four_rows_a(at_a);
        let a_high = four_rows_a(at_a + 4u);
        let b_low = four_rows_b(at_b);
        let b_high = four_rows_b(at_b + 4u);
        add_outer_product(&tile, a_low[0], a_high[0], b_low[0], b_high[0]);
        add_outer_product(&tile, a_low[1], a_high[1], b_low[1], b_high[1]);
        add_outer_product(&tile, a_low[2], a_high[2], b_low[2], b_high[2]);
        add_outer_product(&tile, a_low[3], a_high[3], b_low[3], b_high[3]);
        at_a += PANEL;
        at_b += PANEL;
    }
    return tile;
}

// the tile by rows, for what takes its elements one after the other
fn elements_of(tile: Tile) -> array<f32, PANEL * PANEL> {
    return array(
        tile.low[0].x, tile.low[0].y, tile.low[0].z, tile.low[0].w, tile.high[0].x, tile.high[0].y, tile.high[0].z, tile.high[0].w,
        tile.low[1].x, tile.low[1].y, tile.low[1].z, tile.low[1].w, tile.high[1].x, tile.high[1].y, tile.high[1].z, tile.high[1].w,
        tile.low[2].x, tile.low[2].y, tile.low[2].z, tile.low[2].w, tile.high[2].x, tile.high[2].y, tile.high[2].z, tile.high[2].w,
        tile.low[3].x, tile.low[3].y, tile.low[3].z, tile.low[3].w, tile.high[3].x, tile.high[3].y, tile.high[3].z, tile.high[3].w,
        tile.low[4].x, tile.low[4].y, tile.low[4].z, tile.low[4].w, tile.high[4].x, tile.high[4].y, tile.high[4].z, tile.high[4].w,
        tile.low[5].x, tile.low[5].y, tile.low[5].z, tile.low[5].w, tile.high[5].x, tile.high[5].y, tile.high[5].z, tile.high[5].w,
        tile.low[6].x, tile.low[6].y, tile.low[6].z, tile.low[6].w, tile.high[6].x, tile.high[6].y, tile.high[6].z, tile.high[6].w,
        tile.low[7].x, tile.low[7].y, tile.low[7].z, tile.low[7].w, tile.high[7].x, tile.high[7].y, tile.high[7].z, tile.high[7].w,
    );
}
