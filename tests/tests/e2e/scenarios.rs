//! Do the scenarios of Microsoft's gateway toolkit pass, as `cargo scenarios --quick` runs them?

use std::process::Command;

use tollgate_tests::scenarios::Scenario;

/// All at once, for most of their time is waiting.
#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_of_the_toolkit_passes() {
    let runs = Scenario::ALL
        .into_iter()
        .filter(|scenario| *scenario != Scenario::Usage)
        .map(|scenario| tokio::spawn(async move { scenario.run(scenario.quick()).await }));
    for run in Vec::from_iter(runs) {
        let outcome = run.await.unwrap().unwrap();
        assert!(outcome.passes(), "{}", outcome.table());
        assert!(outcome.picture().ends_with("</svg>\n"));
    }
}

/// By the command itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_usage_of_three_clients_is_what_is_billed() {
    let command = |arguments: &'static [&str]| {
        tokio::task::spawn_blocking(move || {
            let output = Command::new(env!("CARGO_BIN_EXE_scenarios")).args(arguments).output().unwrap();
            let [said, errors] =
                [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            (output.status.success(), said, errors)
        })
    };
    let (succeeds, said, errors) = command(&["--quick", "usage-tracking"]).await.unwrap();
    assert!(succeeds, "{said}{errors}");
    assert!(said.contains("PASS") && !said.contains("FAIL"), "{said}");
    let (succeeds, _, errors) = command(&["cycle"]).await.unwrap();
    assert!(!succeeds && errors.contains("expected one of round-robin-simple, "), "{errors}");
}
