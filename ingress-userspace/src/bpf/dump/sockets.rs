//! Who listens, and what goes there.

use ingress_common::maps::{GroupKey, GroupVal, ListenVal, LookupCount, SlotVal, VipKey, WorkerLoad};
use serde_json::json;

use super::{Table, key_cells};
use crate::bpf::maps::{Maps, MapsError};
use crate::bpf::{counters, sync};

pub(super) fn listen(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] =
        &["address", "port", "protocol", "first_slot", "slots", "spare_slot", "spare_slots", "group_port"];
    Ok(Table::of(COLUMNS, sync::read_hash(&maps.listen, "listen")?, |(key, value): (VipKey, ListenVal)| {
        let mut row = key_cells(&key);
        row.extend([json!(value.first_slot), json!(value.slots)]);
        row.extend([json!(value.spare_slot), json!(value.spare_slots), json!(value.port)]);
        row
    }))
}

pub(super) fn listen_seen(maps: &Maps) -> Result<Table, MapsError> {
    let rows = sync::read_array(&maps.listen_seen, "listen_seen")?;
    Ok(Table::of(&["row", "vip_id", "port", "tick"], rows, |(row, note): (u32, u64)| {
        vec![json!(row), json!(note >> 48), json!(note >> 32 & 0xffff), json!(note & 0xffff_ffff)]
    }))
}

pub(super) fn slots(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["slot", "cookie", "pid", "handover"];
    Ok(Table::of(COLUMNS, sync::read_array(&maps.slots, "slots")?, |(slot, value): (u32, SlotVal)| {
        vec![json!(slot), json!(value.cookie), json!(value.pid), json!(value.handover)]
    }))
}

pub(super) fn assigned(maps: &Maps) -> Result<Table, MapsError> {
    let rows = sync::read_array(&maps.assigned, "assigned")?;
    Ok(Table::of(&["slot", "published", "assigned"], rows, |(slot, load): (u32, WorkerLoad)| {
        vec![json!(slot), json!(load.published), json!(load.assigned)]
    }))
}

pub(super) fn groups(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["port", "family", "first_slot", "slots"];
    Ok(Table::of(COLUMNS, sync::read_hash(&maps.groups, "groups")?, |(key, value): (GroupKey, GroupVal)| {
        vec![json!(key.port), json!(key.family), json!(value.first_slot), json!(value.slots)]
    }))
}

pub(super) fn lk_stats(maps: &Maps) -> Result<Table, MapsError> {
    const COLUMNS: &[&str] = &["slot", "lookups", "misses", "errors", "moved"];
    Ok(Table::of(COLUMNS, counters::lookups_by_slot(maps)?, |(slot, count): (u32, LookupCount)| {
        vec![json!(slot), json!(count.lookups), json!(count.misses), json!(count.errors), json!(count.moved)]
    }))
}
