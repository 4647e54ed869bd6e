//! What a rule computes: arithmetic over the samples of a snapshot, a subset of `PromQL`.

mod evaluate;
mod parse;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

pub use evaluate::{Evaluation, Facts, Gap, Value};
pub use parse::ExpressionError;

/// A parsed expression.
///
/// Numbers, metric names, label filters `m{label="x", label!="y"}`, `+ - * /`, parentheses, `rate(m[5m])` per second,
/// `increase(m[1h])`, `changes(m[1h])`, how often the value became another one, and `time()`, the moment of the facts in seconds
/// since the epoch. There are no comparisons: what is too much is said by the thresholds. Windows are written as in `PromQL`
/// (`5m`) or as elsewhere here (`5min`).
///
/// ```
/// use pgvitals::check::Expression;
///
/// let used: Expression = "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes".parse().unwrap();
/// assert_eq!(used.metrics().len(), 2);
/// assert!("1 -".parse::<Expression>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    root: Node,
}

/// One step of an expression.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Number(f64),
    Time,
    Metric(Selector),
    Over { function: Function, selector: Selector, window: Duration },
    Negate(Box<Self>),
    Binary { operator: Operator, left: Box<Self>, right: Box<Self> },
}

/// A metric and which of its samples.
#[derive(Clone, Debug, PartialEq)]
struct Selector {
    metric: String,
    filters: Vec<Filter>,
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    label: String,
    value: String,
    equal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Rate,
    Increase,
    Changes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Expression {
    /// The names of the metrics it uses, each once, in alphabetical order.
    pub fn metrics(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.root.visit(&mut |selector, _| {
            names.insert(selector.metric.as_str());
        });
        names
    }

    /// The metric it names first.
    pub fn first_metric(&self) -> Option<&str> {
        let mut first = None;
        self.root.visit(&mut |selector, _| {
            first.get_or_insert(selector.metric.as_str());
        });
        first
    }

    /// Whether it takes only samples with one certain value of this label, so that the label tells no results apart.
    pub fn fixes(&self, label: &str) -> bool {
        let mut fixes = false;
        self.root.visit(&mut |selector, _| {
            fixes |= selector.filters.iter().any(|filter| filter.equal && filter.label == label);
        });
        fixes
    }

    /// Whether it asks how often something became another: who looks only now cannot tell what was before.
    pub fn asks_for_changes(&self) -> bool {
        let mut asks = false;
        self.root.visit_functions(&mut |function| asks |= function == Function::Changes);
        asks
    }

    /// The metrics whose past it needs, with the longest window of each: what a [`History`](super::History) must keep.
    pub fn windows(&self) -> Vec<(&str, Duration)> {
        let mut windows = Vec::new();
        self.root.visit(&mut |selector, window| {
            windows.extend(window.map(|window| (selector.metric.as_str(), window)));
        });
        windows
    }

    /// The longest window of `rate`, `increase` and `changes`, if it has any.
    pub fn window(&self) -> Option<Duration> {
        self.windows().into_iter().map(|(_, window)| window).max()
    }
}

impl Node {
    fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Selector, Option<Duration>)) {
        match self {
            Self::Number(_) | Self::Time => {}
            Self::Metric(selector) => see(selector, None),
            Self::Over { selector, window, .. } => see(selector, Some(*window)),
            Self::Negate(inner) => inner.visit(see),
            Self::Binary { left, right, .. } => {
                left.visit(see);
                right.visit(see);
            }
        }
    }

    fn visit_functions(&self, see: &mut impl FnMut(Function)) {
        match self {
            Self::Number(_) | Self::Time | Self::Metric(_) => {}
            Self::Over { function, .. } => see(*function),
            Self::Negate(inner) => inner.visit_functions(see),
            Self::Binary { left, right, .. } => {
                left.visit_functions(see);
                right.visit_functions(see);
            }
        }
    }

    /// How tightly it binds: what binds less than its surroundings needs parentheses.
    fn rank(&self) -> u8 {
        match self {
            Self::Binary { operator: Operator::Add | Operator::Subtract, .. } => 0,
            Self::Binary { .. } => 1,
            Self::Negate(_) => 2,
            _ => 3,
        }
    }

    fn write(&self, out: &mut fmt::Formatter<'_>, rank: u8) -> fmt::Result {
        if self.rank() < rank {
            out.write_str("(")?;
            self.write(out, 0)?;
            return out.write_str(")");
        }
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Time => out.write_str("time()"),
            Self::Metric(selector) => write!(out, "{selector}"),
            Self::Over { function, selector, window } => {
                write!(out, "{}({selector}[{}])", function.name(), Window(*window))
            }
            Self::Negate(inner) => {
                out.write_str("-")?;
                inner.write(out, 2)
            }
            Self::Binary { operator, left, right } => {
                left.write(out, self.rank())?;
                write!(out, " {} ", operator.symbol())?;
                right.write(out, self.rank() + 1)
            }
        }
    }
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Increase => "increase",
            Self::Changes => "changes",
        }
    }
}

impl Operator {
    fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        }
    }

    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
        }
    }
}

/// The expression in its shortest form; reading it gives the same expression.
impl fmt::Display for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.write(out, 0)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.metric)?;
        for (n, Filter { label, value, equal }) in self.filters.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let (before, sign) = (if n == 0 { "{" } else { "," }, if *equal { "=" } else { "!=" });
            write!(out, "{before}{label}{sign}\"{value}\"")?;
        }
        if self.filters.is_empty() { Ok(()) } else { out.write_str("}") }
    }
}

/// A span as `PromQL` writes it, in the largest unit that is whole.
struct Window(Duration);

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if millis.is_multiple_of(size) {
                return write!(out, "{}{unit}", millis / size);
            }
        }
        write!(out, "{millis}ms")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_expression_is_shown_in_its_shortest_form() {
        for (text, shown) in [
            ("1-a", "1 - a"),
            ("((1 - a) / (b))", "(1 - a) / b"),
            ("a - (b - c)", "a - (b - c)"),
            ("(a - b) - c", "a - b - c"),
            ("a + b * c", "a + b * c"),
            ("(a + b) * c", "(a + b) * c"),
            ("a / (b * c)", "a / (b * c)"),
            ("-a * b", "-a * b"),
            ("-(a + b)", "-(a + b)"),
            ("--a", "--a"),
            ("+1", "1"),
            ("1e9", "1000000000"),
            ("a { x = \"1\" , y!=\"\\\"\\\\\\n\" }", r#"a{x="1",y!="\"\\\n"}"#),
            ("a{}", "a"),
            ("rate(a{x='1'}[90s])", "rate(a{x=\"1\"}[90s])"),
            ("increase( a [60min] )", "increase(a[1h])"),
            ("rate / 2", "rate / 2"),
            ("changes(a[60s]) * 2", "changes(a[1m]) * 2"),
            ("time( )-a", "time() - a"),
            ("time - a", "time - a"),
        ] {
            let expression: Expression = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(expression.to_string(), shown);
            assert_eq!(shown.parse(), Ok(expression));
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_place_and_what_was_expected() {
        for (text, part) in [
            ("", "at 1: expected a number, a metric, `-` or `(`, found the end"),
            ("1 +", "at 4: expected a number"),
            ("(a", "at 3: expected `)`"),
            ("a)", "at 2: expected `+`, `-`, `*`, `/` or the end"),
            ("a b", "at 3: expected `+`"),
            ("a > 3", "at 3: expected `+`, `-`, `*`, `/` or the end, found `>`"),
            ("a{", "at 3: expected a label"),
            ("a{x}", "at 4: expected `=` or `!=`"),
            ("a{x=~\"y\"}", "expected a text in quotes"),
            ("a{x=\"y}", "expected a closing `\"`"),
            ("a{x=\"\\q\"}", "expected `\\\\`"),
            ("a{x=\"y\" z=\"\"}", "expected `,` or `}`"),
            ("sum(a)", "unknown function `sum`: expected `rate`, `increase`, `changes` or `time`"),
            ("time(a)", "at 6: expected `)`, found `a`"),
            ("rate(a)", "expected `[`"),
            ("rate(a[5])", "expected a number with us"),
            ("rate(a[0s])", "expected a window from 1s to 7d"),
            ("rate(a[30d])", "expected a window from 1s to 7d"),
            ("rate(a[5m)", "expected `]`"),
            ("a[5m]", "expected `+`"),
            ("nan", "expected a finite number"),
            ("1e999", "expected a finite number"),
            ("ä", "expected a number"),
        ] {
            let error = text.parse::<Expression>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn too_long_an_expression_is_refused() {
        for text in ["(".repeat(100_000), "-".repeat(100_000), "1+".repeat(100_000), format!("{}1", "1*".repeat(5_000))]
        {
            assert!(text.parse::<Expression>().unwrap_err().to_string().contains("too long"));
        }
    }

    #[test]
    fn an_expression_tells_what_it_needs() {
        let expression: Expression = "rate(b[5m]) / a + increase(b[1h]) * a".parse().unwrap();
        assert_eq!(expression.metrics().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(expression.first_metric(), Some("b"));
        assert_eq!(expression.window(), Some(Duration::from_secs(3_600)));
        assert_eq!(expression.windows().len(), 2);
        assert_eq!("a".parse::<Expression>().unwrap().window(), None);
        assert!(!expression.asks_for_changes());
        assert!("1 - (time() + changes(a[1h]))".parse::<Expression>().unwrap().asks_for_changes());
    }

    fn node() -> impl Strategy<Value = Node> {
        let filter = ("[a-z_][a-z0-9_]{0,3}", ".{0,5}", any::<bool>());
        let selector =
            ("[a-z_:][a-zA-Z0-9_:]{0,8}", prop::collection::vec(filter, 0..3)).prop_map(|(metric, filters)| {
                let filters = filters.into_iter().map(|(label, value, equal)| Filter { label, value, equal }).collect();
                Selector { metric: format!("m{metric}"), filters }
            });
        let leaf = prop_oneof![
            (0.0..1e15).prop_map(Node::Number),
            Just(Node::Time),
            selector.clone().prop_map(Node::Metric),
            (selector, 1_000u64..600_000_000, any::<bool>()).prop_map(|(selector, millis, rate)| Node::Over {
                function: if rate { Function::Rate } else { Function::Increase },
                selector,
                window: Duration::from_millis(millis),
            }),
        ];
        leaf.prop_recursive(5, 30, 2, |inner| {
            let operator = prop_oneof![
                Just(Operator::Add),
                Just(Operator::Subtract),
                Just(Operator::Multiply),
                Just(Operator::Divide)
            ];
            prop_oneof![
                inner.clone().prop_map(|inner| Node::Negate(Box::new(inner))),
                (operator, inner.clone(), inner).prop_map(|(operator, left, right)| Node::Binary {
                    operator,
                    left: Box::new(left),
                    right: Box::new(right)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_expression_survives_being_shown(root in node()) {
            let expression = Expression { root };
            let shown = expression.to_string();
            prop_assert_eq!(shown.parse(), Ok(expression), "{}", shown);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+*/(){}\\[\\]a-z0-9_=!\",. ]{0,30}|.*") {
            let _ = text.parse::<Expression>();
        }
    }
}
