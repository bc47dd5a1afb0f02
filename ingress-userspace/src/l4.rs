//! Connections and datagrams that go to a backend as they are: services of `tcp-services` and `udp-services`, and TLS that is
//! passed through by its server name. Nothing of them is read, so no filter applies; lists and limits of EdgePolicies do.

pub mod pipe;
pub mod proxy_header;
pub mod session;
pub mod tcp;
pub mod tunnel;
pub mod udp;
