// Saved states are read where they lie.

fn state_before(at_border: u32) -> vec4<f32> {
    return saved_state(at_border);
}
