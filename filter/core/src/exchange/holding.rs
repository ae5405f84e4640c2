//! May a request's body be held at all?
//!
//! Whatever can be refused by the headers is refused before a byte of the body is held: a body that is announced to be too
//! long or for which its client has no room left, and a request beyond a limit that counts requests. What such a limit gives
//! belongs to the exchange from then on and comes back however that ends.

use super::preparing::Held;
use super::{Exchange, Phase, Reserved, Step};
use crate::denial::Denial;
use crate::gateway::{BodyRoom, OnStoreFailure};
use crate::limits::{Claim, Grant, Granted, Part, Reservation, Standing};
use crate::store::StoreFault;
use crate::tokens::Usage;

/// Up to this length the limits are asked once, with the body: to ask those that need none first would cost four more host
/// calls. A longer body, and one that does not say how long it is, must not be held before they are asked.
const SHORT_BODY_BYTES_MAX: usize = 64 * 1024;

/// A request whose body is read, once the limits that need none have let it in.
pub(super) struct Entering {
    held: Held,
    strip: Vec<String>,
}

impl Exchange {
    /// Waits for the body of a request, if it is one that can be read and nothing that the headers tell is against it.
    pub(super) fn hold(&mut self, held: Result<Held, Denial>, strip: Vec<String>) -> Step {
        let held = match held {
            Ok(held) => held,
            Err(denial) => return self.deny(denial),
        };
        let announced = held.content_length.unwrap_or_default();
        // What has come while nobody knew whose it is, is counted anew.
        self.room = Some(BodyRoom::new(held.client.held_bytes.clone()));
        if let Some(step) = self.take_room(announced, &held.client.held_bytes_exceeded()) {
            return step;
        }
        let is_short = held.content_length.is_some_and(|bytes| bytes <= SHORT_BODY_BYTES_MAX);
        if is_short || !held.client.budget.has_part_of_head(held.operation) {
            self.phase = Phase::Body(held);
            return Step::AwaitBody { strip };
        }
        let claim = Claim {
            budget: held.client.budget.clone(),
            part: Part::Head,
            model: None,
            operation: held.operation,
            usage: Usage::default(),
            cost: 0,
        };
        self.phase = Phase::Entering(Box::new(Entering { held, strip }));
        Step::Reserve(claim)
    }

    /// Takes the store's answer to what needs no body.
    pub(super) fn entered(&mut self, entering: Entering, grant: Result<Grant, StoreFault>) -> Step {
        self.store_faults += u64::from(grant.is_err());
        match grant {
            Ok(Grant::Granted(granted)) => {
                let slots = granted.reservation.slots();
                // Of what has taken no place nothing is to be given back in its place.
                self.known.reserved =
                    (!slots.is_empty()).then(|| Reserved { usage: Usage::default(), slots });
                self.entered = Some(granted);
            }
            Ok(Grant::Refused(denial, standing)) => {
                self.known.limit = denial.limit().map(|limit| limit.word.clone());
                return self.refuse(&denial, None, standing);
            }
            Err(_) if self.gateway.on_store_failure == OnStoreFailure::Deny => {
                return self.refuse(&Denial::StoreUnavailable, None, Standing::default());
            }
            // All of the budget is asked with the body.
            Err(_) => {}
        }
        let Entering { held, strip } = entering;
        self.phase = Phase::Body(held);
        Step::AwaitBody { strip }
    }

    /// What was granted with the body, if anything was, together with what was granted before.
    pub(super) fn join(&mut self, granted: Option<Granted>) -> (Option<Reservation>, Standing) {
        let (mut all, mut tightest) = (None, Standing::default());
        for Granted { reservation, standing, shadow_refusals } in
            self.entered.take().into_iter().chain(granted)
        {
            self.known.shadow_refusals.extend(shadow_refusals);
            tightest.join(&standing);
            all = Some(reservation.with(all));
        }
        (all, tightest)
    }

    /// Takes the length of the part of the body that is here, and refuses as soon as it is too much.
    pub fn request_body_grows(&mut self, body_bytes: usize) -> Option<Step> {
        match &self.phase {
            Phase::Body(held) => {
                let bytes_max = held.client.request_bytes_max();
                if body_bytes > bytes_max {
                    return Some(self.deny(Denial::BodyTooLarge { bytes_max }));
                }
                let denial = held.client.held_bytes_exceeded();
                self.take_room(body_bytes, &denial)
            }
            Phase::Unidentified(_) => {
                let held_bytes = self.gateway.unidentified_bytes.clone();
                self.room.get_or_insert_with(|| BodyRoom::new(held_bytes));
                self.take_room(body_bytes, &Denial::KeysUnavailable)
            }
            _ => None,
        }
    }

    /// Takes room for so much of the body, or refuses so.
    fn take_room(&mut self, bytes: usize, denial: &Denial) -> Option<Step> {
        let has_room = self.room.as_mut().is_none_or(|room| room.grow_to(bytes));
        (!has_room).then(|| self.deny(denial.clone()))
    }
}
