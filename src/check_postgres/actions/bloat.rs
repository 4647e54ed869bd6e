//! Space that tables and indexes take for nothing.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
