// Saved states are read where they lie.

fn state_before(at_border: u32) -> vec4<f32> {
    return vec4<f32>(saved_borders[params.saved_borders_offset / BORDER_FLOATS + at_border]);
}
