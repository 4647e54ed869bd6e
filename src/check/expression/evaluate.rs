//! From expression and snapshot to values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, SystemTime};

use super::{Expression, Function, Node, Operator, Selector};
use crate::check::History;
use crate::metric::{Sample, Snapshot};

/// What is known when a rule is judged.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// All families now.
    pub snapshot: &'a Snapshot,
    /// The past of the counters, up to and including this snapshot; none where nothing keeps it.
    pub history: Option<&'a History>,
}

/// One result of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Value<'a> {
    /// The labels of all samples it was computed from.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Always finite.
    pub value: f64,
}

/// The results of an expression, and what kept it from having more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation<'a> {
    /// One value per matching set of labels, in the order of the snapshot.
    pub values: Vec<Value<'a>>,
    /// Why values are missing although there are samples.
    pub gaps: Vec<Gap>,
}

/// Why there is no value although there are samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// A rate of a counter that was read only once in its window.
    Readings {
        /// The counter.
        metric: String,
        /// The server it belongs to.
        server: Option<String>,
    },
    /// Several samples of either side have the same labels in common, so that it is not known which belong together.
    Ambiguous {
        /// The operation.
        expression: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readings { metric, .. } => write!(out, "the rate of `{metric}` needs two readings"),
            Self::Ambiguous { expression } => write!(out, "`{expression}` matches several samples with several"),
        }
    }
}

impl<'a> Value<'a> {
    /// The value of one label, if it has it.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value)
    }
}

impl Expression {
    /// Computes the expression over all samples.
    ///
    /// Two vectors match where they agree on all labels that both have, one sample with one or with many; a result
    /// carries the labels of both. What is not finite, a division by zero above all, is left out.
    pub fn evaluate<'a>(&self, facts: Facts<'a>) -> Evaluation<'a> {
        let mut gaps = Vec::new();
        let values = match evaluate(&self.root, facts, &mut gaps) {
            Operand::Vector(values) => values,
            Operand::Scalar(value) if value.is_finite() => vec![Value { labels: Vec::new(), value }],
            Operand::Scalar(_) => Vec::new(),
        };
        gaps.dedup();
        Evaluation { values, gaps }
    }
}

enum Operand<'a> {
    Scalar(f64),
    Vector(Vec<Value<'a>>),
}

fn evaluate<'a>(node: &Node, facts: Facts<'a>, gaps: &mut Vec<Gap>) -> Operand<'a> {
    match node {
        Node::Number(number) => Operand::Scalar(*number),
        Node::Time => {
            let since = facts.snapshot.taken.duration_since(SystemTime::UNIX_EPOCH);
            Operand::Scalar(since.map_or(f64::NAN, |since| since.as_secs_f64()))
        }
        Node::Metric(selector) => Operand::Vector(select(selector, facts.snapshot).filter_map(value_of).collect()),
        Node::Over { function, selector, window } => Operand::Vector(over(*function, selector, *window, facts, gaps)),
        Node::Negate(inner) => match evaluate(inner, facts, gaps) {
            Operand::Scalar(value) => Operand::Scalar(-value),
            Operand::Vector(values) => Operand::Vector(each(values, |value| -value)),
        },
        Node::Binary { operator, left, right } => match (evaluate(left, facts, gaps), evaluate(right, facts, gaps)) {
            (Operand::Scalar(left), Operand::Scalar(right)) => Operand::Scalar(operator.apply(left, right)),
            (Operand::Vector(left), Operand::Scalar(right)) => {
                Operand::Vector(each(left, |left| operator.apply(left, right)))
            }
            (Operand::Scalar(left), Operand::Vector(right)) => {
                Operand::Vector(each(right, |right| operator.apply(left, right)))
            }
            (Operand::Vector(left), Operand::Vector(right)) => {
                let (values, is_ambiguous) = join(*operator, &left, &right);
                if is_ambiguous {
                    gaps.push(Gap::Ambiguous { expression: Expression { root: node.clone() }.to_string() });
                }
                Operand::Vector(values)
            }
        },
    }
}

fn each(mut values: Vec<Value<'_>>, apply: impl Fn(f64) -> f64) -> Vec<Value<'_>> {
    for value in &mut values {
        value.value = apply(value.value);
    }
    values.retain(|value| value.value.is_finite());
    values
}

fn select<'a>(selector: &Selector, snapshot: &'a Snapshot) -> impl Iterator<Item = Sample<'a>> {
    let samples = snapshot.samples_of(&selector.metric);
    // A label that a sample does not have is empty, as in PromQL.
    samples.filter(|sample| {
        selector.filters.iter().all(|filter| {
            let found = sample.label(&filter.label).unwrap_or_default();
            (found == filter.value) == filter.equal
        })
    })
}

fn value_of(sample: Sample<'_>) -> Option<Value<'_>> {
    sample.value.is_finite().then(|| Value { labels: sample.labels().collect(), value: sample.value })
}

fn over<'a>(
    function: Function,
    selector: &Selector,
    window: Duration,
    facts: Facts<'a>,
    gaps: &mut Vec<Gap>,
) -> Vec<Value<'a>> {
    let mut values = Vec::new();
    // A series that has just appeared is no gap as long as others of its server have a past.
    let mut has_past: BTreeMap<Option<&str>, bool> = BTreeMap::new();
    for sample in select(selector, facts.snapshot) {
        let now = facts.snapshot.taken;
        let increase = |history: &History| history.increase(&selector.metric, &sample, window, now);
        let value = facts.history.and_then(|history| match function {
            Function::Rate => Some(increase(history)?.per_second()),
            Function::Increase => Some(increase(history)?.amount),
            Function::Changes => history.changes(&selector.metric, &sample, window, now),
        });
        *has_past.entry(sample.label("server")).or_default() |= value.is_some();
        if let Some(value) = value {
            values.push(Value { labels: sample.labels().collect(), value });
        }
    }
    let without = has_past.into_iter().filter(|(_, has_past)| !has_past);
    gaps.extend(
        without.map(|(server, _)| Gap::Readings { metric: selector.metric.clone(), server: server.map(str::to_owned) }),
    );
    values
}

/// Pairs the samples that agree on the labels both have; says whether some were left out as ambiguous.
fn join<'a>(operator: Operator, left: &[Value<'a>], right: &[Value<'a>]) -> (Vec<Value<'a>>, bool) {
    let mut values = Vec::new();
    let mut is_ambiguous = false;
    let rights = by_names(right);
    for (left_names, left) in by_names(left) {
        for (right_names, right) in &rights {
            let shared: Vec<&str> = left_names.intersection(right_names).copied().collect();
            let is_same_names = left_names == *right_names;
            let mut partners: HashMap<Vec<Option<&str>>, (u32, Vec<&Value<'a>>)> = HashMap::new();
            let key = |value: &Value<'a>| shared.iter().map(|name| value.label(name)).collect::<Vec<_>>();
            for value in right {
                partners.entry(key(value)).or_default().1.push(value);
            }
            for value in &left {
                if let Some((count, _)) = partners.get_mut(&key(value)) {
                    *count += 1;
                }
            }
            for value in &left {
                let Some((count, partners)) = partners.get(&key(value)) else { continue };
                if *count > 1 && partners.len() > 1 && !is_same_names {
                    is_ambiguous = true;
                    continue;
                }
                // Samples of equal labels on one side are the same series twice: the first is as good as any.
                let most = if is_same_names { 1 } else { partners.len() };
                for partner in partners.iter().take(most) {
                    let result = operator.apply(value.value, partner.value);
                    if result.is_finite() {
                        values.push(Value { labels: union(value, partner), value: result });
                    }
                }
            }
        }
    }
    (values, is_ambiguous)
}

/// The values by the names of their labels: nearly always one set for all.
fn by_names<'a, 'v>(values: &'v [Value<'a>]) -> BTreeMap<BTreeSet<&'a str>, Vec<&'v Value<'a>>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for value in values {
        let names = value.labels.iter().map(|(name, _)| *name).collect();
        groups.entry(names).or_default().push(value);
    }
    groups
}

fn union<'a>(left: &Value<'a>, right: &Value<'a>) -> Vec<(&'a str, &'a str)> {
    let mut labels = left.labels.clone();
    labels.extend(right.labels.iter().filter(|(name, _)| left.label(name).is_none()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::snapshot;

    fn results(text: &str, facts: Facts<'_>) -> Vec<String> {
        let evaluation = text.parse::<Expression>().unwrap().evaluate(facts);
        let values = evaluation.values.iter().map(|value| {
            let labels: Vec<_> = value.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", labels.join(","), value.value).trim_start().to_owned()
        });
        values.chain(evaluation.gaps.iter().map(ToString::to_string)).collect()
    }

    const SAMPLES: &str = r#"
        free 25
        total 100
        zero 0
        not_a_number NaN
        limit{server="a"} 10
        limit{server="b"} 20
        used{server="a",datname="x"} 5
        used{server="a",datname="y"} 6
        used{server="b",datname="x"} 4
        lost{server="a",datname="x"} 1
        lost{server="b",datname="z"} 1
        mode{server="a",mode="r"} 1
        mode{server="a",mode="w"} 2
        mode{server="b",mode="r"} 3
        disk{device="sda"} 8
    "#;

    #[test]
    fn expressions_are_computed_over_the_samples_that_match() {
        let snapshot = snapshot(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), SAMPLES);
        let facts = Facts { snapshot: &snapshot, history: None };
        for (text, expected) in [
            ("1 + 2 * 3 - 8 / 4", &["5"][..]),
            ("1 / 0", &[]),
            ("1 - free / total", &["0.75"]),
            ("-free", &["-25"]),
            ("- (free - total) * 2", &["150"]),
            ("free / zero", &[]),
            ("zero / zero", &[]),
            ("zero / free", &["0"]),
            ("not_a_number * 0", &[]),
            ("absent + 1", &[]),
            ("free / absent", &[]),
            ("limit{server=\"a\"}", &["server=a 10"]),
            ("limit{server!=\"a\"}", &["server=b 20"]),
            ("limit{role=\"\"} * 0", &["server=a 0", "server=b 0"]),
            ("limit{role!=\"\"}", &[]),
            ("disk / free", &["device=sda 0.32"]),
            ("used - lost", &["server=a,datname=x 4"]),
            ("used / limit", &["server=a,datname=x 0.5", "server=a,datname=y 0.6", "server=b,datname=x 0.2"]),
            ("limit - used", &["server=a,datname=x 5", "server=a,datname=y 4", "server=b,datname=x 16"]),
            ("limit / total", &["server=a 0.1", "server=b 0.2"]),
            ("used / lost / limit", &["server=a,datname=x 0.5"]),
            // In `a`, two databases meet two modes; in `b` there is one of each.
            ("used * mode", &["server=b,datname=x,mode=r 12", "`used * mode` matches several samples with several"]),
            ("time() - free", &["999975"]),
            ("limit - time()", &["server=a -999990", "server=b -999980"]),
            ("rate(limit[5m])", &["the rate of `limit` needs two readings"; 2]),
        ] {
            assert_eq!(results(text, facts), expected, "{text}");
        }
    }

    #[test]
    fn a_rate_needs_two_readings_of_its_server() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let later = start + Duration::from_secs(60);
        let mut history = History::new([("c", Duration::from_secs(300))]);
        history.record(&snapshot(start, "c{server=\"a\",datname=\"x\"} 10"));
        let now = snapshot(
            later,
            r#"
            c{server="a",datname="x"} 40
            c{server="a",datname="new"} 1000
            c{server="b",datname="x"} 1000
            "#,
        );
        history.record(&now);
        let facts = Facts { snapshot: &now, history: Some(&history) };
        let gap = "the rate of `c` needs two readings";
        assert_eq!(results("rate(c[5m])", facts), ["server=a,datname=x 0.5", gap]);
        assert_eq!(results("increase(c{server=\"a\"}[5m])", facts), ["server=a,datname=x 30"]);
        assert_eq!(results("increase(c{datname=\"new\"}[5m]) * 2", facts), [gap]);
        assert_eq!(results("changes(c{server=\"a\"}[5m])", facts), ["server=a,datname=x 1"]);
    }

    #[test]
    fn thousands_of_samples_are_joined_at_once() {
        let lines: Vec<_> = (0..20_000).map(|n| format!("a{{t=\"{n}\"}} {n}\nb{{t=\"{n}\"}} 1")).collect();
        let snapshot = snapshot(SystemTime::UNIX_EPOCH, &lines.join("\n"));
        let facts = Facts { snapshot: &snapshot, history: None };
        assert_eq!("a + b".parse::<Expression>().unwrap().evaluate(facts).values.len(), 20_000);
    }
}
