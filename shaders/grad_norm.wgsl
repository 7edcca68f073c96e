// clip = (norm, factor) with norm = sqrt(sum of gradients²), factor = min(1, max_norm / (norm + 1e-6)), not a number where the
// norm is none.
// n_partial workgroups sum stripes of the gradients, of one window of them after the other; then one workgroup sums those sums.

struct Params {
    n_gradient: u32,
    n_partial: u32,
    first_partial: u32,
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>; // (n_gradient)
@group(0) @binding(2) var<storage, read_write> partials: array<f32>; // (n_partial)
@group(0) @binding(3) var<storage, read_write> clip: array<f32>; // (2)

@compute @workgroup_size(LANES)
fn sum_squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var index = group.x * LANES + lane; index < params.n_gradient; index += params.n_partial * LANES) {
        let gradient = gradients[index];
        sum += gradient * gradient;
    }
    sum = sum_lanes(lane, vec2(sum, 0.0)).x;
    if lane == 0u {
        partials[params.first_partial + group.x] = sum;
    }
}

@compute @workgroup_size(LANES)
fn norm(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var index = lane; index < params.n_partial; index += LANES) {
        sum += partials[index];
    }
    sum = sum_lanes(lane, vec2(sum, 0.0)).x;
    if lane == 0u {
        let norm = sqrt(sum);
        clip[0] = norm;
        clip[1] = select(min(1.0, params.max_norm / (norm + 1e-6)), norm, is_nan(norm));
    }
}
