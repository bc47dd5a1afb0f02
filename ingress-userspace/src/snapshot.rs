//! Stage 5: what workers read: immutable, published whole.
