//! `--alldb`: every database of the places that are named.

use super::{Call, End};
use crate::plugin::{Pattern, Row};

/// What nobody wants to be asked: no connection is allowed to the one, the other has no data but by accident.
const NOT_ASKED: [&str; 2] = ["template0", "root"];

/// Has every database of each place asked in its stead, but for those that `--includedb` and `--excludedb` leave out.
///
/// # Errors
///
/// A place does not tell its databases, an expression cannot be run, or nothing is left.
pub(super) async fn spread(call: &mut Call) -> Result<(), End> {
    let pattern = |call: &Call, name: &str| match call.options.list(name).first() {
        Some(text) => Pattern::parse(text).map(Some).map_err(|error| End::refused(error.to_string())),
        None => Ok(None),
    };
    let (included, excluded) = (pattern(call, "includedb")?, pattern(call, "excludedb")?);
    let is_wanted = |name: &str| {
        !NOT_ASKED.contains(&name)
            && included.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && !excluded.as_ref().is_some_and(|pattern| pattern.is_match(name))
    };
    let mut places = Vec::new();
    for (at, answer) in call.rows("databases").await? {
        let rows = Row::of(&answer).filter(|row| row.is("allows_connections") && is_wanted(row.text("datname")));
        let of_database = |row: Row<'_>| {
            let mut place = call.place(at).clone();
            row.text("datname").clone_into(&mut place.database);
            place
        };
        places.extend(rows.map(of_database));
    }
    if places.is_empty() {
        return Err(End::refused("No target databases could be found"));
    }
    call.visit_instead(places);
    Ok(())
}
