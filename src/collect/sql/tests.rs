use proptest::prelude::*;

use super::*;

fn answer(columns: &[&str], rows: &[&[Option<&str>]]) -> RowSet {
    let mut answer = RowSet::new(columns.iter().map(|&column| column.to_owned()).collect());
    assert!(rows.iter().copied().flatten().all(|&value| answer.push(value)));
    answer
}

fn collect(head: &str, columns: &[&str], rows: &[&[Option<&str>]]) -> Result<Vec<String>, String> {
    let sql = format!("SELECT {}", columns.join(", "));
    let text = format!("help = \"x\"\n{head}\n[[query]]\nsince = 10\nsql = \"{sql}\"\n{METRICS}");
    let definition = Definition::parse("x", &text).unwrap();
    let rows = answer(columns, rows);
    let families = families_of(&definition, &rows, &mut Shown::default()).map_err(|error| error.to_string())?.families;
    let line = |family: &Family| {
        let samples = family.samples().map(|sample| {
            let labels = sample.labels().map(|(_, value)| value).collect::<Vec<_>>().join(",");
            format!("{labels}={}", sample.value)
        });
        format!("{}: {}", family.metric().name, samples.collect::<Vec<_>>().join(" "))
    };
    Ok(families.iter().map(line).collect())
}

const METRICS: &str = r#"
[[metric]]
name = "pg_size_bytes"
type = "gauge"
column = "size"
help = "Size"
merge = "sum"
labels = ["datname"]

[[metric]]
name = "pg_{datname}"
type = "gauge"
column = "flag"
help = "Flag of {datname}"
labels = []
"#;

const DUPLICATES: &str = r#"
labels = ["datname", "usename"]
[[query]]
since = 10
sql = "SELECT datname, usename, size, odd"
[[metric]]
name = "pg_calls_total"
type = "counter"
column = "size"
help = "Calls"
[[metric]]
name = "pg_size_bytes"
type = "gauge"
merge = "sum"
column = "size"
help = "Size"
labels = ["datname"]
[[metric]]
name = "pg_odd"
type = "gauge"
column = "odd"
help = "Oddities"
[[metric]]
name = "pg_least"
type = "gauge"
merge = "min"
column = "odd"
help = "Oddities"
labels = []
"#;

#[test]
fn null_is_no_sample_and_booleans_are_numbers() {
    let rows: &[&[Option<&str>]] =
        &[&[Some("a-b"), Some("7"), Some("t")], &[Some("c"), None, Some("f")], &[None, Some("1"), None]];
    let families = collect("", &["datname", "size", "flag"], rows).unwrap();
    assert_eq!(families, ["pg_size_bytes: a-b=7 =1", "pg_a_b: =1", "pg_c: =0"]);
}

#[test]
fn the_largest_rows_stay_and_the_rest_is_one_row_so_that_the_sum_stays_true() {
    let rows: &[&[Option<&str>]] = &[
        &[Some("small"), Some("1"), None],
        &[Some("large"), Some("9"), None],
        &[Some("null"), None, None],
        &[Some("middle"), Some("2"), None],
        &[Some("tiny"), Some("0.5"), None],
        &[Some("other one"), Some("4"), None],
        &[Some("middle"), Some("3"), None],
    ];
    let families = collect("max_series = 2\nrank_by = \"size\"", &["datname", "size", "flag"], rows).unwrap();
    assert_eq!(families, ["pg_size_bytes: other=5.5 large=9 middle=5"]);
}

#[test]
fn a_counter_has_no_series_that_falls_and_leaps_when_rows_change_sides() {
    let metrics = METRICS.replace("gauge", "counter");
    let text = "help = \"x\"\nmax_series = 1\nrank_by = \"size\"\n[[query]]\nsince = 10\nsql = \"datname size flag\"\n";
    let definition = Definition::parse("x", &(text.to_owned() + &metrics)).unwrap();
    let rows: &[&[Option<&str>]] = &[
        &[Some("small"), Some("1"), Some("2")],
        &[Some("large"), Some("9"), None],
        &[Some("smaller"), Some("0.5"), None],
    ];
    let rows = answer(&["datname", "size", "flag"], rows);
    let collected = families_of(&definition, &rows, &mut Shown::default()).unwrap();
    let sizes: Vec<_> = collected.families[0].samples().map(|sample| sample.value).collect();
    assert_eq!(sizes, [9.0]);
    assert_eq!(collected.remainder, BTreeMap::from([("pg_size_bytes".to_owned(), 1.5)]));
    // Without labels there is one series, of all rows.
    assert_eq!(collected.families[1].samples().map(|sample| sample.value).collect::<Vec<_>>(), [2.0]);
}

#[test]
fn a_text_that_only_rust_takes_for_a_number_is_an_error() {
    let value = |text| collect("", &["datname", "size", "flag"], &[&[Some("a"), Some(text), None]]);
    for (text, expected) in [("NaN", "NaN"), ("Infinity", "inf"), ("-Infinity", "-inf"), ("1e3", "1000")] {
        assert_eq!(value(text).unwrap(), [format!("pg_size_bytes: a={expected}")]);
    }
    for text in ["nan", "inf", "infinity", "1e400", "", " 1", "1,5", "0x1", "true", "10 MB"] {
        assert!(value(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_two_series_of_the_same_labels(
        rows in prop::collection::vec((0u8..8, 0u8..4, prop::option::of(-5i32..50), 0usize..5), 0..60),
        keep in 0usize..6,
    ) {
        let text = format!("help = \"x\"\nmax_series = {keep}\nrank_by = \"size\"\n{DUPLICATES}");
        let definition = Definition::parse("x", &text).unwrap();
        let texts: Vec<_> = rows.iter().map(|(name, user, size, odd)| {
            let odd = ["1", "NaN", "Infinity", "-Infinity", "f"][*odd];
            [Some(format!("n{name}")), (*user > 0).then(|| format!("u{user}")), size.map(|size| size.to_string()), Some(odd.to_owned())]
        }).collect();
        let texts: Vec<Vec<Option<&str>>> = texts.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
        let texts: Vec<&[Option<&str>]> = texts.iter().map(Vec::as_slice).collect();
        let answer = answer(&["datname", "usename", "size", "odd"], &texts);
        let mut last = Shown::default();
        for _ in 0..2 {
            let collected = families_of(&definition, &answer, &mut last).unwrap();
            for family in &collected.families {
                let labels: Vec<_> = family.samples().map(|sample| sample.labels().collect::<Vec<_>>()).collect();
                prop_assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len());
            }
            // What is shown and what remains are together what the server said.
            let sum = |name: &str| collected.families.iter().filter(|family| family.metric().name == name)
                .flat_map(|family| family.samples().map(|sample| sample.value).collect::<Vec<_>>()).sum::<f64>();
            let all: i32 = rows.iter().filter_map(|(_, _, size, _)| *size).sum();
            let remainder = collected.remainder.get("pg_calls_total").copied().unwrap_or_default();
            prop_assert!((sum("pg_calls_total") + remainder - f64::from(all)).abs() < 1e-9);
            prop_assert!((sum("pg_size_bytes") - f64::from(all)).abs() < 1e-9);
        }
    }
}

#[test]
fn a_missing_column_or_a_text_is_an_error_that_names_the_column() {
    let definition = format!("help = \"x\"\n[[query]]\nsince = 10\nsql = \"datname size flag\"\n{METRICS}");
    let definition = Definition::parse("x", &definition).unwrap();
    let error = families_of(&definition, &answer(&["datname", "flag"], &[]), &mut Shown::default()).unwrap_err();
    assert_eq!(error.to_string(), "column `size`: the query does not return it");
    let error = collect("", &["datname", "size", "flag"], &[&[Some("a"), Some("big"), None]]).unwrap_err();
    assert_eq!(error, "column `size`: expected a number or a boolean, got \"big\"");
}
