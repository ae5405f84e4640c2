//! What becomes of an answer whose status says that all is well, once its beginning is read?

use super::opening::Opening;
use super::step::Waiting;
use super::{Heard, Leg, Phase};
use crate::json::Patch;
use crate::store::Outside;

/// Such an answer, which waits until its beginning tells that it is one.
#[derive(Debug)]
pub(super) struct Unproven {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) is_json: bool,
}

impl Unproven {
    pub(super) fn on_body(
        self: Box<Self>,
        body: &Waiting<'_>,
        leg: &Leg,
        outside: &Outside<'_>,
        heard: &mut Heard,
    ) -> Phase {
        let reach = Opening::reach(self.is_json, body.bytes, body.end);
        if reach == 0 && !body.end {
            return Phase::Unproven(self);
        }
        let (failure, next) = match Opening::of(&(body.read)(reach), body.end) {
            Opening::Unfinished => return Phase::Unproven(self),
            Opening::KeepAlive | Opening::Answer => {
                leg.learn(self.status, &self.headers, outside, heard);
                return Phase::Passing;
            }
            Opening::Failure(failure) => (failure, Phase::Passing),
            Opening::FailureEvent(failure) => {
                let bytes = failure.body(leg.flight.api());
                heard.set.push(("content-type", "application/json".to_owned()));
                heard.set.push(("content-length", bytes.len().to_string()));
                heard.patch = Some(Patch { replaced: body.bytes, bytes });
                (failure, if body.end { Phase::Passing } else { Phase::Replaced })
            }
        };
        let status = failure.status();
        heard.set.push((":status", status.to_string()));
        leg.learn(status, &self.headers, outside, heard);
        leg.leave_misfit(status, &failure, outside, heard);
        next
    }
}
