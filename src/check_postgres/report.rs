//! What actions found, as the original prints it.

use super::text::one_line;
use crate::check::Status;

/// Everything that was found, by status and by the place it was found at.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    status: Status,
    header: String,
    message: String,
    perf: String,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// With what stands behind the `|`.
    pub perf: bool,
    /// Without a word when all is well.
    pub quiet: bool,
}

impl Report {
    /// Adds a message of one line, with the perfdata of its place so far.
    pub fn add(&mut self, status: Status, header: String, message: &str, perf: &str) {
        // The original takes the first semicolon away that ends an entry, and one at the end of all.
        let perf = perf.replacen("; ", " ", 1);
        let perf = perf.strip_suffix(';').unwrap_or(&perf).to_owned();
        self.0.push(Finding { status, header, message: one_line(message, true), perf });
    }

    /// Adds a message with perfdata of several lines, taken as they are.
    pub fn add_lines(&mut self, status: Status, header: String, message: &str, perf: &str) {
        self.0.push(Finding { status, header, message: message.to_owned(), perf: perf.to_owned() });
    }

    /// What is printed: nothing below the worst status that was found. What is unknown is told only when nothing else is.
    pub fn status(&self) -> Option<Status> {
        let has = |status| self.0.iter().any(|finding| finding.status == status);
        [Status::Critical, Status::Warning, Status::Ok, Status::Unknown].into_iter().find(|status| has(*status))
    }

    /// The first message that would be printed.
    pub fn first_message(&self) -> Option<&str> {
        let status = self.status()?;
        self.0.iter().find(|finding| finding.status == status).map(|finding| finding.message.as_str())
    }

    /// The line, `POSTGRES_ACTION STATUS: header message | perfdata `, blanks included; empty when there is nothing to say.
    pub fn write(&self, action: &str, form: Form) -> String {
        let Some(status) = self.status() else { return String::new() };
        if form.quiet && self.0.iter().all(|finding| finding.status == Status::Ok) {
            return String::new();
        }
        let mut shown: Vec<&Finding> = self.0.iter().filter(|finding| finding.status == status).collect();
        shown.sort_by(|one, other| one.header.cmp(&other.header));
        let places: Vec<&[&Finding]> = shown.chunk_by(|one, other| one.header == other.header).collect();
        let joined = |place: &[&Finding], of: fn(&Finding) -> &str, with: &str| {
            place.iter().map(|finding| of(finding)).collect::<Vec<_>>().join(with)
        };
        let mut line = format!("POSTGRES_{} {status}: ", action.to_uppercase());
        for place in &places {
            let header = place.first().map(|finding| finding.header.as_str()).unwrap_or_default();
            line += &format!("{header} {} ", joined(place, |finding| &finding.message, " * "));
        }
        if form.perf {
            let perf = places.iter().map(|place| joined(place, |finding| &finding.perf, " ") + " ").collect::<String>();
            let perf = perf.trim_start();
            if !perf.is_empty() {
                line += &format!("| {perf}");
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Form = Form { perf: true, quiet: false };

    #[test]
    fn one_severity_is_printed_place_by_place() {
        let mut report = Report::default();
        report.add(Status::Ok, "DB \"b\"".to_owned(), "fine", "time=0.01s b=1");
        report.add(Status::Ok, "DB \"a\"".to_owned(), "good", "time=0.02s a=1; a2=2;;");
        report.add(Status::Ok, "DB \"a\"".to_owned(), "bet|ter", "time=0.02s");
        report.add(Status::Unknown, String::new(), "hidden", "");
        assert_eq!(
            report.write("backends", ALL),
            "POSTGRES_BACKENDS OK: DB \"a\" good * bet<PIPE>ter DB \"b\" fine | \
             time=0.02s a=1 a2=2; time=0.02s time=0.01s b=1 \n"
        );
        assert_eq!(report.first_message(), Some("fine"));
        report.add(Status::Warning, String::new(), "odd\n  thing", "");
        assert_eq!(report.write("backends", ALL), "POSTGRES_BACKENDS WARNING:  odd\\n thing \n");
    }

    #[test]
    fn quiet_means_silent_only_when_all_is_well() {
        let quiet = Form { perf: false, quiet: true };
        let mut report = Report::default();
        report.add(Status::Ok, String::new(), "fine", "x=1");
        assert_eq!(report.write("locks", quiet), "");
        report.add(Status::Critical, String::new(), "bad", "x=1");
        assert_eq!(report.write("locks", quiet), "POSTGRES_LOCKS CRITICAL:  bad \n");
    }
}
