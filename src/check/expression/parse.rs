//! From text to expression: recursive descent, one function per level of precedence.

use std::str::FromStr;
use std::time::Duration;

use super::{Expression, Filter, Function, Node, Operator, Selector};
use crate::unit::{parse_duration, split_number};

/// A text that is no expression: where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expression `{text}` at {at}: {reason}")]
pub struct ExpressionError {
    text: String,
    /// The place, counted in characters from 1.
    at: usize,
    reason: String,
}

/// More operators and parentheses than anyone writes; bounds the stack that reading and evaluating take.
const MOST_STEPS: usize = 200;
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(7 * 86_400);

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let mut parser = Parser { text, rest: text, steps: 0 };
        let root = parser.sum()?;
        parser.blank();
        if parser.rest.is_empty() {
            return Ok(Self { root });
        }
        Err(parser.expected("`+`, `-`, `*`, `/` or the end"))
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    steps: usize,
}

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Result<Node, ExpressionError> {
        self.chain(&[('+', Operator::Add), ('-', Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Node, ExpressionError> {
        self.chain(&[('*', Operator::Multiply), ('/', Operator::Divide)], Self::signed)
    }

    fn chain(
        &mut self,
        operators: &[(char, Operator)],
        next: fn(&mut Self) -> Result<Node, ExpressionError>,
    ) -> Result<Node, ExpressionError> {
        let mut left = next(self)?;
        'more: loop {
            for &(symbol, operator) in operators {
                if self.take(symbol) {
                    self.step()?;
                    left = Node::Binary { operator, left: Box::new(left), right: Box::new(next(self)?) };
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn signed(&mut self) -> Result<Node, ExpressionError> {
        if self.take('-') {
            self.step()?;
            return Ok(Node::Negate(Box::new(self.signed()?)));
        }
        if self.take('+') {
            self.step()?;
            return self.signed();
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Node, ExpressionError> {
        if self.take('(') {
            self.step()?;
            let inner = self.sum()?;
            self.require(')')?;
            return Ok(inner);
        }
        if let Some((number, rest)) = split_number(self.rest) {
            let value = number.parse().ok().filter(|value: &f64| value.is_finite());
            let value = value.ok_or_else(|| self.expected("a finite number"))?;
            self.rest = rest;
            return Ok(Node::Number(value));
        }
        let before = self.rest;
        let Some(name) = self.name(true) else {
            return Err(self.expected("a number, a metric, `-` or `(`"));
        };
        if name.eq_ignore_ascii_case("nan") || name.eq_ignore_ascii_case("inf") {
            self.rest = before;
            return Err(self.expected("a finite number"));
        }
        if !self.take('(') {
            return Ok(Node::Metric(self.selector(name)?));
        }
        let function = match name {
            "rate" => Function::Rate,
            "increase" => Function::Increase,
            "changes" => Function::Changes,
            "time" => return self.require(')').map(|()| Node::Time),
            _ => {
                self.rest = before;
                let expected = "expected `rate`, `increase`, `changes` or `time`";
                return Err(self.error(format!("unknown function `{name}`: {expected}")));
            }
        };
        self.blank();
        let Some(metric) = self.name(true) else { return Err(self.expected("a metric")) };
        let selector = self.selector(metric)?;
        let window = self.window()?;
        self.require(')')?;
        Ok(Node::Over { function, selector, window })
    }

    fn selector(&mut self, metric: &str) -> Result<Selector, ExpressionError> {
        let mut filters = Vec::new();
        if self.take('{') && !self.take('}') {
            loop {
                self.blank();
                let Some(label) = self.name(false) else { return Err(self.expected("a label")) };
                let equal = if self.take('=') {
                    true
                } else if self.take('!') && self.rest.starts_with('=') {
                    self.take('=');
                    false
                } else {
                    return Err(self.expected("`=` or `!=`"));
                };
                filters.push(Filter { label: label.to_owned(), value: self.quoted()?, equal });
                if self.take('}') {
                    break;
                }
                if !self.take(',') {
                    return Err(self.expected("`,` or `}`"));
                }
            }
        }
        Ok(Selector { metric: metric.to_owned(), filters })
    }

    fn quoted(&mut self) -> Result<String, ExpressionError> {
        self.blank();
        let mut chars = self.rest.char_indices();
        let Some((_, quote @ ('"' | '\''))) = chars.next() else {
            return Err(self.expected("a text in quotes"));
        };
        let mut value = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.rest = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
                    Some((_, 'n')) => value.push('\n'),
                    _ => {
                        self.rest = self.rest.get(at..).unwrap_or_default();
                        return Err(self.expected("`\\\\`, `\\\"`, `\\'` or `\\n`"));
                    }
                },
                _ => value.push(c),
            }
        }
        self.rest = "";
        Err(self.expected(&format!("a closing `{quote}`")))
    }

    fn window(&mut self) -> Result<Duration, ExpressionError> {
        self.require('[')?;
        let Some((inside, rest)) = self.rest.split_once(']') else {
            self.rest = "";
            return Err(self.expected("`]`"));
        };
        let window = parse_duration(inside).map_err(|error| self.error(error.to_string()))?;
        // Kept in whole milliseconds, as the history has them.
        let window = Duration::from_millis(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
            return Err(self.expected("a window from 1s to 7d"));
        }
        self.rest = rest;
        Ok(window)
    }

    /// A metric's or a label's name; only metrics may have colons.
    fn name(&mut self, colons: bool) -> Option<&'a str> {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
        if !self.rest.starts_with(is_first) {
            return None;
        }
        let end = self.rest.find(|c| !is_first(c) && !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(name)
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Goes past this character, and the blanks around it, if it is next.
    fn take(&mut self, wanted: char) -> bool {
        self.blank();
        let Some(rest) = self.rest.strip_prefix(wanted) else { return false };
        self.rest = rest;
        self.blank();
        true
    }

    fn require(&mut self, wanted: char) -> Result<(), ExpressionError> {
        if self.take(wanted) { Ok(()) } else { Err(self.expected(&format!("`{wanted}`"))) }
    }

    fn step(&mut self) -> Result<(), ExpressionError> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(self.error(format!("too long: expected at most {MOST_STEPS} operators and parentheses")));
        }
        Ok(())
    }

    fn expected(&self, what: &str) -> ExpressionError {
        let found = self.rest.chars().next().map_or_else(|| "the end".to_owned(), |c| format!("`{c}`"));
        self.error(format!("expected {what}, found {found}"))
    }

    fn error(&self, reason: String) -> ExpressionError {
        let before = self.text.len().saturating_sub(self.rest.len());
        let at = self.text.get(..before).unwrap_or_default().chars().count() + 1;
        let mut text: String = self.text.chars().take(200).collect();
        if text.len() < self.text.len() {
            text.push('…');
        }
        ExpressionError { text, at, reason }
    }
}
