// Sums over the channels of a workgroup: first by subgroup, in registers, then over its subgroups; a quarter of the workgroup memory of
// channel_sum.wgsl at most. The order is the driver's, and the same in every run.

// Subgroups have four invocations at least.
const MOST_SUBGROUPS = LANES / 4u;

var<workgroup> subgroup_sums: array<array<vec4<f32>, MOST_SUBGROUPS>, 2u * SPAN>;

// (subgroup, invocation in it, subgroups of the workgroup)
var<private> place: vec3<u32>;

fn keep_term(column: u32, index: u32, term: vec4<f32>) {
    let sum = subgroupAdd(term);
    if place.y == 0u {
        subgroup_sums[column][place.x] = sum;
    }
}

// The caller has passed a barrier after the last term was kept; a barrier is passed before the return.
fn sum_terms(index: u32) -> vec4<f32> {
    var total = vec4<f32>();
    if index < 2u * SPAN {
        for (var subgroup = 0u; subgroup < place.z; subgroup++) {
            total += subgroup_sums[index][subgroup];
        }
    }
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(LANES)
fn backward_subgroup(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
    @builtin(num_subgroups) n_subgroup: u32,
) {
    place = vec3(subgroup, invocation, n_subgroup);
    run_backward(workgroup, workgroups, index);
}
