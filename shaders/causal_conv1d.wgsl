// s[i] = bias + sum over k of weight[k] x[i - (KERNEL_SIZE - 1) + k], y = s or SiLU(s), with i counting positions of the run.
// One invocation walks over CHUNK positions of one Value, WIDTH neighbouring channels, with the inputs that a position reads in registers.
// Channels are counted in Values. The gradient of the sums goes through scratch memory, with a partial sum of the weights' gradients for each chunk.
// Where not everything can be bound at once, a dispatch takes some sequences of the batch, or the positions from first_position to
// end_position of one; what these read besides lies N_WINDOW positions before them, and of the gradients of sums behind them.

struct Params {
    n_batch: u32,
    n_step: u32,
    n_channel: u32, // Values of a row
    n_chunk: u32,
    first_position: u32,
    end_position: u32,
    reach_position: u32, // where the gradients of sums that are read end
    first_row: u32, // of (batch, step), which is bound first: of what is written
    x_first_row: u32, // of x
    grad_y_first_row: u32, // of grad_y
    accumulate: u32, // whether sums go on from what was taken before
    reverse: u32,
    x_offset: u32,
    x_stride: u32,
    weight_offset: u32,
    bias_offset: u32,
    initial_window_offset: u32,
    initial_window_stride: u32,
    reset_offset: u32,
    y_offset: u32,
    y_stride: u32,
    last_window_offset: u32,
    last_window_stride: u32,
    grad_y_offset: u32,
    grad_y_stride: u32,
    grad_last_window_offset: u32,
    grad_last_window_stride: u32,
    grad_x_offset: u32,
    grad_x_stride: u32,
    grad_initial_window_offset: u32,
    grad_initial_window_stride: u32,
    grad_weight_offset: u32,
    grad_bias_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Value>; // (batch, step, channel)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // (channel, KERNEL_SIZE)
@group(0) @binding(3) var<storage, read> bias: array<Value>; // (channel)
@group(0) @binding(4) var<storage, read> initial_window: array<Value>; // (batch, N_WINDOW, channel)
@group(0) @binding(5) var<storage, read> reset: array<u32>; // (batch, step)
@group(0) @binding(6) var<storage, read_write> y: array<Value>; // (batch, step, channel)
@group(0) @binding(7) var<storage, read_write> last_window: array<Value>; // (batch, N_WINDOW, channel)
@group(0) @binding(8) var<storage, read> grad_y: array<Value>; // (batch, step, channel)
@group(0) @binding(9) var<storage, read_write> grad_sum: array<Value>; // (batch, position, channel), from first_position to reach_position
@group(0) @binding(10) var<storage, read_write> partial_weight: array<Value>; // (batch, chunk, KERNEL_SIZE + 1, channel), last the bias
@group(0) @binding(11) var<storage, read> grad_last_window: array<Value>; // (batch, N_WINDOW, channel)
@group(0) @binding(12) var<storage, read_write> grad_x: array<Value>; // (batch, step, channel)
@group(0) @binding(13) var<storage, read_write> grad_initial_window: array<Value>; // (batch, N_WINDOW, channel)
@group(0) @binding(14) var<storage, read_write> grad_weight: array<f32>; // (channel, KERNEL_SIZE)
@group(0) @binding(15) var<storage, read_write> grad_bias: array<Value>; // (channel)

const N_WINDOW = KERNEL_SIZE - 1u;

// the inputs that a position reads, its own last; 0 beyond a border
var<private> window: array<Value, KERNEL_SIZE>;
var<private> weights: array<Value, KERNEL_SIZE>;

struct Item {
    batch: u32,
    chunk: u32,
    channel: u32,
    first: u32, // position
    end: u32, // position
}

fn item_of(global: vec3<u32>, workgroups: vec3<u32>) -> Item {
    let index = invocation_of(global, workgroups);
    let chunk = index / params.n_channel % params.n_chunk;
    let first = params.first_position + chunk * CHUNK;
    let end = min(first + CHUNK, params.reach_position);
    return Item(index / params.n_channel / params.n_chunk, chunk, spread(index % params.n_channel, params.n_channel), first, end);
}

// row of a (batch, step) list of rows
fn row_of(batch: u32, position: u32) -> u32 {
    return batch * params.n_step + step_of(position);
}

fn grad_sum_at(batch: u32, position: u32, channel: u32) -> u32 {
    return (batch * (params.reach_position - params.first_position) + position - params.first_position) * params.n_channel + channel;
}

fn load_weights(channel: u32) {
    for (var k = 0u; k < KERNEL_SIZE; k++) {
        for (var i = 0u; i < WIDTH; i++) {
            weights[k] = with_element(weights[k], i, weight[params.weight_offset + (WIDTH * channel + i) * KERNEL_SIZE + k]);
        }
    }
}

fn enter(input: Value) {
    for (var k = 0u; k < N_WINDOW; k++) {
        window[k] = window[k + 1u];
    }
    window[N_WINDOW] = input;
}

fn visit(batch: u32, position: u32, channel: u32) {
    if begins(batch, position) {
        for (var k = 0u; k < KERNEL_SIZE; k++) {
            window[k] = Value();
        }
    }
    enter(x[(params.x_offset + (row_of(batch, position) - params.x_first_row) * params.x_stride) / WIDTH + channel]);
}

// fills the window with what lies before a position
fn approach(batch: u32, position: u32, channel: u32) {
    for (var line = position; line < position + N_WINDOW; line++) {
        if line >= N_WINDOW {
            visit(batch, line - N_WINDOW, channel);
        } else if HAS_INITIAL_WINDOW {
            enter(initial_window[(params.initial_window_offset + (batch * N_WINDOW + line) * params.initial_window_stride) / WIDTH + channel]);
        } else {
            enter(Value());
        }
    }
}

fn load_bias(channel: u32) -> Value {
    if HAS_BIAS {
        return bias[params.bias_offset / WIDTH + channel];
    }
    return Value();
}

fn convolve(start: Value) -> Value {
    var sum = start;
    for (var k = 0u; k < KERNEL_SIZE; k++) {
        sum += weights[k] * window[k];
    }
    return sum;
}

@compute @workgroup_size(LANES)
fn forward(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let item = item_of(global, workgroups);
    if item.batch >= params.n_batch {
        return;
    }
    load_weights(item.channel);
    let start = load_bias(item.channel);
    approach(item.batch, item.first, item.channel);
    for (var position = item.first; position < item.end; position++) {
        visit(item.batch, position, item.channel);
        var value = convolve(start);
        if SILU {
            value = silu(value);
        }
        y[(params.y_offset + (row_of(item.batch, position) - params.first_row) * params.y_stride) / WIDTH + item.channel] = value;
    }
    if item.end == params.n_step {
        for (var i = 0u; i < N_WINDOW; i++) {
            let row = item.batch * N_WINDOW + i;
            last_window[(params.last_window_offset + row * params.last_window_stride) / WIDTH + item.channel] = window[i + 1u];
        }
    }
}

// grad_sum = grad_y, times SiLU' of the sum, and the chunk's part of grad_weight and grad_bias
@compute @workgroup_size(LANES)
fn backward_sum(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let item = item_of(global, workgroups);
    if item.batch >= params.n_batch {
        return;
    }
    load_weights(item.channel);
    let start = load_bias(item.channel);
    var sums: array<Value, KERNEL_SIZE>;
    var sum_bias = Value();
    approach(item.batch, item.first, item.channel);
    for (var position = item.first; position < item.end; position++) {
        visit(item.batch, position, item.channel);
        var grad = Value();
        if HAS_GRAD_Y {
            let row = row_of(item.batch, position) - params.grad_y_first_row;
            grad = grad_y[(params.grad_y_offset + row * params.grad_y_stride) / WIDTH + item.channel];
        }
        if SILU {
            grad *= silu_derivative(convolve(start));
        }
        grad_sum[grad_sum_at(item.batch, position, item.channel)] = grad;
        if position >= params.end_position {
            continue;
        }
        for (var k = 0u; k < KERNEL_SIZE; k++) {
            sums[k] += grad * window[k];
        }
        sum_bias += grad;
    }
    let row = (item.batch * params.n_chunk + item.chunk) * (KERNEL_SIZE + 1u);
    for (var k = 0u; k < KERNEL_SIZE; k++) {
        partial_weight[(row + k) * params.n_channel + item.channel] = sums[k];
    }
    partial_weight[(row + KERNEL_SIZE) * params.n_channel + item.channel] = sum_bias;
}

// grad_x[j] = sum over k of weight[k] grad_sum[j + (KERNEL_SIZE - 1) - k], from the last position to the first, so that `window` holds what
// lies ahead, the nearest last; the initial window follows on position 0
@compute @workgroup_size(LANES)
fn backward_input(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let item = item_of(global, workgroups);
    if item.batch >= params.n_batch {
        return;
    }
    load_weights(item.channel);
    var reaches_end = true;
    let end = min(item.end, params.end_position);
    for (var position = min(end + N_WINDOW, params.n_step); position > item.first;) {
        position--;
        enter(grad_sum[grad_sum_at(item.batch, position, item.channel)]);
        if HAS_GRAD_X && position < end {
            let grad = convolve(grad_of_last_window(item, position + N_WINDOW, reaches_end));
            let row = row_of(item.batch, position) - params.first_row;
            grad_x[(params.grad_x_offset + row * params.grad_x_stride) / WIDTH + item.channel] = grad;
        }
        if begins(item.batch, position) {
            reaches_end = false;
            for (var k = 0u; k < KERNEL_SIZE; k++) {
                window[k] = Value();
            }
        }
    }
    if HAS_GRAD_INITIAL_WINDOW && item.first == 0u {
        for (var line = N_WINDOW; line > 0u;) {
            line--;
            enter(Value());
            let row = item.batch * N_WINDOW + line;
            let grad = convolve(grad_of_last_window(item, line, reaches_end));
            grad_initial_window[(params.grad_initial_window_offset + row * params.grad_initial_window_stride) / WIDTH + item.channel] = grad;
        }
    }
}

// what the last window adds to the gradient of a line, counted from the first of the initial window
fn grad_of_last_window(item: Item, line: u32, reaches_end: bool) -> Value {
    if !HAS_GRAD_LAST_WINDOW || !reaches_end || line < params.n_step {
        return Value();
    }
    let row = item.batch * N_WINDOW + line - params.n_step;
    return grad_last_window[(params.grad_last_window_offset + row * params.grad_last_window_stride) / WIDTH + item.channel];
}

// grad_weight and grad_bias = sums of the partial sums; a COLUMNS x COLUMNS workgroup sums COLUMNS columns of Values
@compute @workgroup_size(COLUMNS, COLUMNS)
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let column = (group.y * workgroups.x + group.x) * COLUMNS + local.x;
    let n_column = (KERNEL_SIZE + 1u) * params.n_channel;
    var sum = Value();
    if column < n_column {
        for (var row = local.y; row < params.n_batch * params.n_chunk; row += COLUMNS) {
            sum += partial_weight[row * n_column + column];
        }
    }
    sum = sum_column(local, sum);
    if local.y != 0u || column >= n_column {
        return;
    }
    let k = column / params.n_channel;
    let channel = column % params.n_channel;
    if k < KERNEL_SIZE {
        if HAS_GRAD_WEIGHT {
            for (var i = 0u; i < WIDTH; i++) {
                let at = params.grad_weight_offset + (WIDTH * channel + i) * KERNEL_SIZE + k;
                grad_weight[at] = select(0.0, grad_weight[at], params.accumulate != 0u) + element_of(sum, i);
            }
        }
    } else if HAS_GRAD_BIAS {
        let at = params.grad_bias_offset / WIDTH + channel;
        grad_bias[at] = select(Value(), grad_bias[at], params.accumulate != 0u) + sum;
    }
}
