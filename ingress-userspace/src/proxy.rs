//! The life of a request. `request` is the path itself and reads top to bottom; everything else is a step of it.
//!
//! Engines (hyper, for both versions of HTTP and both sides) end at `connection` and `upstream`; filters, gate and log see
//! a request only as the head and body of `head` and `body`.

pub mod ask;
pub mod body;
pub mod choose;
pub mod connection;
pub mod context;
pub mod error;
pub mod finish;
pub mod forward;
pub mod forwarded;
pub mod gate;
pub mod hashing;
pub mod head;
pub mod limit_key;
pub mod liveness;
pub mod loads;
pub mod logged;
pub mod path;
pub mod request;
pub mod retry;
pub mod session;
pub mod shares;
pub mod stream;
pub mod temp;
pub mod upgrade;
pub mod variables;
pub mod worker;
