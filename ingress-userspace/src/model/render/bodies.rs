//! How bodies are handled, as text. Only what differs from the defaults is shown.

use std::fmt::{self, Write};

use crate::model::bodies::{Bodies, CodingPolicy};
use crate::model::policy::{RequestBuffer, ResponseBuffer};

pub(super) fn write_global(out: &mut String, bodies: &Bodies) -> fmt::Result {
    let Bodies { client_gap, codings, gzip_except } = bodies;
    if *client_gap != Bodies::default().client_gap {
        writeln!(out, "global client bodies: gap {} s", client_gap.as_secs())?;
    }
    for CodingPolicy { coding, level, min_length, types } in codings {
        let (name, types) = (coding.name(), types.join(" "));
        writeln!(out, "global {name}: level {level}, from {min_length} bytes, text/html {types}")?;
    }
    if let (Some(except), false) = (gzip_except, codings.is_empty()) {
        writeln!(out, "global gzip: not for {except}")?;
    }
    Ok(())
}

pub(super) fn write_buffers(
    out: &mut String,
    request: Option<&RequestBuffer>,
    response: &ResponseBuffer,
) -> fmt::Result {
    match request {
        None => writeln!(out, "    request body: as it comes")?,
        Some(RequestBuffer { memory: 8192 }) => {}
        Some(RequestBuffer { memory }) => writeln!(out, "    request body: whole, {memory} in memory")?,
    }
    if *response != ResponseBuffer::default() {
        let ResponseBuffer { is_on, head, memory, file } = response;
        let how = if *is_on { "buffered" } else { "as it comes" };
        writeln!(out, "    response body: {how}, head {head}, {memory} in memory, {file} in a file")?;
    }
    Ok(())
}
