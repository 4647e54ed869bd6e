//! Transactions: open, idle, prepared.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
