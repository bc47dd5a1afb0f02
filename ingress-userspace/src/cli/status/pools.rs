//! The pools and the nodes that serve them, as the agent knows them.

use std::io;

use serde_json::Value;

use crate::bpf::counters::Node;
use crate::cli::text_table;

/// Blocks that a row names.
const NAMED: usize = 2;

/// Prints both tables. `probed` are the other nodes as the kernel knows them; `now` in seconds since the epoch.
pub(super) fn print(
    pools: &[Value],
    probed: &[Node],
    now: i64,
    out: &mut (dyn io::Write + Send),
) -> io::Result<()> {
    let rows: Vec<_> = pools.iter().map(pool).collect();
    text_table::print(out, &["pool", "addresses", "announced by", "nodes", "table"], &rows)?;
    let nodes: Vec<_> = pools.iter().flat_map(|pool| nodes(pool, probed, now)).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head = ["pool", "node", "address", "state", "weight", "since", "answered a probe", "packets sent on"];
    text_table::print(out, &head, &nodes)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or("-").to_owned()
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn pool(pool: &Value) -> Vec<String> {
    let blocks = list(pool, "blocks");
    let named: Vec<&str> = blocks.iter().take(NAMED).filter_map(Value::as_str).collect();
    let more = if blocks.len() > NAMED { ", …" } else { "" };
    let count = pool["addresses"].as_u64().unwrap_or_default();
    let announced = match (pool["announced_by"].as_str(), pool["announce"].as_str()) {
        (Some(node), _) => node.to_owned(),
        (None, Some("None")) => "none of ours".to_owned(),
        (None, _) => "nobody yet".to_owned(),
    };
    let nodes = list(pool, "nodes");
    let up = nodes.iter().filter(|node| node["state"] != "down").count();
    let nodes = match nodes.len() {
        0 => "each by itself".to_owned(),
        all => format!("{up} of {all} up"),
    };
    vec![
        text(pool, "name"),
        format!("{}{more} ({count})", named.join(", ")),
        announced,
        nodes,
        text(pool, "table"),
    ]
}

fn nodes<'v>(pool: &'v Value, probed: &'v [Node], now: i64) -> impl Iterator<Item = Vec<String>> + 'v {
    list(pool, "nodes").iter().map(move |node| {
        let addresses: Vec<&str> = list(node, "addresses").iter().filter_map(Value::as_str).collect();
        let known = probed.iter().find(|probed| addresses.contains(&&*probed.address.to_string()));
        let is_here = node["is_this_node"] == true;
        let since = node["since"].as_i64().map(|since| span(now.saturating_sub(since)));
        let answered = match (is_here, known.map(|known| known.answered_ms_ago)) {
            (true, _) => "this node".to_owned(),
            (false, Some(Some(ms))) => format!("{ms} ms ago"),
            (false, Some(None)) => "never".to_owned(),
            (false, None) => "-".to_owned(),
        };
        let recent = if node["is_recent"] == true { ", recent" } else { "" };
        vec![
            text(pool, "name"),
            text(node, "name"),
            addresses.join(", "),
            format!("{}{recent}", text(node, "state")),
            node["weight"].to_string(),
            since.unwrap_or_else(|| "-".to_owned()),
            answered,
            known.map_or_else(|| "-".to_owned(), |known| known.packets.to_string()),
        ]
    })
}

/// A time span in its two greatest units.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pool_says_who_announces_it_and_how_its_nodes_are() {
        let pools = json!([
            {
                "name": "edge", "blocks": ["198.18.100.0-198.18.100.3", "2001:db8::1"], "addresses": 5,
                "announce": "L2", "announced_by": "b", "table": "00ff",
                "nodes": [
                    {"name": "a", "is_this_node": true, "addresses": ["198.18.0.1"], "state": "active",
                     "since": null, "is_recent": false, "weight": 100},
                    {"name": "b", "is_this_node": false, "addresses": ["198.18.0.2"], "state": "down",
                     "since": 1000, "is_recent": true, "weight": 300},
                ],
            },
            {"name": "lone", "blocks": ["198.18.101.1"], "addresses": 1, "announce": "None",
             "announced_by": null, "table": null, "nodes": []},
        ]);
        let probed = [Node {
            number: 2,
            address: [198, 18, 0, 2].into(),
            state: "down",
            answered_ms_ago: Some(9000),
            packets: 17,
            bytes: 1700,
        }];
        let mut out = Vec::new();
        print(pools.as_array().unwrap(), &probed, 1000 + 300, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let edge = ["edge", "198.18.100.0-198.18.100.3, 2001:db8::1 (5)", "b", "1 of 2 up", "00ff"];
        assert_eq!(lines[1], edge, "{text}");
        assert_eq!(lines[2], ["lone", "198.18.101.1 (1)", "none of ours", "each by itself", "-"], "{text}");
        let here = ["edge", "a", "198.18.0.1", "active", "100", "-", "this node", "-"];
        assert_eq!(lines[5], here, "{text}");
        let other = ["edge", "b", "198.18.0.2", "down, recent", "300", "5 min", "9000 ms ago", "17"];
        assert_eq!(lines[6], other, "{text}");
    }

    #[test]
    fn spans_are_short() {
        for (seconds, expected) in
            [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7260, "2 h 1 min"), (180_000, "2 d 2 h")]
        {
            assert_eq!(span(seconds), expected);
        }
    }
}
