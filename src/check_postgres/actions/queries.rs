//! Queries of the user's own, settings, triggers, sequences.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
