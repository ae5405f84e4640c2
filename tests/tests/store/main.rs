//! The fleet's store: a script in Redis, and a model of it.

mod laws;
mod script;
mod trouble;
mod wild;
