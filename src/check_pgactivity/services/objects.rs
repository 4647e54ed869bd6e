//! What is wrong with single objects: `invalid_indexes`, `unused_indexes`, `table_unlogged`, `extensions_versions` and
//! `relation_size`.

use super::walk::{all, of_users};
use crate::check_pgactivity::threshold::bytes;
use crate::check_pgactivity::{Answer, Call, Host, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "invalid_indexes",
        help: "Check for invalid indexes.",
        run: |call| Box::pin(invalid_indexes(call)),
    },
    Service { name: "unused_indexes", help: "Check for unused indexes.", run: |call| Box::pin(unused_indexes(call)) },
    Service { name: "table_unlogged", help: "Check unlogged tables", run: |call| Box::pin(table_unlogged(call)) },
    Service {
        name: "extensions_versions",
        help: "Check that installed extensions are up-to-date.",
        run: |call| Box::pin(extensions_versions(call)),
    },
    Service { name: "relation_size", help: "Check relations' sizes.", run: |call| Box::pin(relation_size(call)) },
];

/// A service that counts the objects with some flaw in each database, and names them.
struct Flaw {
    label: &'static str,
    listing: &'static str,
    /// The column with the object's own name.
    column: &'static str,
    /// Whether the row has the flaw; `None` for what does not count at all.
    has: fn(&Row<'_>) -> Option<bool>,
    perf: &'static str,
    /// How one of them is named.
    name: fn(&str) -> String,
    excluded: &'static str,
    /// What follows the counts in the message.
    found: &'static str,
    none: &'static str,
    status: Status,
}

const INVALID: Flaw = Flaw {
    label: "POSTGRES_INVALID_INDEXES",
    listing: "indexes",
    column: "indexrelname",
    has: |row| Some(!row.is("is_valid")),
    perf: "invalid index in",
    name: |name| format!("Invalid index = {name} ; "),
    excluded: "index(es) exclude from check",
    found: "index(es) invalid",
    none: "No invalid index",
    status: Status::Critical,
};

const UNUSED: Flaw = Flaw {
    label: "POSTGRES_UNUSED_INDEXES",
    listing: "indexes",
    column: "indexrelname",
    has: |row| {
        let counts = row.text("schemaname") != "pg_toast" && !row.is("is_unique") && !row.is("is_primary");
        counts.then(|| row.integer("scans") == Some(0))
    },
    perf: "unused index in",
    name: |name| format!("Unused index = {name} ; "),
    excluded: "index(es) exclude from check",
    found: "index(es) unused",
    none: "No unused index",
    status: Status::Warning,
};

const UNLOGGED: Flaw = Flaw {
    label: "POSTGRES_TABLE_UNLOGGED",
    listing: "tables",
    column: "relname",
    has: |row| Some(row.is("is_unlogged")),
    perf: "table unlogged in",
    name: |name| format!("{name} (unlogged);"),
    excluded: "excluded table(s) from check",
    found: "table(s) unlogged",
    none: "No unlogged table",
    status: Status::Critical,
};

/// Indexes that a failed or unfinished `CREATE INDEX CONCURRENTLY` left behind.
async fn invalid_indexes(call: Call) -> Result<Answer, Stop> {
    count(call, &INVALID).await
}

/// Indexes that were never scanned since the statistics were reset, but for unique ones.
async fn unused_indexes(call: Call) -> Result<Answer, Stop> {
    count(call, &UNUSED).await
}

/// Tables that are empty after a crash.
async fn table_unlogged(call: Call) -> Result<Answer, Stop> {
    count(call, &UNLOGGED).await
}

/// The one server, asked for in the words of these services.
fn only_host(call: &mut Call) -> Result<Host, Stop> {
    let service = call.service;
    call.one_host()
        .map_err(|_| Stop::usage(format!("you must give one (and only one) host with service \"{service}\".")))
}

async fn count(mut call: Call, flaw: &Flaw) -> Result<Answer, Stop> {
    let mut host = only_host(&mut call)?;
    let (mut total, mut excluded, mut flawed) = (0, 0, 0);
    let (mut perfdata, mut long) = (Vec::new(), Vec::new());
    for database in of_users(&call, &mut host).await? {
        let rows = host.rows_in(&database, flaw.listing).await?;
        let mut here = 0;
        for row in Row::of(&rows) {
            let Some(has) = (flaw.has)(&row) else { continue };
            let name = format!("{database}.{}.{}", row.text("schemaname"), row.text(flaw.column));
            if call.filters.excludes(&name) {
                excluded += 1;
                continue;
            }
            total += 1;
            if has {
                here += 1;
                long.push((flaw.name)(&name));
            }
        }
        flawed += here;
        perfdata.push(Perf::new(format!("{} {database}", flaw.perf), here));
    }
    if excluded > 0 {
        long.push(format!("{excluded} {}", flaw.excluded));
    }
    let answer = match flawed {
        0 => Answer::new(flaw.label, Status::Ok, flaw.none),
        _ => Answer::new(flaw.label, flaw.status, format!("{flawed}/{total} {}", flaw.found)),
    };
    Ok(answer.with_perfdata(perfdata).with_long(long))
}

/// Extensions whose version is not the one that the server would install.
async fn extensions_versions(mut call: Call) -> Result<Answer, Stop> {
    let mut host = call.one_host()?;
    let (mut perfdata, mut long) = (Vec::new(), Vec::new());
    for database in all(&call, &mut host).await? {
        let rows = host.rows_in(&database, "extension_versions").await?;
        let mut outdated = 0;
        for row in Row::of(&rows) {
            let [name, installed, usual] = ["extension", "installed_version", "default_version"].map(|it| row.text(it));
            let excluded = || call.filters.excludes(name) || call.filters.excludes(&format!("{database}/{name}"));
            // Without the extension's files there is no usual version.
            if !usual.is_empty() && installed != usual && !excluded() {
                outdated += 1;
                long.push(format!("{database}.{name}: {installed} (should be: {usual})"));
            }
        }
        perfdata.push(Perf::new(database, outdated).limits(None::<u8>, Some(1)).least(0));
    }
    let status = if long.is_empty() { Status::Ok } else { Status::Critical };
    Ok(Answer::new("POSTGRES_CHECK_EXT_VERSIONS", status, "").with_perfdata(perfdata).with_long(long))
}

/// The size of each relation, but for those of the catalog.
async fn relation_size(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_RELATION_SIZE";
    let otherwise =
        "Warning and critical args only accept a raw number or a size.\nSee documentation for more information.";
    let limits = call.limits(|text| bytes(text, None), otherwise)?;
    let mut host = only_host(&mut call)?;
    let (mut total, mut excluded, mut locked, mut warning, mut critical) = (0, 0, 0, 0, 0);
    let mut perfdata = Vec::new();
    for database in of_users(&call, &mut host).await? {
        let rows = host.rows_in(&database, "relation_sizes").await?;
        let mut relations: Vec<(String, Option<i64>)> = Vec::new();
        for row in Row::of(&rows).filter(is_of_users) {
            let name = format!("{database}.{}.{}", row.text("schemaname"), row.text("relname"));
            relations.push((name, row.integer("table_size")));
        }
        relations.sort_unstable();
        for (name, size) in relations {
            if call.filters.excludes(&name) {
                excluded += 1;
                continue;
            }
            total += 1;
            let Some(size) = size else {
                locked += 1;
                continue;
            };
            let perf = Perf::new(name, size).unit("B");
            let Some((warns, alarms)) = limits else {
                perfdata.push(perf);
                continue;
            };
            perfdata.push(perf.limits(Some(warns), Some(alarms)));
            if size > alarms {
                critical += 1;
            } else if size > warns {
                warning += 1;
            }
        }
    }
    let counted = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let parts = [
        counted(excluded, "excluded relation(s) from check"),
        counted(locked, "exclusively locked relation(s) not measured"),
    ];
    let answer = match (critical, warning) {
        (0, 0) => Answer::new(LABEL, Status::Ok, format!("{total} relation(s)")),
        (0, _) => Answer::new(LABEL, Status::Warning, format!("{warning}/{total} oversized relation(s)")),
        _ => Answer::new(LABEL, Status::Critical, format!("{critical}/{total} oversized relation(s)")),
    };
    Ok(answer.with_perfdata(perfdata).with_long(parts.into_iter().flatten().collect()))
}

fn is_of_users(row: &Row<'_>) -> bool {
    let schema = row.text("schemaname");
    let is_system = matches!(schema, "pg_catalog" | "information_schema") || schema.starts_with("pg_toast");
    !is_system && matches!(row.text("kind"), "r" | "i" | "m" | "p")
}
