//! `mirror-target`, `mirror-request-body` and `mirror-host`.

use super::registry::annotations;
use super::value::url::{self, UrlText};
use super::{Reader, value};
use crate::model::template::Template;

annotations! { "Mirroring";
    /// Sends a copy of every request that is let through to this URL; the answer is thrown away. Unlike in ingress-nginx the
    /// copy neither delays nor fails the request: it is sent beside it, with the headers that the backend gets, and left
    /// out (and counted) when the target is slow, or when the body is longer than 1 MiB. In a cluster the URL
    /// may not point to the node or the API server unless ConfigMap `allow-local-urls` is true.
    MIRROR_TARGET: UrlText = "mirror-target", parse: url::url, values: "a URL such as https://test.example.com$request_uri",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Differs;
    /// Whether the body is copied, too.
    MIRROR_REQUEST_BODY: bool = "mirror-request-body", parse: value::on_off, values: "on or off", default: "on",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
    /// `Host` of the copy instead of the host of `mirror-target`.
    MIRROR_HOST: Template = "mirror-host", parse: url::template, values: "a host, with variables", default: "",
    on_invalid: Warn, scope: "path", twins: [], in: Annotation, support: Same;
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The target.
    pub url: UrlText,
    /// Another `Host`.
    pub host: Option<Template>,
    /// With the body.
    pub with_body: bool,
}

pub(super) fn parse(reader: &mut Reader<'_>) -> Option<Mirror> {
    let with_body = reader.value(&MIRROR_REQUEST_BODY);
    let host = reader.get(&MIRROR_HOST).value();
    let url = reader.get(&MIRROR_TARGET).value()?;
    Some(Mirror { url, host, with_body })
}
