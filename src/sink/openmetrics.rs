//! OpenMetrics 1.0, with the very sample names of the text format, and its lines but for histograms.
//!
//! OpenMetrics demands `_total` on the samples of a counter. A counter whose compatible name lacks it is `unknown`
//! here, so that the name stays. So are the parts of a histogram whose sum is below 0 or endless,
//! which parsers refuse. It also
//! demands `le="1.0"` where the text format has `le="1"`; Prometheus since 3.0 makes the same of both. Histograms are written by
//! `prometheus-client`, which knows how; all else would take it longer, as it escapes each label of each line anew.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::series::{push_lines, size_of, take_piece};
use super::{Take, whole};
use crate::metric::{Group, Kind, Member, SUFFIXES, Sample, Snapshot, push_escaped};

/// What the HTTP header `Content-Type` says.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Appends all families, ordered by name, and the end mark.
pub fn encode(snapshot: &Snapshot, out: &mut String) {
    out.reserve(snapshot.groups().map(|group| size_of(&group)).sum());
    encode_in_pieces(snapshot, out, &mut |_| ());
}

/// As [`encode`]; what is left at the end, which is less than a piece, is not taken.
pub fn encode_in_pieces(snapshot: &Snapshot, out: &mut String, take: Take<'_>) {
    for group in snapshot.groups() {
        let metric = group.metric();
        if metric.kind == Kind::Histogram {
            push_histograms(snapshot, &group, out);
            take_piece(out, take);
            continue;
        }
        let (name, kind) = shape(snapshot, &group);
        out.extend(["# HELP ", name, " "]);
        push_escaped(out, &metric.help, true);
        out.extend(["\n# TYPE ", name, " ", kind, "\n"]);
        group.parts().iter().for_each(|part| push_lines(out, &metric.name, part, take));
    }
    out.push_str("# EOF\n");
}

/// The family's name and type in OpenMetrics, chosen so that the sample name is the metric's name.
fn shape<'a>(snapshot: &Snapshot, group: &Group<'a>) -> (&'a str, &'static str) {
    let metric = group.metric();
    match (metric.kind, metric.name.strip_suffix("_total")) {
        (Kind::Counter, Some(stem)) if is_free(snapshot, stem) && group.samples().all(|s| s.value >= 0.0) => {
            (stem, "counter")
        }
        (Kind::Gauge, _) => (&metric.name, "gauge"),
        (Kind::Counter | Kind::Histogram | Kind::Unknown, _) => (&metric.name, "unknown"),
    }
}

/// A counter takes its stem and the stem's `_created` for itself; parsers refuse them to any other family.
fn is_free(snapshot: &Snapshot, stem: &str) -> bool {
    snapshot.find(stem).is_none() && snapshot.find(&format!("{stem}_created")).is_none()
}

fn push_histograms(snapshot: &Snapshot, group: &Group<'_>, out: &mut String) {
    let mut alone = Snapshot::new(snapshot.taken);
    group.parts().iter().for_each(|part| alone.add(part.server.as_ref(), &part.family));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Histograms(alone)));
    // Writing to a String cannot fail.
    let _ = text::encode_registry(out, &registry);
}

#[derive(Debug)]
struct Histograms(Snapshot);

impl Collector for Histograms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        self.0.groups().try_for_each(|group| {
            let mut help = String::new();
            // The crate escapes label values but writes HELP as it is.
            push_escaped(&mut help, &group.metric().help, true);
            encode_histograms(&mut encoder, &group, &help)
        })
    }
}

fn encode_histograms(encoder: &mut DescriptorEncoder<'_>, group: &Group<'_>, help: &str) -> Result<(), Error> {
    let name = &group.metric().name;
    if !group.samples().all(|sample| sample.value >= 0.0 && sample.value.is_finite()) {
        for suffix in SUFFIXES {
            let name = format!("{name}{suffix}");
            let mut described = encoder.encode_descriptor(&name, help, None, MetricType::Unknown)?;
            for sample in group.samples().filter(|sample| sample.suffix() == suffix) {
                // The crate has no encoder of its own for an unknown: its samples look like a gauge's.
                let labels = Labels(sample);
                let mut described = described.encode_family(&labels)?;
                match whole(sample.value) {
                    Some(whole) => described.encode_gauge(&whole)?,
                    None => described.encode_gauge(&sample.value)?,
                }
            }
        }
        return Ok(());
    }
    let mut described = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    // The crate takes what is in each bucket alone and adds it up again.
    let (mut buckets, mut below, mut sum) = (Vec::new(), 0, 0.0);
    for sample in group.samples() {
        let count = whole(sample.value).and_then(|count| u64::try_from(count).ok()).unwrap_or_default();
        match sample.member {
            Member::Bucket { bound, .. } => {
                buckets.push((bound, count.saturating_sub(below)));
                below = count;
            }
            Member::Sum => sum = sample.value,
            Member::Count | Member::Whole => {
                let labels = Labels(sample);
                let encode = |encoder: &mut MetricEncoder<'_>| {
                    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
                };
                if sample.labels().next().is_none() {
                    encode(&mut described)?;
                } else {
                    encode(&mut described.encode_family(&labels)?)?;
                }
                (buckets, below) = (Vec::new(), 0);
            }
        }
    }
    Ok(())
}

struct Labels<'a>(Sample<'a>);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        self.0.labels().try_for_each(|label| label.encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::metric::Family;

    fn encoded(families: &[(Kind, &str, f64)]) -> String {
        let mut snapshot = Snapshot::new(SystemTime::now());
        for (kind, name, value) in families {
            snapshot.add(None, &Arc::new(Family::single(*kind, name, "h", *value)));
        }
        let mut out = String::new();
        encode(&snapshot, &mut out);
        out
    }

    #[test]
    fn every_sample_keeps_the_name_of_the_text_format() {
        let cases = [
            (Kind::Counter, "a_total", 2.5, "# HELP a h\n# TYPE a counter\na_total 2.5\n"),
            (Kind::Counter, "a_total", 2.0, "# HELP a h\n# TYPE a counter\na_total 2\n"),
            (Kind::Counter, "a_total", -1.0, "# HELP a_total h\n# TYPE a_total unknown\na_total -1\n"),
            (Kind::Counter, "a_total", f64::NAN, "# HELP a_total h\n# TYPE a_total unknown\na_total NaN\n"),
            (Kind::Counter, "xact_commit", 3.0, "# HELP xact_commit h\n# TYPE xact_commit unknown\nxact_commit 3\n"),
            (Kind::Gauge, "a_total", 3.0, "# HELP a_total h\n# TYPE a_total gauge\na_total 3\n"),
            (Kind::Unknown, "a_seconds", 0.5, "# HELP a_seconds h\n# TYPE a_seconds unknown\na_seconds 0.5\n"),
        ];
        for (kind, name, value, expected) in cases {
            assert_eq!(encoded(&[(kind, name, value)]), format!("{expected}# EOF\n"));
        }
    }

    #[test]
    fn a_counter_whose_stem_is_taken_is_unknown() {
        let out = encoded(&[(Kind::Counter, "a_total", 1.0), (Kind::Gauge, "a", 2.0)]);
        assert_eq!(
            out,
            "# HELP a h\n# TYPE a gauge\na 2\n# HELP a_total h\n# TYPE a_total unknown\na_total 1\n# EOF\n"
        );
    }
}
