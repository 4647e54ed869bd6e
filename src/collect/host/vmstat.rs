//! /proc/vmstat.

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family};

/// Paging, swapping, page faults and kills for want of memory, from /proc/vmstat; untyped, as in `node_exporter`.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "vmstat",
    help: "Paging and swapping, page faults, processes killed for want of memory",
    provides: &[FIELD],
    collect,
};

const FIELD: Described = Described::unknown("node_vmstat_{}", &[], "Field {} of /proc/vmstat");

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("vmstat");
    Ok(parse(&files.text(&path)?))
}

/// Not procfs' `VmStat`: it makes a map of some 180 fields, of which we want seven.
fn parse(text: &str) -> Vec<Family> {
    let family = |line: &str| {
        let (field, value) = line.split_once(' ').filter(|(field, _)| is_wanted(field))?;
        Some(FIELD.family_of(field, field, file::number_of(value.trim())?))
    };
    text.lines().filter_map(family).collect()
}

/// `node_exporter`'s default choice: `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn is_wanted(field: &str) -> bool {
    let is_chosen = ["oom_kill", "pgpg", "pswp"].iter().any(|start| field.starts_with(start))
        || field.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"));
    is_chosen && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    #[test]
    fn the_choice_is_that_of_node_exporter() {
        let text = "nr_free_pages 1\npgpgin 2\npgpgout 3\npswpin 4\npswpout 5\npgalloc_normal 6\npgfault 7\npgmajfault 8\n\
                    oom_kill 9\nzone_reclaim_failed 0\nnuma_pages_migrated 0\n";
        let families = parse(text);
        let names: Vec<_> = families.iter().filter_map(|f| f.metric().name.strip_prefix("node_vmstat_")).collect();
        assert_eq!(names, ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill"]);
        assert!(families.iter().all(|family| family.metric().kind == Kind::Unknown));
    }
}
