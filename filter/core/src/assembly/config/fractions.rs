//! What is a number with a fraction, where Envoy has read it?
//!
//! A text: Envoy's YAML reader makes numbers of whole ones only, and hands `1.25` on as `"1.25"` in a `Struct` (observed on 1.40).
//! It is taken for a number where one must stand, and nowhere else: a model may be named `4.1`.

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use std::fmt;

/// The number that is written there: with a point or an exponent, for a whole one comes as a number.
pub(super) fn read(text: &str) -> Option<f64> {
    let is_written_so = text.contains(['.', 'e', 'E']) && text.contains(|char: char| char.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| is_written_so && number.is_finite())
}

/// For a field that must be there.
pub(super) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(Reader)
}

/// For a field that may be absent.
pub(super) fn maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::<Fraction>::deserialize(deserializer)?.map(|fraction| fraction.0))
}

/// For a list of them.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    Ok(Vec::<Fraction>::deserialize(deserializer)?.into_iter().map(|fraction| fraction.0).collect())
}

struct Fraction(f64);

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one(deserializer).map(Self)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = f64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("f64")
    }

    fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        read(text).ok_or_else(|| E::invalid_type(Unexpected::Str(text), &self))
    }
}
