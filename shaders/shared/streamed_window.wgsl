// What `multiply_resident` streams, as a uniform array: a window of what is packed (slice, row, HELD_TERMS).
@group(0) @binding(30) var<uniform> streamed: array<vec4<f32>, UNIFORM_QUADS>;
