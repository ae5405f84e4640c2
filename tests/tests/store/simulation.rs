//! A fleet at work, for a while: the longer runs are `cargo simulate-fleet`.

use std::time::Duration;

use tollgate_tests::fleet::simulation::{Figures, Fleet, Plan};

fn run(budget_percent: u64, deaths: u32, cuts: u32, seed: u64) -> Figures {
    run_with(0, budget_percent, deaths, cuts, seed)
}

fn run_with(fail_overs: u32, budget_percent: u64, deaths: u32, cuts: u32, seed: u64) -> Figures {
    let (envoys, clients, rate, seconds, skew) = (8, 20, 500, 10, Duration::from_secs(3));
    let plan = Plan { envoys, clients, rate, seconds, budget_percent, deaths, cuts, fail_overs, skew, seed };
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

/// The last second's writes are lost each time.
#[test]
fn a_simulated_fail_over_grants_again_no_more_than_was_lost() {
    for seed in 0..3 {
        let figures = run_with(3, 60, 0, 0, seed);
        assert!(figures.lost > 0, "{figures:?}");
        assert_eq!(figures.beyond, 0, "{figures:?}");
        // Windows are told anew: of what was lost little is spent twice, and hardly less is admitted.
        assert!(figures.overshoot * 10 <= figures.lost, "{figures:?}");
        assert!(figures.admitted * 100 >= figures.central * 95, "{figures:?}");
        assert_eq!(run_with(3, 60, 4, 4, seed).beyond, 0);
    }
}
