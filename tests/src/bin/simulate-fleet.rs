//! Prints what a fleet of each size asks of its store, and whether it spends more than there is.

use std::time::Duration;

use tollgate_tests::fleet::simulation::{Fleet, Plan};

/// Envoys, clients, requests a second, budgets in hundredths of the demand, deaths, cuts, fail-overs.
const PLANS: [(usize, usize, u32, u64, u32, u32, u32); 11] = [
    (3, 5, 1000, 1000, 0, 0, 0),
    (3, 5, 1000, 80, 0, 0, 0),
    (3, 5, 1000, 80, 4, 4, 0),
    (20, 100, 1000, 1000, 0, 0, 0),
    (20, 100, 1000, 80, 0, 0, 0),
    (20, 100, 1000, 80, 8, 8, 0),
    (20, 100, 1000, 80, 0, 0, 4),
    (100, 1000, 5000, 1000, 0, 0, 0),
    (100, 1000, 5000, 80, 20, 20, 0),
    (1000, 10_000, 10_000, 1000, 0, 0, 0),
    (1000, 10_000, 10_000, 80, 50, 50, 0),
];

fn main() {
    println!(
        "| Envoys | clients | requests/s | budgets/demand | deaths, cuts, fail-overs | calls a second by ticks | other calls/100 requests | \
         waited | admitted/one counter | overshoot | untold | lost | beyond all |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (envoys, clients, rate, budget_percent, deaths, cuts, fail_overs) in PLANS {
        let (seconds, skew, seed) = (30, Duration::from_secs(3), 1);
        let plan =
            Plan { envoys, clients, rate, seconds, budget_percent, deaths, cuts, fail_overs, skew, seed };
        let figures = Fleet::new(plan).run();
        let per_request = |many: u64| many as f64 * 100.0 / figures.requests as f64;
        println!(
            "| {envoys} | {clients} | {rate} | {budget_percent} % | {deaths}, {cuts}, {fail_overs} | {:.0} | {:.2} | {:.2} % | {:.2} % | {} | {} | {} | {} |",
            (figures.calls - figures.asked) as f64 / f64::from(seconds),
            per_request(figures.asked),
            per_request(figures.waited),
            figures.admitted as f64 * 100.0 / figures.central as f64,
            figures.overshoot,
            figures.untold,
            figures.lost,
            figures.beyond,
        );
    }
}
