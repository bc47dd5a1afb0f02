//! The role `webhook`: what the API server asks before it stores an Ingress.
//!
//! Whoever can reach the port can ask, so this process reads no Secret, writes nothing, and an answer changes nothing but
//! itself: the translation of the Ingress beside those that share its hosts, as warnings, and a denial exactly where
//! ingress-nginx's webhook denies. When it cannot answer, `failurePolicy: Ignore` lets the object pass: what it would have
//! said stands in the Events then.

pub mod certificate;
pub mod review;
mod rules;
pub mod server;
