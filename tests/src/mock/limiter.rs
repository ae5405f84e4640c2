//! Tokens and requests per minute, as Microsoft's simulator of Azure counts them: a sliding window of sixty seconds,
//! and a request's cost taken when it comes rather than when it is known.
//!
//! There is one window for the whole mock: a mock stands for one deployment. It reads no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::settings::Settings;

/// What a request costs that doesn't say how much it may produce.
pub const TOKENS_UNSAID: u64 = 16;

const WINDOW: Duration = Duration::from_secs(60);
/// What is said to be left where there is no limit.
const TOKENS_UNLIMITED: u64 = 1_000_000;
const REQUESTS_UNLIMITED: u64 = 10_000;

/// What the limiter takes a request to cost: its prompt, and its cap or [`TOKENS_UNSAID`].
#[must_use]
pub fn cost(prompt: u64, cap: Option<u64>) -> u64 {
    prompt.saturating_add(cap.unwrap_or(TOKENS_UNSAID))
}

/// The two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) tokens: Option<u32>,
    pub(super) requests: Option<u32>,
}

/// What is left of them, for the `x-ratelimit-remaining-...` headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remaining {
    pub(super) tokens: u64,
    pub(super) requests: u64,
}

/// Not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) scarce: Scarce,
    pub(super) wait: Duration,
    pub(super) remaining: Remaining,
}

/// What there was too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scarce {
    Tokens,
    Requests,
}

/// The requests of the last minute.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    admitted: VecDeque<Admitted>,
    tokens: u64,
    throttled_until: Option<Instant>,
}

#[derive(Debug)]
struct Admitted {
    at: Instant,
    cost: u64,
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { tokens: settings.tpm, requests: settings.rpm }
    }
}

impl Limiter {
    /// Admits a request, and remembers it if it matters to anybody.
    pub(super) fn admit(&mut self, limits: Limits, cost: u64, now: Instant) -> Result<Remaining, Exceeded> {
        if limits.tokens.is_none() && limits.requests.is_none() {
            return Ok(self.remaining(limits));
        }
        while let Some(oldest) = self.admitted.front()
            && now.saturating_duration_since(oldest.at) >= WINDOW
        {
            self.tokens -= oldest.cost;
            self.admitted.pop_front();
        }
        let tokens = limits.tokens.and_then(|limit| self.token_wait(limit.into(), cost, now));
        let requests = limits.requests.and_then(|limit| self.request_wait(limit, now));
        // For either, the oldest request must leave, and for tokens maybe more: theirs is never the shorter wait.
        let (scarce, wait) = match (tokens, requests) {
            (None, None) => {
                self.tokens = self.tokens.saturating_add(cost);
                self.admitted.push_back(Admitted { at: now, cost });
                return Ok(self.remaining(limits));
            }
            (Some(wait), _) => (Scarce::Tokens, wait),
            (None, Some(wait)) => (Scarce::Requests, wait),
        };
        Err(Exceeded { scarce, wait, remaining: self.remaining(limits) })
    }

    /// Refuse everybody until then.
    pub(super) fn throttle(&mut self, until: Instant) {
        self.throttled_until = Some(until);
    }

    /// How much longer everybody is refused.
    pub(super) fn throttled(&mut self, now: Instant) -> Option<Duration> {
        let left = self.throttled_until?.saturating_duration_since(now);
        if left.is_zero() {
            self.throttled_until = None;
            return None;
        }
        Some(left)
    }

    fn remaining(&self, limits: Limits) -> Remaining {
        let left = |limit: Option<u32>, unlimited: u64, used: u64| {
            limit.map_or(unlimited, |limit| u64::from(limit).saturating_sub(used))
        };
        Remaining {
            tokens: left(limits.tokens, TOKENS_UNLIMITED, self.tokens),
            requests: left(limits.requests, REQUESTS_UNLIMITED, self.admitted.len() as u64),
        }
    }

    /// How long until enough tokens have left the window. One that never fits is told to wait for all of it.
    fn token_wait(&self, limit: u64, cost: u64, now: Instant) -> Option<Duration> {
        let mut used = self.tokens;
        if used.saturating_add(cost) <= limit {
            return None;
        }
        let until = self.admitted.iter().find(|admitted| {
            used -= admitted.cost;
            used.saturating_add(cost) <= limit
        });
        Some(until.map_or(WINDOW, |admitted| left(admitted, now)))
    }

    fn request_wait(&self, limit: u32, now: Instant) -> Option<Duration> {
        let full = self.admitted.len() as u64 >= u64::from(limit);
        full.then(|| self.admitted.front().map_or(WINDOW, |oldest| left(oldest, now)))
    }
}

/// How long an admitted request stays in the window.
fn left(admitted: &Admitted, now: Instant) -> Duration {
    (admitted.at + WINDOW).saturating_duration_since(now)
}

impl Exceeded {
    /// Azure's 429.
    pub(super) fn refusal(self) -> Refusal {
        // Rounded up: who waits so long is not told to wait again.
        let wait_ms = self.wait.as_nanos().div_ceil(1_000_000);
        let wait_s = wait_ms.div_ceil(1000);
        let (what, reset) = match self.scarce {
            Scarce::Tokens => ("token", "x-ratelimit-reset-tokens"),
            Scarce::Requests => ("call", "x-ratelimit-reset-requests"),
        };
        let message = format!(
            "Requests to this operation under Azure OpenAI have exceeded the {what} rate limit of your current OpenAI S0 \
             pricing tier. Please retry after {wait_s} seconds."
        );
        let mut refusal = Refusal::azure(429, "429", &message);
        refusal.headers = vec![
            ("retry-after".to_owned(), wait_s.to_string()),
            ("retry-after-ms".to_owned(), wait_ms.to_string()),
            (reset.to_owned(), wait_s.to_string()),
        ];
        refusal.headers.extend(self.remaining.headers());
        refusal
    }

    /// The 429 of a [`super::settings::Effect::Throttle`].
    pub(super) fn throttled(wait: Duration) -> Self {
        Self {
            scarce: Scarce::Tokens,
            wait,
            remaining: Remaining { tokens: 0, requests: REQUESTS_UNLIMITED },
        }
    }
}

impl Remaining {
    pub(super) fn headers(self) -> [(String, String); 2] {
        [
            ("x-ratelimit-remaining-tokens".to_owned(), self.tokens.to_string()),
            ("x-ratelimit-remaining-requests".to_owned(), self.requests.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMITS: Limits = Limits { tokens: None, requests: None };

    /// Costs and their seconds, and what becomes of the last.
    #[track_caller]
    fn check(limits: Limits, requests: &[(u64, u64)], expected: Result<Remaining, Exceeded>) {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        let results: Vec<_> = requests
            .iter()
            .map(|(cost, second)| limiter.admit(limits, *cost, start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(results.last(), Some(&expected));
    }

    fn left(tokens: u64, requests: u64) -> Remaining {
        Remaining { tokens, requests }
    }

    fn exceeded(scarce: Scarce, seconds: u64, remaining: Remaining) -> Result<Remaining, Exceeded> {
        Err(Exceeded { scarce, wait: Duration::from_secs(seconds), remaining })
    }

    #[test]
    fn the_window_slides() {
        let tokens = Limits { tokens: Some(100), ..NO_LIMITS };
        check(tokens, &[(60, 0), (40, 10)], Ok(left(0, REQUESTS_UNLIMITED)));
        check(tokens, &[(60, 0), (41, 10)], exceeded(Scarce::Tokens, 50, left(40, REQUESTS_UNLIMITED)));
        // Refused is not admitted: it takes nothing.
        check(tokens, &[(60, 0), (41, 10), (40, 11)], Ok(left(0, REQUESTS_UNLIMITED)));
        check(
            tokens,
            &[(60, 0), (40, 10), (1, 59)],
            exceeded(Scarce::Tokens, 1, left(0, REQUESTS_UNLIMITED)),
        );
        check(tokens, &[(60, 0), (40, 10), (60, 60)], Ok(left(0, REQUESTS_UNLIMITED)));
        check(
            tokens,
            &[(60, 0), (40, 10), (61, 60)],
            exceeded(Scarce::Tokens, 10, left(60, REQUESTS_UNLIMITED)),
        );
        check(tokens, &[(60, 0), (101, 10)], exceeded(Scarce::Tokens, 60, left(40, REQUESTS_UNLIMITED)));
        check(tokens, &[(101, 0)], exceeded(Scarce::Tokens, 60, left(100, REQUESTS_UNLIMITED)));

        let requests = Limits { requests: Some(2), ..NO_LIMITS };
        check(requests, &[(5, 0), (5, 20)], Ok(left(TOKENS_UNLIMITED, 0)));
        check(
            requests,
            &[(5, 0), (5, 20), (5, 30)],
            exceeded(Scarce::Requests, 30, left(TOKENS_UNLIMITED, 0)),
        );
        check(requests, &[(5, 0), (5, 20), (5, 60)], Ok(left(TOKENS_UNLIMITED, 0)));
        let none = Limits { requests: Some(0), ..NO_LIMITS };
        check(none, &[(5, 0)], exceeded(Scarce::Requests, 60, left(TOKENS_UNLIMITED, 0)));
    }

    #[test]
    fn of_two_waits_the_longer_is_named() {
        let both = Limits { tokens: Some(100), requests: Some(2) };
        check(both, &[(10, 0), (80, 30), (10, 40)], exceeded(Scarce::Requests, 20, left(10, 0)));
        check(both, &[(10, 0), (80, 30), (30, 40)], exceeded(Scarce::Tokens, 50, left(10, 0)));
        check(both, &[(90, 0), (5, 30), (30, 40)], exceeded(Scarce::Tokens, 20, left(5, 0)));
    }

    #[test]
    fn who_waits_as_told_is_admitted() {
        let (start, limits) = (Instant::now(), Limits { tokens: Some(100), requests: Some(3) });
        for first in [1, 33, 70, 100] {
            for wanted in [1, 50, 100] {
                let mut limiter = Limiter::default();
                let mut now = start;
                for cost in [first, 20, 10, wanted, wanted, wanted] {
                    if let Err(exceeded) = limiter.admit(limits, cost, now) {
                        assert!(exceeded.wait > Duration::ZERO);
                        let early = now + exceeded.wait - Duration::from_nanos(1);
                        assert!(limiter.admit(limits, cost, early).is_err(), "{first} {wanted} {cost}");
                        now += exceeded.wait;
                        assert!(limiter.admit(limits, cost, now).is_ok(), "{first} {wanted} {cost}");
                    }
                    now += Duration::from_secs(7);
                }
            }
        }
    }

    #[test]
    fn a_throttle_ends_by_itself() {
        let (start, mut limiter) = (Instant::now(), Limiter::default());
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(limiter.throttled(start), None);
        limiter.throttle(after(50));
        assert_eq!(limiter.throttled(after(20)), Some(Duration::from_millis(30)));
        assert_eq!(limiter.throttled(after(50)), None);
        assert_eq!(limiter.throttled(start), None);
    }

    #[test]
    fn waits_are_rounded_up() {
        let exceeded = Exceeded {
            scarce: Scarce::Tokens,
            wait: Duration::from_nanos(1_000_000_001),
            remaining: left(0, 1),
        };
        let refusal = exceeded.refusal();
        let header =
            |name: &str| refusal.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((header("retry-after-ms"), header("retry-after")), (Some("1001"), Some("2")));
    }
}
