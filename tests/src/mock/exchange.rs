//! One request from its arrival to the end of its answer, and what all requests share.
//!
//! An [`Exchange`] is dropped when hyper gives up on a client, so its end is noticed however it comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::answer::{Answer, Produced};
use super::kept::Kept;
use super::limiter::{Admission, Exceeded, Limiter, Limits};
use super::load::Load;
use super::record::{Arrival, Billed, Outcome, Received, Records};
use super::settings::{Effect, Settings};

/// What all connections of a mock share.
pub(super) struct Shared {
    pub(super) name: String,
    settings: RwLock<Arc<Settings>>,
    limiter: Mutex<Limiter>,
    records: Mutex<Records>,
    kept: Mutex<Kept>,
    counts: watch::Sender<Counts>,
    /// How many times [`Shared::release`] was called.
    releases: watch::Sender<u64>,
}

/// What can be waited for, since the start or the last [`Shared::forget`].
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) requests: usize,
    pub(super) disconnects: usize,
}

impl Shared {
    pub(super) fn new(name: &str, settings: Settings) -> Self {
        Self {
            name: name.to_owned(),
            settings: RwLock::new(Arc::new(settings)),
            limiter: Mutex::default(),
            records: Mutex::default(),
            kept: Mutex::new(Kept::new(name)),
            counts: watch::Sender::default(),
            releases: watch::Sender::default(),
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the settings, or does not if the change fails half-way.
    pub(super) fn update<E>(&self, change: impl FnOnce(&mut Settings) -> Result<(), E>) -> Result<(), E> {
        let mut slot = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let mut settings = Settings::clone(&slot);
        change(&mut settings)?;
        if Limits::of(&settings) != Limits::of(&slot) {
            lock(&self.limiter).reset();
        }
        *slot = Arc::new(settings);
        Ok(())
    }

    pub(super) fn admit(&self, settings: &Settings, cost: u64) -> Result<Admission, Exceeded> {
        lock(&self.limiter).admit(Limits::of(settings), cost, Instant::now())
    }

    /// What is kept, for one request at a time.
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    /// A 429 goes out.
    pub(super) fn refused(&self) {
        lock(&self.limiter).refused();
    }

    pub(super) fn load(&self) -> Load {
        let limits = Limits::of(&self.settings());
        lock(&self.limiter).load(limits, Instant::now())
    }

    pub(super) fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    pub(super) fn received(&self) -> Vec<Received> {
        lock(&self.records).received()
    }

    pub(super) fn billed(&self) -> Vec<Billed> {
        lock(&self.records).billed()
    }

    pub(super) fn forget(&self) {
        lock(&self.records).forget();
        lock(&self.limiter).forget();
        self.counts.send_modify(|counts| *counts = Counts::default());
    }

    pub(super) async fn wait_for(&self, reached: impl FnMut(&Counts) -> bool) {
        // Fails only once the sender is gone, which is in self.
        let _ = self.counts.subscribe().wait_for(reached).await;
    }

    /// What goes wrong now, if anything. Throttling is noted here: from now on it holds for everybody.
    fn take_fault(&self, settings: &Settings) -> Option<Effect> {
        let now = Instant::now();
        if let Some(wait) = lock(&self.limiter).throttled(now) {
            let for_ms = wait.as_nanos().div_ceil(1_000_000);
            return Some(Effect::Throttle { for_ms: u64::try_from(for_ms).unwrap_or(u64::MAX) });
        }
        if settings.faults.is_empty() {
            // The usual case writes nothing.
            return None;
        }
        let mut slot = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let effect = Arc::make_mut(&mut slot).take_fault()?;
        if let Effect::Throttle { for_ms } = effect {
            // A time too far to be written is as good as never.
            if let Some(until) = now.checked_add(Duration::from_millis(for_ms)) {
                lock(&self.limiter).throttle(until);
            }
        }
        Some(effect)
    }
}

/// One request. All about it is decided by how things stood when it arrived.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    pub(super) settings: Arc<Settings>,
    pub(super) serial: u64,
    /// What the limiter takes it to cost, if it was admitted.
    pub(super) admission: Option<Admission>,
    /// The releases there had been when it arrived, and those it has used up since.
    releases_seen: u64,
    status: Option<u16>,
    bill: Option<Billed>,
    sent: Vec<Bytes>,
    ended: bool,
}

impl Exchange {
    /// A request has arrived, whole.
    pub(super) fn arrive(shared: &Arc<Shared>, mut arrival: Arrival<'_>) -> (Self, Option<Effect>) {
        // One lock over all of it: the nth request received is the nth to take a fault.
        let mut records = lock(&shared.records);
        let settings = shared.settings();
        let fault = shared.take_fault(&settings);
        if !settings.record {
            arrival.body = &[];
        }
        let serial = records.arrive(&arrival);
        // Before anybody can know of this request: a release by who has waited for it is not missed.
        let releases_seen = *shared.releases.borrow();
        shared.counts.send_modify(|counts| counts.requests += 1);
        drop(records);
        let exchange = Self {
            shared: Arc::clone(shared),
            settings,
            serial,
            admission: None,
            releases_seen,
            status: None,
            bill: None,
            sent: Vec::new(),
            ended: false,
        };
        (exchange, fault)
    }

    /// The mock's name.
    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Waits for one release that this request has not yet used up.
    pub(super) async fn released(&mut self) {
        let seen = self.releases_seen;
        let _ = self.shared.releases.subscribe().wait_for(|releases| *releases > seen).await;
        self.releases_seen += 1;
    }

    /// From here on the answer is being sent, and paid for.
    pub(super) fn answering(&mut self, status: u16, answer: Option<&Answer>) {
        self.status = Some(status);
        self.bill = answer.map(|answer| Billed {
            serial: self.serial,
            operation: answer.operation,
            model: answer.model.clone(),
            usage: answer.usage,
            outcome: Outcome::Complete,
        });
    }

    /// So much has been produced so far, and the rest may never be.
    pub(super) fn produced(&mut self, produced: Produced) {
        if let Some(bill) = &mut self.bill {
            bill.usage.completion = produced.completion;
            bill.usage.reasoning = produced.reasoning;
        }
    }

    /// What has been produced, by the bill.
    pub(super) fn billed(&self) -> Produced {
        self.bill.as_ref().map_or_else(Produced::default, |bill| Produced {
            completion: bill.usage.completion,
            reasoning: bill.usage.reasoning,
        })
    }

    /// These bytes are on their way.
    pub(super) fn sent(&mut self, piece: &Bytes) {
        if self.settings.record {
            self.sent.push(piece.clone());
        }
    }

    /// The exchange is over.
    pub(super) fn end(&mut self, outcome: Outcome) {
        if self.ended {
            return;
        }
        self.ended = true;
        if self.settings.provisioned
            && let Some(admission) = self.admission
        {
            // Who went away before anything was done for him has used nothing.
            let used = self.bill.as_ref().map_or(0, |bill| bill.usage.total() - bill.usage.cached);
            lock(&self.shared.limiter).settle(admission, used);
        }
        let sent = std::mem::take(&mut self.sent).concat();
        let mut records = lock(&self.shared.records);
        records.end(self.serial, self.status, sent.into());
        if let Some(bill) = self.bill.take() {
            records.bill(Billed { outcome, ..bill });
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::Abandoned);
            self.shared.counts.send_modify(|counts| counts.disconnects += 1);
        }
    }
}

/// A closure of a test may panic in a lock: what is locked is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
