//! Which of several equals answers soonest?
//!
//! How long each target of a model took of late, by the size of the prompt: until the first token of a stream, and for each
//! token of a whole answer. Each of the two has one record for each model that all workers share. Of targets of one priority
//! the nearest comes first. What has not been seen for a while is asked by some of the requests, so that nobody stays slow
//! for ever who was slow once. Not decided here: which targets may serve the request, and which of them pause or are full.

use super::Target;
use crate::codec::{self, Reader, Stored, Writer};
use crate::digest::mix;
use crate::sorting;
use crate::store::{self, Moment, StoreFault};
use crate::time::millis;
use crate::tokens::Usage;
use std::rc::Rc;
use std::time::Duration;

/// Prompts of up to so many tokens are of one size, beginning with the smallest; longer ones are of the last size.
const SIZES: [u64; SIZES_LEN - 1] = [1_000, 8_000, 32_000];
const SIZES_LEN: usize = 4;

/// What is seen counts for an eighth at least, and for more the longer ago the last sight is: after this time for more
/// than a half.
const FADES_IN: Duration = Duration::from_secs(30);

/// A target that has not been seen for so long may have changed.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// One request in so many goes first to a target that may have changed,
const STALE_ONE_IN: u64 = 16;

/// and one in so many to a target of which nothing is known.
const UNKNOWN_ONE_IN: u64 = 4;

/// Whoever takes no longer than the nearest and a tenth of that is as near.
const TOLERANCE: u64 = 10;

/// What a whole answer takes whatever it says counts as so many tokens of it: without that, a short one would seem slow.
const ANSWER_COUNTS: u64 = 32;

/// So many tokens of a prompt, which are read all at once, count as one that is produced one after the other.
const PROMPT_TOKENS_COUNT_ONE: u64 = 128;

/// The most targets in a record; beyond, the one that was not seen for the longest is forgotten.
const TARGETS_MAX: usize = 64;

/// How a model's targets are ordered, and where it is kept how near they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearness {
    to_first_token: Rc<str>,
    /// `None` where whole answers are not measured: they go where streams do.
    per_token: Option<Rc<str>>,
}

/// What is to be measured about a request: where that is kept, and of which size its prompt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    key: Rc<str>,
    size: usize,
    shows: Option<Measure>,
}

/// What an answer shows of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The time until its first token: it is a stream.
    ToFirstToken,
    /// The time that it took for each token: it comes whole.
    PerToken,
}

/// What became of the attempts of one request, in their order.
pub(crate) type Sights = [(u64, Sight)];

/// What one attempt showed of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// So long it took, by the measure of the request.
    Took(Duration),
    /// It did not serve the request.
    Failed,
}

/// What is known of a target for prompts of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Microseconds by the record's measure; 0 if nothing is known, [`Seen::FAILED`] if it has failed ever since.
    us: u32,
    /// When it was seen last, in milliseconds since the epoch.
    at_ms: u64,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    target: u64,
    seen: [Seen; SIZES_LEN],
}

impl Seen {
    const FAILED: u32 = u32::MAX;

    fn us(self) -> Option<u32> {
        (self.us != 0 && self.us != Self::FAILED).then_some(self.us)
    }

    /// How long ago that was. A time from the future, of a clock that was set back since, is long ago.
    fn age(self, now: Duration) -> Duration {
        match millis(now).checked_sub(self.at_ms) {
            Some(ms) if self.us != 0 => Duration::from_millis(ms),
            _ => Duration::MAX,
        }
    }

    fn note(&mut self, sight: Sight, now: Duration) {
        let age_ms = u128::from(millis(self.age(now)));
        let us = match (sight, self.us()) {
            (Sight::Took(took), known) => {
                let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).clamp(1, Self::FAILED - 1);
                // The old counts seven parts of eight, and less the older it is.
                let fades_ms = FADES_IN.as_millis();
                let (old, all) = (7 * fades_ms, 8 * fades_ms.saturating_add(age_ms));
                let known = u128::from(known.unwrap_or(took));
                let mixed = (known * old + u128::from(took) * all.saturating_sub(old)) / all.max(1);
                u32::try_from(mixed).unwrap_or(took).max(1)
            }
            // Who is known to be near and fails now and then is as near as before.
            (Sight::Failed, Some(_)) => return,
            (Sight::Failed, None) => Self::FAILED,
        };
        *self = Self { us, at_ms: millis(now) };
    }
}

impl Stored for Entry {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let target = from.u64()?;
        let mut seen = [Seen::default(); SIZES_LEN];
        for seen in &mut seen {
            *seen = Seen { us: from.u32()?, at_ms: from.u64()? };
        }
        Some(Self { target, seen })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.target);
        for seen in self.seen {
            to.u32(seen.us);
            to.u64(seen.at_ms);
        }
    }
}

impl Entry {
    fn last_seen(&self) -> u64 {
        self.seen.iter().map(|seen| seen.at_ms).max().unwrap_or_default()
    }
}

/// The time that a whole answer took for each of its tokens.
#[must_use]
pub fn per_token(took: Duration, usage: Usage) -> Duration {
    let of_prompt = usage.prompt / PROMPT_TOKENS_COUNT_ONE;
    let tokens = ANSWER_COUNTS.saturating_add(usage.completion).saturating_add(of_prompt);
    let nanos = took.as_nanos() / u128::from(tokens);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Nearness {
    /// That of a model's targets; `measures_whole` says whether whole answers are measured as well.
    #[must_use]
    pub fn new(model: &str, measures_whole: bool) -> Self {
        Self {
            to_first_token: format!("tollgate/nearness/{model}").into(),
            per_token: measures_whole.then(|| format!("tollgate/pace/{model}").into()),
        }
    }

    /// What is to be measured about a request.
    #[must_use]
    pub fn watch(&self, prompt_tokens: u64, is_stream: bool) -> Watch {
        let size = SIZES.iter().take_while(|most| prompt_tokens > **most).count();
        let (key, shows) = match &self.per_token {
            _ if is_stream => (&self.to_first_token, Some(Measure::ToFirstToken)),
            Some(per_token) => (per_token, Some(Measure::PerToken)),
            None => (&self.to_first_token, None),
        };
        Watch { key: key.clone(), size, shows }
    }
}

impl Watch {
    /// Whether the answer shows this.
    #[must_use]
    pub fn shows(&self, measure: Measure) -> bool {
        self.shows == Some(measure)
    }

    /// Puts the nearest of each priority first. Those of which nothing is known stay as they stand, behind the others.
    pub(super) fn arrange(
        &self,
        targets: &mut [Rc<Target>],
        lot: u64,
        moment: Moment<'_>,
    ) -> Result<(), StoreFault> {
        if targets.iter().zip(targets.iter().skip(1)).all(|(one, next)| one.priority != next.priority) {
            return Ok(());
        }
        let entries = codec::decode_all::<Entry>(&moment.store.load(&self.key)?.value);
        let seen = |target: &Rc<Target>| {
            let entry = entries.iter().find(|entry| entry.target == target.number());
            entry.and_then(|entry| entry.seen.get(self.size)).copied().unwrap_or_default()
        };
        for equals in targets.chunk_by_mut(|one, next| one.priority == next.priority) {
            let Some(nearest) = equals.iter().filter_map(|target| seen(target).us()).min() else { continue };
            let near = u64::from(nearest) + u64::from(nearest) / TOLERANCE;
            sorting::sort_by_key(equals, |target| match seen(target).us().map(u64::from) {
                Some(us) if us <= near => 0,
                Some(us) => us,
                None => u64::MAX,
            });
            if self.shows.is_some() {
                explore(equals, &seen, lot, moment.now);
            }
        }
        Ok(())
    }

    /// Takes note of what the attempts of a request showed.
    pub fn note(&self, moment: Moment<'_>, sights: &Sights) -> Result<(), StoreFault> {
        store::update(moment.store, &self.key, |record| {
            let mut entries = codec::decode_all::<Entry>(record);
            for (target, sight) in sights {
                if !entries.iter().any(|entry| entry.target == *target) {
                    entries.push(Entry { target: *target, seen: Default::default() });
                }
                let entry = entries.iter_mut().find(|entry| entry.target == *target);
                if let Some(seen) = entry.and_then(|entry| entry.seen.get_mut(self.size)) {
                    seen.note(*sight, moment.now);
                }
            }
            while entries.len() > TARGETS_MAX {
                let oldest = entries.iter().enumerate().min_by_key(|(_, entry)| entry.last_seen());
                let at = oldest.map_or(0, |(at, _)| at);
                entries.swap_remove(at);
            }
            (Some(codec::encode_all(&entries)), ())
        })
    }
}

/// Lets some of the requests go first to the one that was not seen for the longest.
fn explore(equals: &mut [Rc<Target>], seen: &impl Fn(&Rc<Target>) -> Seen, lot: u64, now: Duration) {
    // Whoever stands first is seen anyhow.
    let others = equals.iter().enumerate().skip(1);
    let ages = others.map(|(at, target)| (seen(target).age(now), std::cmp::Reverse(at)));
    let Some((age, std::cmp::Reverse(at))) = ages.max() else { return };
    let one_in = if age == Duration::MAX { UNKNOWN_ONE_IN } else { STALE_ONE_IN };
    if age >= STALE_AFTER
        && mix(!lot).is_multiple_of(one_in)
        && let Some(upto) = equals.get_mut(..=at)
    {
        upto.rotate_right(1);
    }
}

#[cfg(test)]
mod tests;
