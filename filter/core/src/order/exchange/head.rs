//! What is asked for, and who asks?

use super::body::Body;
use super::draft::Draft;
use super::ordering::Wish;
use super::pinned::{self, Passthrough};
use super::preparing::Ready;
use super::reserving::Reserving;
use super::stored::Purpose;
use super::{Headers, Next, Phase, Step, anybody, find, names};
use crate::access;
use crate::answer;
use crate::decision::EXPLAIN;
use crate::denial::Denial;
use crate::endpoint::{Asked, Operation, decoded, parameters};
use crate::gateway::{BodyRoom, Client};
use crate::headers::{passes_to_anthropic, passes_to_backends, passes_with_socket};
use crate::identity::Identity;
use crate::ledger::Outcome;
use crate::media::CONTENT_ENCODING;
use crate::store::Moment;
use crate::value::UserField;
use std::rc::Rc;
use std::time::Duration;

/// Nothing has come yet.
pub(super) struct Head;

/// A request of which it is not known yet whose it is, or which may need a token that is on its way.
pub(super) struct Unidentified {
    headers: Vec<(String, Vec<u8>)>,
    end: bool,
    until: Duration,
}

impl Head {
    pub(super) fn on_headers(
        self,
        headers: &Headers,
        end: bool,
        moment: Moment<'_>,
        draft: &mut Draft,
    ) -> Next {
        draft.began = moment.now;
        decide(headers, end, moment, draft).unwrap_or_else(|wait| {
            let until = moment.now.saturating_add(wait);
            Unidentified { headers: headers.to_vec(), end, until }.waits()
        })
    }
}

impl Unidentified {
    fn waits(self) -> Next {
        (Phase::Unidentified(Box::new(self)), Step::Wait)
    }

    /// Looks again whether keys or tokens have come.
    pub(super) fn on_keys(self, moment: Moment<'_>, draft: &mut Draft) -> Next {
        match decide(&self.headers, self.end, moment, draft) {
            Ok(next) => next,
            Err(wait) if moment.now < self.until => {
                // Not longer because the clock was set back.
                let until = self.until.min(moment.now.saturating_add(wait));
                Self { until, ..self }.waits()
            }
            Err(_) if draft.client.is_some() => {
                // What is there may do, and if not it is told so.
                draft.is_patient = false;
                decide(&self.headers, self.end, moment, draft)
                    .unwrap_or_else(|_| draft.deny(&Denial::KeysUnavailable))
            }
            Err(_) => draft.deny(&Denial::KeysUnavailable),
        }
    }

    /// Why a body of which so much has come must not be held.
    pub(super) fn excess(&self, body_bytes: usize, draft: &mut Draft) -> Option<Denial> {
        let held_bytes = draft.gateway.unidentified_bytes.clone();
        draft.room.get_or_insert_with(|| BodyRoom::new(held_bytes));
        let denial = match draft.client {
            Some(_) => Denial::CredentialUnavailable,
            None => Denial::KeysUnavailable,
        };
        (!draft.has_room(body_bytes)).then_some(denial)
    }
}

/// Decides on the head; answers how long to wait, if it cannot be decided yet.
fn decide(headers: &Headers, end: bool, moment: Moment<'_>, draft: &mut Draft) -> Result<Next, Duration> {
    let (method, path) = (find(headers, ":method"), find(headers, ":path"));
    let asked = Asked::read(method.unwrap_or_default(), path.unwrap_or_default());
    let Some(asked) = asked else { return Ok(draft.deny(&Denial::UnknownEndpoint)) };
    if let Some(next) = anybody::answered(&asked, headers, draft) {
        return Ok(next);
    }
    let gateway = draft.gateway.clone();
    let endpoint = asked.endpoint(&gateway.other_paths).filter(|endpoint| draft.has_endpoint(endpoint));
    let Some(endpoint) = endpoint else { return Ok(draft.deny(&Denial::UnknownEndpoint)) };
    let operation = endpoint.operation;
    draft.operation = Some(operation);
    let opens = operation.is_socket() && draft.connected.is_none();
    if opens && !anybody::is_upgrade(headers) {
        return Ok(draft.deny(&Denial::UnknownEndpoint));
    }
    let in_protocols =
        anybody::key_of_protocols(headers).filter(|_| opens).map(|key| [b"Bearer ", key].concat());
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let pairs = pairs.chain(in_protocols.as_deref().map(|bearer| ("authorization", bearer)));
    let client = match gateway.clients.identify(pairs.clone(), asked.query(), operation.api(), moment) {
        Ok(Identity::Client(client, values)) => {
            let client = match draft.acted_for(client, operation, headers) {
                Ok(client) => client,
                Err(denial) => return Ok(draft.deny(&denial)),
            };
            draft.budget = client.budget.of_head(&values);
            draft.values = values;
            client
        }
        Ok(Identity::Unknown(wait)) => return Err(wait),
        Err(Denial::MissingCredential) if operation == Operation::Health && gateway.health_open => {
            return Ok(draft.health(None, endpoint.deployment, moment));
        }
        Err(denial) => {
            // Other refusals say nothing of who asks: the caller may be a client.
            if denial.status() == 401 {
                let caller = gateway.clients.caller(pairs, asked.query(), operation.api());
                draft.refused_caller = Some(Box::new(caller));
            }
            return Ok(draft.deny(&denial));
        }
    };
    draft.explains = client.operator && find(headers, EXPLAIN) == Some(b"true");
    draft.priority = gateway.lowering.of(client.priority, headers, asked.query());
    draft.lower_replay();
    draft.client = Some(client.clone());
    if let Err(denial) = draft.check_endpoint(&client, &endpoint) {
        return Ok(draft.deny(&denial));
    }
    if draft.awaits_token(&client, operation, moment) {
        return Err(access::WAIT);
    }
    // The beta's events have other shapes, which nobody reads here.
    let is_of_beta = |name: &str| operation == Operation::Realtime && name == "openai-beta";
    let passes = |name: &str| {
        passes_to_backends(name, &gateway.pass_headers) && !is_of_beta(name)
            || operation.is_of_anthropic() && passes_to_anthropic(name)
            || opens && passes_with_socket(name)
    };
    let pass =
        |name: &str| passes(name) && !gateway.clients.trusts(name) && *name != *gateway.lowering.header;
    let strip = names(headers.iter().filter(|(name, _)| !pass(name)));
    Ok(match (operation, endpoint.rest) {
        (Operation::Models, _) => models(&client, endpoint.deployment, draft),
        (Operation::Limits, _) => {
            draft.note_users_of_query(&client, asked.query());
            draft.answer(None, Outcome::Answered)
        }
        (Operation::Health, _) => draft.health(Some(&client), endpoint.deployment, moment),
        (Operation::Config, _) => draft.configuration(&client, moment.now),
        (Operation::Order, _) if !client.operator => {
            draft.deny(&Denial::EndpointNotAllowed(operation.word()))
        }
        _ if opens => {
            match draft.prepare_connection(client, operation, endpoint.deployment, headers, moment) {
                Ok(ready) => Reserving::begin(Ready { strip, ..ready }, draft),
                Err(denial) => draft.deny(&denial),
            }
        }
        (Operation::Job, _) => {
            draft.about_job(endpoint.deployment.unwrap_or_default(), method.unwrap_or_default())
        }
        (_, Some((rest, query))) => {
            if let Some(next) = draft.about_response(rest, method.unwrap_or_default()) {
                return Ok(next);
            }
            let purpose = Purpose::of(method.unwrap_or_default(), rest);
            let passthrough = Passthrough {
                rest: rest.to_owned(),
                query: gateway.lowering.without(query).into_owned(),
                purpose,
            };
            if !end && pinned::reads_passthrough_body(rest, headers) {
                let body = Body::new(client, &endpoint, headers)
                    .map(|body| Body { passthrough: Some(passthrough), ..body });
                return Ok(Body::begin(body, strip, draft));
            }
            let content_type = if end { Ok(None) } else { draft.begin_scanning(&passthrough, headers) };
            let content_type = match content_type {
                Ok(content_type) => content_type,
                Err(denial) => return Ok(draft.deny(&denial)),
            };
            match draft.prepare_passthrough(client, passthrough, None, moment) {
                Ok(ready) => Reserving::begin(Ready { strip, content_type, ..ready }, draft),
                Err(denial) => draft.deny(&denial),
            }
        }
        (Operation::Order, _) if let Some(wish) = Wish::of(method.unwrap_or_default()) => {
            draft.orders(&client, wish, endpoint.deployment, moment)
        }
        _ if end => draft.deny(&Denial::MissingField("body")),
        _ => {
            draft.note_patience(&client, operation, headers);
            let coding = find(headers, CONTENT_ENCODING).map(|_| CONTENT_ENCODING.to_owned());
            let strip = strip.into_iter().chain(coding).collect();
            Body::begin(Body::new(client, &endpoint, headers), strip, draft)
        }
    })
}

impl Draft {
    /// Whether the request may need a token that is on its way. What Tollgate answers itself needs none.
    fn awaits_token(&mut self, client: &Client, operation: Operation, moment: Moment<'_>) -> bool {
        let is_ours = !operation.reaches_backends();
        if is_ours || !self.is_patient || self.gateway.accesses.is_empty() {
            return false;
        }
        let (awaits, faults) = self.gateway.clone().awaits_token(client, moment);
        self.store_faults += faults;
        awaits
    }

    /// What a body would tell of the client's users, the query tells of whoever wants to know how he stands.
    fn note_users_of_query(&mut self, client: &Client, query: &str) {
        if !client.budget.needs_body() {
            return;
        }
        for field in [UserField::User, UserField::SafetyIdentifier] {
            let said = parameters(query).find(|(name, _)| name == field.name());
            self.note_user(field, said.as_ref().map(|(_, text)| &**text));
        }
        self.budget = client.budget.of(&self.values);
    }
}

/// The models that a client may use, or one of them.
fn models(client: &Rc<Client>, name: Option<&str>, draft: &Draft) -> Next {
    let answer = match name {
        Some(name) => {
            let model = draft.gateway.model(client, &decoded(name));
            model.map(|model| answer::model(&model.name.text))
        }
        None => {
            let models = draft.gateway.models_for(Some(client));
            Ok(answer::models(models.map(|model| &*model.name.text)))
        }
    };
    match answer {
        Ok(answer) => draft.answer(Some(answer), Outcome::Answered),
        Err(denial) => draft.deny(&denial),
    }
}
