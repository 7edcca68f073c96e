enable f16;
// Four states as they are saved: rounded to 11 bits, and none beyond the largest 16-bit float.
alias Border = vec4<f16>;
const BORDER_FLOATS = 2u;

fn to_border(h: vec4<f32>) -> Border {
    return Border(clamp(h, vec4(-65504.0), vec4(65504.0)));
}
