//! Databases: sizes, ratios, counters.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
