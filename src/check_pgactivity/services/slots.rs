//! `replication_slots`: the WAL that slots keep, and what decoding put aside.

use std::collections::BTreeMap;

use crate::check_pgactivity::threshold::{bytes, labelled, to_size};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[Service {
    name: "replication_slots",
    help: "Check delta in bytes of the replication slots.",
    run: |call| Box::pin(replication_slots(call)),
}];

const LABEL: &str = "POSTGRES_REPLICATION_SLOTS";
const KINDS: [&str; 3] = ["wal", "spilled", "remaining"];
const EXPECTED: &str = "critical and warning thresholds only accept:\n\
    - raw numbers for backward compatibility to set wal threshold.\n\
    - a list 'wal=value' and/or 'spilled=value' and/or remaining=size separated by comma.\n\
    See documentation for more information.";

/// What one side of the thresholds says: files, files and bytes.
type Limits = BTreeMap<&'static str, i64>;

/// One slot.
struct Slot {
    name: String,
    is_logical: bool,
    status: String,
    /// Files of WAL.
    kept: i64,
    /// Files with changes that did not fit into memory; none if we may not look.
    spilled: Option<i64>,
    /// Bytes of WAL until the slot is lost; none where no limit is set.
    remaining: Option<i64>,
}

/// Both thresholds, and what is found by them.
struct Judgement {
    limits: Option<(Limits, Limits)>,
    critical: Vec<String>,
    warning: Vec<String>,
    perfdata: Vec<Perf>,
    long: Vec<String>,
}

/// The slots of a server.
async fn replication_slots(mut call: Call) -> Result<Answer, Stop> {
    let limits = match call.options.thresholds() {
        Some((warning, critical)) => Some((read(warning)?, read(critical)?)),
        None => None,
    };
    let has = |kind| {
        limits.as_ref().is_some_and(|(warning, critical)| warning.contains_key(kind) || critical.contains_key(kind))
    };
    let (with_remaining, with_spilled) = (has("remaining"), has("spilled"));
    let mut host = call.one_host()?;
    if with_remaining && host.version().await? < 130_000 {
        return Err(Stop::usage("\"remaining=size\" can only be set for PostgreSQL 13 and after."));
    }
    let rows = host.rows("slots").await?;
    let mut slots = Vec::new();
    if !rows.is_empty() {
        let sizes = host.rows("limits").await?;
        let segment = Row::of(&sizes).next().and_then(|row| row.integer("wal_segment_size")).filter(|size| *size > 0);
        let segment = segment.ok_or_else(|| Stop::unknown("the server does not tell the size of its WAL files"))?;
        slots.extend(Row::of(&rows).map(|row| Slot::of(&row, segment)));
    }
    slots.sort_by(|one, other| one.name.cmp(&other.name));
    if slots.iter().any(|slot| slot.is_logical) {
        let spills =
            if with_spilled { Some(host.rows("slot_spills").await?) } else { host.try_rows("slot_spills").await.ok() };
        for row in spills.iter().flat_map(Row::of) {
            let slot = slots.iter_mut().find(|slot| slot.name == row.text("slot_name"));
            if let Some(slot) = slot {
                slot.spilled = row.integer("files");
            }
        }
    }
    let mut judgement =
        Judgement { limits, critical: Vec::new(), warning: Vec::new(), perfdata: Vec::new(), long: Vec::new() };
    for slot in &slots {
        judgement.add(slot);
    }
    let Judgement { critical, warning, perfdata, long, .. } = judgement;
    Ok(Answer::judged(LABEL, critical, warning, "Replication slots OK").with_perfdata(perfdata).with_long(long))
}

fn read(text: &str) -> Result<Limits, Stop> {
    let number = |text: &str| text.parse::<u32>().ok().map(i64::from);
    if let Some(files) = number(text) {
        return Ok(Limits::from([("wal", files)]));
    }
    let list = labelled(text, &KINDS).ok_or_else(|| Stop::usage(EXPECTED))?;
    let values = list.into_iter().map(|(kind, value)| {
        let value = if kind == "remaining" { bytes(&value, None) } else { number(&value) };
        let expected = if kind == "remaining" { "a size" } else { "a raw number" };
        Ok((kind, value.ok_or_else(|| Stop::usage(format!("{kind} accept {expected}\n")))?))
    });
    values.map(|entry| entry.map(|(kind, value)| (kind_of(kind), value))).collect()
}

fn kind_of(text: &str) -> &'static str {
    KINDS.into_iter().find(|kind| *kind == text).unwrap_or("wal")
}

impl Slot {
    fn of(row: &Row<'_>, segment: i64) -> Self {
        let status = row.text("wal_status").to_owned();
        let behind = row.integer("wal_lsn_diff").zip(row.integer("current_wal_lsn"));
        // Files are kept as a whole.
        let kept =
            behind.map(|(behind, current)| (behind + (current - behind).rem_euclid(segment)).div_euclid(segment));
        Self {
            name: row.text("slot_name").to_owned(),
            is_logical: row.text("slot_type") == "logical",
            kept: if status == "lost" { 0 } else { kept.unwrap_or_default() },
            spilled: None,
            remaining: row.integer("safe_wal_size").filter(|size| *size != 0),
            status,
        }
    }
}

impl Judgement {
    fn limit(&self, kind: &str) -> (Option<i64>, Option<i64>) {
        let limits = self.limits.as_ref();
        let of = |side: &Limits| side.get(kind).copied();
        (limits.and_then(|it| of(&it.0)), limits.and_then(|it| of(&it.1)))
    }

    fn perf(&mut self, slot: &Slot, kind: &str, value: i64, unit: &str) {
        let (warning, critical) = self.limit(kind);
        let perf = Perf::new(format!("{}_{kind}", slot.name), value).unit(unit);
        self.perfdata.push(perf.limits(warning, critical));
    }

    fn add(&mut self, slot: &Slot) {
        if slot.status != "lost" {
            self.perf(slot, "wal", slot.kept, "File");
        }
        if let Some(spilled) = slot.spilled {
            self.perf(slot, "spilled", spilled, "File");
        }
        if let Some(remaining) = slot.remaining {
            self.perf(slot, "remaining", remaining, "");
        }
        self.files(slot, "wal", slot.kept, ["crit", "warn"]);
        self.files(slot, "spilled", slot.spilled.unwrap_or_default(), ["critical", "warning"]);
        match slot.status.as_str() {
            "unreserved" => self.warning.push(format!("{} unreserved", slot.name)),
            "lost" => self.critical.push(format!("{} lost", slot.name)),
            _ => {}
        }
        let Some(remaining) = slot.remaining else { return };
        let (warns, alarms) = self.limit("remaining");
        let to = if alarms.is_some_and(|limit| remaining < limit) {
            &mut self.critical
        } else if warns.is_some_and(|limit| remaining < limit) {
            &mut self.warning
        } else {
            return;
        };
        to.push(format!("slot {} not safe", slot.name));
        self.long.push(format!("Remaining {} of WAL for slot {}", to_size(&remaining.to_string()), slot.name));
    }

    fn files(&mut self, slot: &Slot, kind: &str, files: i64, [critical, warning]: [&str; 2]) {
        let (warns, alarms) = self.limit(kind);
        let (to, word, limit) = match (warns, alarms) {
            (_, Some(limit)) if files > limit => (&mut self.critical, critical, limit),
            (Some(limit), _) if files > limit => (&mut self.warning, warning, limit),
            _ => return,
        };
        to.push(format!("{} {kind} files : {files}", slot.name));
        self.long.push(format!("Slot: {} {kind} files = {files} above {word} threshold {limit}", slot.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_of_wal_files() {
        assert_eq!(read("50").unwrap(), Limits::from([("wal", 50)]));
        let list = read("spilled=20, remaining=160MB").unwrap();
        assert_eq!(list, Limits::from([("spilled", 20), ("remaining", 160 << 20)]));
        for wrong in ["", "-1", "wal=1MB", "remaining=x", "files=3", "wal=1,,"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lost_slot_is_critical_and_keeps_nothing() {
        let limits = Some((read("wal=1").unwrap(), read("wal=3").unwrap()));
        let mut judgement =
            Judgement { limits, critical: Vec::new(), warning: Vec::new(), perfdata: Vec::new(), long: Vec::new() };
        let slot = |name: &str, status: &str, kept| Slot {
            name: name.to_owned(),
            is_logical: false,
            status: status.to_owned(),
            kept,
            spilled: None,
            remaining: None,
        };
        for (name, status, kept) in [("a", "lost", 0), ("b", "unreserved", 2), ("c", "reserved", 4)] {
            judgement.add(&slot(name, status, kept));
        }
        assert_eq!(judgement.critical, ["a lost", "c wal files : 4"]);
        assert_eq!(judgement.warning, ["b wal files : 2", "b unreserved"]);
        assert_eq!(judgement.long[1], "Slot: c wal files = 4 above crit threshold 3");
        assert_eq!(judgement.perfdata.len(), 2);
    }
}
