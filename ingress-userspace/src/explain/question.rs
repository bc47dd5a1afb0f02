//! Questions: from the command line, and as the query of the admin endpoint.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Uri};

use super::{Asked, ExplainError, explain};
use crate::args::objects::{ExplainArgs, ObjectFormat};
use crate::model::Model;
use crate::problem::Problem;
use crate::proxy::variables::escape_argument;

/// The request that the command line describes.
pub fn asked(args: &ExplainArgs) -> Result<Asked, ExplainError> {
    let url: Uri = args.url.parse().map_err(|_invalid| ExplainError::NoUrl(args.url.clone()))?;
    let method = Method::from_bytes(args.request.as_bytes())
        .map_err(|_invalid| ExplainError::Method(args.request.clone()))?;
    let headers = args.header.iter().map(|line| header(line)).collect::<Result<Vec<_>, _>>()?;
    Ok(Asked { url, method, headers, from: args.from, sni: args.sni.clone() })
}

/// Reads `Name: value`.
fn header(line: &str) -> Result<(HeaderName, HeaderValue), ExplainError> {
    let wrong = || ExplainError::Header(line.to_owned());
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_invalid| wrong())?;
    let value = value.trim().parse().map_err(|_invalid| wrong())?;
    Ok((name, value))
}

/// The request as the query of the admin endpoint.
pub fn query(args: &ExplainArgs) -> String {
    let mut query = String::new();
    let from = args.from.to_string();
    let format = if args.output == ObjectFormat::Table { "text" } else { "json" };
    let fixed = [("url", &args.url), ("method", &args.request), ("from", &from)];
    let headers = args.header.iter().map(|header| ("header", header));
    for (name, value) in fixed.into_iter().chain(args.sni.iter().map(|sni| ("sni", sni))).chain(headers) {
        query.push_str(name);
        query.push('=');
        escape_argument(value, &mut query);
        query.push('&');
    }
    query + "format=" + format
}

/// Answers the admin endpoint: the query of [`query`] about a model, with the Problems of the objects where they are known.
pub fn answer(model: &Arc<Model>, problems: Option<&[Problem]>, query: &str) -> Result<String, String> {
    let mut line = vec!["explain".to_owned()];
    let mut url = String::new();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decoded(value);
        match name {
            "url" => url = value,
            "method" => line.push(format!("--request={value}")),
            "from" => line.push(format!("--from={value}")),
            "sni" => line.push(format!("--sni={value}")),
            "header" => line.push(format!("--header={value}")),
            "format" => line.push(format!("--output={}", if value == "json" { "json" } else { "table" })),
            other => return Err(format!("{other} is not an argument of explain\n")),
        }
    }
    line.push("--socket=here".to_owned());
    line.extend(["--".to_owned(), url]);
    let args = <Arguments as clap::Parser>::try_parse_from(line).map_err(|error| error.to_string())?.args;
    let asked = asked(&args).map_err(|error| format!("{error}\n"))?;
    let mut explanation = explain(model, &asked).map_err(|error| format!("{error}\n"))?;
    if let Some(problems) = problems {
        explanation.add_problems(problems);
    }
    match args.output {
        ObjectFormat::Table => Ok(explanation.text()),
        _ => serde_json::to_string_pretty(&explanation).map_err(|error| format!("{error}\n")),
    }
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    args: ExplainArgs,
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'%' => {
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let value = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
                bytes.extend(value);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
