// y = x scale where hash(stream, step, element) >= threshold, else 0, with step = counter[1], the training steps so far: the same mask on
// every device, forward and backward. One invocation an element of y, row-major, counted from first_element on; rows may lie apart.

struct Params {
    n_row: u32,
    n_column: u32,
    first_element: u32,
    stream: u32,
    threshold: u32,
    scale: f32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (row, column)
@group(0) @binding(2) var<storage, read> counter: array<u32>; // (2)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (row, column)

// every bit of the result depends on every bit of the argument, one to one
fn mix_bits(bits: u32) -> u32 {
    var mixed = bits;
    mixed = (mixed ^ (mixed >> 16u)) * 0x7feb352du;
    mixed = (mixed ^ (mixed >> 15u)) * 0x846ca68bu;
    return mixed ^ (mixed >> 16u);
}

@compute @workgroup_size(LANES)
fn dropout(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = invocation_of(global, workgroups);
    if index >= params.n_row * params.n_column {
        return;
    }
    let row = index / params.n_column;
    let column = index % params.n_column;
    let key = mix_bits(params.stream ^ mix_bits(counter[1]));
    let bits = mix_bits(mix_bits((params.first_element + index) ^ key) + key);
    let kept = x[params.x_offset + row * params.x_stride + column] * params.scale;
    y[params.y_offset + row * params.y_stride + column] = select(0.0, kept, bits >= params.threshold);
}
