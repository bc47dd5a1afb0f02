//! What both halves share: `no_std`, no allocation, no IO.
#![no_std]
