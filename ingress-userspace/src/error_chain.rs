//! Errors as one line of the log: what happened, and why, and why that.

use std::error::Error;

/// An error and its causes, joined by `: `. Libraries often repeat a cause in their own text; it is said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn causes_follow_what_they_caused() {
        let line = super::chain(&Outer(std::fmt::Error));
        assert!(line.starts_with("cannot open the door: "), "{line}");
    }
}
