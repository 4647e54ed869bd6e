//! `PgBouncer`: what its console says.

use super::connections::say_taken;
use super::settings;
use crate::check_postgres::text::{number, perfname};
use crate::check_postgres::threshold::{Kind, Wanted, connections};
use crate::check_postgres::{Action, At, Call, End, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(pool(call, "cl_active")),
        ..of_pools("pgb_pool_cl_active", "Clients of each pool that have a server connection or are idle")
    },
    Action {
        run: |call| Box::pin(pool(call, "cl_waiting")),
        ..of_pools("pgb_pool_cl_waiting", "Clients of each pool that wait for a server connection")
    },
    Action {
        run: |call| Box::pin(pool(call, "sv_active")),
        ..of_pools("pgb_pool_sv_active", "Server connections of each pool that a client has")
    },
    Action {
        run: |call| Box::pin(pool(call, "sv_idle")),
        ..of_pools("pgb_pool_sv_idle", "Server connections of each pool that are free")
    },
    Action {
        run: |call| Box::pin(pool(call, "sv_used")),
        ..of_pools(
            "pgb_pool_sv_used",
            "Server connections of each pool that are to be tried before they are used again",
        )
    },
    Action {
        run: |call| Box::pin(pool(call, "sv_tested")),
        ..of_pools("pgb_pool_sv_tested", "Server connections of each pool that are being reset or tried")
    },
    Action {
        run: |call| Box::pin(pool(call, "sv_login")),
        ..of_pools("pgb_pool_sv_login", "Server connections of each pool that are being opened")
    },
    Action {
        run: |call| Box::pin(pool(call, "maxwait")),
        ..of_pools("pgb_pool_maxwait", "Seconds that the first client of each pool has been waiting")
    },
    Action {
        run: |call| Box::pin(backends(call)),
        ..Action::of_database("pgbouncer_backends", "Clients of PgBouncer, compared to max_client_conn")
    },
    Action {
        run: |call| Box::pin(checksum(call)),
        ..Action::of_database("pgbouncer_checksum", "Whether settings of PgBouncer have changed")
    },
    Action {
        run: |call| Box::pin(maxwait(call)),
        ..Action::of_database("pgbouncer_maxwait", "How long the first client has been waiting")
    },
];

const CONFIG: &str = "SHOW CONFIG";
const POOLS: &str = "SHOW POOLS";
const NO_DATABASE: &str = "No matching databases found due to exclusion/inclusion options";

const fn of_pools(name: &'static str, help: &'static str) -> Action {
    Action { has_time: false, ..Action::clusterwide(name, help) }
}

/// The pools that the options leave.
fn kept<'a>(call: &Call, pools: &'a RowSet) -> Vec<Row<'a>> {
    Row::of(pools).filter(|row| call.filter.keeps(row.text("database"))).collect()
}

async fn pool(call: &mut Call, column: &str) -> Ended {
    let limits = call.limits(Wanted::new(Kind::PositiveInteger))?;
    for at in call.places() {
        let answer = call.console_at(at, POOLS).await?;
        let pools = kept(call, &answer);
        if pools.is_empty() && !call.is_mrtg() {
            call.unknown(at, NO_DATABASE);
        }
        for row in pools {
            let database = row.text("database");
            let Some(value) = row.number(column) else {
                call.unknown(at, format!("Invalid query returned: no {column} of {database}"));
                continue;
            };
            if call.is_mrtg() {
                let message = format!("Pool={database} {column}={}", number(value));
                call.stat(format!("{database} {}", row.text("user")), value, Some(message));
                continue;
            }
            *call.perf(at) = format!("{}={};{}", perfname(database), number(value), limits.perf());
            call.say(limits.at_least(value), at, format!("{database}={}", number(value)));
        }
    }
    if call.is_mrtg() { Err(call.mrtg_stats(NO_DATABASE)) } else { Ok(()) }
}

/// A setting of the pooler.
async fn setting(call: &mut Call, at: At, name: &str) -> Result<Option<f64>, End> {
    let config = call.console_at(at, CONFIG).await?;
    let found = Row::of(&config).find(|row| row.text("key") == name).and_then(|row| row.number("value"));
    Ok(found)
}

async fn backends(call: &mut Call) -> Ended {
    let (warning, critical) = connections(&call.options)?;
    for at in call.places() {
        let limit = setting(call, at, "max_client_conn").await?.filter(|limit| *limit > 0.0);
        let answer = call.console_at(at, POOLS).await?;
        let Some(limit) = limit else {
            call.unknown(at, "Could not determine max_connections");
            continue;
        };
        let mut total = 0.0;
        for row in kept(call, &answer) {
            let current = ["cl_active", "cl_waiting"].iter().filter_map(|column| row.number(column)).sum::<f64>();
            total += current;
            let label = quoted(row.text("database"));
            let (warning, critical) = (number(warning.used_of(limit)), number(critical.used_of(limit)));
            let entry = format!(" {label}={};{warning};{critical};0;{}", number(current), number(limit));
            *call.perf(at) += &entry;
        }
        let database = call.place(at).database.clone();
        if call.is_mrtg() {
            let message = format!("DB={database} Max connections={}", number(limit));
            call.stat(database, total, Some(message));
            continue;
        }
        if total == 0.0 {
            if answer.is_empty() {
                call.unknown(at, NO_DATABASE);
            } else {
                call.ok(at, "No connections");
            }
            continue;
        }
        say_taken(call, at, total, limit, (warning, critical));
    }
    if call.is_mrtg() { Err(call.mrtg_stats(NO_DATABASE)) } else { Ok(()) }
}

/// A label that is quoted whatever it holds.
fn quoted(name: &str) -> String {
    let label = perfname(name);
    if label.starts_with('\'') { label } else { format!("'{label}'") }
}

async fn checksum(call: &mut Call) -> Ended {
    let expected = settings::expected(call)?;
    for at in call.places() {
        let config = call.console_at(at, CONFIG).await?;
        let mut text = String::new();
        for row in Row::of(&config).filter(|row| call.filter.keeps(row.text("key"))) {
            text += &format!("{} = {}\n", row.text("key"), row.text("value").trim_end());
        }
        if text.is_empty() {
            call.unknown(at, "No matching settings found due to exclusion/inclusion options");
        } else {
            settings::judge(call, at, &expected, &settings::checksum(&text))?;
        }
    }
    Ok(())
}

async fn maxwait(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time))?;
    for at in call.places() {
        let answer = call.console_at(at, POOLS).await?;
        let pools = kept(call, &answer);
        let skipped = answer.len() - pools.len();
        let waits = pools.iter().filter_map(|row| Some((row, row.number("maxwait").filter(|wait| *wait > 0.0)?)));
        // Of several that wait as long the first one.
        let longest = waits.rev().max_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((row, wait)) = longest else {
            if call.is_mrtg() {
                return Err(call.mrtg(0, "", "No rows"));
            }
            *call.perf(at) = format!("maxwait=0;{}", limits.perf());
            call.ok(
                at,
                match skipped {
                    0 => "No matching rows were found".to_owned(),
                    skipped => format!("No matching rows were found (skipped rows: {skipped})"),
                },
            );
            continue;
        };
        let who = format!(
            "database:{} username:{} cl_active:{} cl_waiting:{}",
            row.text("database"),
            row.text("user"),
            row.text("cl_active"),
            row.text("cl_waiting")
        );
        let wait_text = number(wait);
        if call.is_mrtg() {
            return Err(call.mrtg(wait_text, "", who));
        }
        *call.perf(at) = format!("{}={wait_text};{}", quoted(&who), limits.perf());
        call.say(limits.at_least(wait), at, format!("longest wait: {wait_text}s ({who})"));
    }
    Ok(())
}
