//! Commands that are not roles, one file each.

pub mod reference;
