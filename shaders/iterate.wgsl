// y = f(f(.. f(x))), with f(x) = 0.75 x + 0.25 (multiply_add) or exp(-x) (exponential), 8 n_pass times. One invocation a row of 12 elements:
// three vectors that do not wait for one another.

struct Params {
    n_row: u32,
    n_pass: u32,
    x_offset: u32,
    y_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>; // (row, 12)
@group(0) @binding(2) var<storage, read_write> y: array<Value>; // (row, 12)

struct Chains {
    a: Value,
    b: Value,
    c: Value,
}

fn row(global: vec3<u32>, workgroups: vec3<u32>) -> u32 {
    return global.y * workgroups.x * LANES + global.x;
}

fn load(row: u32) -> Chains {
    let first = params.x_offset / 4u + 3u * row;
    return Chains(x[first], x[first + 1u], x[first + 2u]);
}

fn store(row: u32, chains: Chains) {
    let first = params.y_offset / 4u + 3u * row;
    y[first] = chains.a;
    y[first + 1u] = chains.b;
    y[first + 2u] = chains.c;
}

fn add_twice(v: Value) -> Value {
    return fma(fma(v, Value(0.75), Value(0.25)), Value(0.75), Value(0.25));
}

@compute @workgroup_size(LANES)
fn multiply_add(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let row = row(global, workgroups);
    if row >= params.n_row {
        return;
    }
    var v = load(row);
    for (var i = 0u; i < params.n_pass; i++) {
        v.a = add_twice(add_twice(add_twice(add_twice(v.a))));
        v.b = add_twice(add_twice(add_twice(add_twice(v.b))));
        v.c = add_twice(add_twice(add_twice(add_twice(v.c))));
    }
    store(row, v);
}

fn exp_twice(v: Value) -> Value {
    return exp(-exp(-v));
}

@compute @workgroup_size(LANES)
fn exponential(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let row = row(global, workgroups);
    if row >= params.n_row {
        return;
    }
    var v = load(row);
    for (var i = 0u; i < params.n_pass; i++) {
        v.a = exp_twice(exp_twice(exp_twice(exp_twice(v.a))));
        v.b = exp_twice(exp_twice(exp_twice(exp_twice(v.b))));
        v.c = exp_twice(exp_twice(exp_twice(exp_twice(v.c))));
    }
    store(row, v);
}
