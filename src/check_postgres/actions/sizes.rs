//! Sizes of relations.

use crate::check_postgres::Action;

pub(super) const ACTIONS: &[Action] = &[];
