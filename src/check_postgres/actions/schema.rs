//! Two or more schemas that should be the same, or one that should be what it was.

mod catalog;
mod compare;
mod filter;
mod report;
mod snapshot;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::check::Status;
use crate::check_postgres::text::moment;
use crate::check_postgres::usage::VERSION;
use crate::check_postgres::{Action, At, Call, End, Ended, Outcome};
use crate::source::read_plain;
use catalog::{KINDS, Kind, Objects, Schema};
use filter::Filter;
use snapshot::{About, Snapshot};

pub(super) const ACTIONS: &[Action] = &[Action {
    run: |call| Box::pin(same_schema(call)),
    ..Action::of_database("same_schema", "Whether databases have the same objects, or one still those it had")
}];

/// A snapshot may be as large as that.
const LARGEST_FILE: u64 = 256 << 20;

/// Kinds of which the original calls several objects the same, so that its snapshots tell only one of them.
const AMBIGUOUS: &[&str] = &["aggregate", "comment"];

/// One of the schemas that are compared.
struct Side {
    schema: Schema,
    /// Version of the server.
    server: String,
    /// The lines that tell of it.
    lines: Vec<String>,
}

async fn same_schema(call: &mut Call) -> Ended {
    let started = Instant::now();
    let filter = Filter::read(&call.options)?;
    let mut kinds = kinds(call, &filter)?;
    let places: Vec<At> = call.places().collect();
    let [first, others @ ..] = places.as_slice() else { return Err(End::refused("No databases are given")) };
    let (first, is_alone) = (*first, others.is_empty());
    if call.options.is_on("suffix") && !is_alone {
        return Err(End::refused("Error: cannot use suffix unless looking at time-based schemas"));
    }
    let mut sides = Vec::new();
    for at in &places {
        sides.push(live(call, *at, &kinds).await?);
    }
    if is_alone {
        let file = file_name(call, first)?;
        let Some(snapshot) = load(&file)? else {
            let text = written(call, first, &sides);
            create(&file, &text)?;
            let stdout = format!("Created file {}\n", file.display());
            return Err(End::Printed(Outcome { stdout, ..Outcome::default() }));
        };
        if snapshot.is_foreign {
            for side in &mut sides {
                clean(&mut side.schema);
            }
            kinds.retain(|kind| !AMBIGUOUS.contains(&kind.name));
        }
        sides.push(past(&file, snapshot, &kinds));
    }
    let schemas: Vec<Schema> = sides.iter_mut().map(|side| std::mem::take(&mut side.schema)).collect();
    let rules = report::Rules {
        without_position: filter.is_without("position"),
        without_body: filter.is_without("funcbody"),
        without_permissions: filter.is_without("perm"),
        without_sequence_values: is_alone || call.options.is_on("assume-async"),
    };
    let found = kinds.iter().map(|kind| (*kind, compare::compare(kind, &schemas, &filter))).collect::<Vec<_>>();
    let told = report::tell(&found, rules);
    if is_alone && call.options.is_on("replace") {
        let file = file_name(call, first)?;
        if let (Some(side), Some(schema)) = (sides.first_mut(), schemas.into_iter().next()) {
            side.schema = schema;
        }
        replace(&file, &written(call, first, &sides))?;
    }
    call.waited(first, started.elapsed());
    let header = header(call, &places, is_alone);
    if told.count == 0 {
        call.say_lines(Status::Ok, first, header, "All databases have identical items", "");
        return Ok(());
    }
    let lines: Vec<&str> = sides.iter().flat_map(|side| &side.lines).map(String::as_str).collect();
    let message = format!("Databases were different. Items not matched: {}", told.count);
    call.say_lines(Status::Critical, first, header, &message, &format!("\n{}\n{}", lines.join("\n"), told.text));
    Ok(())
}

/// The kinds that the options leave.
fn kinds(call: &Call, filter: &Filter) -> Result<Vec<&'static Kind>, End> {
    let named = |option: &str| -> Result<Option<Vec<String>>, End> {
        let list = call.options.list(option).iter().flat_map(|list| list.split(','));
        let names: Vec<String> = list.map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
        let mut wrong: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| KINDS.iter().all(|kind| kind.name != *name)).collect();
        wrong.sort_unstable();
        wrong.dedup();
        if !wrong.is_empty() {
            return Err(End::refused(format!("Unrecognized object types: {}", wrong.join(","))));
        }
        Ok((!names.is_empty()).then_some(names))
    };
    let (skipped, wanted) = (named("skipobject")?, named("object")?);
    let has = |names: &[String], kind: &Kind| names.iter().any(|name| name == kind.name);
    let kinds = KINDS.iter().filter(|kind| {
        !filter.is_without(kind.name)
            && skipped.as_ref().is_none_or(|names| !has(names, kind))
            && wanted.as_ref().is_none_or(|names| has(names, kind))
    });
    Ok(kinds.collect())
}

/// What a database has now.
async fn live(call: &mut Call, at: At, kinds: &[&'static Kind]) -> Result<Side, End> {
    let version = call.version_at(at).await?;
    let server = format!("{}.{}", version / 10_000, version % 10_000);
    let mut schema = Schema::new();
    for kind in kinds {
        let objects = catalog::read(&call.rows_at(at, kind.listing).await?)?;
        schema.insert(kind.name.to_owned(), objects);
    }
    let (place, number) = (call.place(at), at.number());
    let service = place.service.as_ref().map(|service| format!("dbservice={service} ")).unwrap_or_default();
    let (host, port) = (place.host.as_deref().unwrap_or("<none>"), &place.port);
    let lines = vec![
        format!("DB {number}: {service}port={port} host={host} dbname={} user={} ", place.database, place.user),
        format!("DB {number}: PG version: {server}"),
        format!("DB {number}: Total objects: {}", total(&schema)),
    ];
    Ok(Side { schema, server, lines })
}

/// What a database had when the snapshot was made.
fn past(file: &Path, snapshot: Snapshot, kinds: &[&'static Kind]) -> Side {
    let Snapshot { about, is_foreign, mut schema } = snapshot;
    schema.retain(|name, _| kinds.iter().any(|kind| kind.name == name));
    if is_foreign {
        clean(&mut schema);
    }
    let About { version, server, created, database, host, port, user, .. } = about;
    let lines = vec![
        format!("DB 2: File={}", file.display()),
        format!("DB 2: Creation date: {created}  CP version: {version}"),
        format!("DB 2: port={port} host={host} dbname={database} user={user} "),
        format!("DB 2: PG version: {server}"),
        format!("DB 2: Total objects: {}", total(&schema)),
    ];
    Side { schema, server, lines }
}

fn total(schema: &Schema) -> usize {
    schema.values().map(Objects::len).sum()
}

fn clean(schema: &mut Schema) {
    for value in schema.values_mut().flat_map(Objects::values_mut).flat_map(|object| object.values_mut()) {
        *value = snapshot::without_marks(value);
    }
}

/// The places in the header: what they have in common, or all there are.
fn header(call: &Call, places: &[At], is_alone: bool) -> String {
    let usual = places.first().map(|at| call.place(*at).header(false)).unwrap_or_default();
    if is_alone {
        return usual;
    }
    // In the order of the last place that has each.
    let list = |of: &dyn Fn(At) -> String| {
        let mut values: Vec<String> = Vec::new();
        for value in places.iter().map(|at| of(*at)) {
            values.retain(|known| *known != value);
            values.push(value);
        }
        values
    };
    let parts = [
        ("databases", list(&|at| call.place(at).database.clone())),
        ("hosts", list(&|at| call.place(at).host.clone().unwrap_or_else(|| "<none>".to_owned()))),
        ("ports", list(&|at| call.place(at).port.clone())),
    ];
    let mut header = String::new();
    for (name, values) in parts {
        match (name, values.as_slice()) {
            (name, [_, _, ..]) => header += &format!(" ({name}:{})", values.join(",")),
            ("databases", [database]) => header += &format!("DB \"{database}\""),
            ("hosts", [host]) if host != "<none>" => header += &format!(" (host:{host})"),
            ("ports", [port]) if port != "5432" => header += &format!(" (port={port})"),
            _ => {}
        }
    }
    header.trim().to_owned()
}

/// The snapshot of a place, as the original calls it.
fn file_name(call: &Call, at: At) -> Result<PathBuf, End> {
    let place = call.place(at).in_full();
    let place = place.split_once(" user=").map_or(place.as_str(), |(place, _)| place);
    let place = place.replace(" host=<none>", "").replace([' ', '='], ".").replace('/', "_");
    let suffix = call.options.text("suffix").filter(|_| call.options.is_on("suffix"));
    let suffix = suffix.map(|suffix| format!(".{}", suffix.replace('/', "_"))).unwrap_or_default();
    let name = format!("check_postgres.audit.{place}{suffix}");
    let Some(folder) = call.options.text("audit-file-dir") else { return Ok(PathBuf::from(name)) };
    if !Path::new(folder).is_dir() {
        return Err(End::refused(format!("Cannot write to directory \"{folder}\": no such directory")));
    }
    Ok(Path::new(folder).join(name))
}

/// `None` where there is no snapshot yet.
fn load(file: &Path) -> Result<Option<Snapshot>, End> {
    if !file.exists() {
        return Ok(None);
    }
    let failed = |what: &str, reason: String| End::refused(format!("{what} \"{}\": {reason}", file.display()));
    let bytes = read_plain(file, LARGEST_FILE).map_err(|error| failed("Could not open", error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    snapshot::read(&text).map(Some).map_err(|reason| failed("Failed to parse file", reason))
}

fn written(call: &Call, at: At, sides: &[Side]) -> String {
    let place = call.place(at);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let host = place.host.clone().unwrap_or_default();
    let named = if host.is_empty() { String::new() } else { format!("host={host} ") };
    let about = About {
        version: VERSION.to_owned(),
        server: sides.first().map(|side| side.server.clone()).unwrap_or_default(),
        created: format!("{} UTC", moment(now, 0.0)),
        connection: format!("port={} {named}dbname={} user={} ", place.port, place.database, place.user),
        database: place.database.clone(),
        host,
        port: place.port.clone(),
        user: place.user.clone(),
    };
    let nothing = Schema::new();
    snapshot::write(about, sides.first().map_or(&nothing, |side| &side.schema))
}

/// Writes a file that is not there yet.
fn create(file: &Path, text: &str) -> Ended {
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| End::refused(format!("Could not open \"{}\": {error}", file.display())))
}

/// Puts a new snapshot in the place of the old one, which is kept beside it.
fn replace(file: &Path, text: &str) -> Ended {
    let mut backup = file.as_os_str().to_owned();
    backup.push(".backup");
    let renamed = fs::rename(file, &backup);
    renamed.map_err(|error| End::refused(format!("Could not rename \"{}\": {error}", file.display())))?;
    create(file, text)
}
