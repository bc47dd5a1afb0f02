//! Stage 6: desired kernel state → the kernel. The only module that knows aya.

pub mod object;
