// Updates of all parameters w by their gradients g, after g *= clip[1] and a clamp to clip_value:
//   sgd       g += weight_decay w; m = momentum m + g; w -= rate (NESTEROV: g + momentum m, else m)
//   adam      g += weight_decay w, or DECOUPLED: w -= rate weight_decay w; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²;
//             w -= rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//   rms_prop  g += weight_decay w; v = alpha v + (1 - alpha) g²; m = momentum m + g / (sqrt(v) + eps); w -= rate m
// Momentum is left out where it is 0. An invocation takes every n_lane-th parameter, n_lane being all invocations.

struct Params {
    n_parameter: u32,
    n_rate: u32,
    rate: f32, // what learning rates are multiplied by
    clip_value: f32,
    weight_decay: f32,
    momentum: f32,
    eps: f32,
    decay_first: f32, // beta1
    gain_first: f32, // 1 - beta1, rounded once
    log_decay_first: f32, // log(beta1)
    decay_second: f32, // beta2, alpha
    gain_second: f32,
    log_decay_second: f32,
    strength: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> parameters: array<f32>; // (n_parameter)
@group(0) @binding(2) var<storage, read> gradients: array<f32>; // (n_parameter)
@group(0) @binding(3) var<storage, read_write> first: array<f32>; // (n_parameter), m
@group(0) @binding(4) var<storage, read_write> second: array<f32>; // (n_parameter), v
@group(0) @binding(5) var<storage, read> clip: array<f32>; // (2)
@group(0) @binding(6) var<storage, read> learning_rates: array<f32>; // (n_rate)
@group(0) @binding(7) var<storage, read> counter: array<u32>; // (2)
@group(0) @binding(8) var<storage, read> mask: array<f32>; // (n_parameter)
@group(0) @binding(9) var<storage, read> values: array<f32>; // (n_parameter), the parameters where they are only read
@group(0) @binding(10) var<storage, read_write> penalised: array<f32>; // (n_parameter), the gradients where they are written

fn learning_rate() -> f32 {
    return params.rate * learning_rates[min(counter[0], params.n_rate - 1u)];
}

fn clip_factor() -> f32 {
    if HAS_CLIP {
        return clip[1];
    }
    return 1.0;
}

// what is not a number passes on
fn clipped(grad: f32, factor: f32) -> f32 {
    let g = grad * factor;
    if HAS_CLIP_VALUE {
        return select(clamp(g, -params.clip_value, params.clip_value), g, is_nan(g));
    }
    return g;
}

// 1 - exp(x) for x <= 0, without the cancellation near 0
fn one_minus_exp(x: f32) -> f32 {
    if x < -0.5 {
        return 1.0 - exp(x);
    }
    var sum = 0.0;
    for (var n = 9.0; n > 0.0; n -= 1.0) {
        sum = (1.0 + sum) * x / n;
    }
    return -sum;
}

// 1 - decay^t for step t, counted from 1
fn correction(log_decay: f32) -> f32 {
    return one_minus_exp(f32(counter[1] + 1u) * log_decay);
}

@compute @workgroup_size(LANES)
fn sgd(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let n_lane = workgroups.x * workgroups.y * LANES;
    let rate = learning_rate();
    let factor = clip_factor();
    for (var index = invocation_of(global, workgroups); index < params.n_parameter; index += n_lane) {
        let w = parameters[index];
        var g = clipped(gradients[index], factor) + params.weight_decay * w;
        if HAS_FIRST {
            let m = params.momentum * first[index] + g;
            first[index] = m;
            g = select(m, g + params.momentum * m, NESTEROV);
        }
        parameters[index] = w - rate * g;
    }
}

@compute @workgroup_size(LANES)
fn adam(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let n_lane = workgroups.x * workgroups.y * LANES;
    let rate = learning_rate();
    let factor = clip_factor();
    let step_size = rate / correction(params.log_decay_first);
    let root_correction = sqrt(correction(params.log_decay_second));
    for (var index = invocation_of(global, workgroups); index < params.n_parameter; index += n_lane) {
        var w = parameters[index];
        var g = clipped(gradients[index], factor);
        if DECOUPLED {
            w -= rate * params.weight_decay * w;
        } else {
            g += params.weight_decay * w;
        }
        let m = params.decay_first * first[index] + params.gain_first * g;
        let v = params.decay_second * second[index] + params.gain_second * g * g;
        first[index] = m;
        second[index] = v;
        parameters[index] = w - step_size * m / (sqrt(v) / root_correction + params.eps);
    }
}

@compute @workgroup_size(LANES)
fn rms_prop(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let n_lane = workgroups.x * workgroups.y * LANES;
    let rate = learning_rate();
    let factor = clip_factor();
    for (var index = invocation_of(global, workgroups); index < params.n_parameter; index += n_lane) {
        let w = parameters[index];
        let g = clipped(gradients[index], factor) + params.weight_decay * w;
        let v = params.decay_second * second[index] + params.gain_second * g * g;
        second[index] = v;
        var update = g / (sqrt(v) + params.eps);
        if HAS_FIRST {
            update += params.momentum * first[index];
            first[index] = update;
        }
        parameters[index] = w - rate * update;
    }
}

// gradients += strength mask sign(parameters)
@compute @workgroup_size(LANES)
fn l1_penalty(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let n_lane = workgroups.x * workgroups.y * LANES;
    for (var index = invocation_of(global, workgroups); index < params.n_parameter; index += n_lane) {
        penalised[index] += params.strength * mask[index] * sign(values[index]);
    }
}
