//! Values that are made from a text, with mistakes that know their line.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A map whose values are texts, in their order, none of them twice.
pub(super) struct Pairs<T>(&'static str, PhantomData<T>);

impl<T> Pairs<T> {
    pub(super) fn new(expected: &'static str) -> Self {
        Self(expected, PhantomData)
    }
}

impl<'de, T: FromStr<Err: Display>> Visitor<'de> for Pairs<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Self::Value = Vec::new();
        while let Some((key, Text(value))) = map.next_entry::<String, Text<T>>()? {
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("`{key}` stands there twice")));
            }
            pairs.push((key, value));
        }
        Ok(pairs)
    }

    // The key alone.
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

/// A value made from a text. Its mistakes have the line of the text, as serde's `try_from` has not.
pub(super) struct Text<T>(pub(super) T);

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfText<T>(PhantomData<T>);
        impl<T: FromStr<Err: Display>> Visitor<'_> for OfText<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(Text).map_err(E::custom)
            }
        }
        // Whatever it looks like: `1` is a header's value.
        deserializer.deserialize_str(OfText(PhantomData))
    }
}
