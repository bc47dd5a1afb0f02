//! Where the fields of a key or value stand, and what they are measured in.

use super::TypeSpec;

/// A field with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; empty where the type is no struct.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// What it means.
    pub about: &'static str,
    /// Bytes before it.
    pub offset: u32,
    /// Its bytes.
    pub bytes: u32,
    /// `ns`, `bytes` and so on; empty: a number, a name or bits.
    pub unit: &'static str,
}

impl TypeSpec {
    /// The fields in order. There is no padding between them.
    pub fn layout(&self) -> impl Iterator<Item = Field> {
        let mut end = 0;
        self.fields.iter().map(move |(name, kind, about)| {
            let (offset, bytes) = (end, size(kind));
            end += bytes;
            Field { name, kind, about, offset, bytes, unit: unit(name) }
        })
    }
}

/// Bytes of a type that is named in the table; 0: none of these.
fn size(kind: &str) -> u32 {
    match kind {
        "u8" => 1,
        "u16" | "[u8; 2]" => 2,
        "u32" | "[u8; 4]" => 4,
        "[u8; 6]" => 6,
        "u64" => 8,
        "[u8; 16]" | "[u64; 2]" => 16,
        "[u8; 32]" => 32,
        _ => 0,
    }
}

/// What a field of this name is measured in.
fn unit(name: &str) -> &'static str {
    match name {
        "tat" | "apart_until" => "ns",
        "rate_q20" => "ns / 2^20",
        "bytes" | "mtu" | "mss" => "bytes",
        "prefix_len" | "len" | "deny_len" => "bits",
        "packets" | "drops" | "untold" | "told" | "untold_ever" | "ban_after" => "packets",
        "published" | "assigned" | "lookups" | "misses" | "errors" | "moved" => "connections",
        name if name.ends_with("_ns") => "ns",
        _ => "",
    }
}

#[cfg(test)]
mod tests {

    use crate::maps::table::MAPS;

    #[test]
    fn fields_follow_each_other_to_the_end_of_the_type() {
        for map in MAPS {
            for spec in [&map.key, &map.value] {
                let mut end = 0;
                for field in spec.layout() {
                    assert!(field.bytes > 0, "{} {}: no size for {}", map.name, field.name, field.kind);
                    assert_eq!(field.offset, end, "{} {}", map.name, field.name);
                    end += field.bytes;
                }
                assert_eq!(end, spec.size, "{} {}", map.name, spec.name);
            }
        }
    }

    #[test]
    fn offsets_are_those_of_the_compiler() {
        use crate::event::Event;
        use crate::maps::{AclVal, Ban, BanAsk, Limit, ListenVal, Meta, NodeVal, VipVal};
        use crate::source::{HitKey, SrcKey};
        use core::mem::offset_of;

        let of = |map: &str, field: &str| {
            let map = MAPS.iter().find(|spec| spec.name == map).unwrap();
            let all = map.key.layout().chain(map.value.layout());
            all.filter(|at| at.name == field).map(|at| at.offset as usize).last().unwrap()
        };
        assert_eq!(of("meta", "build"), offset_of!(Meta, build));
        assert_eq!(of("vips", "mss"), offset_of!(VipVal, mss));
        assert_eq!(of("acl4", "deny_len"), offset_of!(AclVal, deny_len));
        assert_eq!(of("acl_hits", "len"), offset_of!(HitKey, len));
        assert_eq!(of("limits", "policy"), offset_of!(Limit, policy));
        assert_eq!(of("buckets", "bucket"), offset_of!(SrcKey, bucket));
        assert_eq!(of("bans", "name"), offset_of!(Ban, name));
        assert_eq!(of("ban_asks", "kind"), offset_of!(BanAsk, kind));
        assert_eq!(of("nodes", "vlan"), offset_of!(NodeVal, vlan));
        assert_eq!(of("listen", "port"), offset_of!(ListenVal, port));
        assert_eq!(of("events", "proto"), offset_of!(Event, proto));
    }

    #[test]
    fn times_have_a_unit() {
        let fields = MAPS.iter().flat_map(|map| map.key.layout().chain(map.value.layout()));
        for field in fields.filter(|field| field.about.contains("in ns") && !field.name.is_empty()) {
            assert!(field.unit.starts_with("ns"), "{}", field.name);
        }
    }
}
