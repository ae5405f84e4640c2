//! The worker and the tool's hand on the queue: real processes, a real Redis, and a stand-in for the gateway.

mod answers;
mod crashes;
mod desk;
mod ends;
mod gate;
mod operators;
mod queue;
#[path = "../e2e/stand_in.rs"]
mod stand_in;
mod webhooks;
