//! `--test`: whether one gets in, and whether the servers suit the actions.

use super::{Action, Call, End, Ended, Outcome};
use crate::plugin::Row;

/// What runs when no action does.
pub(super) static TRIAL: Action =
    Action { run: |call| Box::pin(try_places(call)), ..Action::of_database("test", "Whether one gets in") };

/// The last version of PostgreSQL that an action is for.
const LAST: [(&str, &str); 3] = [("fsm_pages", "8.3"), ("fsm_relations", "8.3"), ("listener", "8.4")];

async fn try_places(call: &mut Call) -> Ended {
    let mut said = "BEGIN TEST MODE\n".to_owned();
    let mut versions = Vec::new();
    for (at, answer) in call.rows("connection").await? {
        let place = call.place(at).in_full();
        said += &format!("Connection ok: {place}\n");
        let version = Row::of(&answer).next().map(|row| row.text("server_version").to_owned()).unwrap_or_default();
        versions.push((place, version.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    let named = call.options.text("action").unwrap_or_default().replace('-', "_").to_lowercase();
    for action in named.split_whitespace() {
        let Some((_, last)) = LAST.iter().find(|(name, _)| *name == action) else { continue };
        for (place, version) in &versions {
            // The words are the original's, which says so of a server that is too new as well.
            said += &format!("Cannot run \"{action}\" on {place}: version must be >= {last}, but is {version}\n");
        }
    }
    said += "END OF TEST MODE\n";
    Err(End::Printed(Outcome { stdout: said, ..Outcome::default() }))
}
