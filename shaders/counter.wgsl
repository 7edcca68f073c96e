// counter += 1, both the step within what was last uploaded and all steps so far. One workgroup, one invocation an element.

@group(0) @binding(0) var<storage, read_write> counter: array<u32>; // (2)

@compute @workgroup_size(2)
fn advance(@builtin(local_invocation_index) lane: u32) {
    counter[lane] += 1u;
}
