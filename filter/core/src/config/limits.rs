//! What a client may spend.

use super::{Build, wire};
use crate::limits::{Limit, Period};
use std::num::NonZeroU32;

impl Build<'_> {
    pub(super) fn limits(&mut self, path: &str, wire: &[wire::Limit]) -> Vec<Limit> {
        let mut limits = Vec::new();
        for (at, limit) in wire.iter().enumerate() {
            let per = match limit.per {
                wire::Period::Second => Period::Second,
                wire::Period::Minute => Period::Minute,
            };
            match NonZeroU32::new(limit.tokens) {
                Some(tokens) => limits.push(Limit { tokens, per }),
                None => self.fault(format!("{path}[{at}].tokens"), "0: expected at least 1"),
            }
        }
        limits
    }
}
