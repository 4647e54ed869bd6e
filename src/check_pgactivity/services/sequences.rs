//! `sequences_exhausted`: sequences, and the columns that they number, that come to their end.

use super::walk::of_users;
use crate::check_pgactivity::threshold::decimal;
use crate::check_pgactivity::{Answer, Call, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[Service {
    name: "sequences_exhausted",
    help: "Check that auto-incremented columns aren't reaching their upper limit.",
    run: |call| Box::pin(sequences_exhausted(call)),
}];

/// A percentage in the form in which it is exact: of a range of 2^63 a float loses the last numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Percent {
    thousandths: i128,
}

impl Percent {
    fn read(text: &str) -> Option<Self> {
        let percent = decimal(text.strip_suffix('%')?)?;
        #[allow(clippy::cast_possible_truncation, reason = "a float beyond the range becomes the end of the range")]
        let thousandths = (percent * 1000.0).round() as i64;
        Some(Self { thousandths: thousandths.into() })
    }

    /// That part of the whole, rounded down.
    fn of(self, whole: i128) -> i128 {
        whole.saturating_mul(self.thousandths).div_euclid(100_000)
    }
}

/// What a sequence has given out and what it can.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    /// How many numbers there are.
    usable: i128,
    /// How many are left.
    left: i128,
    /// The last one, without its sign where the sequence falls.
    end: i128,
}

impl Range {
    /// None for a sequence that gave out nothing yet, or that could not be read.
    fn of(row: &Row<'_>) -> Option<Self> {
        let value = |column| row.integer(column).map(i128::from);
        let (given, least, most) = (value("last_value")?, value("min_value")?, value("max_value")?);
        let rises = value("increment")? >= 0;
        let (start, given, end) = if rises { (least, given, most) } else { (-most, -given, -least) };
        let end = match row.text("column_type") {
            "smallint" => end.min(i16::MAX.into()),
            "integer" => end.min(i32::MAX.into()),
            _ => end,
        };
        Some(Self { usable: end - start + 1, left: end - given, end })
    }
}

/// Sequences of which more is used than the thresholds allow.
async fn sequences_exhausted(mut call: Call) -> Result<Answer, Stop> {
    let (warning, critical) = call.needed_limits(Percent::read, "critical and warning thresholds only accept %.")?;
    let mut host = call.one_host()?;
    let (mut perfdata, mut long, mut worst, mut unread) = (Vec::new(), Vec::new(), Status::Ok, 0);
    for database in of_users(&call, &mut host).await? {
        let rows = host.rows_in(&database, "sequence_ranges").await?;
        for row in Row::of(&rows) {
            unread += usize::from(row.is("is_shut") || !row.is("is_readable"));
            let Some(range) = Range::of(&row) else { continue };
            let [warns, alarms] = [warning, critical].map(|limit| range.usable - limit.of(range.usable));
            worst = match range.left {
                left if left <= alarms => Status::Critical,
                left if left <= warns && worst == Status::Critical => worst,
                left if left <= warns => Status::Warning,
                _ => continue,
            };
            let name = format!("{database}.{}", row.text("name"));
            // The original knows no identity columns.
            let column = row.get("column_name").filter(|_| !row.is("is_identity"));
            let of_column = |before: &str| column.map(|column| format!("({before}{column})")).unwrap_or_default();
            let perf = Perf::new(format!("{name}{}", of_column("")), range.left);
            perfdata.push(perf.limits(Some(warns), Some(alarms)).least(0).most(range.end));
            long.push(format!("{name}{} {} values left", of_column("owned by "), range.left));
        }
    }
    if unread > 0 {
        long.push(format!("{unread} sequence(s) not read: without SELECT or USAGE on them, or locked"));
    }
    Ok(Answer::new("POSTGRES_CHECK_SEQ_EXHAUSTED", worst, "").with_perfdata(perfdata).with_long(long))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::RowSet;

    fn range(values: [&str; 5]) -> Range {
        let columns = ["last_value", "min_value", "max_value", "increment", "column_type"];
        let mut rows = RowSet::new(columns.map(str::to_owned).to_vec());
        for value in values {
            assert!(rows.push(Some(value)));
        }
        let range = Row::of(&rows).next().and_then(|row| Range::of(&row));
        range.unwrap()
    }

    #[test]
    fn a_column_ends_where_its_type_does_and_a_falling_sequence_at_its_least() {
        for (values, usable, left) in [
            (["7", "1", "10", "1", ""], 10, 3),
            (["30000", "1", "9223372036854775807", "1", "smallint"], 32_767, 2_767),
            (["-8", "-10", "-1", "-1", ""], 10, 2),
            (["-1", "-9223372036854775808", "-1", "-1", "bigint"], 1 << 63, (1 << 63) - 1),
        ] {
            let range = range(values);
            assert_eq!((range.usable, range.left), (usable, left), "{values:?}");
        }
    }

    #[test]
    fn a_part_of_the_largest_range_is_exact() {
        assert_eq!(Percent::read("50%").unwrap().of(1 << 63), 1 << 62);
        assert_eq!(Percent::read("85.5%").unwrap().of(1000), 855);
        assert_eq!((Percent::read("85"), Percent::read("x%"), Percent::read("-1%")), (None, None, None));
    }
}
