// Sums over the rows of a square workgroup in a fixed order, as in reduce.wgsl.

var<workgroup> column_values: array<array<Value, COLUMNS>, COLUMNS>;

// sum over the COLUMNS invocations of a COLUMNS x COLUMNS workgroup that have the same local.x, for the one whose local.y is 0
fn sum_column(local: vec3<u32>, value: Value) -> Value {
    column_values[local.y][local.x] = value;
    workgroupBarrier();
    var sum = Value();
    if local.y == 0u {
        for (var other = 0u; other < COLUMNS; other++) {
            sum += column_values[other][local.x];
        }
    }
    return sum;
}
