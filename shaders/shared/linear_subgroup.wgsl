// `subgroup`: both factors are packed, then a subgroup of 8 invocations computes 16 x 32 elements of the product, an invocation four
// neighbouring columns: see shared/panel_subgroup.wgsl. A dispatch, which costs as much as 60,000 multiply-adds, takes four windows of either
// factor: n_slice slices of the terms, and so many times n_window_panel panels of A as there are windows for, beside the same panels of B.

@group(0) @binding(30) var<uniform> panels_a_1: array<vec4<f32>, WINDOW>;
@group(0) @binding(31) var<uniform> panels_b_1: array<vec4<f32>, WINDOW>;
@group(0) @binding(32) var<uniform> panels_a_2: array<vec4<f32>, WINDOW>;
@group(0) @binding(33) var<uniform> panels_b_2: array<vec4<f32>, WINDOW>;
@group(0) @binding(34) var<uniform> panels_a_3: array<vec4<f32>, WINDOW>;
@group(0) @binding(35) var<uniform> panels_b_3: array<vec4<f32>, WINDOW>;
@group(0) @binding(37) var<storage, read> added: array<f32>; // (product column): a bias, where params.has_added is set
@group(0) @binding(36) var<storage, read_write> product_fours: array<vec4<f32>>; // `product`, whose rows begin and end at multiples of four

// A panel of A is 2 params.slice vectors long, of which an invocation loads one in 8; of four panels of B it loads four rows in 32.
fn add_slice(low: ptr<function, PanelRows>, high: ptr<function, PanelRows>, from_a: u32, from_b: u32) {
    let panel = 2u * params.slice;
    for (var at = 0u; at < panel; at += PANEL) {
        let a = from_a + at;
        let b = from_b + at;
        let columns = transpose(mat4x4(panels_b[b], panels_b[b + 1u], panels_b[b + 2u], panels_b[b + 3u]));
        add_four_terms(low, panels_a[a], columns);
        add_four_terms(high, panels_a[a + panel], columns);
    }
}

fn add_slice_1(low: ptr<function, PanelRows>, high: ptr<function, PanelRows>, from_a: u32, from_b: u32) {
    let panel = 2u * params.slice;
    for (var at = 0u; at < panel; at += PANEL) {
        let a = from_a + at;
        let b = from_b + at;
        let columns = transpose(mat4x4(panels_b_1[b], panels_b_1[b + 1u], panels_b_1[b + 2u], panels_b_1[b + 3u]));
        add_four_terms(low, panels_a_1[a], columns);
        add_four_terms(high, panels_a_1[a + panel], columns);
    }
}

fn add_slice_2(low: ptr<function, PanelRows>, high: ptr<function, PanelRows>, from_a: u32, from_b: u32) {
    let panel = 2u * params.slice;
    for (var at = 0u; at < panel; at += PANEL) {
        let a = from_a + at;
        let b = from_b + at;
        let columns = transpose(mat4x4(panels_b_2[b], panels_b_2[b + 1u], panels_b_2[b + 2u], panels_b_2[b + 3u]));
        add_four_terms(low, panels_a_2[a], columns);
        add_four_terms(high, panels_a_2[a + panel], columns);
    }
}

fn add_slice_3(low: ptr<function, PanelRows>, high: ptr<function, PanelRows>, from_a: u32, from_b: u32) {
    let panel = 2u * params.slice;
    for (var at = 0u; at < panel; at += PANEL) {
        let a = from_a + at;
        let b = from_b + at;
        let columns = transpose(mat4x4(panels_b_3[b], panels_b_3[b + 1u], panels_b_3[b + 2u], panels_b_3[b + 3u]));
        add_four_terms(low, panels_a_3[a], columns);
        add_four_terms(high, panels_a_3[a + panel], columns);
    }
}

fn put_wide_row(row: u32, column: u32, values: vec4<f32>) {
    if row < params.n_product_row && column < params.n_product_column {
        let at = (params.product_fours_offset + row * params.product_fours_stride + column) / 4u;
        if params.accumulate != 0u {
            product_fours[at] += values;
        } else {
            product_fours[at] = values;
        }
    }
}

fn put_panel(row: u32, column: u32, panel: PanelRows, product_bias: vec4<f32>) {
    var rows = panel.rows;
    for (var i = 0u; i < PANEL; i++) {
        put_wide_row(row + i, column, rows[i] + product_bias);
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
    var low: PanelRows;
    var high: PanelRows;
    if window == 0u {
        add_slice(&low, &high, from_a, from_b);
    }
    if window == 1u / params.n_slice {
        add_slice_1(&low, &high, from_a, from_b);
    }
    if window == 2u / params.n_slice {
        add_slice_2(&low, &high, from_a, from_b);
    }
    if window == 3u / params.n_slice {
        add_slice_3(&low, &high, from_a, from_b);
    }
    let row = (params.first_panel_a + panel_a) * PANEL;
    let column = (params.first_panel_b + panel_b) * PANEL + 4u * lane;
    var product_bias = vec4<f32>();
    if params.has_added != 0u {
        let at = params.added_offset + min(column, params.n_product_column - 4u);
        product_bias = vec4(added[at], added[at + 1u], added[at + 2u], added[at + 3u]);
    }
    put_panel(row, column, low, product_bias);
    put_panel(row + PANEL, column, high, product_bias);
}
