//! What do operators see of a worker and of its queue?
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What became of jobs, by client and priority; and of notices.
#[derive(Default)]
pub(super) struct Counts {
    jobs: RefCell<BTreeMap<(String, String, String), u64>>,
    notices: RefCell<BTreeMap<&'static str, u64>>,
}

/// How the queue stands, as the store tells it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Standing {
    pub(super) dead: u64,
    pub(super) running: u64,
    pub(super) later: u64,
    /// Each priority, how many wait, and since when the oldest does, in ms.
    pub(super) priorities: Vec<(String, u64, u64)>,
    /// Each client, how many wait or run, and since when the oldest is there, in ms.
    pub(super) clients: Vec<(String, u64, u64)>,
}

impl Counts {
    pub(super) fn job(&self, outcome: &str, client: &str, priority: &str) {
        let key = (outcome.to_owned(), client.to_owned(), priority.to_owned());
        *self.jobs.borrow_mut().entry(key).or_default() += 1;
    }

    pub(super) fn notice(&self, outcome: &'static str) {
        *self.notices.borrow_mut().entry(outcome).or_default() += 1;
    }

    /// As Prometheus reads it. While the store does not answer, nothing is said of the queue.
    pub(super) fn text(&self, held: usize, standing: Option<&Standing>) -> String {
        let mut page = Page(String::new());
        page.head("tollgate_queue_store_up", "gauge", "Whether the store answers.");
        page.line("tollgate_queue_store_up", &[], u64::from(standing.is_some()));
        page.head("tollgate_worker_running", "gauge", "Jobs that this worker has.");
        page.line("tollgate_worker_running", &[], held as u64);
        page.head("tollgate_worker_jobs_total", "counter", "What became of jobs at this worker.");
        for ((outcome, client, priority), count) in &*self.jobs.borrow() {
            let labels = [("outcome", outcome.as_str()), ("client", client), ("priority", priority)];
            page.line("tollgate_worker_jobs_total", &labels, *count);
        }
        page.head("tollgate_worker_notices_total", "counter", "What became of notices to webhooks.");
        for (outcome, count) in &*self.notices.borrow() {
            page.line("tollgate_worker_notices_total", &[("outcome", outcome)], *count);
        }
        if let Some(standing) = standing {
            page.standing(standing);
        }
        page.0
    }
}

struct Page(String);

impl Page {
    fn standing(&mut self, standing: &Standing) {
        for (name, value, help) in [
            ("tollgate_queue_dead", standing.dead, "Dead letters."),
            ("tollgate_queue_running", standing.running, "Jobs that workers have."),
            (
                "tollgate_queue_later",
                standing.later,
                "Jobs that wait for their time after a refusal or a fault.",
            ),
        ] {
            self.head(name, "gauge", help);
            self.line(name, &[], value);
        }
        let families = [
            (
                "tollgate_queue_depth",
                "tollgate_queue_oldest_seconds",
                "priority",
                &standing.priorities,
                "wait",
            ),
            (
                "tollgate_queue_jobs",
                "tollgate_queue_client_oldest_seconds",
                "client",
                &standing.clients,
                "wait or run",
            ),
        ];
        for (count, age, label, rows, what) in families {
            self.head(count, "gauge", &format!("Jobs that {what}, by {label}."));
            for (word, number, _) in rows {
                self.line(count, &[(label, word)], *number);
            }
            self.head(age, "gauge", &format!("The age of the oldest of those that {what}, by {label}."));
            for (word, _, ms) in rows {
                self.line(age, &[(label, word)], ms / 1000);
            }
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let label = |(name, value): &(&str, &str)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        };
        let labels: Vec<_> = labels.iter().map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}
