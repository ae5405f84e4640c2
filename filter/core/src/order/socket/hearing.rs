//! What does a backend say of its turns, and what becomes of their books?

use super::events::{self, Said};
use super::turn::Turn;
use super::{Asked, ENDED, OUR_PING, POLICY, Socket, World, responses};
use crate::answer::Answer;
use crate::denial::Denial;
use crate::exchange::{Connected, Exchange, Finished, Interruption, Step};
use crate::frames::{self, Kind};
use crate::ledger::Outcome;
use crate::store::{Moment, StoreFault};

/// An identified exchange, or why there is none.
type Found = (Option<Exchange>, Option<Answer>);

/// A turn that goes on already while it is asked who its client is now.
pub(super) struct Unsure {
    exchange: Exchange,
    connected: Connected,
    model: Option<String>,
    body: String,
    response: String,
}

impl Socket {
    /// Reads what the backend says of its turns.
    pub(super) fn hear(&mut self, text: &str, session: &Exchange, world: &mut World<'_>) {
        match events::heard(text) {
            Said::Began { response } => {
                let asked = self.turns.iter_mut().find(|turn| turn.response.is_none());
                match asked {
                    Some(turn) => turn.response = Some(response),
                    None => self.begin(session, None, Some(response), world),
                }
            }
            Said::GoesOn { response } => {
                if let Some(turn) = self.turn(&response) {
                    turn.push(text, false, world.moment);
                }
            }
            Said::Ended { response } => {
                if self.turn(&response).is_none() {
                    self.begin(session, None, Some(response.clone()), world);
                }
                self.finish_turn(&response, text, world.moment);
            }
            Said::Heard => {
                let model = self.transcriber.clone();
                self.begin(session, model.as_deref(), Some(String::new()), world);
                self.finish_turn("", text, world.moment);
            }
            Said::Failed { event } => {
                let at = self.turns.iter().position(|turn| turn.response.is_none() && turn.event == event);
                if let Some(at) = at {
                    let mut turn = self.turns.remove(at);
                    turn.fail();
                    self.close_turn(turn, world.moment, &|| Interruption::Other);
                }
            }
            Said::Set(said) => self.is_set(said),
            Said::Nothing => {}
        }
    }

    fn turn(&mut self, response: &str) -> Option<&mut Turn> {
        self.turns.iter_mut().find(|turn| turn.response.as_deref() == Some(response))
    }

    /// Takes a turn that the backend has begun by itself.
    fn begin(
        &mut self,
        session: &Exchange,
        model: Option<&str>,
        response: Option<String>,
        world: &mut World<'_>,
    ) {
        let is_whole = response.as_deref() == Some("");
        let connected = Connected {
            context_tokens: if is_whole { 0 } else { self.context_tokens },
            ..self.connected(false, true)
        };
        // A session's cap does not hold for what is written down.
        let body = events::capped(self.cap.filter(|_| !is_whole));
        let model = model.or_else(|| session.model_asked());
        let (current, mut over) = if self.is_ended {
            // There is nobody to tell, but it is charged.
            (None, None)
        } else {
            match self.identify(connected.clone(), world.moment) {
                Ok(found) => found,
                // Keys are being fetched: what was found at the beginning holds until they are there.
                Err(exchange) => {
                    self.unsure.get_or_insert_with(|| Unsure {
                        exchange: *exchange,
                        connected: connected.clone(),
                        model: model.map(str::to_owned),
                        body: body.clone(),
                        response: response.clone().unwrap_or_default(),
                    });
                    (None, None)
                }
            }
        };
        // As things are now; else it is charged as they were when the connection was opened, for it goes on already.
        let ways =
            [(current.as_ref(), model, &*body), (Some(session), model, &*body), (Some(session), None, "{}")];
        for (asker, model, body) in ways {
            let begun = asker
                .and_then(|asker| asker.begun_turn(connected.clone(), model, body.as_bytes(), world.moment));
            let Some((mut exchange, mut step)) = begun else { continue };
            while let Step::Reserve(claim) = step {
                let grant = match (world.reserve)(claim, None) {
                    Asked::Now(grant) => grant,
                    // It goes on meanwhile: it is charged by what it comes to.
                    Asked::Later(_) => Err(StoreFault::Unavailable),
                };
                step = exchange.reserved(grant);
            }
            if let Step::Answer(answer) = step {
                self.note(exchange.finish(world.moment, || Interruption::Other));
                over.get_or_insert(answer);
                continue;
            }
            over = over.or_else(|| exchange.overdrawn().map(Denial::answer));
            self.turns.push(Turn::begun(exchange, response.clone()));
            break;
        }
        if let Some(answer) = over.filter(|_| !self.is_ended) {
            self.stop(&answer, response.as_deref().unwrap_or_default());
        }
    }

    /// Ends a turn that the backend has begun and that ought not to be.
    fn stop(&mut self, answer: &Answer, response: &str) {
        let is_whole = response.is_empty();
        if is_whole && !matches!(answer.status, 401 | 429) {
            return;
        }
        self.tell(None, answer);
        if self.ends(answer.status) {
            return self.close(POLICY, ENDED);
        }
        if is_whole {
            return;
        }
        let cancel = events::cancel(response);
        self.to_backend.extend(frames::written(Kind::Text, cancel.as_bytes(), Some(self.mask)));
        self.to_client.extend(frames::written(Kind::Ping, OUR_PING, None));
    }

    /// Looks whether the key is valid still, and what its client may do now; or why not. That may have to be waited for.
    fn identify(&mut self, connected: Connected, moment: Moment<'_>) -> Result<Found, Box<Exchange>> {
        let mut exchange = Exchange::of_turn(self.gateway.clone(), connected);
        Ok(match exchange.request_head(&self.head(), false, moment) {
            Step::AwaitBody { .. } => (Some(exchange), None),
            Step::Answer(answer) => {
                self.note(exchange.finish(moment, || Interruption::Other));
                (None, Some(answer))
            }
            Step::Wait => return Err(Box::new(exchange)),
            _ => (None, None),
        })
    }

    /// Looks again who the client of a turn is that goes on already. Whoever must not have it is not waited for until the next one:
    /// by then its key may have to be asked about again.
    pub(super) fn make_sure(&mut self, moment: Moment<'_>) {
        let Some(mut unsure) = self.unsure.take().filter(|_| !self.is_ended) else { return };
        let (exchange, answer) = match unsure.exchange.wake(moment) {
            None => {
                self.unsure = Some(unsure);
                return;
            }
            Some(Step::AwaitBody { .. }) => {
                let Unsure { exchange, connected, model, body, .. } = &unsure;
                match exchange.begun_turn(connected.clone(), model.as_deref(), body.as_bytes(), moment) {
                    Some((exchange, Step::Answer(answer))) => (exchange, answer),
                    _ => return,
                }
            }
            // That nobody can be asked says nothing of the client.
            Some(Step::Answer(answer)) if answer.status < 500 => (unsure.exchange, answer),
            Some(_) => return,
        };
        let mut exchange = exchange;
        self.note(exchange.finish(moment, || Interruption::Other));
        if answer.status == 403 && !unsure.response.is_empty() {
            self.tell(None, &answer);
            return self.close(POLICY, ENDED);
        }
        self.stop(&answer, &unsure.response);
    }

    /// Reads what the backend says where each turn is a response, and answers what the client gets in its place, if that is
    /// something else.
    pub(super) fn hear_response(
        &mut self,
        text: &str,
        session: &Exchange,
        world: &mut World<'_>,
    ) -> Option<String> {
        let responses::Said { lane, kind, model } = responses::heard(text);
        self.has_lanes |= !lane.is_empty();
        if matches!(kind, responses::Kind::Ended) && self.turn_of(&lane).is_none() {
            let open = self.turns.len();
            let model = model.and_then(|told| session.model_at(&self.opened.backend, &told));
            self.begin(session, model.as_deref(), Some(String::new()), world);
            self.turns.iter_mut().skip(open).for_each(|turn| turn.event.clone_from(&lane));
        }
        let Some(at) = self.turn_of(&lane) else {
            // What nobody asked for has ids that nobody would seal.
            let is_of_turn = matches!(kind, responses::Kind::GoesOn | responses::Kind::Ended);
            return (is_of_turn && self.gateway.pinning.is_some()).then(String::new);
        };
        let moment = world.moment;
        let (ends, refused) = match kind {
            responses::Kind::Other => return None,
            responses::Kind::GoesOn => (false, None),
            responses::Kind::Ended => (true, None),
            responses::Kind::Failed { status } => (true, Some(status)),
        };
        if !ends {
            return self.turns.get_mut(at).and_then(|turn| {
                turn.response.get_or_insert_default();
                turn.push(text, false, moment)
            });
        }
        let mut turn = self.turns.remove(at);
        let lane = turn.event.clone();
        let told = match refused.filter(|_| turn.response.is_none()) {
            Some(status) => turn.refuse(status, text, moment),
            None => turn.push(text, true, moment),
        };
        self.close_turn(turn, moment, &|| Interruption::Other);
        self.refusals.iter_mut().filter(|refusal| refusal.lane == lane).for_each(|refusal| {
            refusal.behind = refusal.behind.saturating_sub(1);
        });
        told
    }

    /// The turn that goes on in a lane. A backend that knows no lanes has one turn at a time; of one that does, what stands in none is
    /// of no other's.
    fn turn_of(&self, lane: &str) -> Option<usize> {
        let found = self.turns.iter().position(|turn| turn.event == lane);
        found.or_else(|| (lane.is_empty() && !self.has_lanes && !self.turns.is_empty()).then_some(0))
    }

    /// Tells what was refused, once all that was asked before it in its lane has ended.
    pub(super) fn tell_refused(&mut self) {
        while let Some(at) = self.refusals.iter().position(|refusal| refusal.behind == 0) {
            if let Some(refusal) = self.refusals.remove(at) {
                self.to_client.extend(frames::written(Kind::Text, refusal.event.as_bytes(), None));
            }
        }
    }

    /// The headers of a turn.
    pub(super) fn head(&self) -> Vec<(String, Vec<u8>)> {
        let mut headers = self.opened.headers.clone();
        headers.push(("content-type".to_owned(), b"application/json".to_vec()));
        headers
    }

    fn finish_turn(&mut self, response: &str, text: &str, moment: Moment<'_>) {
        let at = self.turns.iter().position(|turn| turn.response.as_deref() == Some(response));
        let Some(at) = at else { return };
        let mut turn = self.turns.remove(at);
        turn.push(text, true, moment);
        let usage = self.close_turn(turn, moment, &|| Interruption::Other);
        if usage > 0 && !response.is_empty() {
            self.context_tokens = usage;
        }
    }

    /// Closes the books of a turn, and answers the tokens that it came to.
    pub(super) fn close_turn(
        &mut self,
        mut turn: Turn,
        moment: Moment<'_>,
        interruption: &impl Fn() -> Interruption,
    ) -> u64 {
        let finished = turn.exchange.finish(moment, interruption);
        let tokens = finished.record.usage.total();
        self.note(finished);
        tokens
    }

    pub(super) fn note(&mut self, finished: Finished) {
        let record = &finished.record;
        self.totals.add(record, matches!(record.outcome, Outcome::Denied(_)));
        self.finished.push(finished);
    }
}
