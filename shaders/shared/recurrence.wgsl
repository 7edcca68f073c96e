// The step that a run visits at a position; positions count from 0 in the order of the visits. Uses params.n_step and params.reverse.
fn step_of(position: u32) -> u32 {
    return select(position, params.n_step - 1u - position, params.reverse != 0u);
}

// Whether a border lies between a position and the one visited before it; none lies behind the last. Uses reset (batch, step).
fn begins(batch: u32, position: u32) -> bool {
    if !HAS_RESET || position >= params.n_step {
        return false;
    }
    let row = params.reset_offset + batch * params.n_step;
    if params.reverse != 0u {
        return position > 0u && reset[row + params.n_step - position] != 0u;
    }
    return reset[row + position] != 0u;
}
