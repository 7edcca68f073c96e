// Four states as they are saved.
alias Border = vec4<f32>;

fn to_border(h: vec4<f32>) -> Border {
    return h;
}
