//! When is a refused request worth another try, and which headers say so?

use std::time::Duration;

/// What a client can do about a refusal.
pub(super) enum Retry {
    /// The same request will be refused again.
    Never,
    /// It will be admitted after this long.
    After(Duration),
    /// It may be admitted after this long.
    Perhaps(Duration),
    /// Nobody knows: the client's own back-off decides.
    Open,
}

/// No program should keep its user waiting for longer: OpenAI's SDKs read no `retry-after` above it, and would ask at
/// once.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

impl Retry {
    pub(super) fn headers(self) -> Vec<(&'static str, String)> {
        // OpenAI's SDKs read this before they look at the status.
        let never = ("x-should-retry", "false".to_owned());
        match self {
            Self::Never => vec![never],
            Self::After(wait) if wait > WAIT_MAX => retry_after(wait).into_iter().chain([never]).collect(),
            Self::After(wait) => retry_after(wait).into(),
            Self::Perhaps(wait) => retry_after(wait).into_iter().take(1).collect(),
            Self::Open => Vec::new(),
        }
    }
}

/// `retry-after-ms` is exact; `retry-after` has whole seconds only. Both are rounded up: waiting them is enough.
fn retry_after(wait: Duration) -> [(&'static str, String); 2] {
    let wait_ms = wait.as_nanos().div_ceil(1_000_000);
    [("retry-after", wait_ms.div_ceil(1000).to_string()), ("retry-after-ms", wait_ms.to_string())]
}
