//! How did what a record tells of end? Closed lists, whose words are labels and stand in the log.

/// How an exchange ended. A closed list: it is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A backend answered below 400.
    Served,
    /// Tollgate itself answered, as asked.
    Answered,
    /// It was put into the queue.
    Queued,
    /// A backend answered 400 or above, and no other was to be tried.
    BackendError,
    /// A backend's content filter refused the prompt, which it bills.
    ContentFilter,
    /// A backend refused an input as too long, which Azure may bill.
    InputTooLong,
    /// A backend ran out of its time, 408, which Azure may bill.
    BackendTimeout,
    /// Envoy answered in place of a backend.
    ProxyError,
    /// The client went away.
    ClientGone,
    /// The answer broke off, or the backend said in its midst that it failed.
    Broken,
    /// The VM that served it died.
    Lost,
    /// Tollgate refused; the denial's code.
    Denied(&'static str),
}

impl Outcome {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Answered => "answered",
            Self::Queued => "queued",
            Self::BackendError => "backend_error",
            Self::ContentFilter => "content_filter",
            Self::InputTooLong => "input_too_long",
            Self::BackendTimeout => "backend_timeout",
            Self::ProxyError => "proxy_error",
            Self::ClientGone => "client_gone",
            Self::Broken => "broken",
            Self::Lost => "lost",
            Self::Denied(code) => code,
        }
    }
}

/// What came of the ids in a request that refers to what a backend keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// They led to their backend.
    Followed,
    /// There is no seal on them, and they passed.
    Unsealed,
    /// They were refused.
    Refused,
}

impl Pin {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Unsealed => "unsealed",
            Self::Refused => "refused",
        }
    }
}

/// What came of what the queue was asked, where that tells of more than a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtQueue {
    /// It has taken the request.
    Queued,
    /// Its client has as many jobs there as it may.
    Full,
    /// The store did not answer as it should.
    Unavailable,
    /// A job was ended before it was over.
    Cancelled,
}

impl AtQueue {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How the waiting for room at a backend ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There was room.
    Went,
    /// There was none in time.
    Refused,
    /// The client did not wait for it.
    Left,
    /// The backend that it went to had none after all.
    Returned,
}

impl Wait {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Went => "went",
            Self::Refused => "refused",
            Self::Left => "left",
            Self::Returned => "returned",
        }
    }
}

/// Why a request went to a backend of a lower priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Those before had no room, or were to keep what they had.
    Capacity,
    /// They had asked for a pause.
    Paused,
    /// They answered this request 429.
    Throttled,
    /// They did not serve it for another reason.
    Failed,
}

impl Cause {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Paused => "paused",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// What became of work that goes on at a backend after its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It goes on, and is charged later.
    Pending,
    /// It could not be noted, and was charged by what was reserved.
    Full,
    /// It was charged, by this answer.
    Charged,
    /// Nobody read in time how it ended, and what was reserved stays charged.
    Expired,
}

impl Stored {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Full => "full",
            Self::Charged => "charged",
            Self::Expired => "expired",
        }
    }
}
