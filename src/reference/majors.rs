//! Majors of PostgreSQL as a set, and what they ship.

use std::fmt;
use std::ops::RangeInclusive;

use crate::catalog::Version;

/// Every major that the catalog is made for.
pub const ALL: RangeInclusive<u32> = 10..=18;

/// An extension of contrib: its version in one major after the other.
type Shipped = (&'static str, [(u32, u32); 9]);

/// What `CREATE EXTENSION` makes of the extensions that definitions read (`default_version` of their control files).
const SHIPPED: [Shipped; 2] = [
    ("pg_buffercache", [(1, 3), (1, 3), (1, 3), (1, 3), (1, 3), (1, 3), (1, 4), (1, 5), (1, 6)]),
    ("pg_stat_statements", [(1, 6), (1, 6), (1, 7), (1, 8), (1, 9), (1, 10), (1, 10), (1, 11), (1, 12)]),
];

/// The version of an extension that a major brings along; none for those that PostgreSQL does not ship.
pub fn shipped(extension: &str, major: u32) -> Option<Version> {
    let (_, versions) = SHIPPED.iter().find(|(name, _)| *name == extension)?;
    let (_, &(major, minor)) = ALL.zip(versions).find(|(of, _)| *of == major)?;
    Some(Version { major, minor })
}

/// A set of majors. As text `10-` is 10 and all newer ones, `10-16` ends with 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Majors(u64);

impl Majors {
    /// Whether it holds this one.
    pub fn contains(self, major: u32) -> bool {
        1_u64.checked_shl(major).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether it holds all of another.
    pub fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members, oldest first.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |major| self.contains(*major))
    }

    /// The first and the last major of each stretch without a gap.
    fn stretches(self) -> Vec<(u32, u32)> {
        let mut stretches: Vec<(u32, u32)> = Vec::new();
        for major in self.iter() {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == major => *last = major,
                _ => stretches.push((major, major)),
            }
        }
        stretches
    }
}

impl FromIterator<u32> for Majors {
    fn from_iter<I: IntoIterator<Item = u32>>(majors: I) -> Self {
        Self(majors.into_iter().filter_map(|major| 1_u64.checked_shl(major)).fold(0, |all, bit| all | bit))
    }
}

impl fmt::Display for Majors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.stretches().into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last {
                _ if last == *ALL.end() => write!(f, "{comma}{first}-")?,
                _ if last == first => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Majors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| format!("expected majors such as 10- or 10-16, got \"{text}\""))
        };
        let mut all = Self::default();
        for stretch in text.split(',') {
            let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
            let last = if last.is_empty() { *ALL.end() } else { number(last)? };
            all.0 |= (number(first)?..=last).collect::<Self>().0;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_written_in_stretches_and_read_back() {
        for (majors, text) in [
            (vec![], ""),
            (ALL.collect(), "10-"),
            (vec![10, 11, 12], "10-12"),
            (vec![10, 13, 14, 17, 18], "10,13-14,17-"),
            (vec![18], "18-"),
        ] {
            let majors: Majors = majors.into_iter().collect();
            assert_eq!(majors.to_string(), text);
            assert!(text.is_empty() || text.parse() == Ok(majors), "{text}");
        }
        assert!("ten-".parse::<Majors>().is_err());
    }

    #[test]
    fn a_version_of_an_extension_is_that_of_the_major_which_brings_it() {
        let version = |major| shipped("pg_stat_statements", major).map(|version| version.to_string());
        assert_eq!([version(10), version(18), version(9)], [Some("1.6".to_owned()), Some("1.12".to_owned()), None]);
        assert!(shipped("timescaledb", 17).is_none());
    }
}
