//! The laws that are looked into, from the tests: `--test fuzz` holds them to the corpus.

#[path = "../../tests/tests/fuzz/targets/mod.rs"]
pub mod targets;
