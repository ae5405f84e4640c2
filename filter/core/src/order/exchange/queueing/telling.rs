//! What is a client told of its jobs?

use super::{Answer, Denial, Draft, Id, RESPONSE, State, Told, Wish, opened};
use crate::answer::JSON;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Where a job is asked about.
const JOBS: &str = "/tollgate/v1/jobs/";

/// How soon to ask again, in seconds.
const ASK_AGAIN: &str = "1";

#[derive(Serialize)]
struct Job<'a> {
    id: &'a str,
    object: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<u64>,
}

/// That a request is in the queue: 202, and where to ask. <https://www.rfc-editor.org/rfc/rfc7240#section-4.1>
pub(super) fn taken(id: &Id, before: u64) -> Answer {
    let mut answer = waits(id, State::Queued, before);
    answer.headers.push(applied());
    answer
}

/// That a request was published: 202, and nowhere to ask.
pub(super) fn published(id: &Id) -> Answer {
    let job = Job { id: id.text(), object: "job", state: State::Queued.word(), place: None };
    let mut answer = written(202, &job);
    answer.headers.push(applied());
    answer
}

fn applied() -> (&'static str, String) {
    ("preference-applied", "respond-async".to_owned())
}

fn waits(id: &Id, state: State, before: u64) -> Answer {
    let place = (state == State::Queued).then_some(before + 1);
    let mut answer = written(202, &Job { id: id.text(), object: "job", state: state.word(), place });
    answer.headers.push(("location", [JOBS, id.text()].concat()));
    answer.headers.push(("retry-after", ASK_AGAIN.to_owned()));
    answer
}

/// What whoever asks about a job gets: its answer, once there is one.
pub(super) fn of_job(id: &Id, told: Told, wish: Wish, draft: &Draft) -> Result<Answer, Denial> {
    if wish != Wish::Read {
        let word = match told.state {
            State::Queued | State::Running => State::Cancelled.word(),
            State::Done | State::Failed | State::Cancelled => "deleted",
        };
        return Ok(written(200, &Job { id: id.text(), object: "job", state: word, place: None }));
    }
    match told.state {
        State::Queued | State::Running => Ok(waits(id, told.state, told.before)),
        State::Cancelled => Err(Denial::JobCancelled),
        State::Failed => Err(Denial::JobFailed(told.why)),
        State::Done if !(200..600).contains(&told.status) => Err(Denial::JobFailed(told.why)),
        State::Done => {
            let body = opened(id, &told, draft).ok_or_else(|| Denial::JobFailed("unopened".to_owned()))?;
            let headers = vec![(JSON.0, told.answer_type), ("cache-control", "no-store".to_owned())];
            Ok(Answer { status: told.status, headers, body })
        }
    }
}

/// What whoever asks about a response gets.
pub(super) fn of_response(id: &Id, told: Told, wish: Wish, draft: &Draft) -> Answer {
    let name = [RESPONSE, id.text()].concat();
    if wish == Wish::Delete {
        return written(200, &json!({ "id": name, "object": "response", "deleted": true }));
    }
    let is_over = !matches!(told.state, State::Queued | State::Running);
    let state = if wish == Wish::Cancel && !is_over { State::Cancelled } else { told.state };
    let at = told.at / 1000;
    if state != State::Done {
        let why =
            (state == State::Failed).then(|| failure("job_failed", &Denial::JobFailed(told.why).sentence()));
        return response(id, &told.model, state, at, why);
    }
    let answer = opened(id, &told, draft).unwrap_or_default();
    let is_served = (200..300).contains(&told.status);
    if let Some(body) = renamed(&answer, &name).filter(|_| is_served) {
        return Answer { status: 200, headers: vec![(JSON.0, JSON.1.to_owned())], body };
    }
    response(id, &told.model, State::Failed, at, Some(refused(&answer)))
}

/// A response that has no answer of a backend's. <https://platform.openai.com/docs/api-reference/responses/object>
pub(super) fn response(id: &Id, model: &str, state: State, created_at: u64, error: Option<Value>) -> Answer {
    let status = match state {
        State::Queued => "queued",
        State::Running => "in_progress",
        State::Done => "completed",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    };
    let name = [RESPONSE, id.text()].concat();
    written(
        200,
        &json!({
            "id": name,
            "object": "response",
            "created_at": created_at,
            "status": status,
            "background": true,
            "error": error,
            "incomplete_details": null,
            "instructions": null,
            "metadata": {},
            "model": model,
            "output": [],
            "parallel_tool_calls": true,
            "temperature": null,
            "tool_choice": "auto",
            "tools": [],
            "top_p": null,
            "usage": null,
        }),
    )
}

fn failure(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

/// Why a backend, or the gateway when it was worked off, has refused it.
fn refused(answer: &[u8]) -> Value {
    let said: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |name: &str| said.get("error").and_then(|error| error.get(name)).and_then(Value::as_str);
    failure(text("code").unwrap_or("server_error"), text("message").unwrap_or("There is no answer."))
}

/// An answer under this name, and all else as it was.
fn renamed(answer: &[u8], name: &str) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let text = std::str::from_utf8(answer).ok()?;
    let id = serde_json::from_str::<Named<'_>>(text).ok()?.id.get();
    let at = (id.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let (before, after) = (answer.get(..at)?, answer.get(at + id.len()..)?);
    Some([before, &serde_json::to_vec(name).ok()?, after].concat())
}

/// What is so now, and is to be asked for anew.
fn written(status: u16, body: &impl Serialize) -> Answer {
    let headers = vec![(JSON.0, JSON.1.to_owned()), ("cache-control", "no-store".to_owned())];
    // Writing strings and numbers to memory cannot fail.
    Answer { status, headers, body: serde_json::to_vec(body).unwrap_or_default() }
}
