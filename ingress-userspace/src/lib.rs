//! The userspace half of Portcullis. Modules stand in the order the data flows:
//!
//! reflectors or a manifest folder (`k8s`) → `annotation` and `translate` → `model` → `link` (agent to proxy)
//! → `compile` → `snapshot` in the proxy, and kernel map contents → `bpf` in the agent. `controller` writes status and
//! Events, `admission` answers the API server about Ingresses. `listener` → `tls` → `proxy` → `filter` → `upstream` is the life of a request; `telemetry` and `admin` show
//! it. `app` wires the stages of each role; `cli` holds the commands that are not roles.
#![cfg_attr(not(test), deny(unsafe_code))]

pub mod args;
pub mod error_chain;
pub mod path_regex;
pub mod problem;

pub mod k8s;

pub mod annotation;
pub mod translate;

pub mod model;

pub mod link;

pub mod compile;
pub mod snapshot;

pub mod bpf;
pub mod controller;

pub mod admission;

pub mod l4;
pub mod listener;
pub mod tls;

pub mod proxy;

pub mod filter;
pub mod upstream;

pub mod telemetry;

pub mod admin;
pub mod app;
pub mod cli;
pub mod explain;
