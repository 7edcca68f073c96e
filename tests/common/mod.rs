//! What several tests share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use scanrnn::gpu::{Gpu, Selection};

/// An operation and the kernel that is forced for it.
pub type Kernel = Option<(&'static str, &'static str)>;

/// The adapter that `WGPU_BACKEND` and `WGPU_ADAPTER_NAME` leave first, opened once for each forced kernel; none where
/// `SCANRNN_NO_GPU=1` says so.
pub fn gpu(kernel: Kernel) -> Option<&'static Gpu> {
    static GPUS: Mutex<Option<HashMap<Kernel, &'static Gpu>>> = Mutex::new(None);
    if std::env::var("SCANRNN_NO_GPU").is_ok_and(|value| value == "1") {
        return None;
    }
    let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = gpus.get_or_insert_default().entry(kernel).or_insert_with(|| {
        let opened = pollster::block_on(Gpu::open(&Selection::Any));
        let mut gpu = opened.unwrap_or_else(|error| panic!("{error}; or set SCANRNN_NO_GPU=1 to test without a GPU"));
        if let Some((operation, kernel)) = kernel {
            gpu.force_kernel(operation, kernel).expect("an operation with such a kernel");
        }
        Box::leak(Box::new(gpu))
    });
    Some(gpu)
}
