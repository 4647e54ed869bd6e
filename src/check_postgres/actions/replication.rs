//! Standbys, slots, rows that are replicated.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
