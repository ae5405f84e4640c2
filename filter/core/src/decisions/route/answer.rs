//! What does an answer's head teach about its backend?

use super::cooldown::{COOLDOWN_DEFAULT, COOLDOWN_MAX, Cooldown};
use crate::gauge::{RoomLeft, Unit};
use std::time::{Duration, SystemTime};

/// Reads what an answer says of the room at its backend. Negative numbers mean that nothing is said.
#[must_use]
pub fn room<'h>(unit: Unit, header: impl Fn(&str) -> Option<&'h str>) -> Option<RoomLeft> {
    let utilization = || {
        let percent = header("azure-openai-deployment-utilization")?;
        let percent = percent.trim().strip_suffix('%')?.trim_end().parse::<f64>().ok()?;
        // More than all is as good as all.
        (percent >= 0.0).then(|| RoomLeft::Utilization((percent * 10_000.0).round().min(1e6) as u32))
    };
    let remaining = |name: &str| header(name)?.trim().parse().ok().map(RoomLeft::Amount);
    match unit {
        Unit::Tokens(_) => utilization()
            .or_else(|| remaining("x-ratelimit-remaining-tokens"))
            .or_else(|| remaining("x-rate-limit-remaining-tokens")),
        Unit::Requests => remaining("x-ratelimit-remaining-requests")
            .or_else(|| remaining("x-rate-limit-remaining-requests")),
    }
}

/// The pause that a backend wants, if it wants one. The time is asked only where it matters. The last digits of it spread
/// the pauses that are guessed: they are as good as dice.
#[must_use]
pub fn cooldown<'h>(
    status: u16,
    header: impl Fn(&str) -> Option<&'h str>,
    now: impl Fn() -> Duration,
) -> Option<Cooldown> {
    let from_backend = |wait: Duration| Cooldown { wait: wait.min(COOLDOWN_MAX), from_backend: true };
    let guessed = || guess(u64::from(now().subsec_nanos()));
    match status {
        429 => Some(after(&header, &now).or_else(|| reset(&header)).map_or_else(guessed, from_backend)),
        // A server in trouble may name a time too; without one, Envoy's outlier detection is the judge.
        // <https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>
        500..=599 => after(&header, &now).map(from_backend),
        _ => None,
    }
}

/// The pause of a backend that has failed time after time and names none. `now` is as in [`cooldown`].
#[must_use]
pub fn failure_pause(now: Duration) -> Cooldown {
    guess(u64::from(now.subsec_nanos()))
}

/// From three to five quarters of the default.
fn guess(jitter: u64) -> Cooldown {
    let spread = COOLDOWN_DEFAULT / 2;
    let part = Duration::from_nanos(jitter % (spread.as_nanos() as u64));
    Cooldown { wait: COOLDOWN_DEFAULT - spread / 2 + part, from_backend: false }
}

/// The wait as `retry-after` and its more exact relatives have it, the most exact first. No time at all, and a date that
/// has passed, say nothing: were they believed, every request would ask a backend first that refuses.
fn after<'h>(header: &impl Fn(&str) -> Option<&'h str>, now: &impl Fn() -> Duration) -> Option<Duration> {
    let some = |wait: &Duration| !wait.is_zero();
    let ms = |name: &str| seconds(header(name)?).map(|ms| ms / 1000).filter(some);
    ms("retry-after-ms").or_else(|| ms("x-ms-retry-after-ms")).or_else(|| {
        let text = header("retry-after")?;
        seconds(text).or_else(|| date(text.trim(), now())).filter(some)
    })
}

/// When the limits are whole again: later than the first moment that would do, but told. The longer one counts, for the
/// shorter one may be of the limit that was not reached.
fn reset<'h>(header: &impl Fn(&str) -> Option<&'h str>) -> Option<Duration> {
    const NAMES: [&str; 4] = [
        "x-ratelimit-reset-tokens",
        "x-ratelimit-reset-requests",
        "x-rate-limit-reset-tokens",
        "x-rate-limit-reset-requests",
    ];
    let read = |name: &str| {
        let text = header(name)?;
        seconds(text).or_else(|| units(text.trim())).filter(|wait| !wait.is_zero())
    };
    NAMES.into_iter().filter_map(read).max()
}

/// A number of seconds, whole or not; a negative one is none.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0)?;
    // What is beyond all time is beyond the longest pause.
    Some(Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX))
}

/// As in `6m0s`, `1h2m`, `120ms`, `1.5s`.
fn units(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        // Digits and points are never negative; what is beyond all time is beyond the longest pause.
        let part = number.parse::<f64>().ok()? * scale;
        sum = sum.saturating_add(Duration::try_from_secs_f64(part).unwrap_or(Duration::MAX));
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// How far an HTTP date is ahead; one that has passed, not at all.
fn date(text: &str, now: Duration) -> Option<Duration> {
    let then = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(then.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowance::Weights;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const THEN: Duration = Duration::from_secs(784_111_777);

    #[track_caller]
    fn check(status: u16, headers: &[(&str, &str)], expected: Option<Duration>) {
        let header = |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let found = cooldown(status, header, || THEN - Duration::from_millis(2500));
        assert_eq!(found, expected.map(|wait| Cooldown { wait, from_backend: true }), "{status} {headers:?}");
    }

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn the_pause_is_what_the_answer_says_most_exactly() {
        check(429, &[("retry-after-ms", "1250"), ("retry-after", "2")], ms(1250));
        check(429, &[("x-ms-retry-after-ms", "800"), ("retry-after", "1")], ms(800));
        check(429, &[("retry-after", "7"), ("x-ratelimit-reset-tokens", "1s")], ms(7000));
        check(429, &[("retry-after", "0.5")], ms(500));
        check(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], ms(2500));
        check(429, &[("retry-after", "Sunday, 06-Nov-94 08:49:37 GMT")], ms(2500));
        check(429, &[("retry-after-ms", "0"), ("retry-after", "2")], ms(2000));
        check(429, &[("retry-after-ms", "0"), ("x-ratelimit-reset-tokens", "1s")], ms(1000));
        check(429, &[("retry-after-ms", "0.5")], Some(Duration::from_micros(500)));
        check(429, &[("retry-after", "86400")], Some(COOLDOWN_MAX));
        for beyond in ["1e300", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            check(429, &[("retry-after", beyond)], Some(COOLDOWN_MAX));
        }
        for status in [500, 502, 503, 504, 507, 529, 599] {
            check(status, &[("retry-after", "4")], ms(4000));
            check(status, &[("retry-after", "0")], None);
            check(status, &[("x-ratelimit-reset-tokens", "4s")], None);
            check(status, &[], None);
        }
        for status in [200, 404, 408, 499, 600] {
            check(status, &[("retry-after", "4")], None);
        }
    }

    #[test]
    fn a_reset_is_a_pause_in_all_its_spellings() {
        for (text, wait_ms) in [
            ("1s", 1000),
            ("6m0s", 360_000),
            ("120ms", 120),
            ("1m2.5s", 62_500),
            ("17", 17_000),
            ("0.25", 250),
        ] {
            for name in ["x-ratelimit-reset-tokens", "x-rate-limit-reset-requests"] {
                check(429, &[(name, text)], ms(wait_ms));
            }
        }
        check(429, &[("x-ratelimit-reset-tokens", "2s"), ("x-ratelimit-reset-requests", "90ms")], ms(2000));
        for beyond in ["2h", "99999999999999999999h", "9999999999999999h9999999999999999h"] {
            check(429, &[("x-ratelimit-reset-tokens", beyond)], Some(COOLDOWN_MAX));
        }
    }

    #[test]
    fn what_says_nothing_is_guessed() {
        let guessed = |headers: &[(&str, &str)], nanos: u32| {
            let header =
                |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            let found = cooldown(429, header, || Duration::new(THEN.as_secs(), nanos)).unwrap();
            assert!(!found.from_backend, "{headers:?}");
            found.wait
        };
        const PAST: &str = "Sun, 06 Nov 1994 08:49:30 GMT";
        for value in ["soon", "-1", "nan", "", "Sun, 99 Nov 1994 08:49:37 GMT", "0", "0.0", PAST] {
            assert_eq!(guessed(&[("retry-after", value)], 0), Duration::from_millis(750), "{value}");
        }
        let nothing = [("retry-after-ms", "0"), ("x-ms-retry-after-ms", "0"), ("retry-after", PAST)];
        assert_eq!(guessed(&nothing, 0), Duration::from_millis(750));
        for value in ["0", "-1", "0s", "s", "1x", "1", "."].iter().filter(|value| **value != "1") {
            guessed(&[("x-ratelimit-reset-tokens", value)], 0);
        }
        assert_eq!(guessed(&[], 250_000_000), Duration::from_secs(1));
        for jitter in [1, 7, 499_999_999, 500_000_000, 999_999_999] {
            assert!((750..=1250).contains(&guessed(&[], jitter).as_millis()), "{jitter}");
        }
    }

    #[test]
    fn the_room_is_what_the_answer_says() {
        #[track_caller]
        fn check(headers: &[(&str, &str)], expected: Option<RoomLeft>) {
            check_unit(Unit::Tokens(Weights::UNCACHED), headers, expected);
        }
        #[track_caller]
        fn check_unit(unit: Unit, headers: &[(&str, &str)], expected: Option<RoomLeft>) {
            let header =
                |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            assert_eq!(room(unit, header), expected, "{headers:?}");
        }
        let utilization = "azure-openai-deployment-utilization";
        let remaining = ("x-ratelimit-remaining-tokens", "5");
        check(&[(utilization, "89.3%"), remaining], Some(RoomLeft::Utilization(893_000)));
        check(&[(utilization, "120 %")], Some(RoomLeft::Utilization(1_000_000)));
        check(&[(utilization, "a lot"), remaining], Some(RoomLeft::Amount(5)));
        check(&[(utilization, "NaN%")], None);
        check(&[("x-rate-limit-remaining-tokens", " 7 ")], Some(RoomLeft::Amount(7)));
        check(&[("x-ratelimit-remaining-tokens", "-1")], None);
        check(&[], None);
        let check = |headers: &[(&str, &str)], expected| check_unit(Unit::Requests, headers, expected);
        check(&[("x-ratelimit-remaining-requests", "3"), remaining], Some(RoomLeft::Amount(3)));
        check(&[("x-rate-limit-remaining-requests", "4")], Some(RoomLeft::Amount(4)));
        check(&[(utilization, "89.3%"), remaining], None);
    }
}
