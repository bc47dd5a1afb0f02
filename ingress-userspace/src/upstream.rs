//! Endpoints: which one, and a connection to it. Each worker has pools of its own.

pub mod backend;
pub mod balance;
pub mod budget;
pub mod connect;
pub mod health;
pub mod pool;
pub mod resolve;
pub mod subrequest;
pub mod transport;
