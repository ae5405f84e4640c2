//! What goes to backends of a lower priority?

pub(super) mod wire;

use super::Build;
use crate::capacity::WHOLE;
use crate::gateway::{Model, Spill};
use crate::limits::Budget;
use std::rc::Rc;

impl Build<'_> {
    pub(super) fn spill(&mut self, path: &str, wire: &wire::Spill, model: &Model) -> Spill {
        let first = model.targets.iter().map(|target| target.priority).min();
        if model.targets.iter().all(|target| Some(target.priority) == first) {
            let problem = "every backend has the same priority: expected one of a lower priority to spill to";
            self.fault(path.to_owned(), problem);
        }
        let spare = wire.above.map_or(0, |above| {
            let path = format!("{path}.above");
            if !(above > 0.0 && above < 1.0) {
                let problem = format!("{above}: expected a share above 0 and below 1");
                self.fault(path.clone(), problem);
            }
            let mut preferred = model.targets.iter().filter(|target| Some(target.priority) == first);
            if preferred.all(|target| target.gauges.is_empty()) {
                let problem =
                    "no backend of the first priority says how much it takes: expected tokens_per_minute or requests_per_minute";
                self.fault(path, problem);
            }
            WHOLE.saturating_sub((above * f64::from(WHOLE)) as u32)
        });
        let path = format!("{path}.limits");
        for (at, limit) in wire.limits.iter().enumerate() {
            let others = [
                ("concurrent", limit.concurrent.is_some()),
                ("models", limit.models.is_some()),
                ("endpoints", limit.endpoints.is_some()),
                ("shadow", limit.shadow),
            ];
            for (field, _) in others.into_iter().filter(|(_, is_there)| *is_there) {
                let problem = "a limit on spilling has none: expected tokens, requests or cost, and per";
                self.fault(format!("{path}[{at}].{field}"), problem);
            }
        }
        let account = self.spill_account(&path, &wire.limits, model);
        let budget = Budget::new([Rc::new(account)]);
        Spill { spare, budget: (!budget.is_unlimited()).then(|| Rc::new(budget)) }
    }
}
