//! What both peers share: arguments and the measuring of steps.

use std::time::Instant;

/// Batch and length, the first two arguments; 32 and 32 where they are absent.
pub fn shape() -> (usize, usize) {
    let size = |index| std::env::args().nth(index).and_then(|given| given.parse().ok()).unwrap_or(32);
    (size(1), size(2))
}

/// Runs steps for some seconds, four at least, and prints the median and the least time of all but the first.
pub fn measure(name: &str, mut step: impl FnMut()) {
    let mut ms = Vec::new();
    let start = Instant::now();
    while ms.len() < 4 || (start.elapsed().as_secs_f64() < 8.0 && ms.len() < 200) {
        let begin = Instant::now();
        step();
        ms.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    ms.remove(0);
    ms.sort_by(f64::total_cmp);
    println!("{name}: median {:.1} ms, least {:.1} ms", ms[ms.len() / 2], ms[0]);
}
