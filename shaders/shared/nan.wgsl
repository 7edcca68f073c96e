// by its bits: compilers may take it that floats are numbers, and turn a comparison into min or max, which drop what is not one
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}
