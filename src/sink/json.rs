//! The snapshot as one JSON object, for scripts: `{"taken": …, "families": [{"name", "type", "help", "samples"}]}`.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use super::{epoch, whole};
use crate::metric::{Group, Sample, Snapshot};

/// What the HTTP header `Content-Type` says.
pub const CONTENT_TYPE: &str = "application/json";

/// Appends the snapshot: `taken` in seconds since 1970, families ordered by name, labels in their declared order.
/// Samples of a histogram have a `name` of their own.
///
/// A value that JSON cannot say is the string `"NaN"`, `"+Inf"` or `"-Inf"`.
pub fn encode(snapshot: &Snapshot, out: &mut String) {
    // Serialization fails only for maps whose keys are no strings, and there is none.
    out.push_str(&serde_json::to_string(&Whole(snapshot)).unwrap_or_default());
}

struct Whole<'a>(&'a Snapshot);
struct Families<'a>(&'a Snapshot);
struct One<'a>(Group<'a>);
struct Samples<'a>(Group<'a>);
struct Point<'a>(Sample<'a>, &'a str);
struct Labels<'a>(Sample<'a>);
struct Value(f64);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Snapshot", 2)?;
        object.serialize_field("taken", &epoch(self.0.taken))?;
        object.serialize_field("families", &Families(self.0))?;
        object.end()
    }
}

impl Serialize for Families<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for group in self.0.groups() {
            list.serialize_element(&One(group))?;
        }
        list.end()
    }
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let metric = self.0.metric();
        let mut object = serializer.serialize_struct("Family", 4)?;
        object.serialize_field("name", &metric.name)?;
        object.serialize_field("type", metric.kind.as_str())?;
        object.serialize_field("help", &metric.help)?;
        object.serialize_field("samples", &Samples(self.0))?;
        object.end()
    }
}

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for sample in self.0.samples() {
            list.serialize_element(&Point(sample, &self.0.metric().name))?;
        }
        list.end()
    }
}

impl Serialize for Point<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Sample", 3)?;
        match self.0.suffix() {
            "" => object.skip_field("name")?,
            suffix => object.serialize_field("name", &format!("{}{suffix}", self.1))?,
        }
        object.serialize_field("labels", &Labels(self.0))?;
        object.serialize_field("value", &Value(self.0.value))?;
        object.end()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.labels() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (whole(self.0), self.0) {
            (Some(whole), _) => serializer.serialize_i64(whole),
            (None, value) if value.is_finite() => serializer.serialize_f64(value),
            (None, value) if value.is_nan() => serializer.serialize_str("NaN"),
            (None, value) => serializer.serialize_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::metric::{Kind, Table};

    #[test]
    fn a_value_that_json_cannot_say_is_a_string() {
        let mut table = Table::new(&["datname"]);
        let column = table.column(Kind::Gauge, "age_seconds", "How \"old\"");
        for (name, value) in [("a\"b", 1.0), ("b", 0.5), ("c", f64::NAN), ("d", f64::INFINITY), ("e", -f64::INFINITY)] {
            table.row(&[name]);
            table.set(column, value);
        }
        let mut snapshot = Snapshot::new(UNIX_EPOCH + Duration::from_millis(1500));
        for family in table.into_families() {
            snapshot.add(Some(&Arc::from("15/main")), &Arc::new(family));
        }
        let mut out = String::new();
        encode(&snapshot, &mut out);
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["taken"], 1.5);
        let family = &read["families"][0];
        assert_eq!((&family["type"], &family["help"]), (&"gauge".into(), &"How \"old\"".into()));
        assert_eq!(family["samples"][0]["labels"]["datname"], "a\"b");
        assert_eq!(family["samples"][0]["labels"]["server"], "15/main");
        let values: Vec<String> = (0..5).map(|n| family["samples"][n]["value"].to_string()).collect();
        assert_eq!(values, ["1", "0.5", "\"NaN\"", "\"+Inf\"", "\"-Inf\""]);
    }
}
