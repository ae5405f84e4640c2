//! Which targets can take the request, and which body does each of them get?
//!
//! One body waits in Envoy, that of the first candidate; the others' are told as what makes them of it. Not decided here:
//! what a backend understands, which is `capability`'s, and in which order they are tried.

use crate::attempt::{Bodies, EditedBody, Whose};
use crate::capability::{self, Feature, Since};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::form::Form;
use crate::gateway::{Client, Model};
use crate::json::{Edits, Patch};
use crate::prices::DEFAULT_TIER;
use crate::request::{CapNames, Field, Request};
use crate::route::Target;
use crate::usage::UsageEvent;
use std::borrow::Cow;
use std::rc::Rc;

/// Those of a model's targets that can take this request. When none of those can that may serve the client, the refusal says
/// what it is for.
pub(super) fn able<'t>(
    targets: &'t [Rc<Target>],
    model: &Model,
    client: &Client,
    operation: Operation,
    request: &Request<'_>,
) -> Result<Cow<'t, [Rc<Target>]>, Denial> {
    let missing =
        |target: &Rc<Target>| capability::missing(&target.backend.style, model.family, operation, request);
    let has = |target: &Rc<Target>| target.backend.style.has(operation);
    if targets.iter().all(|target| has(target) && missing(target).is_none()) {
        return Ok(Cow::Borrowed(targets));
    }
    if !targets.iter().any(has) && !targets.is_empty() {
        return Err(Denial::OtherApi(operation.path()));
    }
    let mut first = None;
    let permitted = targets.iter().filter(|target| target.is_in(client.regions.as_deref()));
    for target in permitted.filter(|target| has(target)) {
        match missing(target) {
            Some(since) => first = first.or(Some(since)),
            None => {
                let able = targets.iter().filter(|target| has(target) && missing(target).is_none());
                return Ok(able.cloned().collect());
            }
        }
    }
    // Without any, it is for want of a region.
    first.map_or(Ok(Cow::Borrowed(&[])), |since| Err(denial(since)))
}

fn denial(since: Since) -> Denial {
    let versions = since.words();
    match since.feature {
        Feature::Operation(operation) => Denial::UnknownOperation { operation: operation.path(), versions },
        Feature::Field(_, field) => Denial::UnknownField { field: field.name(), versions },
    }
}

/// How a target wants the body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    /// What `model` says; `None` where it is left as it is.
    model: Option<Rc<str>>,
    /// Whether it is asked for the default tier, whatever the request says.
    as_default: bool,
    cap_names: CapNames,
    asks_for_usage: bool,
}

/// The body that waits, and those of all candidates.
pub(super) struct Fitted {
    pub(super) patch: Option<Patch>,
    pub(super) content_length: Option<usize>,
    pub(super) bodies: Bodies,
}

/// A body that is read, and for whom it is written.
pub(super) struct Fitting<'f> {
    pub(super) body: &'f [u8],
    /// If it is a form: its edits are told as those of its JSON.
    pub(super) form: Option<&'f Form<'f>>,
    pub(super) has_content_length: bool,
    pub(super) operation: Operation,
    /// In the order in which they are tried, each with whether it is asked for the default tier in place of the one that the
    /// request names; empty if it goes nowhere.
    pub(super) candidates: Vec<(&'f Rc<Target>, bool)>,
}

impl Fitting<'_> {
    /// Writes a body. `cap` is what it says by now, if it says one.
    pub(super) fn fit(&self, model: &Model, request: Request<'_>, cap: u32) -> Fitted {
        let operation = self.operation;
        let shape = |(target, as_default): (&Rc<Target>, bool), model_name: Option<&Rc<str>>| {
            let style = &target.backend.style;
            Shape {
                model: model_name.cloned(),
                as_default,
                cap_names: capability::cap_names(style, model.family),
                asks_for_usage: request.stream && capability::takes_stream_options(style, operation),
            }
        };
        let (shapes, all) = self.shapes(shape);
        let write = |mut request: Request<'_>, shape: &Shape| {
            request.name_cap(operation, shape.cap_names, cap);
            if let Some(name) = &shape.model {
                request.set_model(name);
            }
            if shape.as_default {
                request.set(Field::ServiceTier, format!("\"{DEFAULT_TIER}\""));
            }
            let hides = shape.asks_for_usage && request.ask_for_usage();
            (self.edits(request), if hides { UsageEvent::Hide } else { UsageEvent::Show })
        };
        match shapes.as_slice() {
            [] => self.fitted(all, vec![(self.edits(request), UsageEvent::Show)]),
            [shape] => self.fitted(all, vec![write(request, shape)]),
            several => self.fitted(all, several.iter().map(|shape| write(request.clone(), shape)).collect()),
        }
    }

    fn edits(&self, request: Request<'_>) -> Edits {
        let edits = request.edits();
        match self.form {
            Some(form) => form.edits(edits),
            None => edits,
        }
    }

    /// The ways in which the candidates want the body, that of the first candidate first, and whose they are. Who does
    /// not read the model's name takes the one that the others read.
    fn shapes<S: PartialEq>(
        &self,
        of: impl Fn((&Rc<Target>, bool), Option<&Rc<str>>) -> S,
    ) -> (Vec<S>, Vec<Vec<Whose>>) {
        let reads = |target: &&Rc<Target>| target.backend.style.names_model_in_body(self.operation);
        let mut all = self.candidates.iter().map(|(target, _)| target);
        let name = all.find(|target| reads(target)).map(|target| &target.deployment);
        let (mut shapes, mut all) = (Vec::with_capacity(1), Vec::with_capacity(1));
        for &(target, as_default) in &self.candidates {
            let name = if reads(&target) { Some(&target.deployment) } else { name };
            let shape = of((target, as_default), name);
            let whose = Whose { target: target.number(), as_default };
            let known = shapes.iter().position(|other| *other == shape);
            match known.and_then(|at| all.get_mut(at)) {
                Some(same) => Vec::push(same, whose),
                None => {
                    shapes.push(shape);
                    all.push(vec![whose]);
                }
            }
        }
        (shapes, all)
    }

    /// The first of the written bodies waits; the others differ from it, or not.
    fn fitted(&self, all: Vec<Vec<Whose>>, written: Vec<(Edits, UsageEvent)>) -> Fitted {
        let mut written = written.into_iter();
        let (edits, usage_event) = written.next().unwrap_or((Edits::default(), UsageEvent::Show));
        let mut edited = Vec::new();
        for (whose, (other, other_event)) in all.into_iter().skip(1).zip(written) {
            let difference = edits.difference(&other, self.body);
            if !difference.is_empty() || other_event != usage_event {
                edited.push(EditedBody { whose, edits: difference, usage_event: other_event });
            }
        }
        let len = self.has_content_length.then(|| edits.edited_len(self.body.len()));
        let patch = edits.patch(self.body);
        let content_length = len.filter(|_| patch.is_some());
        Fitted { patch, content_length, bodies: Bodies::new(len, usage_event, edited) }
    }
}
