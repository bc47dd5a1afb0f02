//! `portcullis reference PAGE`: the generated pages, one file each.

pub mod annotations;
pub mod bpf_maps;
pub mod command_line;
pub mod config_map;
pub mod crds;
pub mod metrics;
pub mod objects;
pub mod problems;

use std::io;

use crate::args::tools::{ReferenceArgs, ReferencePage};

/// Prints a page.
pub fn run(args: &ReferenceArgs, out: &mut dyn io::Write) -> anyhow::Result<()> {
    Ok(out.write_all(page(args.page)?.as_bytes())?)
}

/// The text of a page.
pub fn page(page: ReferencePage) -> anyhow::Result<String> {
    Ok(match page {
        ReferencePage::BpfMaps => bpf_maps::bpf_maps_page(),
        ReferencePage::Annotations => annotations::annotations_page(),
        ReferencePage::ConfigMap => config_map::config_map_page(),
        ReferencePage::Cli => command_line::command_line_page(),
        ReferencePage::Metrics => metrics::metrics_page(),
        ReferencePage::Problems => problems::problems_page(),
        ReferencePage::Objects => objects::objects_page()?,
        ReferencePage::Crds => crds::crds_page()?,
    })
}
