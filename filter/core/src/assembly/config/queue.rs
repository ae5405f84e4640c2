//! Which requests may be answered later, and who may have them answered?

mod broker;
pub(super) mod wire;

use super::{Build, Range, one_of, priorities};
use crate::gateway::{ActsFor, FleetStore, JobQueue, PREFIX};
use crate::job;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

/// More than any store holds of one client: 16 GiB.
const BYTES_CEILING: u64 = 16 << 30;

/// A week.
const SECONDS_MAX: u64 = 604_800;

impl Build<'_> {
    pub(super) fn queue(
        &mut self,
        wire: Option<&wire::Queue>,
        store: Option<&Rc<FleetStore>>,
        region: Option<&str>,
    ) -> Option<JobQueue> {
        let wire = wire?;
        let broker = wire.broker.as_ref();
        if store.is_none() && broker.is_none() {
            let problem = "jobs lie in a store, and there is none: expected store, or queue.broker";
            self.fault("queue".to_owned(), problem);
            return None;
        }
        if broker.is_some() {
            self.check_is_of_no_store(wire);
        }
        let key = wire.key_env.as_deref().and_then(|env| self.seal_key(env));
        let full_at = wire.full_at.unwrap_or(1.0);
        if !(full_at > 0.0 && full_at <= 1.0) {
            self.fault("queue.full_at".to_owned(), format!("{full_at}: expected more than 0, and at most 1"));
        }
        let jobs = Range { default: 1000, min: 1, max: 1_000_000 };
        let bytes = Range { default: 100 << 20, min: 1, max: BYTES_CEILING };
        let age = Range { default: 86_400, min: 1, max: SECONDS_MAX };
        let keep = Range { default: 3600, min: 1, max: SECONDS_MAX };
        Some(JobQueue {
            keys: job::Keys::new(store.map_or(PREFIX, |store| &store.prefix)),
            key,
            least: priorities::of_wire(wire.least),
            is_always: wire.when == wire::When::Always,
            headroom_min: ((1.0 - full_at) * 1e6).round() as u32,
            makes_responses: wire.background == wire::Background::Queue,
            jobs_max: self.within("queue.jobs_max", wire.jobs_max, &jobs),
            bytes_max: self.within("queue.bytes_max", wire.bytes_max, &bytes),
            age: Duration::from_secs(self.within("queue.age_s", wire.age_s, &age)),
            keep: Duration::from_secs(self.within("queue.keep_s", wire.keep_s, &keep)),
            region: broker.map_or(region, |broker| broker.region.as_deref()).map(Rc::from),
            broker: broker.and_then(|broker| self.broker(broker)).map(Rc::new),
        })
    }

    /// What is said of a queue in the store does not hold at a broker.
    fn check_is_of_no_store(&mut self, wire: &wire::Queue) {
        let told = [
            ("background", wire.background == wire::Background::Queue),
            ("jobs_max", wire.jobs_max.is_some()),
            ("bytes_max", wire.bytes_max.is_some()),
            ("keep_s", wire.keep_s.is_some()),
        ];
        for (field, _) in told.into_iter().filter(|(_, is_told)| *is_told) {
            let problem =
                "is of the store's queue, and queue.broker is there in its place: expected one of the two";
            self.fault(format!("queue.{field}"), problem);
        }
    }

    fn seal_key(&mut self, env: &str) -> Option<job::Key> {
        let text = self.secret("queue.key_env", env)?;
        let key = job::Key::read(&text);
        if key.is_none() {
            let problem = format!(
                "environment variable {env:?} is no key: expected 32 bytes as base64, or at least as many characters"
            );
            self.fault("queue.key_env".to_owned(), problem);
        }
        key
    }

    /// For whom a client asks that works jobs off.
    pub(super) fn acts_for(&mut self, wire: &[String]) -> ActsFor {
        if wire.iter().any(|name| name == "*") {
            return ActsFor::Anybody;
        }
        ActsFor::These(wire.iter().map(|name| name.as_str().into()).collect())
    }

    /// Each of them has to be a client, and jobs there must be.
    pub(super) fn check_acts_for(
        &mut self,
        wire: &[(String, Vec<String>)],
        names: &HashSet<String>,
        has_queue: bool,
    ) {
        for (path, acts_for) in wire {
            if !has_queue && !acts_for.is_empty() {
                self.fault(path.clone(), "there are no jobs to work off: expected queue");
            }
            for (at, name) in acts_for.iter().enumerate().filter(|(_, name)| *name != "*") {
                if !names.contains(name) {
                    let known = one_of(names.iter().map(String::as_str).chain(["*"]));
                    self.fault(
                        format!("{path}[{at}]"),
                        format!("no client is named {name:?}: expected {known}"),
                    );
                }
            }
        }
    }
}
