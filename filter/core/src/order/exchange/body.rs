//! May a request's body be held at all, and until when?
//!
//! Whatever can be refused by the headers is refused before a byte of the body is held: a body that is announced to be too
//! long or for which its client has no room left, and a request beyond a limit that counts requests. What such a limit gives
//! belongs to the exchange from then on and comes back however that ends.

use super::draft::{Draft, Reserved};
use super::pinned::Passthrough;
use super::reserving::Reserving;
use super::{Headers, Next, Phase, Step, find};
use crate::denial::Denial;
use crate::endpoint::{Endpoint, Operation, decoded};
use crate::gateway::{BodyRoom, Client, OnStoreFailure};
use crate::limits::{Claim, Grant, Part, Standing};
use crate::media::{self, Said};
use crate::store::{Moment, StoreFault};
use crate::tokens::Usage;
use std::rc::Rc;

/// Up to this length the limits are asked once, with the body: to ask those that need none first would cost four more host
/// calls. A longer body, and one that does not say how long it is, must not be held before they are asked.
const SHORT_BODY_BYTES_MAX: usize = 64 * 1024;

/// A request whose body is being read.
pub(super) struct Body {
    pub(super) client: Rc<Client>,
    pub(super) operation: Operation,
    /// The model, where the path names it.
    pub(super) deployment: Option<String>,
    pub(super) said: Said,
    /// How long the headers say that the body is, if they do.
    pub(super) content_length: Option<usize>,
    /// Of [`Operation::Other`], where it goes.
    pub(super) passthrough: Option<Passthrough>,
}

/// A request whose body is read, once the limits that need none have let it in.
pub(super) struct Entering {
    body: Body,
    strip: Vec<String>,
}

impl Body {
    pub(super) fn new(
        client: Rc<Client>,
        endpoint: &Endpoint<'_>,
        headers: &Headers,
    ) -> Result<Self, Denial> {
        let said = media::said(endpoint.operation.body(), headers)?;
        let content_length = find(headers, "content-length").map(length);
        // What is announced to be too long need not be held to find that out.
        let bytes_max = client.request_bytes_max();
        if content_length.is_some_and(|announced| announced > bytes_max) {
            return Err(Denial::BodyTooLarge { bytes_max });
        }
        Ok(Self {
            said,
            client,
            operation: endpoint.operation,
            deployment: endpoint.deployment.map(|name| decoded(name).into_owned()),
            content_length,
            passthrough: None,
        })
    }

    /// Waits for the body of a request, if it is one that can be read and nothing that the headers tell is against it.
    pub(super) fn begin(body: Result<Self, Denial>, strip: Vec<String>, draft: &mut Draft) -> Next {
        let body = match body {
            Ok(body) => body,
            Err(denial) => return draft.deny(&denial),
        };
        let announced = body.content_length.unwrap_or_default();
        // What has come while nobody knew whose it is, is counted anew.
        draft.room = Some(BodyRoom::new(body.client.held_bytes.clone()));
        if !draft.has_room(announced) {
            return draft.deny(&body.client.held_bytes_exceeded());
        }
        let is_short = body.content_length.is_some_and(|bytes| bytes <= SHORT_BODY_BYTES_MAX);
        if is_short || draft.connected.is_some() || !draft.budget.has_part_of_head(body.operation) {
            return body.awaited(strip);
        }
        let claim = Claim {
            budget: draft.budget.clone(),
            part: Part::Head,
            model: None,
            operation: body.operation,
            usage: Usage::default(),
            cost: 0,
        };
        (Phase::Entering(Box::new(Entering { body, strip })), Step::Reserve(claim))
    }

    fn awaited(self, strip: Vec<String>) -> Next {
        (Phase::Body(Box::new(self)), Step::AwaitBody { strip })
    }

    /// Why a body of which so much has come must not be held.
    pub(super) fn excess(&self, body_bytes: usize, draft: &mut Draft) -> Option<Denial> {
        let bytes_max = self.client.request_bytes_max();
        if body_bytes > bytes_max {
            return Some(Denial::BodyTooLarge { bytes_max });
        }
        (!draft.has_room(body_bytes)).then(|| self.client.held_bytes_exceeded())
    }

    pub(super) fn on_body(self, body: &[u8], moment: Moment<'_>, draft: &mut Draft) -> Next {
        if self.operation == Operation::Order {
            return draft.order(&self.client, body, moment);
        }
        let prepared = if self.passthrough.is_some() {
            draft.prepare_read_passthrough(self, body, moment)
        } else {
            draft.prepare_read(self, body, moment)
        };
        match prepared {
            Ok(ready) if draft.connected.as_ref().is_some_and(|connected| connected.is_setting) => {
                draft.pass_setting(ready)
            }
            // A turn of a connection is answered there.
            Ok(ready) if draft.connected.is_some() => Reserving::begin(ready, draft),
            Ok(ready) => draft.queue_or_reserve(ready, body),
            Err(denial) => draft.deny(&denial),
        }
    }
}

impl Entering {
    pub(super) fn on_grant(self, grant: Result<Grant, StoreFault>, draft: &mut Draft) -> Next {
        draft.store_faults += u64::from(grant.is_err());
        match grant {
            Ok(Grant::Granted(granted)) => {
                let slots = granted.reservation.slots();
                // Of what has taken no place nothing is to be given back in its place.
                draft.reserved = (!slots.is_empty()).then(|| Reserved { usage: Usage::default(), slots });
                draft.entered = Some(granted);
            }
            Ok(Grant::Refused(denial, standing, forgotten)) => {
                draft.forgotten += forgotten;
                if draft.may_be_queued(&denial) {
                    draft.refused_entry = Some((denial, standing));
                    return self.body.awaited(self.strip);
                }
                draft.limit = denial.limit().map(|limit| limit.word.clone());
                return draft.refuse(&denial, None, standing);
            }
            Err(_) if draft.gateway.on_store_failure == OnStoreFailure::Deny => {
                return draft.refuse(&Denial::StoreUnavailable, None, Standing::default());
            }
            // All of the budget is asked with the body.
            Err(_) => {}
        }
        self.body.awaited(self.strip)
    }
}

impl Draft {
    /// Takes room for so much of the body.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.room.as_mut().is_none_or(|room| room.grow_to(bytes))
    }
}

/// A length as the header tells it: Envoy lets nothing but digits through. One that no number holds is too long.
fn length(header: &[u8]) -> usize {
    std::str::from_utf8(header).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX)
}
