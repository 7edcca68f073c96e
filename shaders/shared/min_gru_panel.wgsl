// `panel`: also step by step; an invocation computes a block of PANEL rows and channels, see shared/panel.wgsl.

// first row of the batch and first column of the block that an invocation computes; none where n_panel_a panels do not reach
struct Block {
    exists: bool,
    panel_a: u32,
    panel_b: u32,
    row: u32,
    column: u32,
}

fn block_of(global: vec3<u32>, groups: vec3<u32>) -> Block {
    let index = global.y * groups.x * PANEL + global.x;
    let a = index / params.n_panel_b;
    let b = index % params.n_panel_b;
    return Block(a < params.n_panel_a, a, b, (params.first_panel_a + a) * PANEL, (params.first_panel_b + b) * PANEL);
}

fn keep_for_next(row: u32, term: u32, value: f32) {
    next[(row / PANEL * (params.next_slice / 4) + term / 4) * PANEL + row % PANEL][term % 4] = value;
}

// z, r and r h' of one position: A is h', B is [U_z; U_r], next is r h'
@compute @workgroup_size(PANEL)
fn gate_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let column = block.column + i % PANEL;
        if row < params.n_batch && column < 2 * HIDDEN {
            let at = place(row, params.first);
            let gate = sigmoid(pre_activation(at, column) + products[i]);
            gates[gate_at(at, 0, column)] = gate;
            if column >= HIDDEN {
                let kept = gate * factors[factor_at(at, 0, column - HIDDEN)];
                factors[factor_at(at, 0, column)] = kept;
                keep_for_next(row, column - HIDDEN, kept);
            }
        }
    }
}

// c and h of one position: A is r h', B is U_h, next is what the next position begins with
@compute @workgroup_size(PANEL)
fn state_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let channel = block.column + i % PANEL;
        if row < params.n_batch && channel < HIDDEN {
            keep_for_next(row, channel, update_state(row, channel, params.first, products[i], factor(row, channel)));
        }
    }
}

// the gradients of p_z and p_r of one position: A is the gradient of p_h, B is U_h^T, next is these gradients
@compute @workgroup_size(PANEL)
fn gate_gradient_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let channel = block.column + i % PANEL;
        if row < params.n_batch && channel < HIDDEN {
            let gradients = gate_gradients(row, channel, params.first, products[i]);
            keep_for_next(row, channel, gradients.z);
            keep_for_next(row, HIDDEN + channel, gradients.r);
        }
    }
}

// dL/dh' of one position, and with it the gradient of p_h of the position before, which is next: A is the gradients of p_z and p_r,
// B is [U_z; U_r]^T
@compute @workgroup_size(PANEL)
fn carry_panels(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let block = block_of(global, groups);
    if !block.exists {
        return;
    }
    var products = elements_of(panel_product(block.panel_a, block.panel_b));
    for (var i = 0u; i < PANEL * PANEL; i++) {
        let row = block.row + i / PANEL;
        let channel = block.column + i % PANEL;
        if row < params.n_batch && channel < HIDDEN {
            carry_back(row, channel, params.first, products[i]);
            if params.first > 0 {
                keep_for_next(row, channel, candidate_gradient(row, channel, params.first - 1));
            }
        }
    }
}
