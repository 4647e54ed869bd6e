//! Thresholds that are more than one number, or none.

use std::collections::BTreeMap;

use super::{Kind, given, percent, size, time};
use crate::check_postgres::End;
use crate::check_postgres::options::Options;

/// Warning and critical as texts, for what is compared and not measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// `None` when it is not given or empty.
    pub warning: Option<String>,
    /// As `warning`.
    pub critical: Option<String>,
}

/// The thresholds as they are written.
pub fn texts(options: &Options) -> Texts {
    let (warning, critical) = given(options, None);
    let present = |text: String| (!text.is_empty()).then_some(text);
    Texts { warning: present(warning), critical: present(critical) }
}

/// So many connections of a server's or a pooler's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Connections {
    /// This number is used.
    Used(f64),
    /// This number is left.
    Free(f64),
    /// This part of all is used, in per cent.
    Percent(f64),
}

impl Connections {
    /// Whether so many of the limit are too many.
    pub fn reached(self, used: f64, limit: f64) -> bool {
        match self {
            Self::Used(most) => used >= most,
            Self::Free(least) => limit - used <= least,
            Self::Percent(most) => used / limit * 100.0 >= most,
        }
    }

    /// As a number of used connections, a whole one.
    pub fn used_of(self, limit: f64) -> f64 {
        match self {
            Self::Used(most) => most,
            Self::Free(least) => limit - least,
            Self::Percent(most) => (most * limit / 100.0).trunc(),
        }
    }
}

/// Warning and critical for connections: `N`, `N%` or `-N`, 90% and 95% by default.
///
/// # Errors
///
/// A value of another form, or a warning beyond the critical one.
pub fn connections(options: &Options) -> Result<(Connections, Connections), End> {
    let given = |name| options.text(name).filter(|text| !matches!(*text, "" | "0"));
    let critical = given("critical").unwrap_or("95%");
    let warning = given("warning").or(given("critical")).unwrap_or("90%");
    let read = |name: &str, text: &str| {
        let bare = text.strip_prefix('-').unwrap_or(text);
        let digits = bare.strip_suffix('%').unwrap_or(bare);
        let value: Option<f64> =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        let value = value.filter(|value| value.is_finite());
        let refused = || End::refused(format!("{name} for number of users must be a number or percentage"));
        Ok::<_, End>((text.starts_with('-'), text.ends_with('%'), value.ok_or_else(refused)?))
    };
    let critical = read("Critical", critical)?;
    let warning = read("Warning", warning)?;
    if (warning.0, warning.1) == (critical.0, critical.1) {
        if !warning.0 && warning.2 > critical.2 {
            return Err(End::refused("The 'warning' option cannot be greater than the 'critical' option"));
        }
        if warning.0 && warning.2 < critical.2 {
            return Err(End::refused("The 'warning' option cannot be less than the 'critical' option"));
        }
    }
    let form = |(is_free, is_percent, value)| match (is_free, is_percent) {
        (true, true) => Err(End::refused("Cannot specify a negative percentage!")),
        (true, false) => Ok(Connections::Free(value)),
        (false, true) => Ok(Connections::Percent(value)),
        (false, false) => Ok(Connections::Used(value)),
    };
    Ok((form(warning)?, form(critical)?))
}

/// An amount of space, as bytes and as a share, of which one or both must be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Space {
    bytes: Option<f64>,
    percent: Option<f64>,
    both: bool,
}

impl Space {
    /// Whether so many bytes, which are so many per cent, are too many.
    pub fn reached(&self, bytes: f64, percent: f64) -> bool {
        let (by_bytes, by_percent) =
            (self.bytes.is_some_and(|limit| bytes >= limit), self.percent.is_some_and(|limit| percent >= limit));
        if self.both { by_bytes && by_percent } else { by_bytes || by_percent }
    }
}

/// Warning and critical, each a size, a percentage, or both with `and`, `or`, `&&` or `||` between.
///
/// # Errors
///
/// Neither is given, or one is not of the form.
pub fn sizes_or_shares(options: &Options, default: Option<(&str, &str)>) -> Result<(Space, Space), End> {
    let (warning, critical) = given(options, default);
    if warning.is_empty() && critical.is_empty() {
        return Err(End::refused("Must provide a warning and/or critical size"));
    }
    Ok((space("warning", &warning)?, space("critical", &critical)?))
}

fn space(name: &str, text: &str) -> Result<Space, End> {
    let refused = || End::refused(format!("Invalid '{name}' option: must be a size or a percentage"));
    if text.is_empty() {
        return Ok(Space::default());
    }
    let words = [(" and ", true), (" && ", true), (" or ", false), (" || ", false)];
    let lower = text.to_ascii_lowercase();
    let split = words.iter().find_map(|(word, both)| Some((lower.split_once(word)?, *both)));
    let one = |text: &str, space: Space| match (percent(text), size(text)) {
        (Some(percent), _) if space.percent.is_none() => Ok(Space { percent: Some(percent), ..space }),
        (None, Some(bytes)) if space.bytes.is_none() => Ok(Space { bytes: Some(bytes), ..space }),
        _ => Err(refused()),
    };
    match split {
        None => one(text, Space::default()),
        Some(((left, right), both)) => Ok(Space { both, ..one(right.trim(), one(left.trim(), Space::default())?)? }),
    }
}

/// A number of things, an age, or so many of such an age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// How many, or how many bytes.
    pub count: Option<f64>,
    /// Seconds.
    pub time: Option<f64>,
}

/// What a number without a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Seconds; a count has a sign.
    Time,
    /// Bytes, and a size with its unit is one too.
    Bytes,
}

/// Warning and critical, each `5 for 10 seconds`, one half of that, or with `and` between.
///
/// # Errors
///
/// Neither is given, or one is not of the form.
pub fn count_or_time(options: &Options, bare: Bare) -> Result<(Counted, Counted), End> {
    let (warning, critical) = given(options, None);
    if warning.is_empty() && critical.is_empty() {
        let words = "Invalid argument for 'critical' options: must be an integer, time or integer for time";
        return Err(End::refused(words));
    }
    Ok((counted("warning", &warning, bare)?, counted("critical", &critical, bare)?))
}

fn counted(name: &str, text: &str, bare: Bare) -> Result<Counted, End> {
    if text.is_empty() {
        return Ok(Counted::default());
    }
    let lower = text.to_ascii_lowercase();
    let Some((left, right)) = [" for ", " and "].iter().find_map(|word| lower.split_once(word)) else {
        return match amount(text, bare) {
            Some(count) => Ok(Counted { count: Some(count), time: None }),
            None => Ok(Counted { count: None, time: Some(Kind::Time.read(name, text)?) }),
        };
    };
    // In any order: what has a unit of time is the time, else what comes second.
    let (left, right) = (left.trim(), right.trim());
    let is_time = |text: &str| text.ends_with(|c: char| c.is_ascii_alphabetic()) && amount(text, bare).is_none();
    let is_signed = |text: &str| text.starts_with(['-', '+']);
    let (count, age) = if is_time(left) || is_signed(right) { (right, left) } else { (left, right) };
    let whole = Kind::Integer.read(name, count);
    let count = match bare {
        Bare::Bytes => amount(count, bare).map_or(whole, Ok)?,
        Bare::Time => whole?,
    };
    Ok(Counted { count: Some(count), time: Some(Kind::Time.read(name, age)?) })
}

/// A count, when the text is one and no time.
fn amount(text: &str, bare: Bare) -> Option<f64> {
    let text = text.trim();
    let is_signed = text.starts_with(['-', '+']);
    match bare {
        _ if is_signed => super::integer(text),
        Bare::Time => None,
        Bare::Bytes => {
            let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim_start();
            let unit = unit.to_ascii_lowercase();
            let is_size = unit.is_empty() || unit.ends_with('b') || unit.starts_with("byte") || time(text).is_none();
            is_size.then(|| size(text)).flatten()
        }
    }
}

/// A threshold per name.
pub type PerName = BTreeMap<String, f64>;

/// Warning and critical per name, such as `total=250:waiting=5`, or one number for `total`. Names are in lower case, without a
/// `lock` at their end.
///
/// # Errors
///
/// The text has no such pair and is no number.
pub fn per_name(options: &Options, default: (&str, &str)) -> Result<(PerName, PerName), End> {
    let (warning, critical) = given(options, Some(default));
    let critical = pairs("critical", &critical)?;
    Ok((pairs("warning", &warning)?, critical))
}

fn pairs(name: &str, text: &str) -> Result<PerName, End> {
    let mut found = PerName::new();
    if text.is_empty() {
        return Ok(found);
    }
    if let Some(total) = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten() {
        found.insert("total".to_owned(), total);
        return Ok(found);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let word = before.trim_end().rsplit(|c: char| !is_word(c)).next().unwrap_or_default().to_lowercase();
        let Some((value, remainder)) = after.split_at_checked(digits) else { break };
        if let (false, Ok(value)) = (word.is_empty(), value.parse::<f64>()) {
            found.insert(word.strip_suffix("lock").unwrap_or(&word).to_owned(), value);
        }
        rest = remainder;
    }
    if found.is_empty() {
        return Err(End::refused(format!(r#"Invalid '{name}' option: must be number of locks, or "type1=#:type2=#""#)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    #[test]
    fn connections_are_used_free_or_a_share() {
        let read = |warning, critical| connections(&options(warning, critical)).map_err(|end| end.to_string());
        assert_eq!(read(None, None).unwrap(), (Connections::Percent(90.0), Connections::Percent(95.0)));
        assert_eq!(read(None, Some("10")).unwrap(), (Connections::Used(10.0), Connections::Used(10.0)));
        assert_eq!(read(Some("-5"), None).unwrap(), (Connections::Free(5.0), Connections::Percent(95.0)));
        assert!(Connections::Free(5.0).reached(45.0, 50.0) && !Connections::Free(5.0).reached(44.0, 50.0));
        assert!((Connections::Percent(95.0).used_of(50.0) - 47.0).abs() < f64::EPSILON);
        for (warning, critical, words) in [
            (Some("x"), None, "Warning for number of users must be a number or percentage"),
            (None, Some("5.5"), "Critical for number of users must be a number or percentage"),
            (Some("20"), Some("10"), "The 'warning' option cannot be greater than the 'critical' option"),
            (Some("-1"), Some("-5"), "The 'warning' option cannot be less than the 'critical' option"),
            (Some("-5%"), None, "Cannot specify a negative percentage!"),
        ] {
            assert_eq!(read(warning, critical).unwrap_err(), words);
        }
    }

    #[test]
    fn space_is_a_size_a_share_or_both() {
        let read = |text| space("warning", text).ok();
        let both = Space { bytes: Some(1_073_741_824.0), percent: Some(80.0), both: true };
        assert_eq!(read("1GB and 80%"), Some(both));
        assert_eq!(read("80% && 1GB"), Some(both));
        assert!(read("1GB || 80%").unwrap().reached(0.0, 80.0) && !both.reached(0.0, 80.0));
        assert_eq!((read("80% and 90%"), read("1GB or 2GB"), read("x")), (None, None, None));
    }

    #[test]
    fn counts_and_times_come_in_any_order() {
        let read = |text, bare| counted("warning", text, bare).map(|read| (read.count, read.time)).ok();
        assert_eq!(read("5 for 10 seconds", Bare::Time), Some((Some(5.0), Some(10.0))));
        assert_eq!(read("10 seconds for 5", Bare::Time), Some((Some(5.0), Some(10.0))));
        assert_eq!(read("10 for +5", Bare::Time), Some((Some(5.0), Some(10.0))));
        assert_eq!(read("+50", Bare::Time), Some((Some(50.0), None)));
        assert_eq!(read("50", Bare::Time), Some((None, Some(50.0))));
        assert_eq!(read("1048576 and 2 min", Bare::Bytes), Some((Some(1_048_576.0), Some(120.0))));
        assert_eq!(read("1MB and 2min", Bare::Bytes), Some((Some(1_048_576.0), Some(120.0))));
        assert_eq!(read("2min and 1MB", Bare::Bytes), Some((Some(1_048_576.0), Some(120.0))));
        assert_eq!(read("100MB", Bare::Bytes), Some((Some(104_857_600.0), None)));
        assert_eq!(read("5 min", Bare::Bytes), Some((None, Some(300.0))));
        assert_eq!(read("5m", Bare::Bytes), Some((None, Some(300.0))));
        assert_eq!(read("x for y", Bare::Time), None);
    }

    #[test]
    fn locks_are_named_with_any_separator() {
        let read = |text| pairs("warning", text).ok().map(|found| found.into_iter().collect::<Vec<_>>());
        let named = vec![("exclusive".to_owned(), 20.0), ("total".to_owned(), 250.0)];
        assert_eq!(read("total=250:ExclusiveLock = 20"), Some(named));
        assert_eq!(read("200"), Some(vec![("total".to_owned(), 200.0)]));
        assert_eq!(read("many"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "([-+0-9%. ]{0,4}( for | and |\\|\\||=|:)?[a-z%B\u{e9}]{0,3}){0,3}") {
            let given = options(Some(&text), None);
            let _ = (connections(&given), sizes_or_shares(&given, None), per_name(&given, ("1", "2")));
            let _ = (count_or_time(&given, Bare::Time), count_or_time(&given, Bare::Bytes), texts(&given));
        }
    }
}
