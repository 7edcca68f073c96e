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
