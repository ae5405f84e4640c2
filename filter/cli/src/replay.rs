//! Who would be served differently by another configuration?
//!
//! Both configurations are asked about each request of an access log what can be known from it: whether the client is still there and may
//! use the endpoint and the model, where the request would go first, and what its tokens would have cost. No body is in a log, and nothing
//! of limits, capacity and failures is gone through again.

mod line;
mod report;

use crate::arguments::Replay;
use crate::paint::{print, print_json};
use crate::{End, check, source};
pub(crate) use line::Line;
use report::{Account, Report};
use std::rc::Rc;
use tollgate::endpoint::Operation;
use tollgate::gateway::Gateway;
use tollgate::route::Target;

/// Tells it, client by client.
pub(crate) fn replay(arguments: &Replay) -> Result<End, String> {
    let mut gateways = Vec::new();
    for file in [&arguments.old, &arguments.new] {
        let mut found = source::find(file)?;
        if found.len() > 1 {
            return Err(format!("{file} has more than one configuration"));
        }
        let found = found.remove(0);
        match found.load().gateway {
            Ok(gateway) => gateways.push(gateway),
            Err(errors) => return Ok(check::refused(&found, &errors)),
        }
    }
    let [old, new] = gateways.as_slice() else { return Err("--old and --new are needed".to_owned()) };
    let mut report = Report::default();
    let file = &arguments.log;
    let log = source::text(file)?;
    let mut lines: u64 = 0;
    for text in log.lines().filter(|text| !text.trim().is_empty()) {
        lines += 1;
        match Line::read(text) {
            Some(line) => compare(old, new, &line, &mut report),
            None => report.unread += 1,
        }
    }
    if lines > 0 && report.unread == lines {
        return Err(Line::none_in(file));
    }
    if arguments.json {
        print_json(&report.as_json());
    } else {
        print(&report.text());
    }
    Ok(if report.is_changed() { End::Found } else { End::Well })
}

/// What becomes of a request, as far as a log tells.
enum Verdict {
    Refused(Refusal),
    /// Where it may go, in order; nowhere for what the gateway answers itself.
    Goes {
        targets: Vec<Rc<Target>>,
        first: usize,
    },
    /// The log does not say enough.
    Unknown,
}

/// Why.
struct Refusal {
    code: &'static str,
    why: String,
}

impl Verdict {
    fn refused(code: &'static str, why: String) -> Self {
        Self::Refused(Refusal { code, why })
    }

    /// Of a request by one configuration.
    fn of(gateway: &Gateway, line: &Line) -> Self {
        let Some(operation) = Operation::of_word(&line.operation) else { return Self::Unknown };
        let Some(client) = gateway.roster.iter().find(|client| *client.name.text == *line.client) else {
            return Self::refused("invalid_api_key", "there is no such client".to_owned());
        };
        if client.check_endpoint(operation).is_err() {
            return Self::refused(
                "endpoint_not_allowed",
                format!("endpoint {} is not permitted", line.operation),
            );
        }
        let (targets, is_drawn) = if operation == Operation::Other {
            (gateway.other.clone(), false)
        } else if operation.reaches_backends() {
            let Some(name) = &line.model else { return Self::Unknown };
            let Ok(model) = gateway.model(client, name) else {
                return Self::refused("model_not_allowed", format!("model {name} is not permitted"));
            };
            (model.targets.clone(), model.nearness.is_some())
        } else {
            return Self::Goes { targets: Vec::new(), first: 0 };
        };
        let is_nowhere = targets.is_empty();
        let targets: Vec<_> = targets
            .into_iter()
            .filter(|target| target.backend.style.api() == operation.api())
            .filter(|target| target.is_in(client.regions.as_deref()))
            .collect();
        let Some(best) = targets.first() else {
            return if is_nowhere {
                Self::refused("unknown_url", "no backend takes other endpoints".to_owned())
            } else {
                Self::refused("region_not_permitted", "no backend is in the client's regions".to_owned())
            };
        };
        if line.is_pinned
            && !targets.iter().any(|target| Some(&*target.backend.name) == line.backend.as_deref())
        {
            return Self::refused(
                "id_not_found",
                "the backend that keeps what it refers to is gone".to_owned(),
            );
        }
        let equals = targets.iter().take_while(|target| target.priority == best.priority);
        let is_drawn = is_drawn || equals.clone().any(|target| target.weight.is_some());
        let first = if is_drawn { equals.count() } else { 1 };
        Self::Goes { targets, first }
    }
}

/// What its tokens cost at these targets, in millionths; `None` if that is not known.
fn cost(line: &Line, targets: &[Rc<Target>]) -> Option<u64> {
    if line.usage.total() == 0 {
        return Some(0);
    }
    let mut costs = targets.iter().map(|target| target.micros(line.usage, line.service()));
    let first = costs.next()??;
    costs.all(|cost| cost == Some(first)).then_some(first)
}

/// The target where the log says that it was served.
fn served<'t>(line: &Line, targets: &'t [Rc<Target>]) -> &'t [Rc<Target>] {
    let is_there = |target: &Rc<Target>| Some(&*target.backend.name) == line.backend.as_deref();
    let is_it = |target: &Rc<Target>| {
        is_there(target) && line.deployment.as_ref().is_none_or(|name| **name == *target.deployment)
    };
    let at = targets.iter().position(is_it).or_else(|| targets.iter().position(is_there));
    at.and_then(|at| targets.get(at..=at)).unwrap_or_default()
}

fn compare(old: &Gateway, new: &Gateway, line: &Line, report: &mut Report) {
    let (before, after) = (Verdict::of(old, line), Verdict::of(new, line));
    let cost_before = match &before {
        Verdict::Goes { targets, .. } => cost(line, served(line, targets)),
        _ => cost(line, &[]),
    };
    report.misfits += u64::from(!fits(line, &before, cost_before));
    let mut account = Account { requests: 1, ..Account::default() };
    let mut cost_after = None;
    match (&before, &after) {
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => {
            report.untold += 1;
            // What cost nothing then is not missing in the sum.
            cost_after = cost_before.filter(|cost| *cost == 0);
        }
        (Verdict::Refused(_), Verdict::Refused(_)) => cost_after = Some(0),
        (Verdict::Goes { .. }, Verdict::Refused(refusal)) => {
            account.refused = 1;
            report.tell("refused", line, &refusal.why);
            cost_after = Some(0);
        }
        (Verdict::Refused(_), Verdict::Goes { .. }) => {
            account.admitted = 1;
            report.tell("admitted", line, &shown(line));
        }
        (Verdict::Goes { targets: from, first: of }, Verdict::Goes { targets: to, first }) => {
            let (from, firsts) = (names(from, *of), names(to, *first));
            // What has never been sent goes nowhere, and what is pinned goes where it is kept.
            let stays = from == firsts || line.backend.is_none() || line.is_pinned;
            let here = served(line, to);
            let there = to.get(..*first).unwrap_or_default();
            cost_after = cost(line, if stays && !here.is_empty() { here } else { there });
            if !stays {
                account.moved = 1;
                let moved = format!("{}: {} -> {}", shown(line), from.join(" or "), firsts.join(" or "));
                report.tell("moved", line, &moved);
            }
        }
    }
    match (cost_before, cost_after) {
        (Some(before), Some(after)) => {
            account.before = before;
            account.after = after;
        }
        _ => report.unpriced += 1,
    }
    report.clients.entry(line.client.clone()).or_default().add(account);
    report.estimated += u64::from(line.is_estimated);
}

/// Whether the old configuration can have been in force when it was written.
fn fits(line: &Line, before: &Verdict, cost: Option<u64>) -> bool {
    match before {
        Verdict::Refused(refusal) => line.outcome == refusal.code,
        Verdict::Goes { targets, .. } => {
            let is_there = line.backend.is_none() || !served(line, targets).is_empty();
            let is_paid = line.price_micros.is_none() || line.price_micros == cost;
            let is_refused = ["endpoint_not_allowed", "model_not_allowed", "region_not_permitted"];
            is_there && is_paid && !is_refused.contains(&line.outcome.as_str())
        }
        Verdict::Unknown => true,
    }
}

fn shown(line: &Line) -> String {
    line.model.clone().unwrap_or_else(|| line.operation.clone())
}

/// Those that are asked first, in a fixed order.
fn names(targets: &[Rc<Target>], first: usize) -> Vec<&str> {
    let mut names: Vec<_> = targets.iter().take(first).map(|target| &*target.word).collect();
    names.sort_unstable();
    names
}
