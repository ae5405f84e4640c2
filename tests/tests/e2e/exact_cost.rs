//! Does a request cost what is written down, to the call?

use std::collections::BTreeMap;

use tollgate_tests::cost::{self, BYTES_PERCENT_MAX, Cost, Counted, Role};

#[tokio::test]
async fn what_a_request_costs_is_written_down_to_the_call() {
    let written = cost::written().unwrap();
    let mut found = Vec::new();
    // On a machine that is starved, pauses are read again for each request, and a body comes in other pieces: then once more.
    for _ in 0..3 {
        found = differences(&written, &cost::count().await.unwrap());
        if found.is_empty() {
            return;
        }
    }
    panic!("{}\nIf that is meant: `cargo exact-cost` writes {} anew.", found.join("\n"), cost::FILE);
}

/// Each line says one.
fn differences(written: &Counted, counted: &Counted) -> Vec<String> {
    let mut found = Vec::new();
    let (was, is) = (written.module_bytes, counted.module_bytes);
    if was.abs_diff(is) * 100 > was * BYTES_PERCENT_MAX {
        found.push(format!("the module had {was} bytes, and has {is}"));
    }
    let (was, is) = (calls(written), calls(counted));
    let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
    for name in names {
        let (was, is) = (was.get(name).copied().unwrap_or(0), is.get(name).copied().unwrap_or(0));
        if was != is {
            found.push(format!("{name}: was {was}, is {is}"));
        }
    }
    found
}

/// Every number, by the words that lead to it.
fn calls(counted: &Counted) -> BTreeMap<String, usize> {
    let of_role = |name: String, role: &Role| {
        let calls = role.iter().flat_map(move |(callback, counts)| {
            let name = name.clone();
            counts.iter().map(move |(call, count)| (format!("{name}, {callback}, {call}"), *count))
        });
        calls.collect::<Vec<_>>()
    };
    let of_request = |(name, cost): (&String, &Cost)| {
        let mut calls = vec![
            (format!("{name}, host calls"), cost.host_calls),
            (format!("{name}, VM entries"), cost.vm_entries),
        ];
        calls.extend(of_role(format!("{name}, gateway"), &cost.gateway));
        calls.extend(of_role(format!("{name}, attempt"), &cost.attempt));
        calls
    };
    counted.requests.iter().flat_map(of_request).collect()
}
