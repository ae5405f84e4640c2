//! Which hour, day, week or month is it, and when does it end? How is a day or an instant written? In UTC.
//!
//! Arithmetic on seconds since 1970, which have no leap seconds. Not decided here: what happens within a window.

use std::time::Duration;

/// A stretch of the calendar that begins when the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the first of the next.
    Month,
}

const HOUR_S: u64 = 3600;
/// The seconds of a day.
pub const DAY_S: u64 = 86_400;

/// 1970-01-01 was a Thursday: three days after a Monday.
const EPOCH_AFTER_MONDAY: u64 = 3;

/// Days from 0000-03-01 to 1970-01-01. Years are counted from March, so that the leap day is their last.
const EPOCH_AFTER_ERA: u64 = 719_468;

const DAYS_IN_400_YEARS: u64 = 146_097;
const DAYS_IN_100_YEARS: u64 = 36_524;
const DAYS_IN_4_YEARS: u64 = 1_461;

/// How many days of a year that begins in March are over when a month begins.
const MONTH_STARTS: [u64; 12] = [0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337];

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// As it is counted today, also before that was so.
    pub year: u64,
    /// From 1.
    pub month: u64,
    /// From 1.
    pub day: u64,
}

impl Date {
    /// The date so many days after 1970-01-01.
    fn of(days: u64) -> Self {
        let days = days.saturating_add(EPOCH_AFTER_ERA);
        let (eras, days) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
        // The last century of four, and the last year of four, is longer by its leap day.
        let centuries = (days / DAYS_IN_100_YEARS).min(3);
        let days = days - centuries * DAYS_IN_100_YEARS;
        let (fours, days) = (days / DAYS_IN_4_YEARS, days % DAYS_IN_4_YEARS);
        let years = (days / 365).min(3);
        let days = days - years * 365;
        let year = eras * 400 + centuries * 100 + fours * 4 + years;
        let begun = MONTH_STARTS.iter().take_while(|start| **start <= days).count() as u64;
        let start = MONTH_STARTS.iter().rev().find(|start| **start <= days).copied().unwrap_or(0);
        // March is the first.
        let (year, month) = if begun <= 10 { (year, begun + 2) } else { (year + 1, begun - 10) };
        Self { year, month, day: days - start + 1 }
    }

    /// Whether there is such a day: the day before the next one, which it is not if it is the 30th of February.
    fn exists(self) -> bool {
        self.month >= 1 && self.month <= 12 && self.day >= 1 && Self::of(self.days()) == self
    }

    /// The day that is written so: `2026-11-28`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let [year, month, day] = numbers(text, '-', [4, 2, 2])?;
        Some(Self { year, month, day }).filter(|date| date.exists())
    }

    /// Its days after 1970-01-01; 0 for one that is before.
    #[must_use]
    pub fn days(self) -> u64 {
        let year = if self.month <= 2 { self.year.saturating_sub(1) } else { self.year };
        let month = usize::try_from((self.month + 9) % 12).unwrap_or(0);
        let days = year * 365 + year / 4 - year / 100 + year / 400;
        let start = MONTH_STARTS.get(month).copied().unwrap_or(0);
        (days + start + self.day).saturating_sub(1 + EPOCH_AFTER_ERA)
    }
}

impl Span {
    /// The word in configurations and sentences.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// When the window that `second` lies in began, and when the next begins; all in seconds since 1970.
    #[must_use]
    pub fn bounds(self, second: u64) -> (u64, u64) {
        let days = second / DAY_S;
        match self {
            Self::Hour => {
                let start = second - second % HOUR_S;
                (start, start.saturating_add(HOUR_S))
            }
            Self::Day => (days * DAY_S, days.saturating_add(1).saturating_mul(DAY_S)),
            Self::Week => {
                let monday = days.saturating_sub((days + EPOCH_AFTER_MONDAY) % 7);
                let next = days + 7 - (days + EPOCH_AFTER_MONDAY) % 7;
                (monday * DAY_S, next.saturating_mul(DAY_S))
            }
            Self::Month => {
                let first = Date { day: 1, ..Date::of(days) };
                let next = match first.month {
                    12 => Date { year: first.year + 1, month: 1, day: 1 },
                    month => Date { month: month + 1, ..first },
                };
                (first.days() * DAY_S, next.days().saturating_mul(DAY_S))
            }
        }
    }
}

/// A second since 1970 as RFC 3339 writes it: `2026-11-24T03:24:21Z`.
#[must_use]
pub fn rfc3339(second: u64) -> String {
    let Date { year, month, day } = Date::of(second / DAY_S);
    let (hour, minute, second) = (second / HOUR_S % 24, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A second since 1970 as headers write it: `Tue, 24 Nov 2026 03:24:21 GMT`. <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>
#[must_use]
pub fn http_date(second: u64) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let word = |words: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|at| words.get(at).copied()).unwrap_or_default()
    };
    let days = second / DAY_S;
    let Date { year, month, day } = Date::of(days);
    let (weekday, month) = (word(&DAYS, (days + EPOCH_AFTER_MONDAY) % 7), word(&MONTHS, month - 1));
    let (hour, minute, second) = (second / HOUR_S % 24, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// A day by how many days it is after 1970-01-01, as `2026-11-28`.
#[must_use]
pub fn day_word(days: u64) -> String {
    let Date { year, month, day } = Date::of(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Reads a date and time in UTC as RFC 3339 writes it: `2026-11-01T00:00:00Z`, the seconds with a fraction or without.
/// <https://www.rfc-editor.org/rfc/rfc3339#section-5.6>
#[must_use]
pub fn instant(text: &str) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let date = Date::read(date)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if date.year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = date.days() * DAY_S + hour * HOUR_S + minute * 60 + second;
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
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[track_caller]
    fn check(span: Span, second: u64, start: &str, end: &str) {
        let (found_start, found_end) = span.bounds(second);
        assert_eq!((rfc3339(found_start).as_str(), rfc3339(found_end).as_str()), (start, end));
    }

    #[test]
    fn windows_begin_and_end_where_the_calendar_says() {
        // 2026-11-24T03:24:21Z, a Tuesday.
        let now = 1_795_490_661;
        assert_eq!(rfc3339(now), "2026-11-24T03:24:21Z");
        assert_eq!(http_date(now), "Tue, 24 Nov 2026 03:24:21 GMT");
        // The example of RFC 9110, a Sunday; and the first Monday there is.
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(4 * DAY_S), "Mon, 05 Jan 1970 00:00:00 GMT");
        check(Span::Hour, now, "2026-11-24T03:00:00Z", "2026-11-24T04:00:00Z");
        check(Span::Day, now, "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z");
        check(Span::Week, now, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Span::Month, now, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        // The end of one is the beginning of the next.
        check(Span::Week, 1_795_996_800, "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z");
        check(Span::Month, 1_796_083_199, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        check(Span::Month, 1_796_083_200, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    }

    #[test]
    fn february_is_as_long_as_its_year_has_it() {
        let march = |year| Date { year, month: 3, day: 1 }.days();
        for (year, days) in [(2027, 28), (2028, 29), (2100, 28), (2400, 29)] {
            let (start, end) = Span::Month.bounds((march(year) - 1) * DAY_S);
            assert_eq!((end - start) / DAY_S, days, "{year}");
        }
    }

    /// The calendar as everybody knows it, a day at a time.
    #[test]
    fn each_day_of_six_hundred_years_follows_the_one_before() {
        let mut date = Date { year: 1970, month: 1, day: 1 };
        let mut monday = None;
        for days in 0..220_000 {
            assert_eq!(Date::of(days), date);
            assert_eq!(date.days(), days);
            if days % 7 == 4 {
                // The fifth day of 1970 was a Monday.
                monday = Some(days);
            }
            if let Some(monday) = monday {
                let week = (monday * DAY_S, (monday + 7) * DAY_S);
                assert_eq!(Span::Week.bounds(days * DAY_S + 7), week);
            }
            let year = date.year;
            let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let length = match date.month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            date = match (date.day == length, date.month) {
                (false, _) => Date { day: date.day + 1, ..date },
                (true, 12) => Date { year: date.year + 1, month: 1, day: 1 },
                (true, month) => Date { month: month + 1, day: 1, ..date },
            };
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn windows_follow_each_other_without_gap_or_overlap(second in 0..20_000_000_000u64, which in 0..4usize) {
            let span = [Span::Hour, Span::Day, Span::Week, Span::Month][which];
            let (start, end) = span.bounds(second);
            prop_assert!((start..end).contains(&second));
            prop_assert_eq!(span.bounds(start).1, end);
            prop_assert_eq!(span.bounds(end - 1), (start, end));
            prop_assert_eq!(span.bounds(end).0, end);
        }
    }

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for days in [0, 59, 20_785, 2_932_896] {
            assert_eq!(Date::read(&day_word(days)).map(Date::days), Some(days), "{}", day_word(days));
        }
        for wrong in ["2026-02-30", "2026-1-01", "2026-01-01T", "20260101", "2026-01", ""] {
            assert_eq!(Date::read(wrong), None, "{wrong}");
        }
    }

    #[track_caller]
    fn check_instant(text: &str, expected: Option<u64>) {
        assert_eq!(instant(text), expected.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn a_date_is_an_instant() {
        check_instant("1970-01-01T00:00:00Z", Some(0));
        check_instant("2026-11-01T00:00:00Z", Some(1_793_491_200_000));
        check_instant("2024-02-29T23:59:59.5Z", Some(1_709_251_199_500));
        check_instant("2000-03-01T00:00:00Z", Some(951_868_800_000));
        check_instant("9999-12-31T23:59:59Z", Some(253_402_300_799_000));
    }

    #[test]
    fn anything_else_is_no_instant() {
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
            check_instant(wrong, None);
        }
    }
}
