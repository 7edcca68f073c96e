// Products of packed factors, for software GPUs, whose loads from uniform buffers cost a tenth of those from storage or workgroup memory.
// A panel holds PANEL rows of a factor over params.slice terms of the sum: (term, PANEL). What lies beyond the factor is 0.
// An invocation multiplies a panel of A by a panel of B, all in registers.

const PANEL = 8u;
const WINDOW = 4096u; // vectors of the largest uniform binding that every implementation offers

@group(0) @binding(20) var<uniform> panels_a: array<vec4<f32>, WINDOW>; // (panel, term, PANEL)
@group(0) @binding(21) var<uniform> panels_b: array<vec4<f32>, WINDOW>; // (panel, term, PANEL)
@group(0) @binding(22) var<storage, read> source: array<f32>; // (.., row, .., term), or (.., term, .., row) where params.by_term is set
@group(0) @binding(23) var<storage, read_write> packed: array<vec4<f32>>; // (slice, panel, term, PANEL)

// read at a place that exists and then selected: a branch around a load costs a software GPU more than the load
fn packed_element(row: u32, term: u32) -> f32 {
    let by_term = params.by_term != 0u;
    let near_row = min(row, params.n_pack_row - 1u);
    let near_term = min(term, params.n_pack_term - 1u);
    let source_row = params.source_first + select(near_row, near_term, by_term) * params.source_every;
    let value = source[params.source_offset + source_row * params.source_stride + params.source_column + select(near_term, near_row, by_term)];
    return select(0.0, value, row < params.n_pack_row && term < params.n_pack_term);
}

// one invocation a term of a panel
@compute @workgroup_size(LANES)
fn pack(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = global.y * workgroups.x * LANES + global.x;
    let n_panel = (params.n_pack_row + PANEL - 1u) / PANEL;
    let n_slice = (params.n_pack_term + params.slice - 1u) / params.slice;
    if index >= n_slice * n_panel * params.slice {
        return;
    }
    let panel = index / params.slice % n_panel;
    let term = index / params.slice / n_panel * params.slice + index % params.slice;
    let row = panel * PANEL;
    packed[2u * index] =
        vec4(packed_element(row, term), packed_element(row + 1u, term), packed_element(row + 2u, term), packed_element(row + 3u, term));
    packed[2u * index + 1u] =
        vec4(packed_element(row + 4u, term), packed_element(row + 5u, term), packed_element(row + 6u, term), packed_element(row + 7u, term));
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

fn add_term(tile: ptr<function, Tile>, at_a: u32, at_b: u32) {
    add_outer_product(tile, panels_a[at_a], panels_a[at_a + 1u], panels_b[at_b], panels_b[at_b + 1u]);
}

fn panel_product(panel_a: u32, panel_b: u32) -> Tile {
    var tile: Tile;
    var at_a = 2u * panel_a * params.slice;
    var at_b = 2u * panel_b * params.slice;
    for (var term = 0u; term < params.slice; term += 4u) {
        add_term(&tile, at_a, at_b);
        add_term(&tile, at_a + 2u, at_b + 2u);
        add_term(&tile, at_a + 4u, at_b + 4u);
        add_term(&tile, at_a + 6u, at_b + 6u);
        at_a += 8u;
        at_b += 8u;
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
