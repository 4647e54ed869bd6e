//! /proc/loadavg.

use super::HostCollector;
use super::file::{self, Files};
use crate::collect::CollectError;
use crate::metric::{Described, Family};

/// Load averages, from the first three fields of /proc/loadavg.
pub(super) const COLLECTOR: HostCollector = HostCollector {
    name: "loadavg",
    help: "Load averages: how many processes run or wait, against pgvitals_host_cpus",
    provides: &LOADS,
    collect,
};

const LOADS: [Described; 3] = [
    Described::gauge("node_load1", &[], "Load average of 1 minute"),
    Described::gauge("node_load5", &[], "Load average of 5 minutes"),
    Described::gauge("node_load15", &[], "Load average of 15 minutes"),
];

fn collect(files: &mut Files) -> Result<Vec<Family>, CollectError> {
    let path = files.roots.proc.join("loadavg");
    let text = files.text(&path)?;
    let loads = parse(&text).ok_or_else(|| file::malformed(&path, "expected three load averages"))?;
    Ok(LOADS.iter().zip(loads).map(|(metric, load)| metric.family(load)).collect())
}

/// Not procfs' `LoadAverage`: that one is `f32`, and 0.43 would be shown as 0.4300000071525574.
fn parse(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split_ascii_whitespace().map(file::number_of);
    Some([fields.next()??, fields.next()??, fields.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_fields_are_the_loads() {
        let cases = [
            ("0.43 0.23 0.15 2/134 9652\n", Some([0.43, 0.23, 0.15])),
            ("128.00 9 1.5", Some([128.0, 9.0, 1.5])),
            ("0.43 0.23", None),
            ("0.43 x 0.15", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
