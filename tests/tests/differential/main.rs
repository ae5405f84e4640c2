//! Is what the policy saw what Python's json and serde_json make of the forwarded bytes?
//!
//! Bodies are made to be misread; each is held to a policy as the filter does it, and what would be forwarded is given to
//! both readers. They must see in every governed field what our own reading of it says, and that must keep the policy. A
//! reader that refuses the whole body is not deceived. `CASES` and `SEED` choose how many and which; a disagreement
//! prints the number to run it alone.

mod bodies;
mod forms;
mod forward;
mod policies;
mod reader;
mod view;

use std::env;
use std::ops::Range;
use std::time::Instant;

use serde_json::Value;

use forward::Forwarded;
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

/// One case, from its number alone, with its body.
fn run(seed: u64, case: u64) -> Result<Option<(u64, Vec<u8>, Forwarded)>, String> {
    let mut body = Vec::new();
    let mut made = |dice: &mut bodies::Dice| {
        body = bodies::body(dice);
        body.clone()
    };
    let held = forward::held_to(&mut bodies::Dice::new(seed, case), &mut made)?;
    Ok(held.map(|forwarded| (case, body, forwarded)))
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
        let texts: Vec<_> = forwarded.iter().map(|(_, _, one)| one.bytes.as_slice()).collect();
        let seen = python.read(&texts, texts.len());
        let seen = seen.iter().map(|line| View::of_line(line));
        let mut compared = 0;
        for ((case, body, one), in_python) in forwarded.iter().zip(seen) {
            let in_rust = serde_json::from_slice::<Value>(&one.bytes).ok().map(|value| View::of(&value));
            compared += u64::from(in_python.is_some() && in_rust.is_some());
            for (reader, seen) in [("Python's json", in_python), ("serde_json", in_rust)] {
                if let Some(problem) = seen.as_ref().and_then(|seen| one.disagreement(seen)) {
                    return Err(format!(
                        "{}\n{reader} disagrees: {problem}\nasked:     {:?}\nbody:      {}\nforwarded: {}",
                        alone(seed, *case),
                        one.asked,
                        shown(body),
                        shown(&one.bytes),
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
