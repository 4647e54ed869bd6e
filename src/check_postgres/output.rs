//! The forms of output: for Nagios, for MRTG, one number, for cacti.

use std::path::Path;

use super::options::Options;
use super::text::number;
use super::{End, Outcome};

/// Who reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Nagios: status line, perfdata, exit code.
    Nagios,
    /// MRTG: four lines.
    Mrtg,
    /// Who wants one number.
    Simple,
    /// cacti: as Nagios, but for the one action that is for it.
    Cacti,
}

/// A reader, and by what its one number is divided.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The reader.
    pub reader: Reader,
    divisor: f64,
}

impl Output {
    /// What the options say, else the name of the current folder, else Nagios.
    ///
    /// # Errors
    ///
    /// No such reader.
    pub fn read(options: &Options, folder: &Path) -> Result<Self, End> {
        let named = |text: &str| {
            let found = [
                ("nagios", Reader::Nagios),
                ("mrtg", Reader::Mrtg),
                ("simple", Reader::Simple),
                ("cacti", Reader::Cacti),
            ];
            let found = found.into_iter().filter_map(|(name, reader)| Some((text.find(name)?, reader)));
            found.min_by_key(|(at, _)| *at).map(|(_, reader)| reader)
        };
        let text = options.text("output").unwrap_or_default().to_lowercase();
        if text.is_empty() {
            let folder = named(&folder.to_string_lossy().to_lowercase());
            let reader = folder.unwrap_or(if options.is_on("simple") { Reader::Simple } else { Reader::Nagios });
            return Ok(Self { reader, divisor: 1.0 });
        }
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        // What it calls EB is a PB.
        let divisor = words.filter_map(|word| ["kb", "mb", "gb", "tb", "eb"].iter().position(|unit| *unit == word));
        let power = divisor.map(|at| i32::try_from(at + 1).unwrap_or_default()).next().unwrap_or_default();
        let refused = || End::refused("Invalid output: must be 'nagios' or 'mrtg' or 'simple' or 'cacti'");
        Ok(Self { reader: named(&text).ok_or_else(refused)?, divisor: 1024_f64.powi(power) })
    }

    /// Whether numbers are wanted and no judgement.
    pub fn is_mrtg(&self) -> bool {
        matches!(self.reader, Reader::Mrtg | Reader::Simple)
    }

    /// Up to two numbers and a message: what MRTG reads as four lines, of which the third is always empty. Who wants one
    /// number gets the larger one, or the message where there is none.
    pub fn write(&self, one: Option<&str>, two: &str, message: &str) -> Outcome {
        let or_zero = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
        let message = super::text::one_line(message, false);
        let text = match (self.reader, one) {
            (Reader::Simple, None) => format!("{message}\n"),
            (Reader::Simple, Some(one)) => {
                let (one, two) = (or_zero(one), or_zero(two));
                let value = |text: &str| text.parse::<f64>().ok();
                let larger = if value(&two) > value(&one) { two } else { one };
                let is_whole = larger.bytes().all(|byte| byte.is_ascii_digit());
                match value(&larger).filter(|_| is_whole && self.divisor > 1.0) {
                    Some(value) => format!("{}\n", number((value / self.divisor).trunc())),
                    None => format!("{larger}\n"),
                }
            }
            (_, one) => format!("{}\n{}\n\n{message}\n", or_zero(one.unwrap_or_default()), or_zero(two)),
        };
        Outcome { stdout: text, stderr: String::new(), code: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(arguments: &[&str], folder: &str) -> Result<Output, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Output::read(&Options::read(&arguments, &[]).unwrap(), Path::new(folder)).map_err(|end| end.to_string())
    }

    #[test]
    fn the_reader_is_named_or_follows_from_the_folder() {
        let reader = |arguments: &[&str], folder| output(arguments, folder).map(|output| output.reader);
        assert_eq!(reader(&["--quiet"], "/tmp"), Ok(Reader::Nagios));
        assert_eq!(reader(&["--simple"], "/tmp"), Ok(Reader::Simple));
        assert_eq!(reader(&["--simple"], "/usr/lib/nagios/plugins"), Ok(Reader::Nagios));
        assert_eq!(reader(&["--quiet"], "/opt/MRTG/bin"), Ok(Reader::Mrtg));
        assert_eq!(reader(&["--output=MRTG"], "/opt/nagios"), Ok(Reader::Mrtg));
        assert_eq!(reader(&["--output=xsimplex"], "/"), Ok(Reader::Simple));
        assert!(reader(&["--output=html"], "/").unwrap_err().starts_with("Invalid output: must be 'nagios'"));
    }

    #[test]
    fn numbers_and_nothing_else() {
        let mrtg = output(&["--output=mrtg"], "/").unwrap();
        assert_eq!(mrtg.write(Some("3"), "", "DB: a").stdout, "3\n0\n\nDB: a\n");
        let simple = output(&["--output=simple,MB"], "/").unwrap();
        assert_eq!(simple.write(Some("1048576"), "2097152", "").stdout, "2\n");
        assert_eq!(simple.write(Some("1.5"), "", "").stdout, "1.5\n");
        assert_eq!(simple.write(None, "", "a sum").stdout, "a sum\n");
    }
}
