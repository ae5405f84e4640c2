//! What clients may ask for.

use super::{Build, Policies, REQUEST_BYTES_CEILING, wire};
use crate::policy::{Bound, Over, Policy, REQUEST_BYTES_MAX};
use std::collections::HashMap;
use std::rc::Rc;

impl Build<'_> {
    pub(super) fn policies(&mut self, wire: Vec<wire::Policy>) -> Policies {
        let mut policies = HashMap::new();
        for (at, policy) in wire.into_iter().enumerate() {
            let path = format!("policies[{at}]");
            self.name(format!("{path}.name"), &policy.name);
            let bytes_max = policy.request_bytes_max.unwrap_or(REQUEST_BYTES_MAX);
            if !(1..=REQUEST_BYTES_CEILING).contains(&bytes_max) {
                let problem = format!("{bytes_max}: expected 1 to {REQUEST_BYTES_CEILING}");
                self.fault(format!("{path}.request_bytes_max"), problem);
            }
            let built = Policy {
                // A bound without a default would be no bound for those who leave the field out.
                max_tokens: self
                    .bound(&format!("{path}.max_tokens"), policy.max_tokens)
                    .map(|bound| Bound { default: bound.default.or(bound.max), ..bound }),
                best_of: self.bound(&format!("{path}.best_of"), policy.best_of),
                n: self.bound(&format!("{path}.n"), policy.n),
                request_bytes_max: bytes_max,
            };
            if policies.insert(policy.name.clone(), Rc::new(built)).is_some() {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", policy.name));
            }
        }
        policies
    }

    fn bound(&mut self, path: &str, wire: Option<wire::Bound>) -> Option<Bound> {
        let wire = wire?;
        for (field, value) in [("default", wire.default), ("max", wire.max)] {
            if value == Some(0) {
                self.fault(format!("{path}.{field}"), "0: expected at least 1");
            }
        }
        if let (Some(default), Some(max)) = (wire.default, wire.max)
            && default > max
        {
            self.fault(format!("{path}.default"), format!("{default} is above max, which is {max}"));
        }
        let over = match wire.over {
            wire::Over::Clamp => Over::Clamp,
            wire::Over::Reject => Over::Reject,
        };
        Some(Bound { default: wire.default, max: wire.max, over })
    }
}
