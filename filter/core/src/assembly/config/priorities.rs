//! What it means to be important.

pub(super) mod wire;

use super::Build;
use super::ways_in::is_of_a_filter;
use crate::capacity::{Precedence, Priority, Queue, WHOLE};
use crate::endpoint::ends_here;
use crate::gateway::{Lowering, Precedences};
use std::time::Duration;

/// The longest that a request may be held: Envoy's idle timeouts are to be above it.
const WAIT_MS_MAX: u32 = 60_000;

/// The most requests that may wait in a worker: each holds its body in memory.
const WAITING_MAX: u32 = 100_000;

/// The share that stays free, and the wait, where the configuration does not say.
const HIGH: Precedence = Precedence { headroom_min: 0, wait_max: Duration::from_secs(5) };
const NORMAL: Precedence = Precedence { headroom_min: 50_000, wait_max: Duration::from_secs(5) };
const LOW: Precedence = Precedence { headroom_min: 200_000, wait_max: Duration::from_secs(15) };

/// What the operator's word means.
pub(super) fn of_wire(wire: wire::Priority) -> Priority {
    match wire {
        wire::Priority::High => Priority::High,
        wire::Priority::Normal => Priority::Normal,
        wire::Priority::Low => Priority::Low,
    }
}

impl Build<'_> {
    pub(super) fn precedences(&mut self, wire: &wire::Priorities) -> Precedences {
        Precedences {
            high: self.precedence("priorities.high", wire.high, HIGH),
            normal: self.precedence("priorities.normal", wire.normal, NORMAL),
            low: self.precedence("priorities.low", wire.low, LOW),
        }
    }

    fn precedence(&mut self, path: &str, wire: wire::Precedence, default: Precedence) -> Precedence {
        let headroom_min = wire.headroom_min.map_or(default.headroom_min, |share| {
            if !(0.0..1.0).contains(&share) {
                let problem = format!("{share}: expected a share from 0 to less than 1");
                self.fault(format!("{path}.headroom_min"), problem);
            }
            (share * f64::from(WHOLE)) as u32
        });
        let wait_max = wire.wait_ms.map_or(default.wait_max, |wait_ms| {
            if wait_ms > WAIT_MS_MAX {
                self.fault(format!("{path}.wait_ms"), format!("{wait_ms}: expected at most {WAIT_MS_MAX}"));
            }
            Duration::from_millis(wait_ms.into())
        });
        Precedence { headroom_min, wait_max }
    }

    pub(super) fn lowering(&mut self, wire: &wire::Priorities) -> Lowering {
        let mut lowering = Lowering { query: wire.query.as_deref().map(Into::into), ..Lowering::default() };
        if let Some(name) = &wire.header {
            let lower = name.to_ascii_lowercase();
            if !is_of_a_filter(&lower) {
                let problem = format!("{name:?}: expected the name of a header that means nothing else");
                self.fault("priorities.header".to_owned(), problem);
            }
            lowering.header = lower.into();
        }
        let is_name = |name: &str| {
            let mut bytes = name.bytes();
            !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if let Some(name) = wire.query.as_ref().filter(|name| !is_name(name) || ends_here(name)) {
            let problem = format!("{name:?}: expected the name of a parameter that means nothing else");
            self.fault("priorities.query".to_owned(), problem);
        }
        lowering
    }

    pub(super) fn waiting_max(&mut self, wire: &wire::Priorities) -> usize {
        let Some(waiting_max) = wire.waiting_max else { return Queue::WAITING_MAX };
        if waiting_max > WAITING_MAX {
            let problem = format!("{waiting_max}: expected at most {WAITING_MAX}");
            self.fault("priorities.waiting_max".to_owned(), problem);
        }
        waiting_max as usize
    }
}
