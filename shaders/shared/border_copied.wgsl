// Saved states are read from a copy in the workspace, for adapters that bind no storage buffer more.

// One invocation a vector.
@compute @workgroup_size(LANES)
fn pack_borders(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    if index < params.n_batch * params.n_span * params.n_channel * QUADS {
        workspace[params.borders_start + index] = saved_state(index);
    }
}

fn state_before(at_border: u32) -> vec4<f32> {
    return workspace[params.borders_start + at_border];
}
