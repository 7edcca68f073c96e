// Four states as they are saved.
alias Border = vec4<f32>;
const BORDER_FLOATS = 4u;

fn to_border(h: vec4<f32>) -> Border {
    return h;
}
