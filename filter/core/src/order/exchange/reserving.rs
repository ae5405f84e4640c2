//! Is there budget for what it may cost?

use super::admitting::Admitting;
use super::draft::{Draft, Reserved};
use super::preparing::{Expected, Ready};
use super::{Next, Phase, Step};
use crate::denial::Denial;
use crate::gateway::{JobQueue, OnStoreFailure};
use crate::limits::{Claim, Grant, Part, Reservation, Standing};
use crate::store::StoreFault;
use crate::tokens::Usage;

/// A request for which the store was asked.
pub(super) struct Reserving(Ready);

impl Reserving {
    /// Asks for the most that it may cost.
    pub(super) fn begin(ready: Ready, draft: &mut Draft) -> Next {
        let claim = Self::claim(&ready, ready.expected.usage_max(), draft);
        (Phase::Reserving(Box::new(Self(ready))), Step::Reserve(claim))
    }

    /// Why no wait helps, if it may cost more than a limit ever has, also by what is sure. Nothing is taken.
    pub(super) fn excess(ready: &Ready, draft: &mut Draft) -> Option<Denial> {
        let sure = Expected { estimate: ready.expected.sure(), ..ready.expected };
        let excess = Self::claim(ready, ready.expected.usage_max(), draft).excess();
        excess.and_then(|_| Self::claim(ready, sure.usage_max(), draft).excess())
    }

    fn claim(ready: &Ready, usage: Usage, draft: &mut Draft) -> Claim {
        if ready.client.budget.needs_body() {
            draft.budget = ready.client.budget.of(&draft.values);
        }
        let operation = ready.expected.operation;
        let (model, asked) = (draft.model.as_ref(), draft.tier_asked.as_deref());
        Claim {
            budget: draft.budget.clone(),
            part: match &draft.connected {
                Some(_) => Part::Turn,
                None if operation.is_socket() => Part::Connection,
                None if draft.entered.is_some() => Part::Body,
                None => Part::All,
            },
            model: model.map(|model| model.name.text.clone()),
            operation,
            usage,
            // Wherever it goes in the end.
            cost: model.map_or(0, |model| model.cost_max(usage, asked)),
        }
    }

    pub(super) fn on_grant(self, grant: Result<Grant, StoreFault>, draft: &mut Draft) -> Next {
        let Self(ready) = self;
        draft.store_faults += u64::from(grant.is_err());
        let (reservation, standing) = match grant {
            Ok(Grant::Granted(granted)) => draft.join(Some(granted)),
            // For good, and by what was learnt: it is asked again by what is sure.
            Ok(Grant::Refused(Denial::NeverFits { .. }, _, forgotten))
                if ready.expected.sure() != ready.expected.estimate =>
            {
                draft.forgotten += forgotten;
                let expected = Expected { estimate: ready.expected.sure(), ..ready.expected };
                return Self::begin(Ready { expected, ..ready }, draft);
            }
            Ok(Grant::Refused(denial, _, forgotten))
                if draft.connected.as_ref().is_some_and(|connected| connected.is_begun) =>
            {
                draft.forgotten += forgotten;
                draft.limit = denial.limit().map(|limit| limit.word.clone());
                draft.overdrawn = Some(denial);
                (None, Standing::default())
            }
            Ok(Grant::Refused(denial, standing, forgotten)) => {
                draft.forgotten += forgotten;
                let gateway = draft.gateway.clone();
                let outlasts = |queue: &JobQueue| queue.outlasts(&denial);
                if let Some(patient) = draft.patient.take_if(|_| gateway.queue.as_ref().is_some_and(outlasts))
                {
                    return patient.enqueue(None);
                }
                draft.limit = denial.limit().map(|limit| limit.word.clone());
                return draft.refuse(&denial, None, standing);
            }
            Err(_)
                if draft.gateway.on_store_failure == OnStoreFailure::Deny
                    && draft.connected.as_ref().is_none_or(|connected| !connected.is_begun) =>
            {
                return draft.refuse(&Denial::StoreUnavailable, None, Standing::default());
            }
            Err(_) => draft.join(None),
        };
        draft.reserved = Some(Reserved {
            usage: ready.expected.estimate.usage(),
            slots: reservation.as_ref().map(Reservation::slots).unwrap_or_default(),
        });
        Admitting::begin(ready, reservation, standing, draft)
    }
}
