//! `portcullis reference PAGE`: the generated pages, one file each.

pub mod command_line;

use crate::args::ReferencePage;

/// The text of a page.
pub fn page(page: ReferencePage) -> String {
    match page {
        ReferencePage::Cli => command_line::command_line_page(),
        _ => String::new(),
    }
}
