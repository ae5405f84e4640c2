//! The decisions in their order, over one request.

pub mod attempt;
pub mod exchange;
pub mod prove;
pub mod socket;
