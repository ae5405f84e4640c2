//! What was sent to a backend within its window.
//!
//! The window is counted in slots. A token is forgotten when its whole slot has left the window, never before: the
//! backend, which counts exactly, has forgotten it by then.

use std::time::Duration;

/// The parts of a window. Finer ones would forget sooner and cost more.
const SLOTS: u64 = 60;

/// One more than a window has, for the slot that has not left it whole.
const KEPT: usize = SLOTS as usize + 1;

/// The sent tokens of a window, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    slot: Duration,
    now: Duration,
    /// The number of the newest slot since the epoch; that of slot `n` is at `n % KEPT`.
    newest: u64,
    tokens: [u32; KEPT],
    others: Others,
}

/// What others have sent, as the backend told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Others {
    tokens: u64,
    /// When it told, in nanoseconds since the epoch.
    at: u64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Window {
    const BYTES: usize = 24 + 4 * KEPT;

    /// The window as it is now. A record of another shape is an empty one.
    pub(super) fn read(record: &[u8], window: Duration, now: Duration) -> Self {
        let slot = (window / SLOTS as u32).max(Duration::from_nanos(1));
        let newest = nanos(now) / nanos(slot);
        let empty = Self { slot, now, newest, tokens: [0; KEPT], others: Others::default() };
        let Some(mut read) = Self::parse(record, &empty) else { return empty };
        // A clock that was set back forgets nothing.
        let from = read.newest.max(newest.saturating_sub(KEPT as u64));
        for slot in from..newest {
            if let Some(tokens) = read.at(slot + 1) {
                *tokens = 0;
            }
        }
        read.newest = read.newest.max(newest);
        if nanos(now).saturating_sub(read.others.at) >= nanos(window) {
            read.others = Others::default();
        }
        read
    }

    fn parse(record: &[u8], like: &Self) -> Option<Self> {
        if record.len() != Self::BYTES {
            return None;
        }
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        let (newest, rest) = record.split_at_checked(8)?;
        let (tokens, rest) = rest.split_at_checked(8)?;
        let (at, rest) = rest.split_at_checked(8)?;
        let mut read = Self {
            newest: number(newest)?,
            others: Others { tokens: number(tokens)?, at: number(at)? },
            ..like.clone()
        };
        for (slot, bytes) in read.tokens.iter_mut().zip(rest.chunks_exact(4)) {
            *slot = u32::from_le_bytes(bytes.try_into().ok()?);
        }
        Some(read)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        for number in [self.newest, self.others.tokens, self.others.at] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for tokens in self.tokens {
            bytes.extend_from_slice(&tokens.to_le_bytes());
        }
        bytes
    }

    fn at(&mut self, slot: u64) -> Option<&mut u32> {
        self.tokens.get_mut((slot % KEPT as u64) as usize)
    }

    /// By us and by others.
    pub(super) fn used_by_all(&self) -> u64 {
        self.used().saturating_add(self.others.tokens)
    }

    /// By us.
    pub(super) fn used(&self) -> u64 {
        self.tokens.iter().map(|tokens| u64::from(*tokens)).sum()
    }

    pub(super) fn add(&mut self, tokens: u64) {
        if let Some(slot) = self.at(self.newest) {
            *slot = slot.saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX));
        }
    }

    /// Takes tokens out of the slot they were added to, if it is still there.
    pub(super) fn take_out(&mut self, tokens: u64, added: Duration) {
        let slot = nanos(added) / nanos(self.slot);
        if slot <= self.newest
            && self.newest - slot < KEPT as u64
            && let Some(slot) = self.at(slot)
        {
            *slot = slot.saturating_sub(u32::try_from(tokens).unwrap_or(u32::MAX));
        }
    }

    /// Takes note of what others use; answers whether that is news.
    pub(super) fn others_use(&mut self, tokens: u64) -> bool {
        let is_news = tokens > 0 || self.others.tokens > 0;
        self.others = Others { tokens, at: nanos(self.now) };
        is_news
    }

    /// Until `tokens` more fit into `room`, if nobody else comes.
    pub(super) fn wait(&self, tokens: u64, room: u64) -> Duration {
        let mut over = self.used_by_all().saturating_add(tokens).saturating_sub(room);
        if over == 0 {
            return Duration::ZERO;
        }
        let oldest = self.newest.saturating_sub(SLOTS);
        // Others are taken to leave when nothing of ours is left: sooner than they do, but nobody can say when.
        for slot in oldest..=self.newest {
            let tokens = self.tokens.get((slot % KEPT as u64) as usize).copied().unwrap_or_default();
            over = over.saturating_sub(tokens.into());
            if over == 0 {
                return self.leaves(slot);
            }
        }
        self.leaves(self.newest)
    }

    /// Until a slot has left the window whole.
    fn leaves(&self, slot: u64) -> Duration {
        let at = u128::from(slot + KEPT as u64) * self.slot.as_nanos();
        Duration::from_nanos(u64::try_from(at).unwrap_or(u64::MAX)).saturating_sub(self.now)
    }
}
