//! What does Envoy's trace say of calls between it and the module?
//!
//! `[host->vm] proxy_on_log(3)` is a call into the module, `[host<-vm]` its return, `[vm->host] env.proxy_log(…)` a call
//! back from within. <https://github.com/proxy-wasm/proxy-wasm-cpp-host/blob/main/src/v8/v8.cc>

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What one request costs. Of two the one with fewer calls is the less.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cost {
    /// Calls of the module, all in all.
    pub host_calls: usize,
    /// Calls into it, all in all. Envoy's requests for memory are a part of what a host call costs.
    pub vm_entries: usize,
    /// In the listener's chain.
    pub gateway: Role,
    /// At the backends.
    pub attempt: Role,
}

/// Each call into the module, by its name, with what it calls back. [`ENTERED`] is how often it came.
pub type Role = BTreeMap<String, BTreeMap<String, usize>>;

/// How often a call came into the module, beside what it called.
pub const ENTERED: &str = "(entered)";

/// The call that Envoy makes only for a request, not for an attempt.
const OF_A_REQUEST: &str = "on_log";

/// A context that a stream has: what it was called, in a role that shows by then.
#[derive(Default)]
struct Stream {
    calls: Role,
    is_over: bool,
}

impl Cost {
    fn add(&mut self, calls: Role) {
        for counts in calls.values() {
            for (name, count) in counts {
                *if name == ENTERED { &mut self.vm_entries } else { &mut self.host_calls } += count;
            }
        }
        if calls.contains_key(OF_A_REQUEST) {
            self.gateway = calls;
            return;
        }
        for (callback, counts) in calls {
            let sums = self.attempt.entry(callback).or_default();
            for (name, count) in counts {
                *sums.entry(name).or_default() += count;
            }
        }
    }
}

/// The cost of each request that is over, in the order in which they came, one after the other, on one worker.
pub(super) fn costs(log: &str) -> Result<Vec<Cost>> {
    let mut streams: Vec<((&str, &str), Stream)> = Vec::new();
    // By thread: the calls that have not returned, outermost first, each with its context.
    let mut open: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (thread, way, call) in log.lines().filter_map(read) {
        let stack = open.entry(thread).or_default();
        let (name, arguments) = call.split_once('(').unwrap_or((call, ""));
        let name = name.trim_start_matches("env.").trim_start_matches("wasi_snapshot_preview1.");
        let name = name.trim_start_matches("proxy_");
        match way {
            "host->vm" => {
                let mut arguments = arguments.trim_end_matches(')').split(", ");
                let context = arguments.next().unwrap_or_default();
                // A context without a parent is that of the configuration.
                if name == "on_context_create" && arguments.next() != Some("0") {
                    streams.push(((thread, context), Stream::default()));
                }
                stack.push((name, context));
                // What comes from within a call is a part of it.
                if stack.len() == 1
                    && let Some(stream) = stream_of(&mut streams, thread, context)
                {
                    *stream
                        .calls
                        .entry(name.to_owned())
                        .or_default()
                        .entry(ENTERED.to_owned())
                        .or_default() += 1;
                    stream.is_over |= name == "on_delete";
                }
            }
            "host<-vm" => {
                stack.pop().with_context(|| format!("a return without a call in Envoy's trace: {call}"))?;
            }
            "vm->host" => {
                if let Some((callback, context)) = stack.first()
                    && let Some(stream) = stream_of(&mut streams, thread, context)
                {
                    let counts = stream.calls.entry((*callback).to_owned()).or_default();
                    *counts.entry(name.to_owned()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    let mut costs: Vec<Cost> = Vec::new();
    // A request's context is made before those of its attempts.
    for (_, stream) in streams.into_iter().filter(|(_, stream)| stream.is_over) {
        if stream.calls.contains_key(OF_A_REQUEST) {
            costs.push(Cost::default());
        }
        costs.last_mut().context("an attempt without a request in Envoy's trace")?.add(stream.calls);
    }
    Ok(costs)
}

fn stream_of<'s>(
    streams: &'s mut [((&str, &str), Stream)],
    thread: &str,
    context: &str,
) -> Option<&'s mut Stream> {
    let mut latest = streams.iter_mut().rev();
    latest.find(|(at, _)| *at == (thread, context)).map(|(_, stream)| stream)
}

/// The thread, the way and the call of a line of the trace: `[time][thread][trace][wasm] [place] [way] call`.
fn read(line: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = line.split_once("[trace][wasm] [")?;
    let thread = head.rsplit_once('[')?.1.trim_end_matches(']');
    let (way, call) = rest.split_once("] [")?.1.split_once("] ")?;
    Some((thread, way, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "[source/extensions/common/wasm/wasm_vm.cc:39]";

    fn log(lines: &[&str]) -> String {
        let line = |line: &&str| format!("[2026-01-01 00:00:00.000][7][trace][wasm] {PLACE} {line}\n");
        lines.iter().map(line).collect()
    }

    #[test]
    fn calls_belong_to_the_request_that_is_under_way() {
        let log = log(&[
            "[host->vm] proxy_on_context_create(2, 0)",
            "[host<-vm] proxy_on_context_create return: void",
            "[host->vm] proxy_on_context_create(3, 2)",
            "[host<-vm] proxy_on_context_create return: void",
            "[host->vm] proxy_on_tick(2)",
            "[vm->host] env.proxy_get_current_time_nanoseconds(1)",
            "[vm<-host] env.proxy_get_current_time_nanoseconds return: 0",
            "[host<-vm] proxy_on_tick return: void",
            "[host->vm] proxy_on_request_headers(3, 12, 1)",
            "[vm->host] env.proxy_get_property(1, 2, 3, 4)",
            "[host->vm] proxy_on_memory_allocate(4)",
            "[host<-vm] proxy_on_memory_allocate return: 77",
            "[vm<-host] env.proxy_get_property return: 0",
            "[host<-vm] proxy_on_request_headers return: 0",
            "[host->vm] proxy_on_context_create(4, 2)",
            "[host<-vm] proxy_on_context_create return: void",
            "[host->vm] proxy_on_delete(4)",
            "[host<-vm] proxy_on_delete return: void",
            "[host->vm] proxy_on_log(3)",
            "[host<-vm] proxy_on_log return: void",
            "[host->vm] proxy_on_delete(3)",
            "[host<-vm] proxy_on_delete return: void",
            // Not over yet.
            "[host->vm] proxy_on_context_create(5, 2)",
            "[host<-vm] proxy_on_context_create return: void",
        ]);
        let costs = costs(&log).unwrap();
        let [cost] = costs.as_slice() else { panic!("{costs:?}") };
        assert_eq!((cost.host_calls, cost.vm_entries), (1, 6));
        let head = BTreeMap::from([(ENTERED.to_owned(), 1), ("get_property".to_owned(), 1)]);
        assert_eq!(cost.gateway["on_request_headers"], head);
        assert_eq!(cost.attempt.keys().collect::<Vec<_>>(), ["on_context_create", "on_delete"]);
    }
}
