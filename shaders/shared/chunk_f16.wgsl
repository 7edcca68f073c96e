enable f16;
// What a chunk does to a state, h -> x h + y; then the state that enters it: rounded to 11 bits, and none beyond the largest 16-bit float.
alias Chunk = vec2<f16>;

fn to_chunk(summary: vec2<f32>) -> Chunk {
    return Chunk(clamp(summary, vec2(-65504.0), vec2(65504.0)));
}
