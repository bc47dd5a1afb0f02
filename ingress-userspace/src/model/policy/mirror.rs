//! Copies of requests.

use serde::{Deserialize, Serialize};

use crate::model::template::Template;
use crate::model::url::Url;

/// Every request that is let through is sent to another place, too; the answer is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where.
    pub url: Url,
    /// `Host` of the copy; `None`: that of the URL.
    pub host: Option<Template>,
    /// Whether the body is copied, too.
    pub with_body: bool,
}

impl std::fmt::Display for Mirror {
    /// For the stable text form of the model.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, host, with_body } = self;
        write!(f, "{url}")?;
        if let Some(host) = host {
            write!(f, " as {host}")?;
        }
        f.write_str(if *with_body { "" } else { ", without body" })
    }
}
