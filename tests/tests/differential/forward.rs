//! What goes on of a body that is held to a policy, and does a reader of it see what we saw?

use tollgate::policy::{self, Asked, Policy};
use tollgate::request::{CapField, CapNames, Ceiling, Request};

use super::bodies::Dice;
use super::policies;
use super::view::View;

/// One body that goes on.
pub struct Forwarded {
    /// What goes on of it.
    pub bytes: Vec<u8>,
    /// What was asked for.
    pub asked: Asked,
    ours: View,
    ceiling: Ceiling,
    cap_names: CapNames,
}

/// Does with a body what the exchange does. `None` if it is refused.
fn forward(
    policy: &Policy,
    (asked, cap_names): (&Asked, CapNames),
    rename: bool,
    body: &[u8],
) -> Option<(Vec<u8>, Ceiling)> {
    let mut request = Request::read(body).ok()?;
    let ceiling = policy::apply(policy, asked, &mut request).ok()?.ceiling;
    request.name_cap(asked.operation, cap_names, ceiling.completion_tokens);
    if rename {
        request.set_model("deployment");
    }
    if request.stream && asked.operation.takes_stream_options() {
        request.ask_for_usage();
    }
    let Some(patch) = request.patch() else { return Some((body.to_vec(), ceiling)) };
    let mut forwarded = patch.bytes;
    forwarded.extend_from_slice(&body[patch.replaced..]);
    Some((forwarded, ceiling))
}

/// Throws for a policy and for what is asked, and holds the body to it. What goes on keeps the policy: held to it again, it
/// passes as it is.
pub fn held_to(
    dice: &mut Dice,
    body: impl FnOnce(&mut Dice) -> Vec<u8>,
) -> Result<Option<Forwarded>, String> {
    let policy = policies::pick(dice);
    let (asked, cap_names) = policies::asked(dice);
    let rename = dice.one_in(2);
    let body = body(dice);
    let Some((bytes, ceiling)) = forward(&policy, (&asked, cap_names), rename, &body) else {
        return Ok(None);
    };
    let mut again = Request::read(&bytes).map_err(|denial| format!("cannot be read again: {denial:?}"))?;
    let ours = View::of_request(&again);
    let verdict = policy::apply(&policy, &asked, &mut again);
    let verdict = verdict.map_err(|denial| format!("does not keep the policy: {denial:?}"))?;
    if verdict.ceiling != ceiling || verdict.findings.iter().any(|finding| finding.clamped().is_some()) {
        return Err(format!("{ceiling:?} became {verdict:?}"));
    }
    Ok(Some(Forwarded { bytes, asked, ours, ceiling, cap_names }))
}

impl Forwarded {
    /// What is wrong with it, by what a reader sees.
    pub fn disagreement(&self, reader: &View) -> Option<String> {
        if let Some(field) = self.ours.differs_from(reader) {
            return Some(field);
        }
        // The reservation is for what the reader will do.
        let count = |name: &str| reader.count(name);
        let (operation, cap_names) = (self.asked.operation, self.cap_names);
        let mut caps = CapField::ALL.into_iter().filter(|field| field.is_read_by(operation));
        let given = caps.find_map(|field| count(field.name()).map(|cap| (field, cap)));
        if given.is_some_and(|(field, _)| cap_names.other_than(field, operation).is_some()) {
            return Some(format!("the model does not take its cap under {given:?}"));
        }
        let cap = given.map(|(_, cap)| cap);
        let is_capped = CapField::ALL.iter().any(|field| field.is_read_by(operation));
        if is_capped && cap.is_some_and(|cap| cap != u64::from(self.ceiling.completion_tokens)) {
            return Some(format!("the cap is {cap:?}, reserved was {:?}", self.ceiling));
        }
        let candidates = count("n").unwrap_or(1).max(count("best_of").filter(|_| is_capped).unwrap_or(1));
        (candidates > u64::from(self.ceiling.candidates))
            .then(|| format!("{candidates} candidates, reserved was {:?}", self.ceiling))
    }
}
