//! What does the core cost? Native and without Envoy: `cargo bench`, or `cargo bench -- stream` for a part of it.
//!
//! In the VM the same code is slower, and host calls come on top: `cargo bench-envoy` measures that.

mod answer;
mod body;
mod budget;
mod exchange;
mod identity;
mod samples;

use criterion::Criterion;
use std::time::Duration;

fn main() {
    // Short, because all of it should be over before one stops waiting: the numbers are steady to a few percent.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    body::bench(&mut criterion);
    answer::bench(&mut criterion);
    budget::bench(&mut criterion);
    identity::bench(&mut criterion);
    exchange::bench(&mut criterion);
    criterion.final_summary();
}
