//! Is what the policy saw what Python's json and serde_json make of the forwarded bytes?
//!
//! Bodies are made to be misread; each is held to a policy as the filter does it, and what would be forwarded is given to
//! both readers. They must see in every governed field what our own reading of it says, and that must keep the policy. A
//! reader that refuses the whole body is not deceived. `CASES` and `SEED` choose how many and which; a disagreement
//! prints the number to run it alone.

mod bodies;
mod forms;
mod policies;
mod reader;
mod view;

use std::env;
use std::ops::Range;
use std::time::Instant;

use serde_json::Value;
use tollgate::policy::{self, Asked, Policy};
use tollgate::request::{CapField, CapNames, Ceiling, Request};

use reader::Reader;
use view::View;

/// How many cases are read at once.
const BATCH: u64 = 2000;

/// What came of many cases.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cases: u64,
    forwarded: u64,
    /// By both readers.
    compared: u64,
}

/// One body that goes on.
struct Forwarded {
    case: u64,
    body: Vec<u8>,
    forwarded: Vec<u8>,
    ours: View,
    ceiling: Ceiling,
    asked: Asked,
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

/// One case, from its number alone.
fn run(seed: u64, case: u64) -> Result<Option<Forwarded>, String> {
    let mut dice = bodies::Dice::new(seed, case);
    let policy = policies::pick(&mut dice);
    let (asked, cap_names) = policies::asked(&mut dice);
    let rename = dice.one_in(2);
    let body = bodies::body(&mut dice);
    let Some((forwarded, ceiling)) = forward(&policy, (&asked, cap_names), rename, &body) else {
        return Ok(None);
    };
    // What goes on keeps the policy: held to it again, it passes as it is.
    let mut again =
        Request::read(&forwarded).map_err(|denial| format!("cannot be read again: {denial:?}"))?;
    let ours = View::of_request(&again);
    let verdict = policy::apply(&policy, &asked, &mut again);
    let verdict = verdict.map_err(|denial| format!("does not keep the policy: {denial:?}"))?;
    if verdict.ceiling != ceiling || verdict.findings.iter().any(|finding| finding.clamped().is_some()) {
        return Err(format!("{ceiling:?} became {verdict:?}"));
    }
    Ok(Some(Forwarded { case, body, forwarded, ours, ceiling, asked, cap_names }))
}

impl Forwarded {
    /// What is wrong with it, by what a reader sees.
    fn disagreement(&self, reader: &View) -> Option<String> {
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

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Goes through some cases in batches: what goes on of each is compared, which tells how many all readers read. The first
/// disagreement is an error, with what runs it alone.
fn in_batches<F>(
    seed: u64,
    cases: Range<u64>,
    run: fn(u64, u64) -> Result<Option<F>, String>,
    body_of: fn(u64, u64) -> Vec<u8>,
    mut compare: impl FnMut(&[F]) -> Result<u64, String>,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut next = cases.start;
    while next < cases.end {
        let batch = next..(next + BATCH).min(cases.end);
        next = batch.end;
        tally.cases += batch.end - batch.start;
        let mut forwarded = Vec::new();
        for case in batch {
            let found = run(seed, case).map_err(|problem| {
                format!("{}\n{problem}\nbody: {}", alone(seed, case), shown(&body_of(seed, case)))
            })?;
            forwarded.extend(found);
        }
        tally.forwarded += forwarded.len() as u64;
        tally.compared += compare(&forwarded)?;
    }
    Ok(tally)
}

/// What runs one case alone.
fn alone(seed: u64, case: u64) -> String {
    format!("SEED={seed} CASES={case}..{}", case + 1)
}

/// Runs some cases; the first disagreement is an error.
fn check(seed: u64, cases: Range<u64>) -> Result<Tally, String> {
    let mut python = Reader::json();
    in_batches(seed, cases, run, bodies::of, |forwarded| {
        let texts: Vec<_> = forwarded.iter().map(|one| one.forwarded.as_slice()).collect();
        let seen = python.read(&texts, texts.len());
        let seen = seen.iter().map(|line| View::of_line(line));
        let mut compared = 0;
        for (one, in_python) in forwarded.iter().zip(seen) {
            let in_rust = serde_json::from_slice::<Value>(&one.forwarded).ok().map(|value| View::of(&value));
            compared += u64::from(in_python.is_some() && in_rust.is_some());
            for (reader, seen) in [("Python's json", in_python), ("serde_json", in_rust)] {
                if let Some(problem) = seen.as_ref().and_then(|seen| one.disagreement(seen)) {
                    return Err(format!(
                        "{}\n{reader} disagrees: {problem}\nasked:     {:?}\nbody:      {}\nforwarded: {}",
                        alone(seed, one.case),
                        one.asked,
                        shown(&one.body),
                        shown(&one.forwarded),
                    ));
                }
            }
        }
        Ok(compared)
    })
}

/// Which cases: `CASES=N`, or `CASES=A..B`, or else so many.
fn cases(otherwise: u64) -> Range<u64> {
    let Ok(text) = env::var("CASES") else { return 0..otherwise };
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..text.parse().unwrap(),
    }
}

fn nobody_disagrees(otherwise: u64, check: fn(u64, Range<u64>) -> Result<Tally, String>) {
    let seed = env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    let cases = cases(otherwise);
    let began = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8) as u64;
    let share = (cases.end - cases.start).div_ceil(workers);
    let tallies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| (cases.start + worker * share).min(cases.end))
            .map(|from| from..(from + share).min(cases.end))
            .map(|cases| scope.spawn(move || check(seed, cases)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        match tally {
            Ok(tally) => {
                all.cases += tally.cases;
                all.forwarded += tally.forwarded;
                all.compared += tally.compared;
            }
            Err(problem) => panic!("{problem}"),
        }
    }
    println!(
        "seed {seed}: {} cases, {} forwarded, {} read by all, no disagreement, {:.0?}",
        all.cases,
        all.forwarded,
        all.compared,
        began.elapsed()
    );
    // Or nothing would have been shown.
    assert!(all.cases < 1000 || all.compared > all.cases / 5, "{all:?}");
}

#[test]
fn what_the_policy_saw_is_what_every_reader_sees() {
    nobody_disagrees(20_000, check);
}

#[test]
fn what_the_policy_saw_of_a_form_is_what_readers_see() {
    nobody_disagrees(5_000, forms::check);
}

/// `cargo differential`
#[test]
#[ignore = "takes minutes"]
fn there_is_no_disagreement_in_a_million() {
    nobody_disagrees(1_000_000, check);
}

/// `cargo differential`
#[test]
#[ignore = "takes minutes"]
fn there_is_no_disagreement_over_forms() {
    nobody_disagrees(300_000, forms::check);
}
