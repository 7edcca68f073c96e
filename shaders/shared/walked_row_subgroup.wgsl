// A subgroup of 8 sums the first of the rows of gradients that its invocations hold, of which each stores one vector.

fn quad_of(row: array<vec4<f32>, QUADS>, quad: u32) -> vec4<f32> {
    if quad < QUADS {
        return row[quad % QUADS];
    }
    return vec4<f32>();
}

// what an invocation keeps of two vectors and its partner's, the other way round: `first` where `keeps_first`
fn halve(first: vec4<f32>, second: vec4<f32>, keeps_first: bool, partner: u32) -> vec4<f32> {
    return select(second, first, keeps_first) + subgroupShuffleXor(select(first, second, keeps_first), partner);
}

// in three steps, each of which leaves an invocation half as many vectors: of B or of C; two of their four; one
fn leave_row(group: u32, index: u32, batch: u32, position: u32) {
    let b = walked_grad_b[0];
    let c = walked_grad_c[0];
    let of_b = (index & 4u) == 0u;
    let sum_0 = halve(quad_of(b, 0u), quad_of(c, 0u), of_b, 4u);
    let sum_1 = halve(quad_of(b, 1u), quad_of(c, 1u), of_b, 4u);
    let sum_2 = halve(quad_of(b, 2u), quad_of(c, 2u), of_b, 4u);
    let sum_3 = halve(quad_of(b, 3u), quad_of(c, 3u), of_b, 4u);
    let in_first_half = (index & 2u) == 0u;
    let even = halve(sum_0, sum_2, in_first_half, 2u);
    let odd = halve(sum_1, sum_3, in_first_half, 2u);
    let sum = halve(even, odd, (index & 1u) == 0u, 1u);
    let quad = index % 4u;
    if position < params.n_step && quad < QUADS {
        workspace[grad_row_at(group, batch, position) + select(QUADS, 0u, of_b) + quad] = sum;
    }
}
