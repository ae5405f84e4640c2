//! What does the file of a batch come to, and may each of its lines be asked, as it streams by?
//!
//! A form with a file for batches goes on while it comes, but for its end: a backend that does not get that keeps nothing.
//! Each line is held to what a request of its own would be held to. It cannot be changed, so a line that a policy would change
//! is refused as well. A file for another purpose passes. Not decided here: how a form and lines are cut.

use super::draft::Draft;
use super::pinned::Passthrough;
use super::{Headers, find};
use crate::batch::{self, LINES_MAX, Line, Lines, Sum};
use crate::denial::{Ambiguity, Denial};
use crate::endpoint::{BodyKind, Operation};
use crate::estimate::{self, Learnt, Subject};
use crate::finding::{Effect, Finding};
use crate::form::{Piece, Streamed};
use crate::gateway::{Audit, BodyRoom, Client, Model};
use crate::media::{self, Media};
use crate::policy::{self, Asked, Refusal, Verdict};
use crate::request::Request;
use crate::route::Target;
use crate::store::Moment;
use std::borrow::Cow;
use std::rc::Rc;

/// Where files are uploaded.
const PATH: &str = "files";

/// What a file is for whose lines are asked.
const PURPOSE: &str = "batch";

/// How many findings of all lines are noted.
const FINDINGS_MAX: usize = 32;

/// A form that is being read.
pub(super) struct Scanning {
    form: Streamed,
    file: File,
}

/// What is known of its file.
#[derive(Default)]
struct File {
    /// What it is for, once that is said: some clients say it behind the file.
    purpose: Option<String>,
    is_there: bool,
    lines: Lines,
    sum: Option<Sum>,
    /// What was learnt of the model's tokenizer when the first line came.
    learnt: Learnt,
    /// Why it is no file for batches.
    fault: Option<Denial>,
}

/// Who brings it, and to where.
struct Context<'c> {
    draft: &'c mut Draft,
    client: &'c Client,
    targets: &'c [Rc<Target>],
    moment: Moment<'c>,
}

impl Draft {
    /// Begins to read the form of an upload, where batches are governed. Answers how its type is written, if it is not that
    /// plainly.
    pub(super) fn begin_scanning(
        &mut self,
        passthrough: &Passthrough,
        headers: &Headers,
    ) -> Result<Option<String>, Denial> {
        let governs = self.gateway.pinning.as_ref().is_some_and(|pinned| pinned.governs_batches);
        if !governs || passthrough.rest != PATH || find(headers, ":method") != Some(b"POST") {
            return Ok(None);
        }
        let said = media::said(BodyKind::Form, headers)?;
        if let Media::Form(boundary) = &said.media {
            let form = Streamed::new(boundary);
            self.scanning = Some(Box::new(Scanning { form, file: File::default() }));
        }
        Ok(said.content_type)
    }

    /// Reads more of it.
    pub(super) fn scan(
        &mut self,
        place: Option<Rc<Target>>,
        chunk: &[u8],
        end: bool,
        moment: Moment<'_>,
    ) -> Result<(), Denial> {
        self.sum = None;
        let Some((mut scanning, client)) = self.scanning.take().zip(self.client.clone()) else {
            return Ok(());
        };
        let targets: Vec<_> = place.into_iter().collect();
        let Scanning { form, file } = &mut *scanning;
        let mut context = Context { draft: self, client: &client, targets: &targets, moment };
        form.push(chunk, end, &mut |piece| file.take(piece, &mut context))?;
        let held = form.held_bytes().saturating_add(file.lines.held_bytes());
        let room = self.room.get_or_insert_with(|| BodyRoom::new(client.held_bytes.clone()));
        if !room.change_to(held) {
            return Err(client.held_bytes_exceeded());
        }
        // Some backends answer before they are told that nothing comes any more.
        if end || form.has_ended() {
            self.sum = scanning.file.sum()?;
        }
        if end {
            self.room = None;
        } else {
            self.scanning = Some(scanning);
        }
        Ok(())
    }
}

impl File {
    fn is_for_batches(&self) -> bool {
        self.purpose.as_deref() == Some(PURPOSE)
    }

    fn take(&mut self, piece: Piece<'_>, context: &mut Context<'_>) -> Result<(), Denial> {
        match piece {
            Piece::Field { name, text } => self.field(name, text),
            Piece::FileBegins { name } if name != "file" || self.is_there => {
                Err(Denial::InvalidForm("it may have one file, `file`"))
            }
            Piece::FileBegins { .. } => {
                self.is_there = true;
                Ok(())
            }
            Piece::File(bytes) => self.lines(context, |lines, take| lines.push(bytes, take)),
            Piece::FileEnds => self.lines(context, |lines, take| lines.end(take)),
        }
    }

    fn field(&mut self, name: &str, text: &str) -> Result<(), Denial> {
        let base = name.split('[').next().unwrap_or_default();
        if base.eq_ignore_ascii_case("file") {
            return Err(Denial::InvalidForm("its `file` is a field and no file"));
        }
        if !base.eq_ignore_ascii_case("purpose") {
            return Ok(());
        }
        let ambiguous = |problem| Err(Denial::AmbiguousField { field: "purpose", problem });
        if name != "purpose" {
            return ambiguous(Ambiguity::Disguised);
        }
        if self.purpose.replace(text.to_owned()).is_some() {
            return ambiguous(Ambiguity::Duplicate);
        }
        match self.fault.take_if(|_| text == PURPOSE) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Goes through lines, as long as it may be that they are a batch's.
    fn lines(
        &mut self,
        context: &mut Context<'_>,
        go: impl FnOnce(&mut Lines, batch::TakeLine<'_>) -> Result<(), Denial>,
    ) -> Result<(), Denial> {
        if self.fault.is_some() || self.purpose.is_some() && !self.is_for_batches() {
            return Ok(());
        }
        let mut lines = std::mem::take(&mut self.lines);
        let gone = go(&mut lines, &mut |number, line| {
            let counted = self.count(line, context);
            counted.map_err(|denial| Denial::BatchLine { line: number, problem: denial.sentence() })
        });
        match gone {
            Ok(()) => self.lines = lines,
            Err(fault) if self.is_for_batches() => return Err(fault),
            // It may be for something else.
            Err(fault) => self.fault = Some(fault),
        }
        Ok(())
    }

    fn count(&mut self, line: &[u8], context: &mut Context<'_>) -> Result<(), Denial> {
        let Context { draft, client, targets, moment } = context;
        let Line { operation, body } = Line::read(line).map_err(Denial::Flawed)?;
        client.check_endpoint(operation)?;
        let mut request = Request::read(body.as_bytes())?;
        let name = request.model.clone().ok_or(Denial::MissingField("model"))?;
        let model = draft.gateway.model(client, &name)?;
        let mark = batch::name_mark(&name);
        let sum = match self.sum {
            Some(sum) if sum.operation != operation => {
                return Err(flaw("All lines must have the same `url`."));
            }
            Some(sum) if sum.name != mark => return Err(flaw("All lines must name the same `model`.")),
            Some(sum) if sum.lines >= LINES_MAX => return Err(flaw("A file may have 100000 requests.")),
            Some(sum) => sum,
            None => {
                let subject = Subject { model: &model.name.text, client: &client.name.text };
                let learnt = model.lessons.learnt(*moment, subject);
                draft.store_faults += u64::from(learnt.is_err());
                self.learnt = learnt.unwrap_or_default();
                Sum::new(operation, mark)
            }
        };
        let sketch = estimate::sketch(request.prompt.iter().copied());
        let policy = client.policy(&model);
        if body.len() > policy.request_bytes_max {
            return Err(Denial::BodyTooLarge { bytes_max: policy.request_bytes_max });
        }
        let prompt_tokens = self.learnt.prompt_tokens_sure(&sketch);
        let asked = Asked { operation, family: model.family, prompt_tokens };
        let ceiling = draft.hold_line(client, &model, &asked, &mut request)?.ceiling;
        // What it names is named as it stands.
        let named = request.named(&policy.allowed_fields)?;
        let names: Vec<_> =
            named.iter().map(|named| named.name.to_string()).chain([name.into_owned()]).collect();
        let _ = draft.holding_to_models(client, &[], &names, Cow::Borrowed(targets), &mut |_, _| {})?;
        draft.check_ids_of_line(client, operation, body)?;
        self.sum = Some(sum.with(self.learnt.prompt_tokens(&sketch), ceiling.tokens()));
        Ok(())
    }

    /// What a file for batches comes to, now that all has come.
    fn sum(&self) -> Result<Option<Sum>, Denial> {
        if !self.is_for_batches() {
            return Ok(None);
        }
        if !self.is_there {
            return Err(Denial::InvalidForm("it has no `file`"));
        }
        let problem = "There is no request in it.".to_owned();
        self.sum.map(Some).ok_or(Denial::BatchLine { line: 1, problem })
    }
}

fn flaw(sentence: &str) -> Denial {
    Denial::Flawed(sentence.to_owned())
}

impl Draft {
    /// Holds a line to the policies of its client; one that would be changed is refused.
    fn hold_line(
        &mut self,
        client: &Client,
        model: &Model,
        asked: &Asked,
        request: &mut Request<'_>,
    ) -> Result<Verdict, Denial> {
        for Audit { name, policy } in client.audits.iter() {
            let verdict = policy::apply(policy, asked, &mut request.clone());
            let found = verdict.into_iter().flat_map(|verdict| verdict.findings);
            self.note_of_line(found.map(|finding| finding.beside(name)));
        }
        let verdict = match policy::apply(client.policy(model), asked, request) {
            Ok(verdict) => verdict,
            Err(Refusal { denial, rule }) => {
                let refused = |rule: policy::Rule| Finding { rule: rule.name(), effect: Effect::Refused };
                self.note_of_line(rule.map(refused));
                return Err(denial);
            }
        };
        if request.clone().edits().is_empty() {
            self.note_of_line(verdict.findings.iter().cloned());
            return Ok(verdict);
        }
        let clamped: Vec<_> = verdict.findings.iter().filter_map(Finding::clamped).collect();
        let changed = if clamped.is_empty() { "a default".to_owned() } else { clamped.join(", ") };
        Err(Denial::Flawed(format!(
            "This client's policy would change it ({changed}), and a file cannot be changed: write it so."
        )))
    }

    /// Notes what policies found of a line, once for all lines.
    fn note_of_line(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            if self.findings.len() < FINDINGS_MAX && !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }

    /// Refuses what only this gateway knows by its id: the backend reads the file as it is.
    fn check_ids_of_line(&self, client: &Client, operation: Operation, body: &str) -> Result<(), Denial> {
        let Some(pinned) = &self.gateway.pinning else { return Ok(()) };
        let reading = pinned.pinning.reading(&client.name.text);
        let mut reading = if operation.is_of_responses() { reading } else { reading.of_sealed_only() };
        if reading.body(body)?.is_empty() {
            return Ok(());
        }
        Err(flaw("It names an id that this gateway has sealed, which the backend does not know."))
    }
}
