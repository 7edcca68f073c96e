// Products of packed factors by subgroups of 8 invocations: shared/panel.wgsl with larger tiles. An invocation holds one row of a panel of A
// and hands it to the others, and four columns of B.

// the rows of a panel of A by this invocation's four columns of B
struct PanelRows {
    rows: array<vec4<f32>, PANEL>,
}

// four terms more of one row
fn row_with_terms(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(a.w), b[3], fma(vec4(a.z), b[2], fma(vec4(a.y), b[1], fma(vec4(a.x), b[0], sum))));
}

// four terms more: `a` of the row that this invocation holds, `b` of its own columns
fn add_four_terms(tile: ptr<function, PanelRows>, a: vec4<f32>, b: mat4x4<f32>) {
    (*tile).rows[0] = row_with_terms((*tile).rows[0], subgroupBroadcast(a, 0u), b);
    (*tile).rows[1] = row_with_terms((*tile).rows[1], subgroupBroadcast(a, 1u), b);
    (*tile).rows[2] = row_with_terms((*tile).rows[2], subgroupBroadcast(a, 2u), b);
    (*tile).rows[3] = row_with_terms((*tile).rows[3], subgroupBroadcast(a, 3u), b);
    (*tile).rows[4] = row_with_terms((*tile).rows[4], subgroupBroadcast(a, 4u), b);
    (*tile).rows[5] = row_with_terms((*tile).rows[5], subgroupBroadcast(a, 5u), b);
    (*tile).rows[6] = row_with_terms((*tile).rows[6], subgroupBroadcast(a, 6u), b);
    (*tile).rows[7] = row_with_terms((*tile).rows[7], subgroupBroadcast(a, 7u), b);
}
