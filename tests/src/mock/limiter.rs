//! Tokens and requests per minute, as Microsoft's simulator of Azure counts them: sliding windows, of sixty seconds if
//! nothing else is said, and a request's cost taken when it comes rather than when it is known. Provisioned throughput
//! is counted in the same window, but there the cost is corrected when it is known.
//!
//! There is one window for the whole mock: a mock stands for one deployment. It reads no clock.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::load::{Load, Tally};
use super::refusal::Refusal;
use super::settings::{MINUTE_MS, Settings};

/// What a request costs that doesn't say how much it may produce.
pub const TOKENS_UNSAID: u64 = 16;

/// What is said to be left where there is no limit.
const TOKENS_UNLIMITED: u64 = 1_000_000;
const REQUESTS_UNLIMITED: u64 = 10_000;

/// What the limiter takes a request to cost: its prompt, and its cap or [`TOKENS_UNSAID`].
#[must_use]
pub fn cost(prompt: u64, cap: Option<u64>) -> u64 {
    prompt.saturating_add(cap.unwrap_or(TOKENS_UNSAID))
}

/// The two limits, each of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) tokens: Option<u64>,
    pub(super) requests: Option<u64>,
    pub(super) window: Duration,
    pub(super) requests_window: Duration,
    pub(super) provisioned: bool,
}

/// A request that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    /// The how-manieth it was.
    serial: u64,
    cost: u64,
    at: Instant,
    /// What its answer says is left.
    pub(super) left: Left,
}

/// What an answer says of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// So much is, for the `x-ratelimit-remaining-...` headers.
    Remaining { tokens: u64, requests: u64 },
    /// So many thousandths of provisioned throughput are not.
    Utilization { permille: u64 },
}

/// Not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) scarce: Scarce,
    pub(super) wait: Duration,
    pub(super) left: Left,
}

/// What there was too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scarce {
    Tokens,
    Requests,
}

/// The requests in the window.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// Their serials are consecutive, and end before `serial_next`.
    admitted: VecDeque<Admitted>,
    /// When those came that are in the window of requests.
    arrivals: VecDeque<Instant>,
    serial_next: u64,
    tokens: u64,
    throttled_until: Option<Instant>,
    tally: Tally,
}

#[derive(Debug)]
struct Admitted {
    at: Instant,
    cost: u64,
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Self {
        let of_window = |per_minute: u32, window_ms: NonZeroU64| {
            let limit = u128::from(per_minute) * u128::from(window_ms.get());
            u64::try_from(limit / u128::from(MINUTE_MS.get())).unwrap_or(u64::MAX)
        };
        let requests_window_ms = settings.requests_window_ms.unwrap_or(settings.window_ms);
        Self {
            tokens: settings.tpm.map(|tpm| of_window(tpm, settings.window_ms)),
            requests: settings.rpm.map(|rpm| of_window(rpm, requests_window_ms)),
            window: Duration::from_millis(settings.window_ms.get()),
            requests_window: Duration::from_millis(requests_window_ms.get()),
            provisioned: settings.provisioned,
        }
    }
}

impl Limiter {
    /// Admits a request, and remembers it if it matters to anybody.
    pub(super) fn admit(&mut self, limits: Limits, cost: u64, now: Instant) -> Result<Admission, Exceeded> {
        while let Some(oldest) = self.admitted.front()
            && now.saturating_duration_since(oldest.at) >= limits.window
        {
            self.tokens = self.tokens.saturating_sub(oldest.cost);
            self.admitted.pop_front();
        }
        while let Some(oldest) = self.arrivals.front()
            && now.saturating_duration_since(*oldest) >= limits.requests_window
        {
            self.arrivals.pop_front();
        }
        let tokens = limits.tokens.and_then(|limit| self.token_wait(limit, cost, limits.window, now));
        let requests =
            limits.requests.and_then(|limit| self.request_wait(limit, limits.requests_window, now));
        let (scarce, wait) = match (tokens, requests) {
            (None, None) => return Ok(self.enter(limits, cost, now)),
            (Some(tokens), Some(requests)) if requests > tokens => (Scarce::Requests, requests),
            (Some(wait), _) => (Scarce::Tokens, wait),
            (None, Some(wait)) => (Scarce::Requests, wait),
        };
        Err(Exceeded { scarce, wait, left: self.left(limits) })
    }

    fn enter(&mut self, limits: Limits, cost: u64, now: Instant) -> Admission {
        let serial = self.serial_next;
        self.serial_next += 1;
        if limits.tokens.is_some() || limits.requests.is_some() {
            self.tokens = self.tokens.saturating_add(cost);
            self.admitted.push_back(Admitted { at: now, cost });
            self.arrivals.push_back(now);
        }
        self.tally.admitted(cost, limits.window, now);
        Admission { serial, cost, at: now, left: self.left(limits) }
    }

    /// What was admitted has cost so much in truth.
    pub(super) fn settle(&mut self, admission: Admission, used: u64) {
        let Admission { serial, cost, at, .. } = admission;
        // If it has left the window, or that is another one by now, nothing is to be corrected there.
        let oldest = self.serial_next - self.admitted.len() as u64;
        let position = serial.checked_sub(oldest).and_then(|position| usize::try_from(position).ok());
        if let Some(admitted) = position.and_then(|position| self.admitted.get_mut(position)) {
            admitted.cost = used;
            self.tokens = self.tokens.saturating_sub(cost).saturating_add(used);
        }
        self.tally.settled(serial, cost, used, at);
    }

    /// A 429 goes out, for whatever reason.
    pub(super) fn refused(&mut self) {
        self.tally.refused();
    }

    /// What there was to do since the last [`Limiter::forget`].
    pub(super) fn load(&self, limits: Limits, now: Instant) -> Load {
        self.tally.load(limits.tokens, limits.window, now)
    }

    /// Counts from 0. The window stays as it is.
    pub(super) fn forget(&mut self) {
        self.tally = Tally::since(self.serial_next);
    }

    /// Opens a new window.
    pub(super) fn reset(&mut self) {
        let serial_next = self.serial_next;
        *self = Self { serial_next, tally: Tally::since(serial_next), ..Self::default() };
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

    fn left(&self, limits: Limits) -> Left {
        if limits.provisioned {
            let capacity = limits.tokens.unwrap_or(TOKENS_UNLIMITED).max(1);
            return Left::Utilization { permille: self.tokens.saturating_mul(1000) / capacity };
        }
        let left = |limit: Option<u64>, unlimited: u64, used: u64| {
            limit.map_or(unlimited, |limit| limit.saturating_sub(used))
        };
        Left::Remaining {
            tokens: left(limits.tokens, TOKENS_UNLIMITED, self.tokens),
            requests: left(limits.requests, REQUESTS_UNLIMITED, self.arrivals.len() as u64),
        }
    }

    /// How long until enough tokens have left the window. One that never fits is told to wait for all of it.
    fn token_wait(&self, limit: u64, cost: u64, window: Duration, now: Instant) -> Option<Duration> {
        let mut used = self.tokens;
        if used.saturating_add(cost) <= limit {
            return None;
        }
        let until = self.admitted.iter().find(|admitted| {
            used = used.saturating_sub(admitted.cost);
            used.saturating_add(cost) <= limit
        });
        Some(until.map_or(window, |admitted| stays(admitted.at, window, now)))
    }

    fn request_wait(&self, limit: u64, window: Duration, now: Instant) -> Option<Duration> {
        let full = self.arrivals.len() as u64 >= limit;
        full.then(|| self.arrivals.front().map_or(window, |oldest| stays(*oldest, window, now)))
    }
}

/// How much longer what came then is in the window.
fn stays(at: Instant, window: Duration, now: Instant) -> Duration {
    window.saturating_sub(now.saturating_duration_since(at))
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
        refusal.headers.extend(self.left.headers());
        refusal
    }

    /// The 429 of a [`super::settings::Effect::Throttle`].
    pub(super) fn throttled(wait: Duration) -> Self {
        Self {
            scarce: Scarce::Tokens,
            wait,
            left: Left::Remaining { tokens: 0, requests: REQUESTS_UNLIMITED },
        }
    }
}

impl Left {
    pub(super) fn headers(self) -> Vec<(String, String)> {
        match self {
            Self::Remaining { tokens, requests } => vec![
                ("x-ratelimit-remaining-tokens".to_owned(), tokens.to_string()),
                ("x-ratelimit-remaining-requests".to_owned(), requests.to_string()),
            ],
            Self::Utilization { permille } => {
                let percent = format!("{}.{}%", permille / 10, permille % 10);
                vec![("azure-openai-deployment-utilization".to_owned(), percent)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NO_LIMITS: Limits =
        Limits { tokens: None, requests: None, window: MINUTE, requests_window: MINUTE, provisioned: false };

    /// Costs and their seconds, and what becomes of the last.
    #[track_caller]
    fn check(limits: Limits, requests: &[(u64, u64)], expected: Result<Left, Exceeded>) {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        let results: Vec<_> = requests
            .iter()
            .map(|(cost, second)| limiter.admit(limits, *cost, start + Duration::from_secs(*second)))
            .map(|admitted| admitted.map(|admission| admission.left))
            .collect();
        assert_eq!(results.last(), Some(&expected));
    }

    fn left(tokens: u64, requests: u64) -> Left {
        Left::Remaining { tokens, requests }
    }

    fn exceeded(scarce: Scarce, seconds: u64, left: Left) -> Result<Left, Exceeded> {
        Err(Exceeded { scarce, wait: Duration::from_secs(seconds), left })
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
        let both = Limits { tokens: Some(100), requests: Some(2), ..NO_LIMITS };
        check(both, &[(10, 0), (80, 30), (10, 40)], exceeded(Scarce::Requests, 20, left(10, 0)));
        check(both, &[(10, 0), (80, 30), (30, 40)], exceeded(Scarce::Tokens, 50, left(10, 0)));
        check(both, &[(90, 0), (5, 30), (30, 40)], exceeded(Scarce::Tokens, 20, left(5, 0)));
    }

    #[test]
    fn requests_are_counted_in_a_window_of_their_own() {
        let ten = Duration::from_secs(10);
        let limits = Limits { tokens: Some(100), requests: Some(2), requests_window: ten, ..NO_LIMITS };
        check(limits, &[(10, 0), (10, 5), (10, 8)], exceeded(Scarce::Requests, 2, left(80, 0)));
        // After ten seconds there is room for a request, and its tokens are counted for the whole minute.
        check(limits, &[(10, 0), (10, 5), (10, 10)], Ok(left(70, 0)));
        check(limits, &[(60, 0), (30, 5), (20, 20)], exceeded(Scarce::Tokens, 40, left(10, 2)));
        // Both are scarce: the longer wait is told.
        check(limits, &[(60, 0), (30, 1), (20, 2)], exceeded(Scarce::Tokens, 58, left(10, 0)));
        let long = Limits { requests_window: Duration::from_secs(120), ..limits };
        check(long, &[(60, 0), (30, 1), (20, 2)], exceeded(Scarce::Requests, 118, left(10, 0)));
    }

    #[test]
    fn who_waits_as_told_is_admitted() {
        let (start, limits) = (Instant::now(), Limits { tokens: Some(100), requests: Some(3), ..NO_LIMITS });
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
    fn a_shorter_window_holds_as_much_less() {
        #[track_caller]
        fn check(tpm: u32, window_ms: u64, expected: u64) {
            let window_ms = window_ms.try_into().expect("not zero");
            let limits =
                Limits::of(&Settings { tpm: Some(tpm), rpm: Some(tpm), window_ms, ..Settings::default() });
            assert_eq!((limits.tokens, limits.requests), (Some(expected), Some(expected)));
            assert_eq!(limits.window, Duration::from_millis(window_ms.get()));
        }
        check(600, 60_000, 600);
        check(600, 2000, 20);
        check(600, 99, 0);
        check(u32::MAX, u64::MAX, u64::MAX);

        let short = Limits { tokens: Some(100), window: Duration::from_secs(2), ..NO_LIMITS };
        self::check(short, &[(60, 0), (41, 1)], exceeded(Scarce::Tokens, 1, left(40, REQUESTS_UNLIMITED)));
        self::check(short, &[(60, 0), (40, 1), (60, 2)], Ok(left(0, REQUESTS_UNLIMITED)));
        self::check(short, &[(101, 0)], exceeded(Scarce::Tokens, 2, left(100, REQUESTS_UNLIMITED)));
    }

    #[test]
    fn provisioned_throughput_is_corrected_when_the_use_is_known() {
        let limits = Limits { tokens: Some(1000), provisioned: true, ..NO_LIMITS };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut limiter = Limiter::default();
        let utilization = |permille| Left::Utilization { permille };
        let first = limiter.admit(limits, 600, start).expect("room");
        let second = limiter.admit(limits, 293, after(10)).expect("room");
        assert_eq!((first.left, second.left), (utilization(600), utilization(893)));
        let refused = limiter.admit(limits, 200, after(11)).expect_err("no room");
        assert_eq!((refused.wait, refused.left), (Duration::from_secs(49), utilization(893)));
        // 500 come back, and the next fits.
        limiter.settle(first, 100);
        let third = limiter.admit(limits, 200, after(11)).expect("room");
        assert_eq!(third.left, utilization(593));
        // More than was thought is possible as well.
        limiter.settle(second, 900);
        assert_eq!(limiter.admit(limits, 1, after(12)).expect_err("no room").left, utilization(1200));
        // The first has left, and only with its use; what comes of it later changes nothing.
        let fourth = limiter.admit(limits, 0, after(70)).expect("room");
        assert_eq!(fourth.left, utilization(200));
        limiter.settle(first, 600);
        limiter.settle(second, 600);
        assert_eq!(limiter.admit(limits, 0, after(70)).expect("room").left, utilization(200));
        assert_eq!(
            utilization(893).headers(),
            [("azure-openai-deployment-utilization".to_owned(), "89.3%".to_owned())]
        );
    }

    #[test]
    fn a_correction_stays_in_the_window_that_it_was_admitted_to() {
        let limits = Limits { tokens: Some(1000), provisioned: true, ..NO_LIMITS };
        let (start, mut limiter) = (Instant::now(), Limiter::default());
        let old = limiter.admit(limits, 100, start).expect("room");
        limiter.reset();
        assert_eq!(
            limiter.admit(limits, 300, start).expect("room").left,
            Left::Utilization { permille: 300 }
        );
        limiter.settle(old, 1);
        assert_eq!(limiter.admit(limits, 0, start).expect("room").left, Left::Utilization { permille: 300 });
        assert_eq!(limiter.load(limits, start).tokens, 300);
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
        let exceeded =
            Exceeded { scarce: Scarce::Tokens, wait: Duration::from_nanos(1_000_000_001), left: left(0, 1) };
        let refusal = exceeded.refusal();
        let header =
            |name: &str| refusal.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((header("retry-after-ms"), header("retry-after")), (Some("1001"), Some("2")));
    }
}
