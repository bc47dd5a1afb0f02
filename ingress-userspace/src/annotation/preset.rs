//! `preset`: another set of defaults. What a key or an annotation says wins over it.

use std::collections::BTreeMap;

use super::Reader;
use super::registry::config_keys;

config_keys! { "Presets";
    /// Which defaults hold where nothing is configured: `nginx` are those of ingress-nginx, `edge` is for proxies that face the
    /// Internet. Where the two differ stands in the table at the end of this page.
    PRESET: Preset = "preset", parse: preset, values: "nginx or edge", default: "nginx", on_invalid: Warn, support: Own;
}

/// A set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// Those of ingress-nginx.
    #[default]
    Nginx,
    /// Stricter ones.
    Edge,
}

/// What `edge` says where ingress-nginx says something else, or nothing. Its other limits are strict enough.
pub const EDGE: &[(&str, &str)] = &[
    ("client-header-timeout", "10"),
    ("http2-max-concurrent-streams", "100"),
    ("max-connections-per-client", "1000"),
];

/// The ConfigMap with the defaults of its preset filled in. An empty value is none, as everywhere.
pub(super) fn filled_in(data: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut filled = data.clone();
    if Reader::of_config(data).value(&PRESET) == Preset::Edge {
        for (key, text) in EDGE {
            let is_given = data.get(*key).is_some_and(|given| !given.trim().is_empty());
            if !is_given {
                filled.insert((*key).to_owned(), (*text).to_owned());
            }
        }
    }
    filled
}

fn preset(text: &str) -> Result<Preset, String> {
    match text {
        "nginx" => Ok(Preset::Nginx),
        "edge" => Ok(Preset::Edge),
        _ => Err("is neither nginx nor edge".to_owned()),
    }
}
