//! The threads that operations run on.
//!
//! Gradients of a loss on the last step alone decay through time into subnormal floats, which cost common processors up to ten times the
//! time of normal ones. These threads therefore take subnormal inputs and results for 0; the caller's threads are left as they are.

use std::sync::OnceLock;

use rayon::ThreadPool;
use rayon::prelude::*;

/// Runs `work` on one of the backend's threads, the others at hand for [`parallel`].
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// How many threads there are.
pub fn count() -> usize {
    pool().map_or(1, ThreadPool::current_num_threads)
}

/// Runs `task` for every number below `n_task`, in any order, on all threads.
///
/// The tasks, not the threads, decide what is added to what, so that results do not depend on how many threads there are.
pub fn parallel(n_task: usize, task: impl Fn(usize) + Send + Sync) {
    if n_task <= 1 {
        (0..n_task).for_each(task);
    } else {
        (0..n_task).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// As many threads as rayon finds useful; none where the platform has no threads.
fn pool() -> Option<&'static ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| {
        let builder = rayon::ThreadPoolBuilder::new().thread_name(|index| format!("scanrnn {index}"));
        builder.start_handler(|_| flush_subnormals()).build().ok()
    })
    .as_ref()
}

/// Sets this thread's processor to take subnormal floats for 0.
fn flush_subnormals() {
    #[cfg(target_arch = "x86_64")]
    {
        const FLUSH_TO_ZERO: u32 = 1 << 15;
        const DENORMALS_ARE_ZERO: u32 = 1 << 6;
        let mut control = 0u32;
        // SAFETY: reads and writes the control register of vector arithmetic, of which only the treatment of subnormals changes.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack));
            control |= FLUSH_TO_ZERO | DENORMALS_ARE_ZERO;
            std::arch::asm!("ldmxcsr [{}]", in(reg) &control, options(nostack));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        const FLUSH_TO_ZERO: u64 = 1 << 24;
        let mut control: u64;
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack));
            control |= FLUSH_TO_ZERO;
            std::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn subnormals_are_zero_in_the_backend_and_kept_outside() {
        let halved = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert_eq!(run(halved), 0.0);
        assert!(halved() > 0.0);
    }

    #[test]
    fn every_task_runs_once() {
        let hits: Vec<_> = (0..100).map(|_| std::sync::atomic::AtomicUsize::new(0)).collect();
        run(|| {
            parallel(hits.len(), |task| {
                hits[task].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            });
        });
        assert!(hits.iter().all(|hit| hit.load(std::sync::atomic::Ordering::Relaxed) == 1));
    }
}
