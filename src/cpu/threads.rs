//! The threads that operations run on.
//!
//! Gradients of a loss on the last step alone decay through time into subnormal floats, which cost common processors up to ten times the
//! time of normal ones. These threads therefore take subnormal inputs and results for 0; the caller's threads are left as they are.
//!
//! To wake another thread takes longer than a whole step of a small model: such work runs on the caller's thread ([`run_here`]), which
//! takes subnormals for 0 as long as it lasts. The results are the same bits.

use std::cell::Cell;
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

/// Runs `work` on the caller's thread, [`parallel`] tasks one after another.
pub fn run_here<T>(work: impl FnOnce() -> T) -> T {
    let _serial = Serial(SERIAL.replace(true));
    flushing_subnormals(work)
}

/// Runs `work` on a thread that takes subnormals for 0 as long as it lasts; on Linux all threads that it starts meanwhile do so for good.
pub fn flushing_subnormals<T>(work: impl FnOnce() -> T) -> T {
    let _flushing = Flushing(flush_subnormals());
    work()
}

thread_local! {
    /// Whether this thread runs all tasks itself.
    static SERIAL: Cell<bool> = const { Cell::new(false) };
}

/// Gives [`SERIAL`] back as it was.
struct Serial(bool);

impl Drop for Serial {
    fn drop(&mut self) {
        SERIAL.set(self.0);
    }
}

/// Gives the control register back as it was.
struct Flushing(Control);

impl Drop for Flushing {
    fn drop(&mut self) {
        set_control(self.0);
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
    if n_task <= 1 || SERIAL.get() {
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
        builder.start_handler(|_| _ = flush_subnormals()).build().ok()
    })
    .as_ref()
}

/// The control register of vector arithmetic, as far as there is one.
#[cfg(target_arch = "aarch64")]
type Control = u64;
#[cfg(not(target_arch = "aarch64"))]
type Control = u32;

/// Sets this thread's processor to take subnormal floats for 0, and returns its control register as it was.
fn flush_subnormals() -> Control {
    #[cfg(target_arch = "aarch64")]
    const FLUSH: Control = 1 << 24;
    // To flush results to zero and to take subnormal inputs for zero.
    #[cfg(not(target_arch = "aarch64"))]
    const FLUSH: Control = 1 << 15 | 1 << 6;
    let before = control();
    set_control(before | FLUSH);
    before
}

fn control() -> Control {
    let mut control: Control = 0;
    // SAFETY: reads the control register of vector arithmetic.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack));
    }
    control
}

/// Sets the control register to what [`control`] gave, but for the treatment of subnormals.
fn set_control(control: Control) {
    // SAFETY: only the treatment of subnormals changes, by assembly that the compiler does not see through. Rust assumes the default when it
    // computes constants: a subnormal one may stay where the processor would make it 0.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &control, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = control;
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
        assert_eq!(run_here(halved), 0.0);
        #[cfg(target_os = "linux")]
        assert_eq!(flushing_subnormals(|| std::thread::spawn(halved).join().expect("ends")), 0.0);
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
