//! `proxy-buffering`, `proxy-buffer-size` and what belongs to them.

use super::registry::annotations;
use super::{Reader, value};
use crate::model::policy::ResponseBuffer;

annotations! { "Response buffering";
    /// Read the body of a response as fast as the backend sends it, so that a slow client holds no backend. `off`: the body
    /// is passed on as it comes. The backend can choose for one response by `X-Accel-Buffering: yes` or `no`; clients do
    /// not see that header.
    PROXY_BUFFERING: bool = "proxy-buffering", parse: value::on_off, values: "on or off", default: "off",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// The largest head of a response; a larger one is answered with 502. With `proxy-buffers-number` also what waits in
    /// memory.
    PROXY_BUFFER_SIZE: u64 = "proxy-buffer-size", parse: value::buffer_size, values: "a size such as 8k", default: "4k",
    on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// How many times `proxy-buffer-size` of a body may wait in memory for its client, while `proxy-buffering` is on.
    PROXY_BUFFERS_NUMBER: u32 = "proxy-buffers-number", parse: value::positive, values: "a bare whole number from 1",
    default: "4", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Same;
    /// Accepted; what is ready goes to the client at once, so there is nothing to choose.
    PROXY_BUSY_BUFFERS_SIZE: u64 = "proxy-busy-buffers-size", parse: value::buffer_size, values: "a size such as 8k",
    default: "", on_invalid: Warn, scope: "path", twins: [], in: Both, support: Ignored;
    /// How much of a body may wait in a temporary file for its client, while `proxy-buffering` is on and memory is full; `0`
    /// means no file. Beyond it the backend waits.
    PROXY_MAX_TEMP_FILE_SIZE: Option<u64> = "proxy-max-temp-file-size", parse: value::size,
    values: "a size such as 1024m, or 0", default: "1024m", on_invalid: Warn, scope: "path", twins: [], in: Both,
    support: Same;
}

pub(super) fn parse(reader: &mut Reader<'_>) -> ResponseBuffer {
    let size = reader.value(&PROXY_BUFFER_SIZE);
    reader.value(&PROXY_BUSY_BUFFERS_SIZE);
    ResponseBuffer {
        is_on: reader.value(&PROXY_BUFFERING),
        head: size,
        memory: size.saturating_mul(reader.value(&PROXY_BUFFERS_NUMBER).into()),
        file: reader.value(&PROXY_MAX_TEMP_FILE_SIZE).unwrap_or(0),
    }
}
