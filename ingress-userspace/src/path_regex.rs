//! The one dialect of regular expressions: what translation checks, the router matches and rewrites capture.
//!
//! Paths are read as nginx's `location ~* "^…"`: anchored at the start only, without case, over bytes. Linear time and bounded
//! memory whatever the text; look-around and backreferences do not exist.

use regex::bytes::{Regex, RegexBuilder};

/// A compiled expression may take this much memory.
const LARGEST: usize = 1 << 20;
/// And its cache this much, per thread that uses it.
const CACHE: usize = 1 << 17;

/// Compiles the text of a path.
pub fn compile(text: &str) -> Result<Regex, regex::Error> {
    let anchored = format!("^(?:{})", text.strip_prefix('^').unwrap_or(text));
    build(&anchored, Case::Insensitive)
}

/// Compiles an expression that may match anywhere in a value, with case.
pub fn search(text: &str) -> Result<Regex, regex::Error> {
    build(text, Case::Sensitive)
}

/// The same, and says whether case counts.
pub fn search_with(text: &str, is_case_sensitive: bool) -> Result<Regex, regex::Error> {
    build(text, if is_case_sensitive { Case::Sensitive } else { Case::Insensitive })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Sensitive,
    Insensitive,
}

fn build(text: &str, case: Case) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .case_insensitive(case == Case::Insensitive)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(LARGEST)
        .dfa_size_limit(CACHE)
        .build()
}
