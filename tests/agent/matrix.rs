//! What the cases of a comparison brought out: which subject, on which role, with which status and which filter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The statuses, by exit code.
pub(crate) const STATUSES: [&str; 4] = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];

/// Cells that no case can bring out with both programs, and why; ours may do so alone.
pub(crate) struct Gap {
    pub(crate) subjects: &'static [&'static str],
    /// All, if none is named.
    pub(crate) roles: &'static [&'static str],
    pub(crate) columns: &'static [&'static str],
    pub(crate) reason: &'static str,
}

impl Gap {
    fn holds(&self, (subject, role): &Row, column: &str) -> bool {
        self.subjects.contains(&subject.as_str())
            && (self.roles.is_empty() || self.roles.contains(role))
            && self.columns.contains(&column)
    }
}

/// A subject, and where it was asked.
type Row = (String, &'static str);

/// Who brought a cell out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Never,
    ByOurs,
    ByBoth,
}

/// A row for each subject on each role, and columns for the statuses and for the filters that it takes.
pub(crate) struct Matrix {
    columns: Vec<&'static str>,
    rows: BTreeMap<Row, BTreeMap<&'static str, Seen>>,
}

impl Matrix {
    /// One without rows; these filters have a column.
    pub(crate) fn new(filters: &[&'static str]) -> Self {
        Self { columns: STATUSES.iter().chain(filters).copied().collect(), rows: BTreeMap::new() }
    }

    /// Every status is wanted of a subject on each of these roles, and an answer with each of these filters.
    pub(crate) fn want(&mut self, subject: &str, roles: &[&'static str], filters: &[&'static str]) {
        for role in roles {
            let cells = STATUSES.iter().chain(filters).map(|column| (*column, Seen::Never)).collect();
            self.rows.insert((subject.to_owned(), role), cells);
        }
    }

    /// Each subject once.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self.rows.keys().map(|row| row.0.as_str()).collect();
        names.into_iter()
    }

    /// A case ended with this exit code, the original too or not.
    pub(crate) fn see(&mut self, row: (&str, &str), code: i32, is_of_both: bool) {
        if let Some(status) = status(code) {
            self.mark(row, status, is_of_both);
        }
    }

    /// A case had these filters, and the original answered alike or not. Where nothing is judged, nothing is shown of them.
    pub(crate) fn see_filtered(&mut self, row: (&str, &str), filters: &[&str], code: i32, is_of_both: bool) {
        if status(code).is_some_and(|status| status != "UNKNOWN") {
            for filter in filters {
                self.mark(row, filter, is_of_both);
            }
        }
    }

    fn mark(&mut self, (subject, role): (&str, &str), column: &str, is_of_both: bool) {
        let seen = if is_of_both { Seen::ByBoth } else { Seen::ByOurs };
        let row = self.rows.iter_mut().find(|((name, place), _)| name == subject && *place == role);
        if let Some(cell) = row.and_then(|(_, cells)| cells.get_mut(column)) {
            *cell = seen.max(*cell);
        }
    }

    /// Fails with all rows unless each cell was brought out by both programs or is one of these gaps, and no gap is closed.
    pub(crate) fn judge(&self, gaps: &[Gap]) {
        let gap = |row: &Row, column: &str| gaps.iter().any(|gap| gap.holds(row, column));
        let (mut counts, mut wrong) = ([0; 3], Vec::new());
        let mut table = format!("{:46}{}\n", "", self.columns.join(" "));
        for (row, cells) in &self.rows {
            write!(table, "{:34}{:12}", row.0, row.1).unwrap();
            for column in &self.columns {
                let mark = match (cells.get(column), gap(row, column)) {
                    (None, _) => "",
                    (Some(Seen::ByBoth), false) => "both",
                    (Some(Seen::ByBoth), true) => "BOTH",
                    (Some(Seen::ByOurs), true) => "ours",
                    (Some(Seen::Never), true) => "-",
                    (Some(Seen::ByOurs), false) => "OURS",
                    (Some(Seen::Never), false) => "????",
                };
                match mark {
                    "both" => counts[0] += 1,
                    "ours" => counts[1] += 1,
                    "-" => counts[2] += 1,
                    "BOTH" => wrong.push(format!("{row:?} {column}: is no gap, both programs give it")),
                    "OURS" => wrong.push(format!("{row:?} {column}: given by ours alone")),
                    "????" => wrong.push(format!("{row:?} {column}: no case gives it")),
                    _ => {}
                }
                let width = column.len() + 1;
                write!(table, "{mark:width$}").unwrap();
            }
            table.push('\n');
        }
        let [both, ours, never] = counts;
        writeln!(table, "{both} by both, {ours} by ours alone, {never} by neither").unwrap();
        let is_here = |gap: &&Gap| self.rows.keys().any(|row| gap.subjects.contains(&row.0.as_str()));
        for Gap { subjects, columns, reason, .. } in gaps.iter().filter(is_here) {
            writeln!(table, "{}: {}: {reason}", subjects.join(", "), columns.join(", ")).unwrap();
        }
        assert!(wrong.is_empty(), "{}\n\n{table}", wrong.join("\n"));
    }
}

fn status(code: i32) -> Option<&'static str> {
    STATUSES.get(usize::try_from(code).ok()?).copied()
}

/// Fails if a gap is of nothing that any of these matrices has.
pub(crate) fn all_are_wanted(gaps: &[Gap], matrices: &[Matrix]) {
    let rows = || matrices.iter().flat_map(|matrix| &matrix.rows);
    for gap in gaps {
        for (subject, column) in
            gap.subjects.iter().flat_map(|name| gap.columns.iter().map(move |column| (name, column)))
        {
            let is_wanted =
                rows().any(|(row, cells)| row.0 == *subject && gap.holds(row, column) && cells.contains_key(column));
            assert!(is_wanted, "{subject} {column}: nothing wants it, and a gap names it");
        }
    }
}
