//! What sessions do: queries, locks, who waits for whom.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
