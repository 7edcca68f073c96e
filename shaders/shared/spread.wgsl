// Which of a row's n_value vectors of four an invocation takes. Where SPREAD is set, eight neighbours, a subgroup of Mesa's software drivers, take
// vectors of eight cache lines, and the next three subgroups find theirs in the cache: loads that miss wait for one another there, but for lines
// that lie in order, which the processor fetches ahead.
fn spread(nth: u32, n_value: u32) -> u32 {
    if !SPREAD || n_value % 32u != 0u {
        return nth;
    }
    return nth / 32u * 32u + nth % 8u * 4u + nth / 8u % 4u;
}
