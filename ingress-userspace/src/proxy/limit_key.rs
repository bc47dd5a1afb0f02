//! Whom the limits per client count.

use std::net::IpAddr;

use http::StatusCode;
use ipnet::IpNet;

use super::context::RequestCtx;
use super::head::RequestHead;
use super::variables::View;
use crate::model::policy::LimitKey;
use crate::model::template::{Part, Template};
use crate::snapshot::networks::Networks;

/// Who is counted by a limit.
#[derive(Debug)]
pub struct Counted {
    exempt: Networks,
    /// `None`: the address.
    template: Option<Template>,
    falls_back: bool,
}

/// One client of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// By its address.
    Address(IpAddr),
    /// By what it sent.
    Text(String),
}

impl Counted {
    /// From the model.
    pub fn new(key: &LimitKey, exempt: &[IpNet]) -> Self {
        let template = (!key.is_address()).then(|| key.template.clone());
        Self { exempt: Networks::new(exempt), template, falls_back: key.falls_back }
    }

    /// The client of a request; `None`: it is not counted.
    pub fn key(&self, ctx: &RequestCtx, head: &RequestHead) -> Option<Key> {
        let address = ctx.peer.client;
        if !self.exempt.is_empty() && self.exempt.contains(address) {
            return None;
        }
        let Some(Template(parts)) = &self.template else { return Some(Key::Address(address)) };
        let view = View::new(ctx, head);
        let mut text = String::with_capacity(64);
        for part in parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Variable(variable) => {
                    let before = text.len();
                    view.write(variable, &mut text);
                    if self.falls_back && text.len() == before {
                        text.push_str(ctx.peer.client_value.to_str().unwrap_or_default());
                    }
                }
            }
        }
        (!text.is_empty()).then_some(Key::Text(text))
    }
}

/// The status of a refused request, if it reads as one.
pub fn refusal(status: u16) -> Option<StatusCode> {
    StatusCode::from_u16(status).ok().filter(|status| status.is_client_error() || status.is_server_error())
}
