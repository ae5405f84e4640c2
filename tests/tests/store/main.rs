//! The fleet's store: a script in Redis, and a model of it.

mod budget;
mod capacity;
mod clients;
mod jobs;
mod keys;
mod laws;
mod orders;
mod places;
mod script;
mod simulation;
mod spend;
mod trouble;
mod wild;
