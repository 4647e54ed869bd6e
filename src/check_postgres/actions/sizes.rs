//! Sizes of relations.

use crate::check_postgres::text::perfname;
use crate::check_postgres::threshold::{Kind, Limits, Wanted};
use crate::check_postgres::{Action, At, Call, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(sizes(call, &RELATION)),
        ..Action::of_database("relation_size", "Sizes of tables and indexes")
    },
    Action { run: |call| Box::pin(sizes(call, &INDEX)), ..Action::of_database("index_size", "Sizes of indexes") },
    Action {
        run: |call| Box::pin(sizes(call, &TABLE)),
        ..Action::of_database("table_size", "Sizes of tables with their TOAST")
    },
    Action {
        run: |call| Box::pin(sizes(call, &INDEXES)),
        ..Action::of_database("indexes_size", "Sizes of all indexes of each table")
    },
    Action {
        run: |call| Box::pin(sizes(call, &TOTAL)),
        ..Action::of_database("total_relation_size", "Sizes of tables with everything that belongs to them")
    },
];

/// What is measured, and of which kinds of relations (`pg_class.relkind`).
struct Measure {
    kinds: &'static str,
    columns: &'static [&'static str],
    words: fn(&Relation<'_>) -> String,
}

const RELATION: Measure = Measure {
    kinds: "rtim",
    columns: &["main_size"],
    words: |largest| {
        let kind = if largest.kind == "i" { "index" } else { "table" };
        format!("largest relation is {kind} \"{}\": ", largest.in_full())
    },
};
const INDEX: Measure = Measure {
    kinds: "i",
    columns: &["main_size"],
    words: |largest| format!("largest index is \"{}\": ", largest.in_full()),
};
const TABLE: Measure = Measure { kinds: "rm", columns: &["table_size"], words: largest_table };
const INDEXES: Measure = Measure {
    kinds: "rtm",
    columns: &["indexes_size"],
    words: |largest| format!("table with largest indexes is \"{}\": ", largest.in_full()),
};
const TOTAL: Measure = Measure { kinds: "rm", columns: &["table_size", "indexes_size"], words: largest_table };

fn largest_table(largest: &Relation<'_>) -> String {
    format!("largest table is \"{}\": ", largest.in_full())
}

#[derive(Clone, Copy, Debug)]
struct Relation<'a> {
    schema: &'a str,
    name: &'a str,
    kind: &'a str,
    /// Bytes; `None` while it is locked.
    size: Option<i64>,
}

impl Relation<'_> {
    fn in_full(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Only a table's label has its schema.
    fn label(&self) -> String {
        if self.kind == "r" { perfname(&self.in_full()) } else { perfname(self.name) }
    }
}

async fn sizes(call: &mut Call, measure: &Measure) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Size))?;
    for (at, answer) in call.rows("relation_sizes").await? {
        judge(call, at, measure, limits, &answer)?;
    }
    Ok(())
}

fn judge(call: &mut Call, at: At, measure: &Measure, limits: Limits, answer: &RowSet) -> Ended {
    let owned = Row::of(answer).filter(|row| measure.kinds.contains(row.text("kind")));
    let owned: Vec<Row<'_>> = owned.filter(|row| call.filter.keeps_owner(row.text("owner"))).collect();
    if owned.is_empty() && call.filter.is_by_owner() {
        call.ok(at, "No matching entries found due to user exclusion/inclusion options");
        return Ok(());
    }
    let kept = owned.iter().filter(|row| call.filter.keeps_in(row.text("schemaname"), row.text("relname")));
    let mut kept: Vec<Relation<'_>> = kept.map(|row| relation(row, measure)).collect();
    let locked = kept.iter().filter(|relation| relation.size.is_none()).count();
    kept.retain(|relation| relation.size.is_some());
    if let Some(most) = call.perflimit().filter(|most| *most > 0) {
        kept.sort_by_key(|relation| std::cmp::Reverse(relation.size));
        kept.truncate(most);
    }
    let size = |relation: &Relation<'_>| relation.size.unwrap_or_default();
    // The first of several that are the largest.
    let largest = kept.iter().rev().max_by_key(|relation| size(relation));
    let Some(largest) = largest else {
        if locked > 0 {
            call.unknown(
                at,
                format!("Sizes of {locked} relations are not known: somebody has or awaits an exclusive lock"),
            );
        } else {
            call.unknown(at, "No matching relations found due to exclusion/inclusion options");
        }
        return Ok(());
    };
    let bytes = size(largest);
    if call.is_mrtg() {
        let (database, name) = (&call.place(at).database, largest.name);
        let named =
            if largest.kind == "i" { format!("INDEX: {name}") } else { format!("TABLE: {}", largest.in_full()) };
        return Err(call.mrtg(bytes, "", format!("DB: {database} {named}")));
    }
    let before = if call.options.text("verbose") == Some("1") { '\n' } else { ' ' };
    for relation in &kept {
        let entry = format!("{before}{}={}B;{}", relation.label(), size(relation), limits.perf());
        *call.perf(at) += &entry;
    }
    let message = (measure.words)(largest) + &server_size(bytes);
    call.say(limits.at_least(bytes as f64), at, message);
    Ok(())
}

fn relation<'a>(row: &Row<'a>, measure: &Measure) -> Relation<'a> {
    Relation {
        schema: row.text("schemaname"),
        name: row.text("relname"),
        kind: row.text("kind"),
        size: measure.columns.iter().map(|column| row.integer(column)).sum(),
    }
}

/// A number of bytes as `pg_size_pretty` writes it.
pub(super) fn server_size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 10 * 1024 {
        return format!("{bytes} bytes");
    }
    // One bit more than is shown, to be rounded by.
    let mut halves = bytes >> 9;
    let mut units = UNITS.iter().peekable();
    while let Some(unit) = units.next() {
        if halves < 20 * 1024 - 1 || units.peek().is_none() {
            return format!("{} {unit}", (halves + 1) / 2);
        }
        halves >>= 10;
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_the_server_rounds_them() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_751, "10 kB"),
            (10_752, "11 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (1_867_776, "1824 kB"),
            (i64::MAX, "8192 PB"),
        ] {
            assert_eq!(server_size(bytes), text, "{bytes}");
        }
    }
}
