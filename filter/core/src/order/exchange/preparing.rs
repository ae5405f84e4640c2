//! What does a body ask for, what may it cost, and where may it go?

use super::body::Body;
use super::cost::Bounds;
use super::draft::Draft;
use super::fitting::{self, Fitted, Fitting};
use super::stored::Purpose;
use super::turns;
use crate::attempt::{Bodies, Destination};
use crate::decision::Why;
use crate::denial::Denial;
use crate::endpoint::{Billing, Operation};
use crate::estimate::{self, Estimate, Learnt, Sketch, Subject};
use crate::finding::{Effect, Finding};
use crate::form::Form;
use crate::gateway::{Audit, Client, Model};
use crate::json::Patch;
use crate::media::Media;
use crate::policy::{self, Asked, Policy, Refusal, Rule, Verdict};
use crate::prices::DEFAULT_TIER;
use crate::request::{Field, Inner, Request};
use crate::route::{self, Asker, Choice, Shares, Target};
use crate::store::Moment;
use crate::tier::Tier;
use crate::tokens::Usage;
use crate::value::UserField;
use std::borrow::Cow;
use std::rc::Rc;

/// A request that is understood and may go, once there is budget for it.
pub(super) struct Ready {
    pub(super) client: Rc<Client>,
    /// Where it may go, best first; or why it may go nowhere, which is told once the budget has allowed it.
    pub(super) choice: Result<Choice, Denial>,
    pub(super) destination: Destination,
    pub(super) strip: Vec<String>,
    pub(super) patch: Option<Patch>,
    pub(super) content_length: Option<usize>,
    pub(super) content_type: Option<String>,
    pub(super) bodies: Bodies,
    pub(super) expected: Expected,
}

/// What an answer is expected to cost, and how it will be read.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) operation: Operation,
    pub(super) purpose: Purpose,
    pub(super) sketch: Sketch,
    pub(super) learnt: Learnt,
    pub(super) estimate: Estimate,
    /// The most that is believed of what its answer reports.
    pub(super) bounds: Bounds,
    /// Whether its model thinks unseen before it answers.
    pub(super) reasons: bool,
    /// Whether an answer in audio is asked for.
    pub(super) speaks: bool,
}

impl Draft {
    /// Finds the model that is meant, and keeps it for the record.
    fn model(&mut self, held: &Body, in_body: Option<&str>) -> Result<Rc<Model>, Denial> {
        let name = held.deployment.as_deref().or(in_body).ok_or(Denial::MissingField("model"))?;
        let model = self.gateway.model(&held.client, name)?;
        // Only a name that is one is logged: the field is the client's, and might hold anything.
        self.asked = Some(name.to_owned());
        self.model = Some(model.clone());
        Ok(model)
    }

    /// Notes for which of its users a client asks, if a limit depends on that. What is no string tells nobody from another.
    fn note_users(&mut self, request: &Request<'_>) {
        if self.client.as_ref().is_some_and(|client| client.budget.needs_body()) {
            let user = match self.operation {
                Some(Operation::Messages) => request.user_of_metadata(),
                _ => request.other_word(UserField::User.name()),
            };
            let safety_identifier = request.word(Field::SafetyIdentifier).ok().flatten();
            self.note_user(UserField::User, user.as_deref());
            self.note_user(UserField::SafetyIdentifier, safety_identifier.as_deref());
        }
    }

    /// Notes what policies found. A field that is not known is no news to the second one.
    pub(super) fn found(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            let is_news = !matches!(finding.effect, Effect::Unknown(_)) || !self.findings.contains(&finding);
            if is_news {
                self.findings.push(finding);
            }
        }
    }

    /// Reads a body and holds it to the policy, a form as the JSON that says the same.
    pub(super) fn prepare_read(
        &mut self,
        held: Body,
        body: &[u8],
        moment: Moment<'_>,
    ) -> Result<Ready, Denial> {
        let operation = held.operation;
        let form = match &held.said.media {
            Media::Form(boundary) => Some(Form::read(body, boundary)?),
            _ => None,
        };
        let mut request = Request::read(form.as_ref().map_or(body, |form| form.json().as_bytes()))?;
        if self.connected.is_some() {
            turns::open_envelope(operation, &mut request);
        }
        let model = self.model(&held, request.model.as_deref())?;
        self.note_users(&request);
        let policy = held.policy(&model, body)?;
        self.stream = request.stream;
        let sketch = estimate::sketch(request.prompt.iter().copied());
        let subject = Subject { model: &model.name.text, client: &held.client.name.text };
        let learnt = model.lessons.learnt(moment, subject);
        self.store_faults += u64::from(learnt.is_err());
        let learnt = learnt.unwrap_or_default();
        let context_tokens = self.connected.as_ref().map_or(0, |connected| connected.context_tokens);
        let prompt_tokens = learnt.prompt_tokens(&sketch).saturating_add(context_tokens);
        let prompt_tokens_sure = learnt.prompt_tokens_sure(&sketch);
        let asked = Asked { operation, family: model.family, prompt_tokens: prompt_tokens_sure };
        for Audit { name, policy } in held.client.audits.iter() {
            // What cannot be read without doubt is no audit's matter.
            let verdict = policy::apply(policy, &asked, &mut request.clone());
            let found = verdict.into_iter().flat_map(|verdict| verdict.findings);
            self.found(found.map(|finding| finding.beside(name)));
        }
        let Verdict { ceiling, findings } = match policy::apply(&policy, &asked, &mut request) {
            Ok(verdict) => verdict,
            Err(Refusal { denial, rule }) => {
                if let Denial::UnknownFields { names, .. } = &denial {
                    let named = names.iter().cloned().map(Effect::Unknown);
                    let rule = Rule::UnknownFields.name();
                    self.found(named.map(|effect| Finding { rule, effect }));
                }
                self.findings.extend(rule.map(|rule| Finding { rule: rule.name(), effect: Effect::Refused }));
                return Err(denial);
            }
        };
        if operation == Operation::Realtime {
            turns::check_model(self, &held.client, &mut request)?;
        }
        let purpose = Purpose::of_request(&request, &findings);
        self.found(findings);
        self.stream = request.stream;
        if model.has_tiers() {
            self.tier_asked = request.word(Field::ServiceTier)?.map(Cow::into_owned);
        }
        let speaks = request.ungoverned.iter().any(|member| member.name == "audio");
        if form.as_ref().is_some_and(|form| form.is_emptied_by(request.clone().edits())) {
            return Err(Denial::InvalidForm("nothing is left of it but what its policy takes out"));
        }
        let lot = model.lot(&held.client, moment.now);
        let watch = model.watch(prompt_tokens, request.stream);
        let targets = self.keepers(&held.client, operation, &model, &mut request)?;
        self.leave_out(&model.targets, &targets, Why::Pinned);
        let named = request.named(&policy.allowed_fields)?;
        let in_form = form.as_ref().map(|form| form.models(&policy.allowed_fields));
        let in_form = in_form.transpose()?.unwrap_or_default();
        let (kept, targets_kept) = (targets.clone(), targets.len());
        let targets =
            self.holding_to_models(&held.client, &named, &in_form, targets, &mut |span, text| {
                request.splice(span, text);
            })?;
        self.leave_out(&kept, &targets, Why::Unsupported);
        let able = fitting::able(&targets, &model, &held.client, operation, &request)?;
        self.leave_out(&targets, &able, Why::Unsupported);
        // Where it has to go it goes: what is pinned has a choice only among deployments that are not bounded alike.
        let is_pinned = targets_kept != model.targets.len();
        let has_choice = |shares: &&Rc<Shares>| {
            let bounded = kept.iter().filter(|target| shares.bound(target)).count();
            !is_pinned || (1..targets_kept).contains(&bounded)
        };
        let shares = model.shares.as_ref().filter(has_choice);
        // What is no word is not taken for a tier: whether it may pass is the policy's.
        let tier = request.word(Field::ServiceTier).ok().flatten().and_then(|word| Tier::of_word(&word));
        let asks_again = !operation.is_of_anthropic()
            && tier.is_some_and(|tier| model.asks_again.contains(&tier))
            && policy.permits_tier(DEFAULT_TIER);
        let name = Some(&*model.name.text);
        let watch = watch.as_ref();
        let asker = Asker { tier, asks_again, watch, shares, model: name, ..held.client.asker(lot) };
        let choice = match &self.connected {
            Some(connected) => self.choose_connected(connected, &able, &held.client),
            None => self.choose(&able, asker, moment),
        };
        let bounds = Bounds::of(operation, &request, body, &sketch, ceiling);
        // Which turn an event is of is the backend's word.
        let bounds = if self.connected.is_some() { bounds.uncapped() } else { bounds };
        let reasons = match operation {
            Operation::Messages => request.thinks(),
            _ => model.family.reasons() && !is_told_not_to_reason(&request),
        };
        let fitting = held.fitting(body, form.as_ref(), &choice);
        let fitted = fitting.fit(&model, request, ceiling.completion_tokens);
        let estimate = match operation.billing() {
            Billing::Nothing => Estimate { prompt: 0, completion: 0 },
            _ => Estimate { prompt: prompt_tokens, completion: ceiling.tokens() },
        };
        let expected = Expected { operation, purpose, sketch, learnt, estimate, bounds, reasons, speaks };
        Ok(held.ready(choice, fitted, expected))
    }

    /// Notes why the others of these are not among those that stay.
    pub(super) fn leave_out(&mut self, all: &[Rc<Target>], stay: &[Rc<Target>], why: Why) {
        if all.len() != stay.len() {
            let is_out = |target: &&Rc<Target>| stay.iter().all(|other| other.number() != target.number());
            self.passed_over.extend(all.iter().filter(is_out).map(|target| target.passed_over(why)));
        }
    }

    /// The targets that may be tried now.
    pub(super) fn choose(
        &mut self,
        targets: &[Rc<Target>],
        asker: Asker<'_>,
        moment: Moment<'_>,
    ) -> Result<Choice, Denial> {
        let choice = route::choose(targets, asker, moment, &mut self.passed_over);
        if let (Err(Denial::BackendsThrottled { .. }), Some(shares)) = (&choice, asker.shares) {
            self.store_faults += u64::from(shares.serve_nobody(moment.store).is_err());
        }
        let choice = choice?;
        self.store_faults += choice.faults;
        self.is_ordered = choice.is_ordered;
        Ok(choice)
    }
}

impl Body {
    /// The policy for a model, which may want shorter bodies than another of this client's.
    fn policy(&self, model: &Model, body: &[u8]) -> Result<Rc<Policy>, Denial> {
        let policy = self.client.policy(model);
        let bytes_max = policy.request_bytes_max;
        if body.len() > bytes_max {
            return Err(Denial::BodyTooLarge { bytes_max });
        }
        Ok(policy.clone())
    }

    fn fitting<'f>(
        &self,
        body: &'f [u8],
        form: Option<&'f Form<'f>>,
        choice: &'f Result<Choice, Denial>,
    ) -> Fitting<'f> {
        Fitting {
            body,
            form,
            has_content_length: self.content_length.is_some(),
            operation: self.operation,
            candidates: choice.as_ref().map(|choice| choice.calls().collect()).unwrap_or_default(),
        }
    }

    fn ready(self, choice: Result<Choice, Denial>, fitted: Fitted, expected: Expected) -> Ready {
        let Fitted { patch, content_length, bodies } = fitted;
        Ready {
            client: self.client,
            choice,
            destination: Destination::Deployment(self.operation),
            strip: Vec::new(),
            patch,
            content_length,
            content_type: self.said.content_type,
            bodies,
            expected,
        }
    }
}

impl Expected {
    /// What it is sure enough to cost that a request may be refused for good by it.
    pub(super) fn sure(&self) -> Estimate {
        Estimate {
            prompt: self.estimate.prompt.min(self.learnt.prompt_tokens_sure(&self.sketch)),
            ..self.estimate
        }
    }

    /// The most that its tokens may be, of each kind.
    pub(super) fn usage_max(&self) -> Usage {
        let Estimate { prompt, completion } = self.estimate;
        let media = if self.sketch.has_items() { prompt } else { 0 };
        let draws = matches!(self.operation, Operation::ImageGenerations | Operation::ImageEdits);
        Usage {
            prompt,
            prompt_audio: media,
            prompt_image: media,
            completion,
            completion_audio: if self.speaks { completion } else { 0 },
            completion_image: if draws { completion } else { 0 },
            ..Usage::default()
        }
    }

    /// Whether it is a batch whose lines were counted.
    pub(super) fn is_counted_batch(&self) -> bool {
        self.operation == Operation::Other && self.estimate.usage().total() > 0
    }

    pub(super) fn nothing(operation: Operation) -> Self {
        Self {
            operation,
            purpose: Purpose::Answer,
            sketch: Sketch::default(),
            learnt: Learnt::default(),
            estimate: Estimate { prompt: 0, completion: 0 },
            bounds: Bounds::OF_RUN,
            reasons: false,
            speaks: false,
        }
    }
}

/// Whether a model that reasons is asked not to.
fn is_told_not_to_reason(request: &Request<'_>) -> bool {
    let words = [request.word(Field::ReasoningEffort), request.inner(Inner::ReasoningEffort)];
    words.into_iter().any(|word| word.is_ok_and(|word| word.as_deref() == Some("none")))
}
