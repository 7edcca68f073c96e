// stack: y[part n_row + row] = the part's columns of x[row], and behind them the columns that all parts share; unstack: back. One
// invocation an element of the tall tensor, row-major; of its parts, those from first_part on are bound.

struct Params {
    n_row: u32,
    n_part: u32,
    first_part: u32,
    n_own: u32, // columns of a part
    n_column: u32, // of the tall tensor
    first_common: u32, // column of the wide tensor
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // stack: wide, (row, part * own + common); unstack: tall
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // stack: tall, (part * row, own + common); unstack: wide

struct Element {
    exists: bool,
    tall_row: u32,
    column: u32,
    wide_row: u32,
    wide_column: u32,
}

fn element(global: vec3<u32>, workgroups: vec3<u32>) -> Element {
    let index = invocation_of(global, workgroups);
    let tall_row = index / params.n_column;
    let column = index % params.n_column;
    let own = (params.first_part + tall_row / params.n_row) * params.n_own + column;
    let behind = params.first_common + column - params.n_own;
    let exists = index < params.n_part * params.n_row * params.n_column;
    return Element(exists, tall_row, column, tall_row % params.n_row, select(behind, own, column < params.n_own));
}

@compute @workgroup_size(LANES)
fn stack(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        let value = x[params.x_offset + e.wide_row * params.x_stride + e.wide_column];
        y[params.y_offset + e.tall_row * params.y_stride + e.column] = value;
    }
}

@compute @workgroup_size(LANES)
fn unstack(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        let value = x[params.x_offset + e.tall_row * params.x_stride + e.column];
        y[params.y_offset + e.wide_row * params.y_stride + e.wide_column] = value;
    }
}
