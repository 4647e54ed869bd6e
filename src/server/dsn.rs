//! Connection strings: libpq's URL and `keyword=value` forms, and lists of them.
//!
//! tokio-postgres has a parser too, but it refuses `sslmode=verify-full`, `sslrootcert`, `service` and `passfile`, and its
//! errors repeat what they could not read.

use super::keywords::{DsnError, Keywords};

const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Reads one connection string; a text without `=` and scheme is a database name, as for psql.
pub fn parse(dsn: &str) -> Result<Keywords, DsnError> {
    let dsn = dsn.trim();
    match SCHEMES.iter().find_map(|scheme| dsn.strip_prefix(scheme)) {
        Some(rest) => parse_url(rest),
        None if !dsn.is_empty() && !dsn.contains(['=', ' ', ':', '@']) => {
            let mut keywords = Keywords::default();
            keywords.set("dbname", dsn)?;
            Ok(keywords)
        }
        None => parse_pairs(dsn),
    }
}

/// Splits `DATA_SOURCE_NAME` of `postgres_exporter`: at those commas which a scheme or a keyword follows, so that neither
/// the commas of a host list nor those in quotes divide.
pub fn split_list(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped, mut before) = (0, false, false, ' ');
    for (at, c) in list.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => quoted = false,
            '\'' if before == '=' => quoted = true,
            ',' if !quoted && begins_dsn(list.get(at + 1..).unwrap_or_default()) => {
                parts.push(list.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    parts.push(list.get(start..).unwrap_or_default());
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn begins_dsn(text: &str) -> bool {
    let text = text.trim_start();
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
        || text.split_once('=').is_some_and(|(keyword, _)| Keywords::is_known(keyword.trim_end()))
}

/// `[user[:password]@][host[:port][,...]][/database][?keyword=value[&...]]`, each part percent-encoded.
fn parse_url(rest: &str) -> Result<Keywords, DsnError> {
    // A password with a bare `@`, `/` or `?` would become a host, a database or a keyword, and be shown as such.
    const MISPLACED: DsnError =
        DsnError::Syntax("`@` outside of its place: percent-encode `@`, `/` and `?` in the password");
    let mut keywords = Keywords::default();
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let hosts = match authority.split_once('@') {
        Some((credentials, hosts)) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            set_decoded(&mut keywords, "user", user)?;
            set_decoded(&mut keywords, "password", password)?;
            hosts
        }
        None => authority,
    };
    if hosts.contains('@') || database.contains('@') {
        return Err(MISPLACED);
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (name, port) = split_port(host)?;
        names.push(decode(name)?);
        ports.push(decode(port)?);
    }
    set_list(&mut keywords, "host", &names)?;
    set_list(&mut keywords, "port", &ports)?;
    set_decoded(&mut keywords, "dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (keyword, value) = pair.split_once('=').ok_or(DsnError::Syntax("expected keyword=value after `?`"))?;
        match keywords.set(&decode(keyword)?, &decode(value)?) {
            Err(DsnError::UnknownKeyword(_)) if query.contains('@') => return Err(MISPLACED),
            outcome => outcome?,
        }
    }
    Ok(keywords)
}

fn split_port(host: &str) -> Result<(&str, &str), DsnError> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, after) = rest.split_once(']').ok_or(DsnError::Syntax("expected `]` after the IPv6 address"))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if after.is_empty() => Ok((name, "")),
            None => Err(DsnError::Syntax("expected `:` after `]`")),
        };
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

fn set_list(keywords: &mut Keywords, keyword: &str, values: &[String]) -> Result<(), DsnError> {
    if values.iter().any(|value| !value.is_empty()) {
        keywords.set(keyword, &values.join(","))?;
    }
    Ok(())
}

fn set_decoded(keywords: &mut Keywords, keyword: &str, value: &str) -> Result<(), DsnError> {
    if value.is_empty() { Ok(()) } else { keywords.set(keyword, &decode(value)?) }
}

fn decode(text: &str) -> Result<String, DsnError> {
    const WRONG: DsnError = DsnError::Syntax("expected two hexadecimal digits after `%`, and UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let code = piece.get(..2).filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(WRONG)?;
        match u8::from_str_radix(code, 16) {
            Ok(byte) if byte != 0 => bytes.push(byte),
            _ => return Err(WRONG),
        }
        bytes.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

/// `keyword = value` pairs between blanks; a value with blanks stands in single quotes, `\` escapes.
pub(super) fn parse_pairs(text: &str) -> Result<Keywords, DsnError> {
    let mut keywords = Keywords::default();
    let mut rest = text.trim_start();
    let mut after_password = false;
    while !rest.is_empty() {
        let (keyword, value) = rest.split_once('=').ok_or(DsnError::Syntax("expected keyword=value"))?;
        let keyword = keyword.trim_end();
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('\'') {
            unescape(quoted, |c| c == '\'').ok_or(DsnError::Syntax("a quote is not closed"))?
        } else {
            unescape(value, char::is_whitespace).unwrap_or_default()
        };
        if after_password && !Keywords::is_known(keyword) {
            return Err(DsnError::Syntax("expected a keyword after the password: quote a password that has blanks"));
        }
        keywords.set(keyword, &value)?;
        after_password = keyword == "password";
        rest = after.trim_start();
    }
    Ok(keywords)
}

/// The text up to the end mark and what follows that; at the end of the text a blank is found, a quote is not.
fn unescape(text: &str, is_end: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c if is_end(c) => return Some((value, text.get(at + c.len_utf8()..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    is_end(' ').then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_keywords(dsn: &str, expected: &[(&str, &str)]) {
        let mut keywords = Keywords::default();
        for (keyword, value) in expected {
            keywords.set(keyword, value).unwrap();
        }
        let parsed = parse(dsn).unwrap();
        assert!(parsed == keywords, "{dsn}: {parsed:?}, host {:?}, port {:?}", parsed.get("host"), parsed.get("port"));
    }

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        assert_keywords("postgresql://", &[]);
        assert_keywords("postgres://u@/db", &[("user", "u"), ("dbname", "db")]);
        assert_keywords(
            "postgresql://u:p%40%3A%2F%25%7B%27%20x@h:5433/db%20x?sslmode=verify-full&sslrootcert=%2Fr",
            &[
                ("user", "u"),
                ("password", "p@:/%{' x"),
                ("host", "h"),
                ("port", "5433"),
                ("dbname", "db x"),
                ("sslmode", "verify-full"),
                ("sslrootcert", "/r"),
            ],
        );
        assert_keywords("postgresql://a,[::1]:2,c:3/", &[("host", "a,::1,c"), ("port", ",2,3")]);
        assert_keywords("postgresql://%2Frun%2Fpg:6432/x", &[("host", "/run/pg"), ("port", "6432"), ("dbname", "x")]);
        assert_keywords(
            "postgresql:///x?host=/tmp&password=a=b",
            &[("dbname", "x"), ("host", "/tmp"), ("password", "a=b")],
        );
    }

    #[test]
    fn pairs_are_read_as_libpq_reads_them() {
        assert_keywords(
            r"host = h  port=1 password = 'a b\'c\\' user=x\ y",
            &[("host", "h"), ("port", "1"), ("password", r"a b'c\"), ("user", "x y")],
        );
        assert_keywords("password='' dbname=a=b", &[("password", ""), ("dbname", "a=b")]);
        assert_keywords("sales", &[("dbname", "sales")]);
    }

    #[test]
    fn no_error_repeats_a_piece_of_the_password() {
        for dsn in [
            "postgresql://u:canary@canary@h/db",
            "postgresql://u:canary/canary@h/db",
            "postgresql://u:12/canary@h/db",
            "postgresql://u:12?canary=canary@h/db",
            "postgresql://u:12?canary@h/db",
            "postgresql://u:%canary@h/db",
            "postgresql://[canary",
            "password=first canary host=h",
            "password=first canary=x host=h",
            "password='canary",
            "host=h canary",
            "host=h canary:Canary=1",
        ] {
            let error = parse(dsn).expect_err(dsn).to_string();
            assert!(!error.to_lowercase().contains("canary"), "{dsn}: {error}");
        }
    }

    #[test]
    fn a_list_is_split_only_where_a_connection_string_begins() {
        assert_eq!(
            split_list("postgresql://a,b:1/x?c=d,postgres://e/y, host=f,g user=h,dbname = i"),
            ["postgresql://a,b:1/x?c=d", "postgres://e/y", "host=f,g user=h", "dbname = i"]
        );
        assert_eq!(split_list("password = 'x,user=y' host=z"), ["password = 'x,user=y' host=z"]);
        assert!(split_list(" ").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgresql://{text}"));
            let _ = split_list(&text);
        }

        #[test]
        fn any_password_survives_quoting(password in "\\PC{1,20}") {
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let parsed = parse(&format!("host=h password='{quoted}' user=u")).unwrap();
            assert_eq!(parsed.get("password"), Some(password.as_str()));
        }
    }
}
