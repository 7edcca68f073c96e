// Each invocation stores the first of the rows of gradients that it holds: its own part of the sums over channels.
fn leave_row(group: u32, index: u32, batch: u32, position: u32) {
    if position >= params.n_step {
        return;
    }
    let at = grad_row_at(group * PARTIAL + index, batch, position);
    for (var quad = 0u; quad < QUADS; quad++) {
        workspace[at + quad] = walked_grad_b[0][quad];
        workspace[at + QUADS + quad] = walked_grad_c[0][quad];
    }
}
