//! What is in a database: sequences that end, triggers that are off.

use crate::check::Status;
use crate::check_postgres::text::{number, perfname};
use crate::check_postgres::threshold::{Kind, Wanted, written};
use crate::check_postgres::{Action, At, Call, Ended};
use crate::plugin::Row;
use crate::server::RowSet;

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(disabled_triggers(call)),
        ..Action::of_database("disabled_triggers", "Triggers that are switched off")
    },
    Action {
        run: |call| Box::pin(sequence(call)),
        ..Action::of_database("sequence", "Values that sequences have left")
    },
];

async fn disabled_triggers(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::PositiveInteger).or("1", "1").in_mrtg())?;
    for (at, answer) in call.rows("disabled_triggers").await? {
        if call.is_mrtg() {
            return Err(call.mrtg(answer.len(), "", ""));
        }
        let names = Row::of(&answer).map(|row| format!(" {}=>{}", row.text("relation"), row.text("tgname")));
        let message = format!("Disabled triggers: {}{}", answer.len(), names.collect::<String>());
        call.say(limits.at_least(answer.len() as f64), at, message);
    }
    Ok(())
}

/// A sequence, by how much of it is used.
struct Used {
    name: String,
    /// Whole per cent of its values.
    percent: f64,
    /// How many values are left, too many for a plain number.
    remaining: String,
    left: f64,
}

impl Used {
    fn message(&self) -> String {
        format!("{}={}% (calls left={})", self.name, number(self.percent), self.remaining)
    }
}

async fn sequence(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Percent).or("85%", "95%").in_mrtg())?;
    let answers = call.rows("sequences_used").await?;
    let has_several = answers.len() > 1;
    for (at, answer) in answers {
        let used = used(call, &answer);
        let most = used.iter().map(|sequence| sequence.percent).fold(0.0, f64::max);
        let fullest = used.iter().filter(|sequence| sequence.percent >= most);
        let fullest: Vec<&Used> = fullest.take(call.perflimit().unwrap_or(usize::MAX)).collect();
        if call.is_mrtg() {
            let names: Vec<_> = fullest.iter().map(|sequence| sequence.name.as_str()).collect();
            return Err(call.mrtg(number(most), "", names.join(" | ")));
        }
        let prefix = if has_several { format!("{}.", call.place(at).database) } else { String::new() };
        add_perf(call, at, &used, &format!("{}%;{}%", written(limits.warning), written(limits.critical)), &prefix);
        let status = limits.at_least(most);
        let told = match status {
            _ if used.is_empty() => "No sequences found".to_owned(),
            Status::Ok => fullest.iter().map(|sequence| sequence.message()).collect::<Vec<_>>().join(" "),
            _ => {
                let alerting = used.iter().filter(|sequence| limits.at_least(sequence.percent) == status);
                alerting.map(Used::message).collect::<Vec<_>>().join(" ")
            }
        };
        call.say(if used.is_empty() { Status::Ok } else { status }, at, told);
    }
    Ok(())
}

/// The sequences that are looked at, in the order they were made. With `--skipcycled` those that begin anew are never full.
fn used(call: &Call, answer: &RowSet) -> Vec<Used> {
    let skips_cycled = call.options.is_on("skipcycled");
    let rows = Row::of(answer).filter(|row| call.filter.keeps_in(row.text("schemaname"), row.text("sequencename")));
    let used = rows.map(|row| Used {
        name: row.text("name").to_owned(),
        percent: if skips_cycled && row.is("cycles") { 0.0 } else { row.number("percent").unwrap_or_default() },
        remaining: row.text("remaining").to_owned(),
        left: row.number("remaining").unwrap_or_default(),
    });
    used.collect()
}

/// The perfdata, the fullest first.
fn add_perf(call: &mut Call, at: At, used: &[Used], limits: &str, prefix: &str) {
    let mut order: Vec<&Used> = used.iter().collect();
    order.sort_by(|one, other| {
        let by_percent = other.percent.total_cmp(&one.percent).then(one.left.total_cmp(&other.left));
        by_percent.then_with(|| one.name.cmp(&other.name))
    });
    let most = call.perflimit().unwrap_or(usize::MAX);
    for sequence in order.into_iter().take(most) {
        let label = perfname(&format!("{prefix}{}", sequence.name));
        *call.perf(at) += &format!(" {label}={}%;{limits}", number(sequence.percent));
    }
}
