//! Commands that are not roles, one file each.

pub mod cleanup;
pub mod lint;
pub mod maps;
pub mod probe;
pub mod reference;
pub mod status;
mod text_table;
