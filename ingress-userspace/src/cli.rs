//! Commands that are not roles, one file each.

pub mod backends;
pub mod bans;
pub mod certs;
pub mod cleanup;
pub mod conf;
pub mod drops;
pub mod explain;
pub mod ingresses;
pub mod lint;
pub mod maps;
pub mod objects;
pub mod preflight;
pub mod probe;
pub mod reference;
pub mod status;
mod text_table;
pub mod top;
