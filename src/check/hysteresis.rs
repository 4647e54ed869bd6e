//! How many readings make a problem, so that what comes and goes does not ring the bell each time.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// `3 of 5`: a finding is a problem when three of its last five readings have it, and over when three of five after that do not.
///
/// It is always more than half of them: a finding that most readings have is no problem that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hysteresis {
    needed: usize,
    of: usize,
}

/// So many readings at most are remembered.
const MOST: usize = 60;

impl Hysteresis {
    /// How many readings have to agree.
    pub fn needed(self) -> usize {
        self.needed
    }

    /// Of how many of the latest.
    pub fn of(self) -> usize {
        self.of
    }
}

impl FromStr for Hysteresis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}`: expected {why}, such as `3 of 5`");
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["of"] = words.get(1..2).unwrap_or_default() else { return Err(wrong("a number of readings")) };
        let [needed, _, of] = words.as_slice() else { return Err(wrong("a number of readings")) };
        let (Ok(needed), Ok(of)) = (needed.parse::<usize>(), of.parse::<usize>()) else {
            return Err(wrong("a number of readings"));
        };
        if of > MOST {
            return Err(wrong(&format!("{MOST} readings at most")));
        }
        if needed > of || needed <= of / 2 {
            return Err(wrong("more than half of the readings, and not more than there are"));
        }
        Ok(Self { needed, of })
    }
}

impl TryFrom<String> for Hysteresis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Hysteresis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {}", self.needed, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_readings_decide() {
        for (text, expected) in [
            ("3 of 5", "3 of 5"),
            (" 2  of 2 ", "2 of 2"),
            ("1 of 1", "1 of 1"),
            ("2 of 5", "expected more than half"),
            ("2 of 4", "expected more than half"),
            ("6 of 5", "expected more than half"),
            ("0 of 0", "expected more than half"),
            ("40 of 61", "expected 60 readings at most"),
            ("3/5", "expected a number of readings, such as `3 of 5`"),
            ("3 of", "expected a number of readings"),
            ("three of 5", "expected a number of readings"),
            ("3 of 5 of 7", "expected a number of readings"),
            ("-1 of 1", "expected a number of readings"),
            ("", "expected a number of readings"),
        ] {
            let read = text.parse::<Hysteresis>().map_or_else(|error| error, |it| it.to_string());
            assert!(read.contains(expected), "{text}: {read}");
        }
    }
}
