//! The tests of `zhenjin-tensor` from outside, one program: each file here is one of its modules.

mod backward_products;
mod dequantise;
mod encoding;
mod f32_matrices;
mod guard_pages;
mod guarded;
mod linear;
mod mixture;
mod odd_shapes;
mod packed_attention;
mod quantise;
mod recorded_operations;
mod recording;
mod reference;
mod reference_executor;
mod reference_gradients;
