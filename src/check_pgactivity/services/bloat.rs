//! `table_bloat` and `btree_bloat`: disk space that relations could give back, by their statistics.

use super::walk::of_users;
use crate::check_pgactivity::threshold::{bytes, to_size};
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service { name: "table_bloat", help: "Check tables bloat.", run: |call| Box::pin(table_bloat(call)) },
    Service { name: "btree_bloat", help: "Check B-tree index bloat.", run: |call| Box::pin(btree_bloat(call)) },
];

/// What differs between tables and indexes.
struct Kind {
    label: &'static str,
    listing: &'static str,
    /// The column with the relation's own name.
    column: &'static str,
    perf: &'static str,
    noun: &'static str,
    ok: &'static str,
}

const TABLES: Kind = Kind {
    label: "POSTGRES_TABLE_BLOAT",
    listing: "table_pages",
    column: "relname",
    perf: "table bloated in",
    noun: "table(s)",
    ok: "Table bloat ok",
};

const BTREES: Kind = Kind {
    label: "POSTGRES_BTREE_BLOAT",
    listing: "btree_pages",
    column: "indexrelname",
    perf: "idx bloated in",
    noun: "index(es)",
    ok: "Btree bloat ok",
};

/// The largest of several sizes and parts of the relation's own size.
#[derive(Debug)]
struct Limit(Vec<String>);

impl Limit {
    fn read(text: &str) -> Option<Self> {
        let parts: Vec<String> = text.split(',').map(str::to_owned).collect();
        parts.iter().all(|part| bytes(part, Some(0.0)).is_some()).then_some(Self(parts))
    }

    fn of(&self, size: f64) -> f64 {
        let limits = self.0.iter().filter_map(|part| bytes(part, Some(size)));
        limits.max().unwrap_or_default().max(0) as f64
    }
}

/// What was found in all databases.
#[derive(Default)]
struct Found {
    relations: usize,
    warning: usize,
    critical: usize,
    perfdata: Vec<Perf>,
    long: Vec<String>,
}

/// Tables with their TOAST.
async fn table_bloat(call: Call) -> Result<Answer, Stop> {
    bloat(call, &TABLES).await
}

/// B-tree indexes.
async fn btree_bloat(call: Call) -> Result<Answer, Stop> {
    bloat(call, &BTREES).await
}

async fn bloat(mut call: Call, kind: &Kind) -> Result<Answer, Stop> {
    let otherwise = "critical and warning thresholds only accept raw numbers, sizes or percentages.";
    let limits = call.needed_limits(Limit::read, otherwise)?;
    let mut host = call.one_host()?;
    let mut found = Found::default();
    for database in of_users(&call, &mut host).await? {
        let rows = host.rows_in(&database, kind.listing).await?;
        found.add(&call, kind, &limits, &database, Row::of(&rows));
    }
    let Found { relations, warning, critical, perfdata, long } = found;
    let (status, message, long) = match (critical, warning) {
        (0, 0) => (Status::Ok, kind.ok.to_owned(), Vec::new()),
        (0, _) => (Status::Warning, format!("{warning}/{relations} {} bloated", kind.noun), long),
        _ => (Status::Critical, format!("{warning}/{relations} {} bloated", kind.noun), long),
    };
    Ok(Answer::new(kind.label, status, message).with_perfdata(perfdata).with_long(long))
}

impl Found {
    fn add<'a>(
        &mut self,
        call: &Call,
        kind: &Kind,
        (warning, critical): &(Limit, Limit),
        database: &str,
        rows: impl Iterator<Item = Row<'a>>,
    ) {
        let mut bloated = 0;
        for row in rows {
            let name = format!("{database}.{}.{}", row.text("schemaname"), row.text(kind.column));
            let (Some(size), Some(bloat)) = (row.number("size"), row.number("bloat")) else { continue };
            if call.filters.excludes(&name) {
                continue;
            }
            self.relations += 1;
            if bloat > warning.of(size) {
                bloated += 1;
                self.critical += usize::from(bloat > critical.of(size));
                let ratio = if size > 0.0 { 100.0 * bloat / size } else { 0.0 };
                let (bloat, size) = (to_size(row.text("bloat")), to_size(row.text("size")));
                self.long.push(format!("{name} {bloat}/{size} ({ratio:.2}%);"));
            }
        }
        self.warning += bloated;
        self.perfdata.push(Perf::new(format!("{} {database}", kind.perf), bloated));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_several_limits_counts() {
        let limit = Limit::read("1kB,50%,10").unwrap();
        assert!((limit.of(1e6) - 5e5).abs() < 0.1 && (limit.of(100.0) - 1024.0).abs() < 0.1);
        assert!(Limit::read("").is_none() && Limit::read("1kB,x").is_none());
    }
}
