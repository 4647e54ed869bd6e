//! The bounds of a histogram, and what its samples are.

/// What follows the name of a histogram in those of its samples.
pub const SUFFIXES: [&str; 3] = [BUCKET, SUM, COUNT];
/// What follows it in the name of the number of all things.
pub const COUNT: &str = "_count";
const BUCKET: &str = "_bucket";
const SUM: &str = "_sum";

/// The upper bounds of a histogram's buckets, rising; beyond the last of them one more takes all that is larger.
#[derive(Debug, PartialEq)]
pub struct Buckets {
    bounds: Vec<f64>,
    /// The bounds as text, `+Inf` last.
    names: Vec<String>,
}

/// What one sample is of its family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Member<'a> {
    /// All there is: the family is no histogram.
    Whole,
    /// How many values are up to this bound, which is infinite in the last bucket.
    Bucket {
        /// The bound.
        bound: f64,
        /// The bound as text.
        le: &'a str,
    },
    /// The sum of all values.
    Sum,
    /// How many values there are.
    Count,
}

impl Buckets {
    /// Buckets with these bounds, which must rise.
    pub fn new(bounds: Vec<f64>) -> Self {
        let names = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]).collect();
        Self { bounds, names }
    }

    /// How one value changes a histogram: what is to be added in each place of a row, the buckets first.
    pub(super) fn observe(&self, value: f64) -> impl Iterator<Item = f64> {
        let buckets = self.bounds.iter().map(move |bound| f64::from(u8::from(value <= *bound)));
        buckets.chain([1.0, value, 1.0])
    }

    /// What stands in this place of a row.
    pub(super) fn member(&self, place: u32) -> Member<'_> {
        let place = place as usize;
        match self.names.get(place) {
            Some(le) => Member::Bucket { bound: self.bounds.get(place).copied().unwrap_or(f64::INFINITY), le },
            None if place == self.names.len() => Member::Sum,
            None => Member::Count,
        }
    }
}

impl<'a> Member<'a> {
    /// What follows the family's name in that of the sample.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Bucket { .. } => BUCKET,
            Self::Sum => SUM,
            Self::Count => COUNT,
        }
    }

    /// The label that tells a bucket from the others of its row.
    pub fn label(self) -> Option<(&'static str, &'a str)> {
        match self {
            Self::Bucket { le, .. } => Some(("le", le)),
            _ => None,
        }
    }
}
