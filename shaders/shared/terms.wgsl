// What an invocation holds of a factor whose products with others it sums: of four of its rows or columns, 16 terms, a vector a term.
struct Terms {
    fours: array<mat4x4<f32>, 4>,
}

// Four terms of a row by those that are held. The sums are a tree, so that few of them wait for each other.
fn four_products(a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(a.y), b[1], a.x * b[0]) + fma(vec4(a.w), b[3], a.z * b[2]);
}

// 16 terms of a row, four a column of the matrix
fn term_products(a: mat4x4<f32>, terms: Terms) -> vec4<f32> {
    var sum = four_products(a[0], terms.fours[0]);
    sum += four_products(a[1], terms.fours[1]);
    sum += four_products(a[2], terms.fours[2]);
    return sum + four_products(a[3], terms.fours[3]);
}
