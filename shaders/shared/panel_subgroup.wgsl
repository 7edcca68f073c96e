// Products of packed factors by subgroups of 8 invocations: shared/panel.wgsl with a larger tile. An invocation loads one row of each panel
// and hands it to the others: 24 loads of vectors for 2048 multiply-adds of each invocation.

// two panels of A by four vectors of columns: a row of A each, of which this invocation has the columns of its own vectors
struct WideTile {
    rows: array<vec4<f32>, 2u * PANEL>,
}

// four terms more of one row of the tile
fn row_with_terms(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(a.w), b[3], fma(vec4(a.z), b[2], fma(vec4(a.y), b[1], fma(vec4(a.x), b[0], sum))));
}

// four terms more of the first WIDE_ROWS rows: of this invocation's own row of either panel of A, and of its own four columns
fn add_four_terms(tile: ptr<function, WideTile>, a_low: vec4<f32>, a_high: vec4<f32>, b: mat4x4<f32>) {
    (*tile).rows[0] = row_with_terms((*tile).rows[0], subgroupBroadcast(a_low, 0u), b);
    (*tile).rows[1] = row_with_terms((*tile).rows[1], subgroupBroadcast(a_low, 1u), b);
    (*tile).rows[2] = row_with_terms((*tile).rows[2], subgroupBroadcast(a_low, 2u), b);
    (*tile).rows[3] = row_with_terms((*tile).rows[3], subgroupBroadcast(a_low, 3u), b);
    if WIDE_ROWS > 4u {
        (*tile).rows[4] = row_with_terms((*tile).rows[4], subgroupBroadcast(a_low, 4u), b);
        (*tile).rows[5] = row_with_terms((*tile).rows[5], subgroupBroadcast(a_low, 5u), b);
        (*tile).rows[6] = row_with_terms((*tile).rows[6], subgroupBroadcast(a_low, 6u), b);
        (*tile).rows[7] = row_with_terms((*tile).rows[7], subgroupBroadcast(a_low, 7u), b);
    }
    if WIDE_ROWS > 8u {
        (*tile).rows[8] = row_with_terms((*tile).rows[8], subgroupBroadcast(a_high, 0u), b);
        (*tile).rows[9] = row_with_terms((*tile).rows[9], subgroupBroadcast(a_high, 1u), b);
        (*tile).rows[10] = row_with_terms((*tile).rows[10], subgroupBroadcast(a_high, 2u), b);
        (*tile).rows[11] = row_with_terms((*tile).rows[11], subgroupBroadcast(a_high, 3u), b);
        (*tile).rows[12] = row_with_terms((*tile).rows[12], subgroupBroadcast(a_high, 4u), b);
        (*tile).rows[13] = row_with_terms((*tile).rows[13], subgroupBroadcast(a_high, 5u), b);
        (*tile).rows[14] = row_with_terms((*tile).rows[14], subgroupBroadcast(a_high, 6u), b);
        (*tile).rows[15] = row_with_terms((*tile).rows[15], subgroupBroadcast(a_high, 7u), b);
    }
}

// its rows, for what takes them one after the other
fn rows_of(tile: WideTile) -> array<vec4<f32>, 2u * PANEL> {
    return array(
        tile.rows[0], tile.rows[1], tile.rows[2], tile.rows[3], tile.rows[4], tile.rows[5], tile.rows[6], tile.rows[7],
        tile.rows[8], tile.rows[9], tile.rows[10], tile.rows[11], tile.rows[12], tile.rows[13], tile.rows[14], tile.rows[15],
    );
}
