//! What the two Nagios plugins that pgvitals stands in for have in common.
//!
//! `check_postgres` and `check_pgactivity` are command lines: they translate options into questions, hold the answers against
//! thresholds, and say it in the words of the originals. The questions are the catalog's.
//!
//! - `target` where a command line points to
//! - `asked` a session there that answers by the names of listings
//! - `served` the agent in place of a session
//! - `row` its answers by the names of columns
//! - `pattern` regular expressions as Perl has them, `number` numbers as it writes them

mod asked;
mod number;
mod pattern;
mod row;
mod served;
mod target;

pub use asked::{AskError, Asked};
pub use number::number;
pub use pattern::{Pattern, PatternError};
pub use row::Row;
pub use served::{Recalled, Served};
pub use target::Target;
