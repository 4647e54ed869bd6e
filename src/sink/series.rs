//! The lines of samples, as both text formats of Prometheus have them.

use super::{PIECE, Take, push_value};
use crate::metric::{Group, Part, push_escaped};

/// Appends a line for each sample of a part: name, labels, value.
///
/// What the lines have in common is put together once, and the labels of a row were when the row came. So a line is a few copies.
pub(super) fn push_lines(out: &mut String, name: &str, part: &Part, take: Take<'_>) {
    let mut labels = String::from("{");
    if let Some(server) = &part.server {
        labels.push_str("server=\"");
        push_escaped(&mut labels, server, true);
        labels.push_str("\",");
    }
    let start = [name, &labels].concat();
    for sample in part.samples() {
        match sample.suffix() {
            "" => out.push_str(&start),
            suffix => out.extend([name, suffix, &labels]),
        }
        let own = sample.label_text();
        out.push_str(own);
        if let Some((name, bound)) = sample.member.label() {
            out.extend([if own.is_empty() { "" } else { "," }, name, "=\"", bound, "\"} "]);
        } else if own.is_empty() {
            // The comma after the server, or the brace.
            out.pop();
            out.push_str(if part.server.is_some() { "} " } else { " " });
        } else {
            out.push_str("} ");
        }
        push_value(out, sample.value);
        out.push('\n');
        take_piece(out, take);
    }
}

/// Gives away what is written when it is a piece.
pub(super) fn take_piece(out: &mut String, take: Take<'_>) {
    if out.len() >= PIECE {
        take(out);
    }
}

/// About how many bytes a group takes: a text that has to grow is copied, and held twice meanwhile.
pub(super) fn size_of(group: &Group<'_>) -> usize {
    let metric = group.metric();
    let header = "# HELP  \n# TYPE  histogram\n".len() + 2 * metric.name.len() + metric.help.len();
    header + group.parts().iter().map(|part| size_of_lines(&metric.name, part)).sum::<usize>()
}

fn size_of_lines(name: &str, part: &Part) -> usize {
    // A whole number of 64 bits has twenty digits, most have fewer.
    const VALUE: usize = 14;
    let server = part.server.as_ref().map_or(0, |server| "server=\"\",".len() + server.len());
    part.family.len() * (name.len() + server + "{} \n".len() + VALUE) + part.family.label_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::metric::{Buckets, Kind, Metric, Sample, Snapshot, Table};
    use crate::sink::prometheus;

    /// Families with and without labels, with and without servers, one of them a histogram.
    fn snapshot(rows: u32) -> Snapshot {
        let mut snapshot = Snapshot::new(SystemTime::now());
        for (prefix, labels) in [("bare", &[][..]), ("full", &["a", "b"][..])] {
            for server in [None, Some(Arc::from("15/\"main\""))] {
                let mut table = Table::new(labels);
                let metric = Metric { name: format!("{prefix}_seconds"), help: String::new(), kind: Kind::Histogram };
                let ages = table.histogram_of(Arc::new(metric), Arc::new(Buckets::new(vec![0.5, 1.0])));
                let count = table.column(Kind::Counter, &format!("{prefix}_total"), "how \\ many");
                for row in 0..rows {
                    table.row(&[format!("{row}"), "\\\"\n".to_owned()]);
                    table.set(ages, f64::from(row));
                    table.set(count, f64::from(row) + 0.5);
                }
                for family in table.into_families() {
                    snapshot.add(server.as_ref(), &Arc::new(family));
                }
            }
        }
        snapshot
    }

    /// The line as the format's specification describes it, label by label.
    fn plain(name: &str, sample: &Sample<'_>) -> String {
        let labels = sample.labels().map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        });
        let labels = labels.collect::<Vec<_>>().join(",");
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        format!("{name}{}{braces} {}", sample.suffix(), sample.value)
    }

    #[test]
    fn every_line_is_what_its_sample_says() {
        let snapshot = snapshot(3);
        let mut text = String::new();
        prometheus::encode(&snapshot, &mut text);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected: Vec<_> = snapshot
            .groups()
            .flat_map(|group| group.samples().map(|it| plain(&group.metric().name, &it)).collect::<Vec<_>>())
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_pieces_of_a_text_are_the_text() {
        let snapshot = snapshot(2_000);
        let (mut whole, mut joined, mut rest) = (String::new(), String::new(), String::new());
        prometheus::encode(&snapshot, &mut whole);
        prometheus::encode_in_pieces(&snapshot, &mut rest, &mut |piece| {
            assert!((PIECE..PIECE + 1_000).contains(&piece.len()), "{} bytes", piece.len());
            joined.push_str(piece);
            piece.clear();
        });
        assert!(rest.len() < PIECE && joined.len() > 3 * PIECE);
        assert!(joined + &rest == whole);
    }

    #[test]
    fn room_is_made_for_the_whole_text_and_for_little_more() {
        let snapshot = snapshot(2_000);
        let mut text = String::new();
        prometheus::encode(&snapshot, &mut text);
        let expected: usize = snapshot.groups().map(|group| size_of(&group)).sum();
        assert!((text.len()..text.len() * 2).contains(&expected), "{expected} bytes for {}", text.len());
    }
}
