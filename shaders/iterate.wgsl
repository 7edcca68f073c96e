// y = f(f(.. f(x))), 8 n_pass times: exp(-x) of each element (exponential), or of four rows their products with a matrix and a term
// (multiply_add). One invocation a column, three times four rows that do not wait for one another.

struct Params {
    n_column: u32,
    n_pass: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (12, column)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (12, column)

// a column: three times four rows
struct Column {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
}

fn load_four(column: u32, row: u32) -> vec4<f32> {
    let at = params.x_offset + row * params.x_stride + column;
    return vec4(x[at], x[at + params.x_stride], x[at + 2u * params.x_stride], x[at + 3u * params.x_stride]);
}

fn load(column: u32) -> Column {
    return Column(load_four(column, 0u), load_four(column, 4u), load_four(column, 8u));
}

fn store_four(column: u32, row: u32, four: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        y[params.y_offset + (row + i) * params.y_stride + column] = four[i];
    }
}

fn store(column: u32, v: Column) {
    store_four(column, 0u, v.a);
    store_four(column, 4u, v.b);
    store_four(column, 8u, v.c);
}

// no products of its matrix are alike: one that a compiler finds twice it computes once
fn product(v: vec4<f32>) -> vec4<f32> {
    let of_first = fma(vec4(v.x), vec4(0.3, 0.2, 0.15, 0.1), vec4(0.25));
    let of_second = fma(vec4(v.y), vec4(0.2, 0.15, 0.1, 0.3), of_first);
    let of_third = fma(vec4(v.z), vec4(0.15, 0.1, 0.3, 0.2), of_second);
    return fma(vec4(v.w), vec4(0.1, 0.3, 0.2, 0.15), of_third);
}

fn products(v: Column) -> Column {
    return Column(product(v.a), product(v.b), product(v.c));
}

@compute @workgroup_size(LANES)
fn multiply_add(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let column = invocation_of(global, workgroups);
    if column >= params.n_column {
        return;
    }
    var v = load(column);
    for (var i = 0u; i < params.n_pass; i++) {
        let four = products(products(products(products(v))));
        v = products(products(products(products(four))));
    }
    store(column, v);
}

fn exponentials(v: Column) -> Column {
    return Column(exp(-v.a), exp(-v.b), exp(-v.c));
}

@compute @workgroup_size(LANES)
fn exponential(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let column = invocation_of(global, workgroups);
    if column >= params.n_column {
        return;
    }
    var v = load(column);
    for (var i = 0u; i < params.n_pass; i++) {
        let four = exponentials(exponentials(exponentials(exponentials(v))));
        v = exponentials(exponentials(exponentials(exponentials(four))));
    }
    store(column, v);
}
