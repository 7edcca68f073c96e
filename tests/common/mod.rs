//! What several tests share.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use scanrnn::backend::Backend;
use scanrnn::cpu::Cpu;
use scanrnn::gpu::{Gpu, Selection};

/// Whether `SCANRNN_NO_GPU=1` leaves the GPU out.
pub fn without_gpu() -> bool {
    std::env::var("SCANRNN_NO_GPU").is_ok_and(|value| value == "1")
}

/// Held while a device works: an OpenGL context serves one thread at a time and gives the others six seconds to wait.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is held against the reference: the CPU backend and the adapter of [`gpu`].
pub fn devices(setting: Setting) -> Vec<&'static dyn Backend> {
    [Some(&Cpu as &dyn Backend), gpu(setting).map(|gpu| gpu as &dyn Backend)].into_iter().flatten().collect()
}

/// How a GPU is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Setting {
    /// An operation and the kernel that is forced for it.
    pub kernel: Option<(&'static str, &'static str)>,
    /// Bytes of a tensor that are bound at once, at most.
    pub bound: Option<u64>,
}

/// The adapter that `WGPU_BACKEND` and `WGPU_ADAPTER_NAME` leave first, opened once for each setting; none [`without_gpu`].
pub fn gpu(setting: Setting) -> Option<&'static Gpu> {
    static GPUS: Mutex<Option<HashMap<Setting, &'static Gpu>>> = Mutex::new(None);
    if without_gpu() {
        return None;
    }
    let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = gpus.get_or_insert_default().entry(setting).or_insert_with(|| {
        let opened = pollster::block_on(Gpu::open(&Selection::Any));
        let mut gpu = opened.unwrap_or_else(|error| panic!("{error}; or set SCANRNN_NO_GPU=1 to test without a GPU"));
        if let Some((operation, kernel)) = setting.kernel {
            gpu.force_kernel(operation, kernel).expect("an operation with such a kernel");
        }
        if let Some(bytes) = setting.bound {
            gpu.limit_binding(bytes);
        }
        Box::leak(Box::new(gpu))
    });
    Some(gpu)
}
