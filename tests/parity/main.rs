//! CPU and GPU against the reference in `f64`: outputs, last states and every gradient, over outputs filled with NaN.

mod attention;
mod causal_conv1d;
#[path = "../common/mod.rs"]
mod common;
mod counter;
mod dropout;
mod elementwise;
mod grad_norm;
mod harness;
mod iterate;
mod linear;
mod loss;
mod mamba_lab;
mod min_gru;
mod min_gru_scan;
mod optimizer;
mod partial_gradients;
mod rms_norm;
mod selective_scan;
mod stack;
mod window;
