// `subgroup`: both factors are packed, then a subgroup of 8 invocations computes 16 x 32 elements of the product, an invocation four
// neighbouring columns: see shared/panel_subgroup.wgsl. A dispatch, which costs as much as 60,000 multiply-adds, takes four windows of either
// factor: those of n_slice slices of the terms, or of A's further panels, n_window_panel a window, each beside the same panels of B.

const WIDE_ROWS = 16u;

@group(0) @binding(30) var<uniform> panels_a_1: array<vec4<f32>, WINDOW>;
@group(0) @binding(31) var<uniform> panels_b_1: array<vec4<f32>, WINDOW>;
@group(0) @binding(32) var<uniform> panels_a_2: array<vec4<f32>, WINDOW>;
@group(0) @binding(33) var<uniform> panels_b_2: array<vec4<f32>, WINDOW>;
@group(0) @binding(34) var<uniform> panels_a_3: array<vec4<f32>, WINDOW>;
@group(0) @binding(35) var<uniform> panels_b_3: array<vec4<f32>, WINDOW>;
@group(0) @binding(36) var<storage, read_write> product_fours: array<vec4<f32>>; // `product`, whose rows begin and end at multiples of four

// A panel of A is 2 params.slice vectors long, of which an invocation loads one in 8; of four panels of B it loads four rows in 32.
fn add_slice(tile: ptr<function, WideTile>, from_a: u32, from_b: u32) {
    for (var at = 0u; at < 2u * params.slice; at += PANEL) {
        let b = from_b + at;
        let columns = mat4x4(panels_b[b], panels_b[b + 1u], panels_b[b + 2u], panels_b[b + 3u]);
        add_four_terms(tile, panels_a[from_a + at], panels_a[from_a + 2u * params.slice + at], transpose(columns));
    }
}

fn add_slice_1(tile: ptr<function, WideTile>, from_a: u32, from_b: u32) {
    for (var at = 0u; at < 2u * params.slice; at += PANEL) {
        let b = from_b + at;
        let columns = mat4x4(panels_b_1[b], panels_b_1[b + 1u], panels_b_1[b + 2u], panels_b_1[b + 3u]);
        add_four_terms(tile, panels_a_1[from_a + at], panels_a_1[from_a + 2u * params.slice + at], transpose(columns));
    }
}

fn add_slice_2(tile: ptr<function, WideTile>, from_a: u32, from_b: u32) {
    for (var at = 0u; at < 2u * params.slice; at += PANEL) {
        let b = from_b + at;
        let columns = mat4x4(panels_b_2[b], panels_b_2[b + 1u], panels_b_2[b + 2u], panels_b_2[b + 3u]);
        add_four_terms(tile, panels_a_2[from_a + at], panels_a_2[from_a + 2u * params.slice + at], transpose(columns));
    }
}

fn add_slice_3(tile: ptr<function, WideTile>, from_a: u32, from_b: u32) {
    for (var at = 0u; at < 2u * params.slice; at += PANEL) {
        let b = from_b + at;
        let columns = mat4x4(panels_b_3[b], panels_b_3[b + 1u], panels_b_3[b + 2u], panels_b_3[b + 3u]);
        add_four_terms(tile, panels_a_3[from_a + at], panels_a_3[from_a + 2u * params.slice + at], transpose(columns));
    }
}

fn put_wide_row(row: u32, column: u32, values: vec4<f32>) {
    if row < params.n_product_row && column < params.n_product_column {
        let at = (params.product_fours_offset + row * params.product_fours_stride + column) / 4u;
        if ACCUMULATE {
            product_fours[at] += values;
        } else {
            product_fours[at] = values;
        }
    }
}

@compute @workgroup_size(PANEL)
fn multiply_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.y * workgroups.x + group.x;
    let n_tile_b = (params.n_panel_b + 3u) / 4u;
    let panel_a = index / n_tile_b * 2u;
    let panel_b = index % n_tile_b * 4u;
    if panel_a >= params.n_panel_a {
        return;
    }
    let window = panel_a / params.n_window_panel;
    let from_a = panel_a % params.n_window_panel * 2u * params.slice + lane;
    let from_b = (panel_b + lane / 2u) * 2u * params.slice + lane % 2u * 4u;
    var tile: WideTile;
    if window == 0u {
        add_slice(&tile, from_a, from_b);
    }
    if window == 1u || params.n_slice > 1u {
        add_slice_1(&tile, from_a, from_b);
    }
    if window == 2u || params.n_slice > 2u {
        add_slice_2(&tile, from_a, from_b);
    }
    if window == 3u || params.n_slice > 3u {
        add_slice_3(&tile, from_a, from_b);
    }
    let row = (params.first_panel_a + panel_a) * PANEL;
    let column = (params.first_panel_b + panel_b) * PANEL + 4u * lane;
    var product_bias = vec4<f32>();
    if HAS_BIAS && !ACCUMULATE {
        let at = params.bias_offset + min(column, params.n_product_column - 4u);
        product_bias = vec4(bias[at], bias[at + 1u], bias[at + 2u], bias[at + 3u]);
    }
    var rows = rows_of(tile);
    for (var i = 0u; i < WIDE_ROWS; i++) {
        put_wide_row(row + i, column, rows[i] + product_bias);
    }
}
