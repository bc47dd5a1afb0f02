//! Parsers of what is compressed, how, and for whom.

use super::integer;

/// A level between two bounds.
pub fn level<const FIRST: u32, const LAST: u32>(text: &str) -> Result<u32, String> {
    match integer(text) {
        Ok(level) if (FIRST..=LAST).contains(&level) => Ok(level),
        _ => Err(format!("is not a number from {FIRST} to {LAST}")),
    }
}

/// Media types, separated by blanks.
pub fn types(text: &str) -> Result<Vec<String>, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "!#$&^_.+-".contains(c);
    let is_type = |text: &str| {
        let parts = text.split_once('/').filter(|(kind, sort)| !kind.is_empty() && !sort.is_empty());
        text == "*" || parts.is_some_and(|(kind, sort)| kind.chars().chain(sort.chars()).all(is_allowed))
    };
    let types: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    match types.iter().find(|text| !is_type(text)) {
        Some(bad) => Err(format!("holds {bad:?}, which is not a media type")),
        None => Ok(types),
    }
}

/// An expression on `User-Agent`.
pub fn agents(text: &str) -> Result<String, String> {
    if text == "msie6" {
        return Ok(r"MSIE [4-6]\.".to_owned());
    }
    let built = regex::RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build();
    built.map(|_| text.to_owned()).map_err(|error| {
        let reason = error.to_string();
        // The lines before show where.
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("is not a regular expression: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_and_levels_are_checked() {
        assert_eq!(types("text/CSS  application/json").unwrap(), ["text/css", "application/json"]);
        assert_eq!(types("*").unwrap(), ["*"]);
        for bad in ["text", "text/", "/css", "text/css;charset=utf-8", "text/css,text/plain"] {
            assert!(types(bad).is_err(), "{bad}");
        }
        assert_eq!(level::<1, 9>("9"), Ok(9));
        assert!(level::<1, 9>("0").is_err() && level::<1, 9>("-1").is_err());
        assert!(agents("(").is_err() && agents("curl/[0-7]").is_ok() && agents("msie6").is_ok());
    }
}
