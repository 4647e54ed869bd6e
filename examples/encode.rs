//! How fast rows become families and families become text, without a server: `encode [ROUNDS]`.
//!
//! 2,000 tables in the form of the definitions `user_tables` and `statio_user_tables`, 70,000 series. Each line has a step, its
//! median time in milliseconds, and what it wrote in megabytes (1,000,000 bytes) per second; `copy` is the same text copied from
//! memory to memory, the pace that no encoder can beat.

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pgvitals::catalog::{Catalog, DATNAME, Definition};
use pgvitals::collect::shown::Shown;
use pgvitals::collect::sql::families_of;
use pgvitals::metric::{Family, Snapshot};
use pgvitals::server::RowSet;
use pgvitals::sink::{graphite, json, openmetrics, prometheus};

const TABLES: usize = 2_000;
const ROUNDS: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let catalog = Catalog::built_in()?;
    let answers = ["user_tables", "statio_user_tables"].map(|name| Some(answer(catalog.definition(name)?)));
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    let out = &mut io::stdout();

    let families = || -> Result<Vec<Arc<Family>>, Box<dyn Error>> {
        let mut families = Vec::new();
        for (definition, rows) in &answers {
            families.extend(families_of(definition, rows, &mut Shown::default())?.families.into_iter().map(Arc::new));
        }
        Ok(families)
    };
    let kept = families()?;
    let taken = SystemTime::now();
    let server: Arc<str> = Arc::from("17/main");
    let snapshot = || {
        let mut snapshot = Snapshot::new(taken);
        for family in &kept {
            snapshot.add(Some(&server), family);
        }
        snapshot
    };
    let whole = snapshot();
    let root = graphite::Root::new("pgvitals", "db1.example");
    writeln!(out, "{} series", whole.len())?;

    let sent: usize = answers.iter().map(|(_, rows)| rows.bytes()).sum();
    tell(out, "rows to families", sent, median(rounds, || families().map(drop))?)?;
    tell(
        out,
        "families to snapshot",
        0,
        median(rounds, || {
            std::hint::black_box(snapshot());
            Ok(())
        })?,
    )?;
    let mut text = String::new();
    let mut encode = |step: &str, write: &dyn Fn(&mut String)| -> Result<(), Box<dyn Error>> {
        let time = median(rounds, || {
            text.clear();
            write(&mut text);
            Ok(())
        })?;
        tell(out, step, text.len(), time)
    };
    encode("json", &|text| json::encode(&whole, text))?;
    encode("graphite", &|text| {
        graphite::encode(&whole, &root, text);
    })?;
    encode("openmetrics", &|text| openmetrics::encode(&whole, text))?;
    encode("prometheus", &|text| prometheus::encode(&whole, text))?;
    let mut copy = Vec::with_capacity(text.len());
    let time = median(rounds, || {
        copy.clear();
        copy.extend_from_slice(std::hint::black_box(text.as_bytes()));
        std::hint::black_box(&copy);
        Ok(())
    })?;
    tell(out, "copy", text.len(), time)
}

/// The definition without its bound, and what a server with many tables answers.
fn answer(definition: &Definition) -> (Definition, RowSet) {
    let mut definition =
        Definition::parse(&definition.name, &definition.text).unwrap_or_else(|error| panic!("{error:?}"));
    definition.top = None;
    let labels: Vec<&String> = definition.metrics.iter().flat_map(|metric| &metric.labels).collect();
    let columns: Vec<String> = definition.columns().into_iter().map(str::to_owned).collect();
    let mut rows = RowSet::new(columns.clone());
    for table in 0..TABLES {
        for (at, column) in columns.iter().enumerate() {
            let value = match column.as_str() {
                DATNAME => "shop".to_owned(),
                "schemaname" => "public".to_owned(),
                column if labels.iter().any(|label| *label == column) => format!("customer_orders_{table}"),
                // Times have a fraction, and counters are of all sizes.
                column if column.starts_with("last_") => format!("17{}.{:06}", 30_000_000 + table, at * 1_000 + 1),
                _ => ((table * 7_919 + at) << (at % 20)).to_string(),
            };
            assert!(rows.push(Some(&value)), "an answer of {TABLES} rows has room");
        }
    }
    (definition, rows)
}

fn median(rounds: usize, mut step: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        step()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn tell(out: &mut impl io::Write, step: &str, bytes: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let pace = bytes as f64 / 1e6 / time.as_secs_f64();
    Ok(writeln!(out, "{step:<22}{:>9.3} ms{pace:>10.0} MB/s", time.as_secs_f64() * 1e3)?)
}
