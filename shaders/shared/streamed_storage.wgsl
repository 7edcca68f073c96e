// What `multiply_resident` streams, in storage: (row, term) as it lies, or packed (slice, row, HELD_TERMS).
@group(0) @binding(30) var<storage, read> streamed: array<vec4<f32>>;
