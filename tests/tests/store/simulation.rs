//! A fleet at work, for a while: the longer runs are `cargo simulate-fleet`.

use std::time::Duration;

use tollgate_tests::fleet::simulation::{Figures, Fleet, Plan};

fn run(budget_percent: u64, deaths: u32, cuts: u32, seed: u64) -> Figures {
    let skew = Duration::from_secs(3);
    let plan =
        Plan { envoys: 8, clients: 20, rate: 500, seconds: 10, budget_percent, deaths, cuts, skew, seed };
    Fleet::new(plan).run()
}

#[test]
fn a_simulated_fleet_admits_what_one_counter_would() {
    for seed in 0..3 {
        for budget_percent in [1000, 60] {
            let figures = run(budget_percent, 0, 0, seed);
            assert_eq!(figures.overshoot, 0, "{figures:?}");
            assert!(figures.admitted.abs_diff(figures.central) * 100 <= figures.central, "{figures:?}");
        }
    }
}

/// Without them nothing is shown by how little is spent beyond.
#[test]
fn a_simulated_fleet_has_its_troubles() {
    for (deaths, cuts) in [(4, 0), (0, 4)] {
        let figures = run(60, deaths, cuts, 0);
        assert!(figures.untold > 0, "{deaths} deaths, {cuts} cuts: {figures:?}");
    }
    assert_eq!(run(60, 0, 0, 0).untold, 0);
}

#[test]
fn a_simulated_fleet_overshoots_by_what_the_dead_did_not_tell() {
    for seed in 0..3 {
        let figures = run(60, 4, 4, seed);
        assert_eq!(figures.beyond, 0, "{figures:?}");
    }
}
