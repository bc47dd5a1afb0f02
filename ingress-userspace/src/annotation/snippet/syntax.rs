//! nginx's syntax, read without meaning: directives of words, with blocks.

/// A directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Its name.
    pub(super) name: String,
    /// Its arguments, without quotes.
    pub(super) args: Vec<String>,
    /// What stands in its braces.
    pub(super) block: Option<Vec<Directive>>,
}

/// Blocks within blocks; more is a mistake or an attack.
const DEEPEST: usize = 4;

enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
}

/// Reads text. The error is a reason without subject.
pub(super) fn read(text: &str) -> Result<Vec<Directive>, String> {
    let tokens = tokens(text)?;
    let mut tokens = tokens.into_iter();
    let directives = block(&mut tokens, 0)?;
    Ok(directives)
}

fn block(tokens: &mut impl Iterator<Item = Token>, depth: usize) -> Result<Vec<Directive>, String> {
    if depth > DEEPEST {
        return Err("holds braces within braces within braces".to_owned());
    }
    let mut directives = Vec::new();
    let mut words: Vec<String> = Vec::new();
    while let Some(token) = tokens.next() {
        let block = match token {
            Token::Word(word) => {
                words.push(word);
                continue;
            }
            Token::Semicolon => None,
            Token::Open => Some(block(tokens, depth + 1)?),
            Token::Close if words.is_empty() && depth > 0 => return Ok(directives),
            Token::Close if depth > 0 => {
                return Err(format!("holds {} without a ; behind it", words.join(" ")));
            }
            Token::Close => return Err("holds } without {".to_owned()),
        };
        if words.is_empty() {
            return Err("holds ; or { without a directive before it".to_owned());
        }
        let name = words.remove(0);
        directives.push(Directive { name, args: std::mem::take(&mut words), block });
    }
    if !words.is_empty() {
        return Err(format!("holds {} without a ; behind it", words.join(" ")));
    }
    if depth > 0 {
        return Err("holds { without }".to_owned());
    }
    Ok(directives)
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => {}
            '#' => drop(chars.by_ref().find(|c| *c == '\n')),
            ';' => tokens.push(Token::Semicolon),
            '{' => tokens.push(Token::Open),
            '}' => tokens.push(Token::Close),
            '"' | '\'' => {
                let quoted = quoted(&mut chars, c)?;
                if chars.peek().is_some_and(|next| !(next.is_ascii_whitespace() || ";{)".contains(*next))) {
                    return Err("holds a quote that ends within a word".to_owned());
                }
                tokens.push(Token::Word(quoted));
            }
            first => {
                let mut word = String::from(first);
                let mut is_braced = false;
                while let Some(next) = chars.peek().copied() {
                    let opens = next == '{' && word.ends_with('$');
                    is_braced |= opens;
                    if next.is_ascii_whitespace()
                        || next == ';'
                        || (next == '{' && !opens)
                        || (next == '}' && !is_braced)
                    {
                        break;
                    }
                    is_braced &= next != '}';
                    word.push(next);
                    chars.next();
                    if next == '\\' {
                        word.extend(chars.next());
                    }
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

/// The text up to the closing quote. A backslash keeps the quote behind it; before other characters it stays.
fn quoted(chars: &mut impl Iterator<Item = char>, quote: char) -> Result<String, String> {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(text),
            '\\' => match chars.next() {
                Some(escaped @ ('"' | '\'' | '\\')) => text.push(escaped),
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(other) => {
                    text.push('\\');
                    text.push(other);
                }
                None => break,
            },
            c => text.push(c),
        }
    }
    Err("holds a quote without its end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(name: &str, args: &[&str], block: Option<Vec<Directive>>) -> Directive {
        Directive { name: name.into(), args: args.iter().map(|arg| (*arg).to_owned()).collect(), block }
    }

    #[test]
    fn words_quotes_comments_and_blocks_are_read() {
        let text = "# a comment; {\nadd_header 'X-A' \"b; \\\"c\\\"\" always;\nif ($http_x ~* ^a{0}$) { return 403; }\n";
        assert!(read(text).is_err(), "nginx wants expressions with braces in quotes");
        let text = "# a comment; {\nadd_header 'X-A' \"b; \\\"c\\\"\" always;\nif ($http_x = \"a\") { return 403; }\n\
                    more_set_headers \"X: ${host}\"; rewrite ^/a\\.b(.*)$ /$1 redirect;";
        let expected = vec![
            directive("add_header", &["X-A", "b; \"c\"", "always"], None),
            directive("if", &["($http_x", "=", "a", ")"], Some(vec![directive("return", &["403"], None)])),
            directive("more_set_headers", &["X: ${host}"], None),
            directive("rewrite", &["^/a\\.b(.*)$", "/$1", "redirect"], None),
        ];
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn what_is_not_whole_is_an_error() {
        for bad in ["a", "a {", "a; }", ";", "{}", "a \"b", "a \"b\"c;", "a { b }", "a{b{c{d{e{f{}}}}}}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(""), Ok(Vec::new()));
    }
}
