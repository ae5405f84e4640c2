//! Do the laws of `targets` hold for the corpus, and for what is a few changes away from it?
//!
//! What libFuzzer finds in hours is not looked for here: `fuzz/README.md` says how. `CASES` chooses how many.

mod mutations;
mod targets;

use std::fs;
use std::panic;

use tollgate_tests::harness::tools::workspace;

use tollgate_tests::fleet::histories::Dice;

/// Of each target.
const CASES: u64 = 4000;

#[track_caller]
fn holds(name: &str) {
    let target = targets::ALL.iter().find(|(known, _)| *known == name).unwrap().1;
    let folder = workspace().join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} has no file", folder.display());
    let check = |data: &[u8], what: &str| {
        if panic::catch_unwind(|| target(data)).is_err() {
            panic!("{what} breaks a law of {name}, told above: {}", data.escape_ascii());
        }
    };
    for (file, data) in files.iter().zip(&corpus) {
        check(data, &file.display().to_string());
    }
    let cases = std::env::var("CASES").map_or(CASES, |cases| cases.parse().unwrap());
    for case in 0..cases {
        let data = mutations::of(&corpus, &mut Dice::new(case));
        check(&data, &format!("case {case}"));
    }
}

#[test]
fn what_the_policy_saw_is_what_serde_json_sees() {
    holds("body");
}

#[test]
fn where_a_stream_is_cut_does_not_matter() {
    holds("sse");
}

#[test]
fn a_record_is_one_value_or_none() {
    holds("codec");
}

#[test]
fn replies_of_the_store_are_whole_or_none() {
    holds("resp");
}

#[test]
fn where_a_socket_is_cut_does_not_matter() {
    holds("frames");
}

#[test]
fn a_token_says_one_thing_to_every_reader() {
    holds("token");
}

#[test]
fn a_configuration_is_taken_or_its_faults_are_told() {
    holds("config");
}

/// So that no target is without its program and its corpus.
#[test]
fn every_target_has_a_program_and_a_corpus() {
    let listed = |folder: &str| {
        let entries = fs::read_dir(workspace().join("fuzz").join(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut names: Vec<_> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!((listed("fuzz_targets"), listed("corpus")), (names.clone(), names));
}
