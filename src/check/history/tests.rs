use proptest::prelude::*;

use super::*;
use crate::check::tests::snapshot;

const MINUTE: Duration = Duration::from_secs(60);

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_millis(millis)
}

/// Records these readings at these seconds, and tells amount and covered seconds at the last one.
fn increase(window: Duration, readings: &[(u64, f64)]) -> Option<(f64, f64)> {
    let mut history = History::new([("c", window)]);
    let mut now = snapshot(at(0), "");
    for (second, value) in readings {
        now = snapshot(at(second * 1_000), &format!("c{{server=\"a\"}} {value}"));
        history.record(&now);
    }
    let sample = now.find("c")?.samples().next()?;
    let increase = history.increase("c", &sample, window, now.taken)?;
    Some((increase.amount, increase.covered.as_secs_f64()))
}

#[test]
fn an_increase_leaves_out_the_step_of_a_reset() {
    for (readings, expected) in [
        (&[][..], None),
        (&[(0, 5.0)], None),
        (&[(0, 5.0), (0, 6.0)], None),
        (&[(0, 5.0), (30, 25.0)], Some((20.0, 30.0))),
        (&[(0, 5.0), (10, 5.0), (20, 5.0)], Some((0.0, 20.0))),
        (&[(0, 100.0), (10, 120.0), (20, 7.0), (30, 9.0)], Some((22.0, 20.0))),
        // What is restored after a crash is not what happened since.
        (&[(0, 1e6), (10, 9e5), (20, 9e5)], Some((0.0, 10.0))),
        (&[(0, 100.0), (10, 0.0)], None),
        (&[(50, 1.0), (100, 0.0)], None),
        // The readings before the window do not count.
        (&[(0, 0.0), (50, 1.0), (80, 2.0), (100, 4.0)], Some((3.0, 50.0))),
        // But what did not change until then covers all of it.
        (&[(0, 1.0), (50, 1.0), (80, 2.0), (100, 4.0)], Some((3.0, 60.0))),
        (&[(0, 1.0), (100, 1.0)], Some((0.0, 60.0))),
        (&[(0, 1.0), (20, 1.0), (50, 1.0), (90, 1.0), (100, 4.0)], Some((3.0, 60.0))),
        // Readings as far apart as the window still make a rate, much older ones do not.
        (&[(0, 1.0), (61, 4.0)], Some((3.0, 61.0))),
        (&[(0, 1.0), (200, 4.0)], None),
    ] {
        assert_eq!(increase(MINUTE, readings), expected, "{readings:?}");
    }
}

#[test]
fn changes_are_counted_whichever_way_they_go_and_across_a_restart() {
    let mut history = History::new([("c", MINUTE)]);
    let mut changes = |second: u64, run: &str, value: f64| {
        let mut now = snapshot(at(second * 1_000), &format!("c{{server=\"a\"}} {value}"));
        now.note_run(&"a".into(), run);
        history.record(&now);
        let sample = now.find("c")?.samples().next()?;
        history.changes("c", &sample, MINUTE, now.taken)
    };
    assert_eq!(changes(0, "first", -7.0), None);
    assert_eq!(changes(10, "first", -7.0), Some(0.0));
    assert_eq!(changes(20, "first", 5.0), Some(1.0));
    assert_eq!(changes(30, "first", 2.0), Some(2.0));
    assert_eq!(changes(40, "second", 2.0), Some(2.0));
    assert_eq!(changes(50, "third", 3.0), Some(3.0));
    // What lies before the window is over.
    assert_eq!(changes(95, "third", 3.0), Some(1.0));
    assert_eq!(changes(120, "third", 3.0), Some(0.0));
}

#[test]
fn frequent_readings_are_thinned_and_lose_nothing() {
    let window = Duration::from_secs(3_600);
    let mut history = History::new([("c", MINUTE), ("c", window)]);
    let mut now = snapshot(at(0), "");
    for second in 0..7_200_u32 {
        now = snapshot(at(u64::from(second) * 1_000), &format!("c {}", f64::from(second)));
        history.record(&now);
    }
    let points: usize = history.counters.values().flat_map(|c| c.series.values()).map(VecDeque::len).sum();
    assert!(points <= 125, "{points}");
    let sample = now.find("c").unwrap().samples().next().unwrap();
    let increase = history.increase("c", &sample, window, now.taken).unwrap();
    assert!((increase.per_second() - 1.0).abs() < 1e-9, "{increase:?}");
    assert!(increase.covered > Duration::from_secs(3_560), "{increase:?}");
}

#[test]
fn a_counter_that_stands_still_takes_two_points() {
    let mut history = History::new([("c", MINUTE)]);
    for second in 0..1_000 {
        history.record(&snapshot(at(second * 1_000), "c 5"));
    }
    assert_eq!(history.counters["c"].series.values().map(VecDeque::len).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_series_that_is_gone_is_forgotten_after_its_window() {
    let mut history = History::new([("c", MINUTE)]);
    history.record(&snapshot(at(0), "c{datname=\"dropped\"} 5"));
    history.record(&snapshot(at(61_000), "d 1"));
    assert!(history.counters["c"].series.is_empty());
}

#[test]
fn what_is_kept_goes_on_and_the_rest_begins_anew() {
    let mut history = History::new([("c", MINUTE), ("d", MINUTE)]);
    let text = |value: u32| {
        let series = ["c{server=\"a\",db=\"x\"}", "c{server=\"b\",db=\"server\"}", "c", "d"];
        series.map(|series| format!("{series} {value}")).join("\n")
    };
    history.record(&snapshot(at(0), &text(1)));
    let hour = 60 * MINUTE;
    let mut next = history.continued([("c", hour), ("d", hour)], |metric| metric == "c", |it| it != Some("b"));
    let now = snapshot(at(10_000), &text(5));
    next.record(&now);
    let grown: Vec<_> = ["c", "d"]
        .iter()
        .flat_map(|metric| now.find(metric).unwrap().samples().map(|it| (*metric, it)).collect::<Vec<_>>())
        .map(|(metric, sample)| next.increase(metric, &sample, hour, now.taken).map(|increase| increase.amount))
        .collect();
    assert_eq!(grown.iter().filter(|grown| **grown == Some(4.0)).count(), 2, "{grown:?}");
    assert_eq!(grown.iter().filter(|grown| grown.is_none()).count(), 2, "{grown:?}");
}

#[test]
fn a_clock_that_is_set_back_starts_it_anew() {
    let readings = [(1_000, 1.0), (1_010, 2.0), (500, 3.0)];
    assert_eq!(increase(MINUTE, &readings), None);
    assert_eq!(increase(MINUTE, &[&readings[..], &[(510, 9.0)]].concat()), Some((6.0, 10.0)));
}

#[test]
fn the_counters_of_two_runs_of_a_server_are_not_compared() {
    let mut history = History::new([("c", MINUTE)]);
    let mut rate = |second: u64, run: &str, value: f64| {
        let mut now = snapshot(at(second * 1_000), &format!("c{{server=\"a\"}} {value}\nc{{server=\"ab\"}} {second}"));
        now.note_run(&"a".into(), run);
        history.record(&now);
        let increases = now.find("c").unwrap().samples().map(|s| history.increase("c", &s, MINUTE, now.taken));
        increases.map(|it| it.map(|it| (it.amount, it.covered.as_secs()))).collect::<Vec<_>>()
    };
    assert_eq!(rate(0, "first", 10.0), [None, None]);
    assert_eq!(rate(10, "first", 12.0), [Some((2.0, 10)), Some((10.0, 10))]);
    // Behind the address there is another server now, whose counters are larger.
    assert_eq!(rate(20, "second", 1e9), [Some((2.0, 10)), Some((20.0, 20))]);
    assert_eq!(rate(30, "second", 1e9 + 1.0), [Some((3.0, 20)), Some((30.0, 30))]);
    assert_eq!(rate(40, "second", 1e9 + 1.0), [Some((3.0, 30)), Some((40.0, 40))]);
}

#[test]
fn snapshots_that_come_in_the_wrong_order_lose_nothing() {
    assert_eq!(increase(MINUTE, &[(0, 1.0), (10, 2.0), (9, 1.5), (20, 5.0)]), Some((4.0, 20.0)));
}

#[test]
fn a_clock_that_leaps_ahead_leaves_nothing_but_the_new_time() {
    let year = 365 * 86_400;
    assert_eq!(increase(MINUTE, &[(0, 1.0), (10, 2.0), (year, 3.0)]), None);
    assert_eq!(increase(MINUTE, &[(0, 1.0), (10, 2.0), (year, 3.0), (year + 10, 7.0)]), Some((4.0, 10.0)));
}

#[test]
fn an_agent_that_runs_for_years_goes_on_telling_rates() {
    let mut history = History::new([("c", Duration::from_secs(86_400))]);
    for hour in 0..2_000_u32 {
        let now = snapshot(at(u64::from(hour) * 3_600_000), &format!("c {}", f64::from(hour) * 3_600.0));
        history.record(&now);
        let sample = now.find("c").unwrap().samples().next().unwrap();
        let increase = history.increase("c", &sample, Duration::from_secs(86_400), now.taken);
        let expected = (hour > 0).then(|| f64::from(hour.min(24)) * 3_600.0);
        assert_eq!(increase.map(|increase| increase.amount), expected, "{hour}");
    }
}

#[test]
fn series_that_come_and_go_are_bounded() {
    let mut history = History::new([("c", Duration::from_secs(86_400))]);
    let churn = |round: u64| {
        let lines: Vec<_> = (0..1_000).map(|n| format!("c{{datname=\"{round}-{n}\"}} 1")).collect();
        snapshot(at(round * 1_000), &lines.join("\n"))
    };
    (0..20).for_each(|round| history.record(&churn(round)));
    assert_eq!(history.counters["c"].series.len(), MOST_SERIES);
    // What has left the window makes room for the reading after.
    history.record(&churn(100_000));
    history.record(&churn(100_001));
    assert_eq!(history.counters["c"].series.len(), 1_000);
}

proptest! {
    #[test]
    fn no_reading_makes_an_increase_negative(
        readings in prop::collection::vec((0u64..200, -1e3..1e9), 0..50)
    ) {
        if let Some((amount, covered)) = increase(MINUTE, &readings) {
            prop_assert!(amount >= 0.0 && covered > 0.0 && covered <= 180.0);
        }
    }
}
