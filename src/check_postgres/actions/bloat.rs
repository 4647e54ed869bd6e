//! How much of tables and indexes is empty.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::check::Status;
use crate::check_postgres::text::{perfname, pretty_size_whole};
use crate::check_postgres::threshold::{Space, sizes_or_shares};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[Action {
    run: |call| Box::pin(bloat(call)),
    has_time: false,
    ..Action::of_database("bloat", "Space that tables and indexes waste, an estimate")
}];

/// Unless something is included or excluded, what wastes no more pages than that is not looked at.
const FEW_PAGES: i64 = 10;
/// The same for indexes.
const FEW_INDEX_PAGES: i64 = 15;
/// So many pairs of a table and one of its indexes are looked at, unless `--perflimit` says otherwise.
const MOST: usize = 10;

/// A table and one of its indexes, if it has any.
#[derive(Clone, Debug)]
struct Pair<'a> {
    table: Relation<'a>,
    index: Option<Relation<'a>>,
}

impl<'a> Pair<'a> {
    /// `None` where the server shows no statistics of the table.
    fn read(row: &Row<'a>) -> Option<Self> {
        let relation = |name: &str, tuples: &str, pages: &str, needed: &str, is_index: bool| {
            Some(Relation {
                schema: row.text("schemaname"),
                name: row.get(name)?,
                is_index,
                tuples: row.integer(tuples)?,
                pages: row.integer(pages)?,
                needed: row.integer(needed)?,
                page_size: row.integer("page_size")?,
            })
        };
        let table = relation("relname", "tuples", "pages", "needed_pages", false)?;
        let index = relation("indexrelname", "index_tuples", "index_pages", "index_needed_pages", true);
        Some(Self { table, index })
    }

    fn wasted(&self) -> i64 {
        self.table.wasted() + self.index.as_ref().map_or(0, Relation::wasted)
    }

    fn wastes_enough(&self) -> bool {
        self.table.wasted_pages() > FEW_PAGES
            || self.index.as_ref().is_some_and(|index| index.wasted_pages() > FEW_INDEX_PAGES)
    }
}

/// A table or an index.
#[derive(Clone, Debug)]
struct Relation<'a> {
    schema: &'a str,
    name: &'a str,
    is_index: bool,
    tuples: i64,
    pages: i64,
    needed: i64,
    page_size: i64,
}

impl Relation<'_> {
    fn wasted_pages(&self) -> i64 {
        (self.pages - self.needed).max(0)
    }

    fn wasted(&self) -> i64 {
        self.wasted_pages() * self.page_size
    }

    /// How many times its size is of what is needed, to one decimal; 0 where nothing is to be compared.
    fn ratio(&self) -> f64 {
        if self.needed == 0 || self.pages == 0 || self.pages == self.needed {
            return 0.0;
        }
        (self.pages as f64 / self.needed as f64 * 10.0).round() / 10.0
    }

    /// An index' label is without its schema.
    fn label(&self) -> String {
        if self.is_index { perfname(self.name) } else { perfname(&format!("{}.{}", self.schema, self.name)) }
    }

    fn words(&self, database: &str) -> String {
        let (named, unit) = if self.is_index {
            (format!("index {}", self.name), "bytes")
        } else {
            (format!("table {}.{}", self.schema, self.name), "size")
        };
        let Self { tuples, pages, needed, .. } = self;
        let (ratio, wasted) = (self.ratio(), self.wasted());
        let pretty = pretty_size_whole(wasted as f64);
        format!(
            "(db {database}) {named} rows:{tuples} pages:{pages} shouldbe:{needed} ({ratio:.1}X) wasted {unit}:{wasted} \
             ({pretty})"
        )
    }

    fn status(&self, warning: &Space, critical: &Space) -> Status {
        let reached = |limit: &Space| limit.reached(self.wasted() as f64, self.ratio() * 100.0);
        if reached(critical) {
            Status::Critical
        } else if reached(warning) {
            Status::Warning
        } else {
            Status::Ok
        }
    }
}

async fn bloat(call: &mut Call) -> Ended {
    let limits = sizes_or_shares(&call.options, Some(("1 GB", "5 GB")))?;
    for (at, answer) in call.rows("bloat").await? {
        judge(call, at, &limits, &answer)?;
    }
    Ok(())
}

fn judge(call: &mut Call, at: At, (warning, critical): &(Space, Space), answer: &RowSet) -> Ended {
    let most = call.perflimit().filter(|most| *most > 0);
    let mut pairs: Vec<Pair<'_>> = Row::of(answer).filter_map(|row| Pair::read(&row)).collect();
    pairs.sort_by_key(|pair| Reverse(pair.wasted()));
    if !call.filter.is_given() {
        pairs.retain(Pair::wastes_enough);
        pairs.truncate(most.unwrap_or(MOST));
    }
    if pairs.is_empty() {
        if call.is_mrtg() {
            return Err(call.mrtg(0, 0, ""));
        }
        call.ok(at, "no relations meet the minimum bloat criteria");
        return Ok(());
    }
    pairs.retain(|pair| call.filter.keeps_in(pair.table.schema, pair.table.name));
    let relations = relations(pairs);
    if relations.is_empty() {
        call.unknown(at, "No matching relations found due to exclusion/inclusion options");
        return Ok(());
    }
    if call.is_mrtg() {
        return Err(mrtg(call, at, &relations));
    }
    *call.perf(at) = perf(&relations, most);
    let database = call.place(at).database.clone();
    let judged = relations.iter().map(|relation| (relation.status(warning, critical), relation));
    let judged: Vec<(Status, &Relation<'_>)> = judged.collect();
    for status in [Status::Critical, Status::Warning] {
        for (_, relation) in judged.iter().filter(|(found, _)| *found == status) {
            call.say(status, at, relation.words(&database));
            // They belong to all; once is enough.
            call.perf(at).clear();
        }
    }
    let fine = judged.iter().filter(|(status, _)| *status == Status::Ok).map(|(_, relation)| relation);
    if let Some(worst) = fine.rev().max_by_key(|relation| relation.wasted()) {
        call.ok(at, worst.words(&database));
    }
    Ok(())
}

/// Each table once, followed by its indexes as they come.
fn relations(pairs: Vec<Pair<'_>>) -> Vec<Relation<'_>> {
    let mut seen = BTreeSet::new();
    let mut relations = Vec::new();
    for Pair { table, index } in pairs {
        if seen.insert((table.schema, table.name)) {
            relations.push(table);
        }
        relations.extend(index);
    }
    relations
}

/// What is wasted, most first.
fn perf(relations: &[Relation<'_>], most: Option<usize>) -> String {
    let labels: BTreeSet<_> = relations.iter().map(|relation| (Reverse(relation.wasted()), relation.label())).collect();
    let shown = labels.iter().take(most.unwrap_or(usize::MAX));
    // A blank after the last one too.
    shown.fold(String::new(), |perf, (Reverse(wasted), label)| perf + &format!("{label}={wasted}B "))
}

/// The worst table and the worst index, by bytes or by how many times too large they are.
fn mrtg(call: &Call, at: At, relations: &[Relation<'_>]) -> End {
    let by_ratio = call.options.text("mrtg") == Some("ratio");
    let worst = |is_index: bool| {
        let of_kind = relations.iter().filter(|relation| relation.is_index == is_index);
        let value = |relation: &Relation<'_>| if by_ratio { relation.ratio() } else { relation.wasted() as f64 };
        of_kind.rev().max_by(|one, other| value(one).total_cmp(&value(other)))
    };
    let database = &call.place(at).database;
    let (table, index) = (worst(false), worst(true));
    let value = |relation: Option<&Relation<'_>>| match relation {
        Some(relation) if by_ratio => format!("{:.1}", relation.ratio()),
        Some(relation) => relation.wasted().to_string(),
        None => String::new(),
    };
    let message: Vec<String> = table
        .map(|table| format!("DB={database} TABLE={}.{}", table.schema, table.name))
        .into_iter()
        .chain(index.map(|index| format!("DB={database} INDEX={}", index.name)))
        .collect();
    call.mrtg(value(table), value(index), message.join(" "))
}
