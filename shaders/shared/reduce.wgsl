// Sums in a fixed order, so that two runs give the same bits. Every invocation of a workgroup calls them. One invocation adds up what the
// others left in workgroup memory: on software GPUs a barrier costs as much as the sum, and a tree of them more.

var<workgroup> lane_values: array<vec2<f32>, LANES>;
var<workgroup> lane_sum: vec2<f32>;

// sum over the LANES invocations of a workgroup, for each of them
fn sum_lanes(lane: u32, value: vec2<f32>) -> vec2<f32> {
    lane_values[lane] = value;
    workgroupBarrier();
    if lane == 0u {
        var sum = vec2(0.0);
        for (var other = 0u; other < LANES; other++) {
            sum += lane_values[other];
        }
        lane_sum = sum;
    }
    workgroupBarrier();
    return lane_sum;
}

const COLUMNS = 16u;
var<workgroup> column_values: array<array<f32, COLUMNS>, COLUMNS>;

// sum over the COLUMNS invocations of a COLUMNS x COLUMNS workgroup that have the same local.x, for the one whose local.y is 0
fn sum_column(local: vec3<u32>, value: f32) -> f32 {
    column_values[local.y][local.x] = value;
    workgroupBarrier();
    var sum = 0.0;
    if local.y == 0u {
        for (var other = 0u; other < COLUMNS; other++) {
            sum += column_values[other][local.x];
        }
    }
    return sum;
}
