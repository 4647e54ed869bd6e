//! The command line, read as Perl's `Getopt::Long` reads it, over what `.check_postgresrc` says.

use std::collections::BTreeMap;

use super::rc::Setting;

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Flag,
    /// Nothing, and it counts how often it is given.
    Count,
    /// A text; the last one counts.
    Text,
    /// A whole number; the last one counts.
    Number,
    /// A text; all of them count.
    List,
}

/// Every option: its names, the first of which is the one that actions ask for, and what it takes.
const OPTIONS: &[(&[&str], Kind)] = &[
    (&["version", "V"], Kind::Flag),
    (&["verbose", "v"], Kind::Count),
    (&["vv"], Kind::Flag),
    (&["help", "h"], Kind::Flag),
    (&["quiet", "q"], Kind::Flag),
    (&["man"], Kind::Flag),
    (&["output"], Kind::Text),
    (&["simple"], Kind::Flag),
    (&["showperf"], Kind::Number),
    (&["perflimit"], Kind::Number),
    (&["showtime"], Kind::Number),
    (&["timeout", "t"], Kind::Number),
    (&["test"], Kind::Flag),
    (&["symlinks"], Kind::Flag),
    (&["debugoutput"], Kind::Text),
    (&["no-check_postgresrc"], Kind::Flag),
    (&["assume-standby-mode"], Kind::Flag),
    (&["assume-prod"], Kind::Flag),
    (&["assume-async"], Kind::Flag),
    (&["action"], Kind::Text),
    (&["warning"], Kind::Text),
    (&["critical"], Kind::Text),
    (&["include"], Kind::List),
    (&["exclude"], Kind::List),
    (&["alldb"], Kind::Flag),
    (&["includedb"], Kind::List),
    (&["excludedb"], Kind::List),
    (&["includeuser"], Kind::List),
    (&["excludeuser"], Kind::List),
    (&["host", "dbhost", "H", "dbhost1", "H1"], Kind::List),
    (&["port", "dbport", "p", "port1", "dbport1", "p1"], Kind::List),
    (&["dbname", "db", "dbname1", "db1"], Kind::List),
    (&["dbuser", "u", "dbuser1", "u1"], Kind::List),
    (&["dbpass", "dbpass1"], Kind::List),
    (&["dbservice", "dbservice1"], Kind::List),
    (&["role"], Kind::Text),
    (&["PGBINDIR"], Kind::Text),
    (&["PSQL"], Kind::Text),
    (&["tempdir"], Kind::Text),
    (&["audit-file-dir"], Kind::Text),
    (&["get_method"], Kind::Text),
    (&["language"], Kind::Text),
    (&["mrtg"], Kind::Text),
    (&["logfile"], Kind::Text),
    (&["queryname"], Kind::Text),
    (&["query"], Kind::Text),
    (&["valtype"], Kind::Text),
    (&["reverse"], Kind::Flag),
    (&["repinfo"], Kind::Text),
    (&["noidle"], Kind::Flag),
    (&["datadir"], Kind::Text),
    (&["schema"], Kind::List),
    (&["filter"], Kind::List),
    (&["suffix"], Kind::Text),
    (&["replace"], Kind::Flag),
    (&["skipsequencevals"], Kind::Flag),
    (&["lsfunc"], Kind::Text),
    (&["object"], Kind::List),
    (&["skipobject"], Kind::List),
    (&["skipcycled"], Kind::Flag),
];

/// What a command line and the file beside it say, by the first name of each option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<&'static str, Vec<String>>);

impl Options {
    /// Reads the arguments that follow the program's name. What the file says counts where the command line says nothing.
    ///
    /// # Errors
    ///
    /// The arguments that are no options, the last one first, as the original tells them.
    pub fn read(arguments: &[String], settings: &[Setting]) -> Result<Self, Vec<String>> {
        let mut options = Self::default();
        let (lists, others): (Vec<_>, Vec<_>) = settings
            .iter()
            .filter(|setting| exact(&setting.name).is_some_and(|(name, _)| name == setting.name))
            .partition(|setting| kind_of(&setting.name) == Some(Kind::List));
        for setting in others {
            options.take(&setting.name, &setting.value);
        }
        let leftovers = options.parse(arguments);
        let mut refused = Vec::new();
        for leftover in leftovers.into_iter().rev() {
            if !options.take_numbered(&leftover) {
                refused.push(leftover);
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let mut from_file = Self::default();
        for setting in lists {
            from_file.take(&setting.name, &setting.value);
        }
        for (name, values) in from_file.0 {
            options.0.entry(name).or_insert(values);
        }
        Ok(options)
    }

    /// Whether it is given at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether it is given and neither empty nor `0`, which is what Perl takes as true.
    pub fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| !matches!(value, "" | "0"))
    }

    /// The first names of all that are given.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Its text, the last one.
    pub fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(kind_of(name).is_some(), "no option is called {name}");
        self.0.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    /// All its texts, in order.
    pub fn list(&self, name: &str) -> &[String] {
        debug_assert!(kind_of(name).is_some(), "no option is called {name}");
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Its number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// Gives it this value in place of others: how `--mrtg` becomes a threshold.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, vec![value.into()]);
    }

    /// Takes the options out of the arguments; what is none of them is given back.
    fn parse(&mut self, arguments: &[String]) -> Vec<String> {
        let mut leftovers = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                leftovers.push(argument.clone());
                leftovers.extend(rest.cloned());
                break;
            }
            let Some((name, kind, attached)) = recognise(argument) else {
                leftovers.push(argument.clone());
                continue;
            };
            let value = match (kind, attached) {
                (Kind::Flag | Kind::Count, None) => Some("1"),
                (Kind::Flag | Kind::Count, Some(_)) | (_, Some("")) => None,
                (_, Some(value)) => Some(value),
                // A number that is none goes on as an argument of its own.
                (Kind::Number, None) => match rest.as_slice().first() {
                    Some(value) if is_number(value) => rest.next().map(String::as_str),
                    _ => None,
                },
                (_, None) => rest.next().map(String::as_str),
            };
            match value {
                Some(value) if kind != Kind::Number || is_number(value) => self.take(name, value),
                _ => leftovers.push(argument.clone()),
            }
        }
        leftovers
    }

    fn take(&mut self, name: &str, value: &str) {
        let Some((name, kind)) = exact(name) else { return };
        let values = self.0.entry(name).or_default();
        match kind {
            Kind::List => values.push(value.to_owned()),
            Kind::Count => {
                let before: u32 = values.last().and_then(|count| count.parse().ok()).unwrap_or_default();
                *values = vec![before.saturating_add(value.parse().unwrap_or(1)).to_string()];
            }
            Kind::Number => *values = vec![value.replace('_', "")],
            Kind::Flag | Kind::Text => *values = vec![value.to_owned()],
        }
    }

    /// Takes `dbhost2=x` and its like: one more value of the list.
    fn take_numbered(&mut self, argument: &str) -> bool {
        let bare = argument.strip_prefix('-').unwrap_or(argument);
        let bare = bare.strip_prefix('-').unwrap_or(bare);
        let Some((name, value)) = bare.split_once('=') else { return false };
        let name = name.trim_end().to_lowercase();
        let (value, digits) = (value.trim_start(), name.trim_start_matches(|c: char| !c.is_ascii_digit()));
        let is_numbered = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let stem = name.strip_suffix(digits).unwrap_or_default();
        let list = match stem {
            "dbport" | "port" | "p" => "port",
            "dbhost" | "host" => "host",
            "dbname" | "db" => "dbname",
            "dbuser" | "u" => "dbuser",
            "dbpass" => "dbpass",
            "dbservice" => "dbservice",
            _ => return false,
        };
        if !is_numbered || value.is_empty() {
            return false;
        }
        self.0.entry(list).or_default().push(value.to_owned());
        true
    }
}

/// The option that an argument means, and the value after its `=`. A part of a name will do where only one option has it.
fn recognise(argument: &str) -> Option<(&'static str, Kind, Option<&str>)> {
    let bare = ["--", "-", "+"].iter().find_map(|prefix| argument.strip_prefix(prefix))?;
    let (word, value) = match bare.split_once('=') {
        Some((word, value)) if !word.is_empty() => (word, Some(value)),
        _ => (bare, None),
    };
    if word.is_empty() {
        return None;
    }
    if let Some((name, kind)) = exact(word) {
        return Some((name, kind, value));
    }
    let mut meant = OPTIONS.iter().filter(|(names, _)| names.iter().any(|name| name.starts_with(word)));
    let (names, kind) = meant.next()?;
    meant.next().is_none().then_some((*names.first()?, *kind, value))
}

/// The option of exactly this name.
fn exact(word: &str) -> Option<(&'static str, Kind)> {
    let (names, kind) = OPTIONS.iter().find(|(names, _)| names.contains(&word))?;
    Some((names.first()?, *kind))
}

fn kind_of(name: &str) -> Option<Kind> {
    exact(name).map(|(_, kind)| kind)
}

/// Digits, with underscores between them if one likes, and a sign.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.bytes().any(|byte| byte.is_ascii_digit()) && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Result<Options, Vec<String>> {
        let arguments: Vec<String> = arguments.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Options::read(&arguments, &[])
    }

    #[test]
    fn names_are_shortened_as_far_as_they_are_unique() {
        let options = read("-w 10 --crit=20 -db app -H /tmp -noidle -t 5 --includeu=me -v -v -h").unwrap();
        assert_eq!((options.text("warning"), options.text("critical")), (Some("10"), Some("20")));
        assert_eq!((options.list("dbname"), options.list("host")), (&["app".to_owned()][..], &["/tmp".to_owned()][..]));
        assert_eq!((options.number("timeout"), options.text("verbose")), (Some(5), Some("2")));
        assert!(options.is_on("noidle") && options.is_on("help") && !options.has("quiet"));
        assert_eq!(options.list("includeuser"), ["me"]);
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        assert_eq!(read("-w -10 --critical -5%").unwrap().text("warning"), Some("-10"));
    }

    #[test]
    fn what_is_no_option_is_refused_the_last_one_first() {
        for (arguments, refused) in [
            ("-H127.0.0.1", vec!["-H127.0.0.1"]),
            ("-p5600", vec!["-p5600"]),
            ("foobar=12 x", vec!["x", "foobar=12"]),
            ("--in=x", vec!["--in=x"]),
            ("--warning=", vec!["--warning="]),
            ("--noidle=1", vec!["--noidle=1"]),
            ("--timeout=soon", vec!["--timeout=soon"]),
            ("-t soon", vec!["soon", "-t"]),
            ("-w", vec!["-w"]),
            ("-- -w 1", vec!["1", "-w", "--"]),
            ("H2=x", vec!["H2=x"]),
            ("dbhost2=", vec!["dbhost2="]),
        ] {
            assert_eq!(read(arguments).unwrap_err(), refused, "{arguments}");
        }
    }

    #[test]
    fn numbered_names_are_appended() {
        let options = read("--port=1 dbport2=2 --dbhost2=a -u2=me --dbservice3=s db2=x").unwrap();
        assert_eq!(options.list("port"), ["1", "2"]);
        assert_eq!((options.list("host"), options.list("dbuser")), (&["a".to_owned()][..], &["me".to_owned()][..]));
        assert_eq!((options.list("dbservice"), options.list("dbname")), (&["s".to_owned()][..], &["x".to_owned()][..]));
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let settings = super::super::rc::parse("port=1\nport=2\ntimeout = 7\nhost=a\nwarning=3\nquiet=1\nnothing=1\n");
        let arguments = ["--port=9", "-w", "4"].map(str::to_owned);
        let options = Options::read(&arguments, &settings).unwrap();
        assert_eq!((options.list("port"), options.list("host")), (&["9".to_owned()][..], &["a".to_owned()][..]));
        assert_eq!((options.text("warning"), options.number("timeout")), (Some("4"), Some(7)));
        assert!(options.is_on("quiet"));
    }

    proptest::proptest! {
        #[test]
        fn no_argument_makes_it_panic(arguments in proptest::collection::vec("(-{0,2}|\\+)[a-zH]{0,6}[0-9]?=?\\PC{0,4}", 0..5)) {
            let _ = Options::read(&arguments, &[]);
        }
    }
}
