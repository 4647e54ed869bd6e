//! Counters since the last call: `bgwriter`, `commit_ratio`, `hit_ratio`, `slru_hit_ratio`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::activity::databases;
use crate::check_pgactivity::threshold::{decimal, labelled, number};
use crate::check_pgactivity::{Answer, Call, Host, Perf, Service, Status, Stop};
use crate::plugin::Row;

pub(super) const SERVICES: &[Service] = &[
    Service { name: "bgwriter", help: "Check the bgwriter activity.", run: |call| Box::pin(bgwriter(call)) },
    Service {
        name: "commit_ratio",
        help: "Commit and rollback rate per second and commit ratio since last execution.",
        run: |call| Box::pin(commit_ratio(call)),
    },
    Service { name: "hit_ratio", help: "Check hit ratio on databases.", run: |call| Box::pin(hit_ratio(call)) },
    Service { name: "slru_hit_ratio", help: "Check SLRU ratio on a host.", run: |call| Box::pin(slru_hit_ratio(call)) },
];

const ONLY_PERCENT: &str = "critical and warning thresholds only accept percentages.";
pub(super) const FIRST: &str = "First call";

/// Counters by name, and when they were read.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Counters<T> {
    /// Seconds since the epoch.
    at: f64,
    /// By database, or whatever it is.
    pub(super) of: BTreeMap<String, T>,
}

impl<T> Counters<T> {
    pub(super) fn now(of: BTreeMap<String, T>) -> Self {
        Self { at: now(), of }
    }

    /// The time from those before to these in seconds; none if the clock was set back in between.
    pub(super) fn seconds_since(&self, before: &Self) -> Option<f64> {
        Some(self.at - before.at).filter(|seconds| *seconds > 0.0)
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// How much a counter has grown; after a reset that is what it has counted since.
pub(super) fn growth(before: f64, now: f64) -> f64 {
    crate::check_pgactivity::growth(before, now).unwrap_or(now)
}

/// What a column of `database` says by the name of the database.
pub(super) async fn statistics<T>(
    host: &mut Host,
    read: impl Fn(Row<'_>) -> Option<T>,
) -> Result<BTreeMap<String, T>, Stop> {
    let rows = host.rows("database").await?;
    let named = Row::of(&rows).filter(|row| !row.text("datname").is_empty());
    Ok(named.filter_map(|row| Some((row.text("datname").to_owned(), read(row)?))).collect())
}

fn percent(text: &str) -> Option<f64> {
    text.strip_suffix('%').and_then(decimal)
}

/// The columns of `checkpoints`, what each is called here, and its unit; those with `Bps` count blocks.
const WRITES: [(&str, &str, &str); 8] = [
    ("buffers_backend", "buffers_backend", "Bps"),
    ("timed", "checkpoint_timed", "Nps"),
    ("requested", "checkpoint_req", "Nps"),
    ("buffers_checkpoint", "buffers_checkpoint", "Bps"),
    ("buffers_clean", "buffers_clean", "Bps"),
    ("maxwritten_clean", "maxwritten_clean", "Nps"),
    ("backend_fsyncs", "buffers_backend_fsync", "Nps"),
    ("buffers_alloc", "buffers_alloc", "Bps"),
];

/// Who writes the buffers: backends should not have to.
async fn bgwriter(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_BGWRITER";
    const KEPT: &str = "bgwriter";
    const RESET: &str = "stats_reset";
    let limits = call.limits(percent, ONLY_PERCENT)?;
    let mut host = call.one_host()?;
    let sizes = host.rows("limits").await?;
    let rows = host.rows("checkpoints").await?;
    let block = Row::of(&sizes).next().and_then(|row| row.number("block_size"));
    let (Some(row), Some(block)) = (Row::of(&rows).next(), block) else {
        return Ok(Answer::new(LABEL, Status::Unknown, "the server says nothing of its writes"));
    };
    let value = |column: &str, unit: &str| row.number(column).map(|n| if unit == "Bps" { n * block } else { n });
    let counted = WRITES.iter().filter_map(|(column, name, unit)| Some(((*name).to_owned(), value(column, unit)?)));
    let reset = row.number("bgwriter_reset").map(|reset| (RESET.to_owned(), reset));
    let new = Counters::now(counted.chain(reset).collect());
    let old: Option<Counters<f64>> = call.kept.load(&host, KEPT)?;
    call.kept.save(&host, KEPT, &new)?;
    let old = old.and_then(|old| Some((new.seconds_since(&old)?, old.of)));
    let Some((seconds, old)) = old else { return Ok(Answer::new(LABEL, Status::Ok, FIRST)) };
    if new
        .of
        .iter()
        .any(|(name, now)| old.get(name).is_some_and(|old| if name == RESET { now > old } else { now < old }))
    {
        return Ok(Answer::new(LABEL, Status::Ok, "Stats reseted since last call"));
    }
    let grown = |name: &str| Some(new.of.get(name)? - old.get(name)?);
    let perf = |name: &str, unit| grown(name).map(|grown| Perf::new(name, number(grown / seconds)).unit(unit));
    let perfdata: Vec<Perf> = WRITES.iter().filter_map(|(_, name, unit)| perf(name, *unit)).collect();
    let writers =
        ["buffers_backend", "buffers_clean", "buffers_checkpoint"].map(|name| grown(name).unwrap_or_default());
    let total: f64 = writers.iter().sum();
    if total <= 0.0 {
        return Ok(Answer::new(LABEL, Status::Ok, "No writes").with_perfdata(perfdata));
    }
    let [backends, bgwriter, checkpointer] = writers.map(|written| 100.0 * written / total);
    let message =
        format!("{backends:.2}% from backends, {bgwriter:.2}% from bgwriter, {checkpointer:.2}% from checkpointer");
    Ok(Answer::new(LABEL, Status::from(backends, limits), message).with_perfdata(perfdata))
}

/// Transactions that were committed and rolled back.
async fn commit_ratio(mut call: Call) -> Result<Answer, Stop> {
    const LABEL: &str = "POSTGRES_COMMIT_RATIO";
    const KEPT: &str = "commit_ratio";
    const LABELS: [&str; 3] = ["rollbacks", "rollback_rate", "rollback_ratio"];
    let read = |text: &str| {
        let list = labelled(text, &LABELS)?;
        list.into_iter().map(|(label, value)| Some((label, decimal(&value)?))).collect::<Option<BTreeMap<_, _>>>()
    };
    let only = "critical and warning thresholds only accept a list of 'label=value' separated by comma.\n\
                See documentation for more information about accepted labels.";
    let (warning, critical) = call.limits(read, only)?.unwrap_or_default();
    let mut host = call.one_host()?;
    let open = databases(&mut host, false).await?;
    let counted = |row: Row<'_>| Some((row.number("xact_commit")?, row.number("xact_rollback")?));
    let mut counted = statistics(&mut host, counted).await?;
    counted.retain(|name, _| open.contains(name));
    let new = Counters::now(counted);
    let old: Option<Counters<(f64, f64)>> = call.kept.load(&host, KEPT)?;
    call.kept.save(&host, KEPT, &new)?;
    let old = old.and_then(|old| Some((new.seconds_since(&old)?, old.of)));
    let Some((seconds, old)) = old else { return Ok(Answer::new(LABEL, Status::Ok, FIRST)) };

    let (mut all_commits, mut all_rollbacks) = (0.0, 0.0);
    let (mut perfdata, mut critical_ones, mut warning_ones) = (Vec::new(), Vec::new(), Vec::new());
    for (database, now) in &new.of {
        let Some(before) = old.get(database) else { continue };
        let (commits, rollbacks) = (growth(before.0, now.0), growth(before.1, now.1));
        all_commits += commits;
        all_rollbacks += rollbacks;
        let rate = rollbacks / seconds;
        let ratio = if rollbacks > 0.0 { rollbacks * 100.0 / (commits + rollbacks) } else { 0.0 };
        for (what, value, unit) in [
            ("commit_rate", commits / seconds, "tps"),
            ("rollback_rate", rate, "tps"),
            ("xact_rate", (commits + rollbacks) / seconds, "tps"),
            ("rollback_ratio", ratio, "%"),
        ] {
            perfdata.push(Perf::new(format!("{database}_{what}"), format!("{value:.2}")).unit(unit));
        }
        let shown = [number(rollbacks), format!("{rate:.2}tps"), format!("{ratio:.2}%")];
        for ((label, value), shown) in LABELS.iter().zip([rollbacks, rate, ratio]).zip(shown) {
            let exceeds = |limits: &BTreeMap<&str, f64>| limits.get(label).is_some_and(|limit| value > *limit);
            let message = format!("'{database}_{label}'={shown}");
            if exceeds(&critical) {
                critical_ones.push(message);
            } else if exceeds(&warning) {
                warning_ones.push(message);
            }
        }
    }
    let message = format!("Commits: {} - Rollbacks: {}", number(all_commits), number(all_rollbacks));
    let mut answer = Answer::judged(LABEL, critical_ones, warning_ones, "");
    answer.messages.insert(0, message);
    Ok(answer.with_perfdata(perfdata))
}

/// Blocks found in a cache and read into it, and the ratio that was shown last.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Blocks {
    hit: f64,
    read: f64,
    ratio: Option<f64>,
}

impl Blocks {
    fn read(row: Row<'_>) -> Option<Self> {
        Some(Self { hit: row.number("blks_hit")?, read: row.number("blks_read")?, ratio: None })
    }

    /// The ratio since those before in percent; without any access the one that was shown last.
    fn ratio_since(self, before: Self) -> Option<f64> {
        let (hit, read) = (growth(before.hit, self.hit), growth(before.read, self.read));
        if hit + read > 0.0 { Some((10_000.0 * hit / (hit + read)).round() / 100.0) } else { before.ratio }
    }
}

/// How many of the blocks that were needed were in `shared_buffers`, by database.
async fn hit_ratio(mut call: Call) -> Result<Answer, Stop> {
    let limits = call.limits(percent, ONLY_PERCENT)?;
    let mut host = call.one_host()?;
    let rows = host.rows("databases").await?;
    let checked = Row::of(&rows).filter(|row| row.is("allows_connections") && !row.is("is_template"));
    let checked: Vec<&str> = checked.map(|row| row.text("datname")).collect();
    let mut blocks = statistics(&mut host, Blocks::read).await?;
    blocks.retain(|name, _| checked.contains(&name.as_str()));
    let old = ratios(&call, &host, "db_hitratio", &mut blocks)?;
    blocks.retain(|name, _| call.filters.wants_database(name));
    Ok(compared("POSTGRES_HIT_RATIO", "database(s)", &old, &blocks, limits))
}

/// The same of the small caches of transaction states.
async fn slru_hit_ratio(mut call: Call) -> Result<Answer, Stop> {
    let limits = call.limits(percent, ONLY_PERCENT)?;
    let mut host = call.one_host()?;
    host.suits("check_slru_hit_ratio", 13..=u32::MAX).await?;
    let rows = host.rows("slru").await?;
    let named = Row::of(&rows).filter_map(|row| Some((row.text("own_name").to_owned(), Blocks::read(row)?)));
    let mut blocks: BTreeMap<String, Blocks> = named.collect();
    let old = ratios(&call, &host, "slru_hitratio", &mut blocks)?;
    Ok(compared("POSTGRES_SLRU_HIT_RATIO", "SLRU(s)", &old, &blocks, limits))
}

/// Puts in the ratios since the last call, keeps all for the next one, and gives what was known before.
fn ratios(
    call: &Call,
    host: &Host,
    kept: &str,
    blocks: &mut BTreeMap<String, Blocks>,
) -> Result<BTreeMap<String, Blocks>, Stop> {
    let old: BTreeMap<String, Blocks> = call.kept.load(host, kept)?.unwrap_or_default();
    for (name, now) in blocks.iter_mut() {
        now.ratio = old.get(name).and_then(|before| now.ratio_since(*before));
    }
    call.kept.save(host, kept, blocks)?;
    Ok(old)
}

/// What was there at the last call too, against thresholds: here less is worse.
fn compared(
    label: &'static str,
    what: &str,
    old: &BTreeMap<String, Blocks>,
    blocks: &BTreeMap<String, Blocks>,
    limits: Option<(f64, f64)>,
) -> Answer {
    let (warning, critical) = (limits.map(|limits| limits.0), limits.map(|limits| limits.1));
    let (mut perfdata, mut critical_ones, mut warning_ones) = (Vec::new(), Vec::new(), Vec::new());
    for (name, now) in blocks.iter().filter(|(name, _)| old.contains_key(*name)) {
        let shown = now.ratio.map_or_else(|| "NaN".to_owned(), number);
        let message = format!("{name}: {shown}%");
        perfdata.push(Perf::new(name, shown).unit("%").limits(warning.map(number), critical.map(number)));
        let is_below = |limit: Option<f64>| now.ratio.zip(limit).is_some_and(|(ratio, limit)| ratio < limit);
        if is_below(critical) {
            critical_ones.push(message);
        } else if is_below(warning) {
            warning_ones.push(message);
        }
    }
    let checked = format!("{} {what} checked", blocks.len());
    Answer::judged(label, critical_ones, warning_ones, checked).with_perfdata(perfdata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_was_reset_has_grown_by_what_it_shows() {
        assert!((growth(5.0, 7.0) - 2.0).abs() < 1e-9 && (growth(5.0, 3.0) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_time() {
        let at = |at| Counters::<f64> { at, of: BTreeMap::new() };
        assert_eq!((at(7.0).seconds_since(&at(5.0)), at(5.0).seconds_since(&at(7.0))), (Some(2.0), None));
    }

    #[test]
    fn without_any_access_the_last_ratio_is_shown_again() {
        let blocks = |hit, read, ratio| Blocks { hit, read, ratio };
        let before = blocks(10.0, 0.0, Some(33.3));
        assert_eq!(blocks(12.0, 1.0, None).ratio_since(before), Some(66.67));
        assert_eq!(blocks(10.0, 0.0, None).ratio_since(before), Some(33.3));
        assert_eq!(blocks(3.0, 1.0, None).ratio_since(blocks(9.0, 9.0, None)), Some(75.0), "reset in between");
    }

    #[test]
    fn a_ratio_that_is_not_known_is_no_alert() {
        let blocks = |ratio| BTreeMap::from([("app".to_owned(), Blocks { hit: 0.0, read: 0.0, ratio })]);
        let answer = |ratio| compared("X", "database(s)", &blocks(None), &blocks(ratio), Some((90.0, 80.0)));
        let written = |ratio| crate::check_pgactivity::Format::Nagios.write(answer(ratio));
        assert_eq!(written(None), "X OK: 1 database(s) checked | app=NaN%;90;80");
        assert_eq!(written(Some(85.5)), "X WARNING: app: 85.5% | app=85.5%;90;80");
        assert_eq!(written(Some(12.0)), "X CRITICAL: app: 12% | app=12%;90;80");
    }
}
