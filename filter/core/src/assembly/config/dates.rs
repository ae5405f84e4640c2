//! Which instant is this date?

use crate::calendar::{DAY_S, Date};
use std::time::Duration;

/// Reads a date and time in UTC as RFC 3339 writes it: `2026-11-01T00:00:00Z`, the seconds with a fraction or without.
/// <https://www.rfc-editor.org/rfc/rfc3339#section-5.6>
pub(super) fn instant(text: &str) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let date = Date { year, month, day };
    if year < 1970 || !date.exists() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = date.days() * DAY_S + hour * 3600 + minute * 60 + second;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos))
}

/// Three numbers of so many digits.
fn numbers(text: &str, mark: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(mark);
    let mut next = |digits: usize| {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse().ok())?
    };
    let [first, second, third] = digits;
    let found = [next(first)?, next(second)?, next(third)?];
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(instant(text), expected.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn a_date_is_an_instant() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-11-01T00:00:00Z", Some(1_793_491_200_000));
        check("2024-02-29T23:59:59.5Z", Some(1_709_251_199_500));
        check("2000-03-01T00:00:00Z", Some(951_868_800_000));
        check("9999-12-31T23:59:59Z", Some(253_402_300_799_000));
    }

    #[test]
    fn anything_else_is_none() {
        for wrong in [
            "2026-11-01",
            "2026-11-01T00:00:00",
            "2026-11-01T00:00:00+01:00",
            "2026-11-01 00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-11-01T24:00:00Z",
            "2026-11-01T00:00:60Z",
            "2026-11-01T00:00:00.Z",
            "1969-12-31T23:59:59Z",
            "+026-11-01T00:00:00Z",
            "2026-11-1T00:00:00Z",
            "",
        ] {
            check(wrong, None);
        }
    }
}
