//! What servers that exist today no longer have.

use crate::check::Status;
use crate::check_postgres::threshold::{Kind, Wanted, texts};
use crate::check_postgres::{Action, Call, End, Ended};

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(free_space_map(call, "fsm_pages")),
        ..Action::clusterwide("fsm_pages", "Pages in the free space map; up to PostgreSQL 8.3")
    },
    Action {
        run: |call| Box::pin(free_space_map(call, "fsm_relations")),
        ..Action::clusterwide("fsm_relations", "Relations in the free space map; up to PostgreSQL 8.3")
    },
    Action {
        run: |call| Box::pin(listener(call)),
        ..Action::of_database("listener", "Who listens for notifications; up to PostgreSQL 8.4")
    },
];

async fn free_space_map(call: &mut Call, name: &str) -> Ended {
    call.limits(Wanted::new(Kind::Percent).or("85%", "95%"))?;
    call.rows("connection").await?;
    call.say_of_none(Status::Unknown, format!("Cannot check {name} on servers version 8.4 or greater"));
    Ok(())
}

async fn listener(call: &mut Call) -> Ended {
    if call.is_mrtg()
        && let Some(name) = call.options.text("mrtg").map(ToOwned::to_owned)
    {
        call.options.set("critical", name);
    }
    let expected = texts(&call.options);
    let name = match (expected.warning, expected.critical) {
        (None, None) => return Err(End::refused("Must provide a 'warning' or 'critical' option")),
        (Some(_), Some(_)) => return Err(End::refused("Can only provide 'warning' OR 'critical' option")),
        (Some(name), None) | (None, Some(name)) => name,
    };
    let word = name.strip_prefix('~').unwrap_or(&name);
    if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(End::refused("Invalid option"));
    }
    call.rows("connection").await?;
    // Since 9.0 a server tells nobody who listens but the listener.
    Err(End::refused("relation \"pg_listener\" does not exist"))
}
