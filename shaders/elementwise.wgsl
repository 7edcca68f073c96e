// One invocation WIDTH neighbouring elements of y, row-major; rows may lie apart.

struct Params {
    n_row: u32,
    n_column: u32, // Values of a row
    value: f32,
    x_offset: u32,
    x_stride: u32,
    b_offset: u32,
    b_stride: u32,
    y_offset: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>; // (row, column)
@group(0) @binding(2) var<storage, read> b: array<Value>; // (row, column)
@group(0) @binding(3) var<storage, read_write> y: array<Value>; // (row, column)

struct Element {
    exists: bool,
    row: u32,
    column: u32,
}

fn element(global: vec3<u32>, workgroups: vec3<u32>) -> Element {
    let index = invocation_of(global, workgroups);
    return Element(index < params.n_row * params.n_column, index / params.n_column, index % params.n_column);
}

fn at_x(e: Element) -> u32 {
    return (params.x_offset + e.row * params.x_stride) / WIDTH + e.column;
}

fn at_b(e: Element) -> u32 {
    return (params.b_offset + e.row * params.b_stride) / WIDTH + e.column;
}

fn at_y(e: Element) -> u32 {
    return (params.y_offset + e.row * params.y_stride) / WIDTH + e.column;
}

// y = value
@compute @workgroup_size(LANES)
fn fill(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        y[at_y(e)] = Value(params.value);
    }
}

// y = x
@compute @workgroup_size(LANES)
fn copy(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        y[at_y(e)] = x[at_x(e)];
    }
}

// y = y + x
@compute @workgroup_size(LANES)
fn add(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        y[at_y(e)] += x[at_x(e)];
    }
}

// y = x + b
@compute @workgroup_size(LANES)
fn sum(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        y[at_y(e)] = x[at_x(e)] + b[at_b(e)];
    }
}

// y = -exp(x)
@compute @workgroup_size(LANES)
fn neg_exp(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        y[at_y(e)] = -exp(x[at_x(e)]);
    }
}

// grad_x = y * grad_y, here y = x * b
@compute @workgroup_size(LANES)
fn neg_exp_backward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let e = element(global, workgroups);
    if e.exists {
        y[at_y(e)] = x[at_x(e)] * b[at_b(e)];
    }
}
