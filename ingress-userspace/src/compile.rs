//! Stage 4: the model → what workers read and what the kernel maps hold. Pure.

pub mod maps;
