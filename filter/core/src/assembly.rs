//! What the operator writes becomes what runs.

pub mod config;
pub mod gateway;
pub mod standings;
