//! A number as a body or a configuration writes it.
//!
//! What is accepted: JSON's own grammar, and for decimals only what a 64-bit float can hold, so that every reader comes
//! to the same value. Not decided here: which numbers are allowed.

use std::cmp::Ordering;
use std::fmt;

/// A finite 64-bit float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decimal(f64);

// No NaN can be in it.
impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl Decimal {
    /// Any number that is finite.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// Reads a JSON value: `None` for what is no number, or one that is too large for a 64-bit float.
    #[must_use]
    pub fn read(json: &str) -> Option<Self> {
        // Rust would read more than JSON allows: `inf`, `+1`, `.5`. A value that begins like this is a number by JSON's
        // grammar, for the whole body was read by it.
        let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        is_number.then(|| json.parse().ok().and_then(Self::new)).flatten()
    }

    /// Its value.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

/// As JSON writes it, a whole number without a fraction.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not by Rust's own formatter, which would be 15 KB of the module for this alone.
        let json = serde_json::to_string(&self.0).unwrap_or_default();
        f.write_str(json.strip_suffix(".0").unwrap_or(&json))
    }
}

/// A number in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// A whole one.
    Count(u64),
    /// Any other.
    Decimal(Decimal),
}

impl From<u32> for Number {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<u64> for Number {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<Decimal> for Number {
    fn from(decimal: Decimal) -> Self {
        Self::Decimal(decimal)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Decimal(decimal) => write!(f, "{decimal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        assert_eq!(Decimal::read(json).map(|decimal| decimal.to_string()).as_deref(), expected, "{json}");
    }

    #[test]
    fn a_decimal_is_a_json_number_that_a_float_can_hold() {
        check("1", Some("1"));
        check("0.7", Some("0.7"));
        check("1.0e0", Some("1"));
        check("7E-1", Some("0.7"));
        check("-0.0", Some("-0"));
        check("1e-999", Some("0"));
        check("1e308", Some("1e+308"));
        for json in ["1e309", "1e999999999999", r#""1""#, "null", "true", "[1]", "inf", "NaN", "+1", ".5"] {
            check(json, None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_as_the_same(value in any::<f64>()) {
            let Some(decimal) = Decimal::new(value) else { return Ok(()) };
            prop_assert_eq!(Decimal::read(&decimal.to_string()), Some(decimal));
        }
    }
}
