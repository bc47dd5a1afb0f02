//! What both nodes have counted of the flows of the client.

use anyhow::Context as _;

use super::control::{STATUS, ask};

/// Of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// SYNs that its program answered by a cookie.
    pub(crate) cookies: u64,
    /// Cookies that its stack sent.
    pub(crate) by_stack: u64,
    /// Proofs that opened a connection.
    pub(crate) proven: u64,
    /// Segments that proved nothing.
    pub(crate) failed: u64,
    /// Packets that it sent on to the other node.
    pub(crate) steered: u64,
}

impl Counts {
    /// Asks a node.
    fn of(number: usize) -> anyhow::Result<Self> {
        let status: serde_json::Value = serde_json::from_str(&ask(number, STATUS)?)?;
        let rows = status.get("counters").and_then(serde_json::Value::as_array).context("counters")?;
        let packets = |reason: &str| {
            let mine = rows.iter().filter(|row| row.get("reason").is_some_and(|own| own == reason));
            mine.filter_map(|row| row.get("packets")?.as_u64()).sum()
        };
        let of_kernel = |name: &str| {
            let count = status.pointer(&format!("/syn_cookies/{name}")).and_then(serde_json::Value::as_u64);
            count.with_context(|| format!("no {name} in {status}"))
        };
        Ok(Self {
            cookies: packets("cookie-sent"),
            by_stack: of_kernel("sent_by_stack")?,
            proven: of_kernel("received")?,
            failed: of_kernel("failed")?,
            steered: packets("steered"),
        })
    }

    /// Of both nodes.
    pub(crate) fn of_both() -> anyhow::Result<[Self; 2]> {
        std::thread::scope(|scope| {
            let [one, two] = [1, 2].map(|number| scope.spawn(move || Self::of(number)));
            let [one, two] =
                [one, two].map(|thread| thread.join().ok().context("a thread that asked panicked"));
            Ok([one??, two??])
        })
    }

    /// What was added since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cookies: self.cookies - before.cookies,
            by_stack: self.by_stack - before.by_stack,
            proven: self.proven - before.proven,
            failed: self.failed - before.failed,
            steered: self.steered - before.steered,
        }
    }
}
