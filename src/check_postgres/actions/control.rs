//! What the file `pg_control` in a data directory says: latest checkpoint, identity.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::check::Status;
use crate::check_postgres::control::{Control, State};
use crate::check_postgres::threshold::{Kind, Wanted, texts};
use crate::check_postgres::{Action, Call, End, Ended};

pub(super) const ACTIONS: &[Action] = &[
    Action {
        run: |call| Box::pin(async { checkpoint(call) }),
        ..Action::clusterwide("checkpoint", "Time since the latest checkpoint; needs the data directory")
    },
    Action {
        run: |call| Box::pin(async { cluster_id(call) }),
        ..Action::clusterwide("cluster_id", "The system identifier, compared to one; needs the data directory")
    },
];

fn checkpoint(call: &mut Call) -> Ended {
    let limits = call.limits(Wanted::new(Kind::Time).at_least_one().in_mrtg())?;
    let control = Control::named(call)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
    let age = now.saturating_sub(control.checkpoint_time);
    let message = match age {
        1 => "Last checkpoint was 1 second ago".to_owned(),
        age => format!("Last checkpoint was {age} seconds ago"),
    };
    if call.is_mrtg() {
        return Err(call.mrtg(age, "", message));
    }
    let (standby, primary) = (call.options.is_on("assume-standby-mode"), call.options.is_on("assume-prod"));
    let mode = match control.state {
        State::Production if standby && primary => Some("NOT STANDBY"),
        _ if standby && control.state != State::Recovery => Some("NOT STANDBY"),
        _ if primary && control.state != State::Production => Some("NOT MASTER"),
        State::Recovery if standby => Some("STANDBY"),
        State::Production if primary => Some("MASTER"),
        _ => None,
    };
    let is_other = mode.is_some_and(|mode| mode.starts_with("NOT "));
    let mode = mode.map(|mode| format!(" mode={mode}")).unwrap_or_default();
    let status = if is_other { Status::Critical } else { limits.at_least(age as f64) };
    call.say_alone(status, message, &format!("age={age};{}{mode}", limits.perf()));
    Ok(())
}

fn cluster_id(call: &mut Call) -> Ended {
    let limits = texts(&call.options);
    for (name, limit) in [("warning", &limits.warning), ("critical", &limits.critical)] {
        if let (Some(limit), false) = (limit, call.is_mrtg()) {
            Kind::Integer.read(name, limit)?;
        }
    }
    let expected = match (limits.warning, limits.critical) {
        _ if call.is_mrtg() => None,
        (Some(_), Some(_)) => return Err(End::refused("Can only provide 'warning' OR 'critical' option")),
        (None, None) => return Err(End::refused("Must provide a 'warning' or 'critical' option")),
        (Some(expected), None) => Some((Status::Warning, expected)),
        (None, Some(expected)) => Some((Status::Critical, expected)),
    };
    let found = Control::named(call)?.system_identifier.to_string();
    let message = format!("cluster_id: {found}");
    let Some((otherwise, expected)) = expected else {
        let expected = call.options.text("mrtg").filter(|text| !matches!(*text, "" | "0"));
        let expected = expected.ok_or_else(|| End::refused("Must provide a checksum via the --mrtg option"))?;
        return Err(call.mrtg(u8::from(expected == found), "", found));
    };
    let expected = expected.replace('_', "");
    let status = match expected.as_str() {
        "0" => Status::Unknown,
        expected if expected == found => Status::Ok,
        _ => otherwise,
    };
    call.say_alone(status, message, "");
    Ok(())
}
