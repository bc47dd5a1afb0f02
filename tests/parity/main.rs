//! Tier `parity`: the same requests to a real nginx, configured as ingress-nginx configures it, and to Portcullis.
//! Status, headers and what the backend saw must be equal. Each accepted difference stands in `docs/migration.md`.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod access;
mod canary;
mod certificates;
mod compression;
mod cors;
mod echo;
mod errors;
mod external;
mod forwarded;
mod headers;
mod http2;
mod logs;
mod messages;
mod nginx;
mod paths;
mod protocols;
mod redirects;
mod rewrites;
mod rig;
mod snippets;
mod tls;
mod upstream;
mod wire;
