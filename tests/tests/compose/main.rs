//! Does docker-compose.yml show what it says, as it is, in a real Docker Engine?
//!
//! What is not shown: that its images can be pulled. They are made here, of this machine's programs: the official binary
//! of Envoy, the mock, the distribution's Prometheus, and for Grafana a web server that only sees the files it would read.

mod images;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::harness::document::{blocks, commands, fits};
use tollgate_tests::harness::engine::Engine;
use tollgate_tests::harness::metrics::{Sample, parse};
use tollgate_tests::harness::tools::{self, workspace};

/// The last one is for the commands of docs/queue.md to start.
const PROFILES: [&str; 6] = ["--profile", "dashboards", "--profile", "fleet", "--profile", "queue"];

/// The port before the fleet.
const FRONT: &str = "http://localhost:10010/v1/chat/completions";

/// The one with a queue, and how many jobs it is given at once.
const QUEUE: &str = "http://localhost:10020";
const JOBS: usize = 12;

/// `docker compose`, which is a program of its own here: the script's first argument.
const COMPOSE: &str = "compose=$1; docker() { shift; \"$compose\" \"$@\"; }\n";

const NETWORK: &str = "tollgate_default";

const CHATS: &str = "http://localhost:10000/v1/chat/completions";
const CHAT: &str =
    r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}"#;

/// As much as its policy lets `batch` ask for, but for little.
const BATCH: &str =
    r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}"#;

/// More than anything takes here: whoever waits longer waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_cut_network_and_a_stopped_backend_are_passed_over() {
    let engine = match Engine::start() {
        Ok(engine) => engine,
        Err(why) => return tools::skip("docker-compose.yml", &why),
    };
    tools::wasm().unwrap();
    let mut stack = Stack::up(engine);

    assert_eq!(stack.sdks(4), ["ptu"; 8], "all is well");
    stack.metrics_are_all_that_the_network_sees();

    // Nothing tells Envoy: no connection is closed, what is sent is lost. One request waits for its answer meanwhile.
    let waits = stack.waits_at_ptu();
    stack.engine.docker(&["network", "disconnect", NETWORK, "tollgate-ptu-1"]).unwrap();
    assert_eq!(stack.sdks(4), ["payg-a"; 8], "the network of ptu is cut");
    assert_eq!(waits.wait_with_output().unwrap().stdout, b"200", "the network was cut under a request");
    stack.engine.compose(&["stop", "payg-a"]).unwrap();
    assert_eq!(stack.sdks(1), ["payg-b"; 2], "payg-a is stopped as well");
    // Before payg-a: who comes back takes the first address that is free. With the one that ptu had, payg-a would be shown
    // ptu's key until Envoy asks for the names again, would refuse it, and ptu would be left in peace for half a minute.
    stack.engine.docker(&["network", "connect", "--alias", "ptu", NETWORK, "tollgate-ptu-1"]).unwrap();
    eventually("ptu is used again", || {
        let _ = stack.curl(&["--header", "api-key: demo-web-shop", "--json", CHAT, CHATS]);
        stack.log().last().is_some_and(|line| line["backend"] == "ptu" && line["status"] == 200)
    });
    stack.engine.compose(&["start", "payg-a"]).unwrap();

    eventually("ptu is full, and who asks does not notice", || {
        stack.the_readmes_requests();
        let full = [("backend", "ptu"), ("status", "429")];
        stack.metrics().iter().any(|sample| sample.is("tollgate_upstream_responses", &full))
    });
    eventually("Prometheus has what was spent", || {
        let found = stack.ask_prometheus("sum by (client) (tollgate_tokens)");
        found.iter().any(|series| series["metric"]["client"] == "web-shop")
    });
    stack.grafana_has_its_files();
    stack.two_envoys_have_one_budget();
    stack.a_queue_waits_for_its_worker();
    assert_eq!(stack.down(), Vec::<String>::new(), "is left on this machine");
}

/// Without Rust there is no `target`.
#[test]
fn the_module_of_a_release_is_mounted_where_it_is_said() {
    let compose = match tools::compose() {
        Ok(compose) => compose,
        Err(why) => return tools::skip("the_module_of_a_release_is_mounted_where_it_is_said", &why),
    };
    for (said, mounted) in
        [(None, "target/tollgate.wasm"), (Some("./tollgate-0.1.0.wasm"), "tollgate-0.1.0.wasm")]
    {
        let mut command = Command::new(&compose);
        command.current_dir(workspace()).args(PROFILES).args(["config", "--format", "json"]);
        command.env_remove("TOLLGATE_WASM").envs(said.map(|file| ("TOLLGATE_WASM", file)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let configuration: Value = serde_json::from_slice(&output.stdout).unwrap();
        for service in ["envoy", "fleet", "queue"] {
            let volumes = configuration["services"][service]["volumes"].as_array().unwrap();
            let module =
                volumes.iter().find(|volume| volume["target"] == "/etc/envoy/tollgate.wasm").unwrap();
            assert_eq!(module["source"], workspace().join(mounted).to_str().unwrap(), "{service}");
        }
    }
}

struct Stack {
    engine: Engine,
    drivers: Vec<Driver>,
}

/// The official SDK: it makes the calls that it reads.
struct Driver {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    fn start(engine: &Engine) -> Self {
        let mut command = engine.command(tools::python().unwrap());
        command.arg(workspace().join("tests/python/sdk.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, output }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Its input ends with this, and then it does.
        let _ = self.process.wait();
    }
}

impl Stack {
    fn up(engine: Engine) -> Self {
        let configuration = [&PROFILES[..], &["config", "--format", "json"]].concat();
        let configuration = engine.compose(&configuration).unwrap();
        let configuration: Value = serde_json::from_str(&configuration).unwrap();
        for image in images::stand_ins(&configuration) {
            engine.import(&image).unwrap();
        }
        // They start while the containers do.
        let drivers = (0..4).map(|_| Driver::start(&engine)).collect();
        let stack = Self { engine, drivers };
        let up = ["up", "--detach", "--wait", "--pull", "never", "--no-build"];
        if let Err(error) = stack.engine.compose(&[&PROFILES[..4], &up].concat()) {
            let logs = stack.engine.compose(&[&PROFILES[..], &["logs", "--tail", "20"]].concat());
            panic!("{error:#}\n{}", logs.unwrap_or_default());
        }
        stack
    }

    /// The backends that answer so many drivers at once, each of which asks with both classes of the SDK.
    fn sdks(&mut self, drivers: usize) -> Vec<String> {
        let before = self.log().len();
        let asked = &mut self.drivers[..drivers];
        for driver in &mut *asked {
            let calls = ["OpenAI", "AzureOpenAI"].map(call).concat();
            driver.process.stdin.as_mut().unwrap().write_all(calls.as_bytes()).unwrap();
        }
        for driver in asked {
            for _ in 0..2 {
                let outcome = driver.output.next().expect("the driver has ended").unwrap();
                let outcome: Value = serde_json::from_str(&outcome).unwrap();
                let text = &outcome["answer"]["choices"][0]["message"]["content"];
                assert_eq!(text, "Hello Hello Hello Hello", "{outcome}");
            }
        }
        let mut log = Vec::new();
        eventually("every request has its line", || {
            log = self.log().split_off(before);
            log.len() == 2 * drivers
        });
        log.iter().map(|line| line["backend"].as_str().unwrap().to_owned()).collect()
    }

    /// A request that ptu has and never answers: it prints the status that it gets in the end.
    fn waits_at_ptu(&self) -> Child {
        const ADMIN: &str = "http://localhost:8081/_mock";
        let hang = r#"{"faults": [{"effect": "hang"}]}"#;
        self.curl(&["--request", "PUT", "--data", hang, &format!("{ADMIN}/settings")]).unwrap();
        self.curl(&["--request", "POST", &format!("{ADMIN}/reset")]).unwrap();
        let mut waits = self.engine.command("curl");
        waits.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time"]);
        waits.arg(PATIENCE.as_secs().to_string()).args([
            "--header",
            "api-key: demo-batch",
            "--json",
            CHAT,
            CHATS,
        ]);
        let waits = waits.stdout(Stdio::piped()).spawn().unwrap();
        eventually("ptu has the request", || {
            let received = self.curl(&[&format!("{ADMIN}/received")]).unwrap();
            serde_json::from_str::<Value>(&received).unwrap() != json!([])
        });
        waits
    }

    /// What Envoy's access log has of the client that the SDKs are.
    fn log(&self) -> Vec<Value> {
        let log = self.engine.compose(&["logs", "--no-log-prefix", "envoy"]).unwrap();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["client"] == "web-shop").collect()
    }

    fn curl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut curl = self.engine.command("curl");
        let output =
            curl.args(["--silent", "--show-error", "--fail", "--max-time", "10"]).args(arguments).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// A URL as Prometheus would see it.
    fn envoy(&self, place: &str) -> String {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.engine.docker(&["inspect", "--format", address, "tollgate-envoy-1"]).unwrap();
        format!("http://{}:{place}", address.trim())
    }

    fn metrics(&self) -> Vec<Sample> {
        parse(&self.curl(&[&self.envoy("9901/stats/prometheus")]).unwrap())
    }

    fn metrics_are_all_that_the_network_sees(&self) {
        let spent = [("client", "web-shop"), ("model", "gpt-4o"), ("outcome", "served")];
        let sample = self.metrics().into_iter().find(|sample| sample.is("tollgate_requests", &spent));
        assert_eq!(sample.expect("the requests are counted").value, 8.0);
        let metrics = self.envoy("9901/stats/prometheus");
        let refused = [
            (vec![self.envoy("9901/config_dump")], "404"),
            (vec![self.envoy("9901/stats/prometheus/../../quitquitquit"), "--path-as-is".to_owned()], "404"),
            (vec!["--request".to_owned(), "POST".to_owned(), metrics], "404"),
            (vec![self.envoy("9902/stats/prometheus")], "connect"),
        ];
        for (arguments, expected) in refused {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let error = self.curl(&arguments).expect_err("it is told nothing else");
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    /// The requests that the README shows, as they stand there.
    fn the_readmes_requests(&self) {
        let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
        let shown: Vec<_> = blocks(&readme, "console").iter().flat_map(|block| commands(block)).collect();
        let shown = shown.iter().filter(|(command, _)| command.contains("localhost:10000"));
        let mut ran = 0;
        for (command, expected) in shown {
            let output = self.engine.command("sh").args(["-c", command]).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(
                fits(printed.trim_end(), expected.trim_end()),
                "{command}\nprinted {printed}\nnot {expected}"
            );
            ran += 1;
        }
        assert!(ran > 0, "the README shows no request");
    }

    /// The statuses of so many requests of `batch`, sent to the fleet at the same time.
    fn asks_the_fleet(&self, requests: usize) -> Vec<String> {
        let mut curl = self.engine.command("curl");
        curl.args(["--silent", "--parallel", "--parallel-immediate", "--write-out", "%{http_code}\n"]);
        curl.args(["--max-time", "20", "--header", "api-key: demo-batch", "--json", BATCH]);
        for _ in 0..requests {
            curl.args(["--output", "/dev/null", FRONT]);
        }
        let output = curl.output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// What each of the fleet's Envoys has served to a client: requests, and their tokens.
    fn served_by_each(&self, client: &str) -> [(usize, u64); 2] {
        ["tollgate-fleet-1", "tollgate-fleet-2"].map(|envoy| {
            let log = self.engine.docker(&["logs", envoy]).unwrap();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let served: Vec<_> =
                lines.filter(|line| line["client"] == client && line["status"] == 200).collect();
            let tokens = |line: &Value| -> u64 {
                let text = |field: &str| line[field].as_str().unwrap().parse::<u64>().unwrap();
                text("prompt_tokens") + text("completion_tokens")
            };
            (served.len(), served.iter().map(tokens).sum())
        })
    }

    /// Of the 1000 tokens a minute that `batch` has, no more are spent through two Envoys than through one; and they serve on
    /// when the store is gone, and when one of them is.
    fn two_envoys_have_one_budget(&self) {
        let started = Instant::now();
        let statuses = self.asks_the_fleet(100);
        let flowed_in = 1000 * started.elapsed().as_millis() / 60_000;
        assert!(statuses.iter().all(|status| status == "200" || status == "429"), "{statuses:?}");
        let served = statuses.iter().filter(|status| *status == "200").count();
        let mut each = [(0, 0); 2];
        eventually("every request has its line", || {
            each = self.served_by_each("batch");
            each.iter().map(|(requests, _)| requests).sum::<usize>() == served
        });
        let spent = u128::from(each.iter().map(|(_, tokens)| tokens).sum::<u64>());
        // Each reserves more than it spends, so how many come after the first depends on how fast those end.
        assert!((300..=1000 + flowed_in).contains(&spent), "{spent} with {flowed_in} flowed in: {each:?}");

        let ask = || self.curl(&["--header", "api-key: demo-web-shop", "--json", CHAT, FRONT]);
        eventually("both serve", || {
            ask().is_ok() && self.served_by_each("web-shop").iter().all(|(requests, _)| *requests > 0)
        });
        self.engine.compose(&["stop", "--timeout", "1", "redis"]).unwrap();
        for _ in 0..6 {
            ask().expect("they serve without the store");
        }
        self.engine.compose(&["start", "redis"]).unwrap();
        self.engine.docker(&["stop", "--time", "1", "tollgate-fleet-1"]).unwrap();
        eventually("the other one serves", || (0..6).all(|_| ask().is_ok()));
    }

    /// What docs/queue.md shows, as it stands there; and of more than one worker has at once, nothing is lost when it is told to
    /// stop.
    fn a_queue_waits_for_its_worker(&self) {
        let document = fs::read_to_string(workspace().join("docs/queue.md")).unwrap();
        let shown = blocks(&document, "console").concat();
        let (mut script, mut expected) = (COMPOSE.to_owned(), String::new());
        for (command, output) in commands(&shown) {
            script.push_str(&format!("{command}\n"));
            expected.push_str(output.trim_end());
        }
        let compose = tools::compose().unwrap();
        let mut sh = self.engine.command("timeout");
        sh.arg(PATIENCE.as_secs().to_string()).args(["sh", "-c", &script, "sh"]).arg(compose);
        let printed = sh.output().unwrap();
        let (printed, errors) = (String::from_utf8(printed.stdout).unwrap(), printed.stderr);
        let errors = String::from_utf8_lossy(&errors);
        // Where one answer ends and the next begins, curl does not tell.
        assert!(fits(&printed.replace('\n', ""), &expected), "printed {printed}\nnot {expected}\n{errors}");

        let mut curl = self.engine.command("curl");
        curl.args(["--silent", "--parallel", "--parallel-immediate", "--write-out", "%header{location}\n"]);
        curl.args(["--header", "api-key: demo-batch", "--header", "prefer: respond-async", "--json", CHAT]);
        for _ in 0..JOBS {
            curl.args(["--output", "/dev/null", &format!("{QUEUE}/v1/chat/completions")]);
        }
        let jobs = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        assert_eq!(jobs.lines().filter(|job| job.starts_with("/tollgate/v1/jobs/")).count(), JOBS, "{jobs}");
        self.engine.compose(&["restart", "worker"]).unwrap();
        for job in jobs.lines() {
            eventually("the job is answered", || {
                let answer = self.curl(&["--header", "api-key: demo-batch", &format!("{QUEUE}{job}")]);
                answer.unwrap().contains("chat.completion")
            });
        }
    }

    fn ask_prometheus(&self, query: &str) -> Vec<Value> {
        let query = format!("query={query}");
        let url = "http://localhost:9090/api/v1/query";
        let answer = self.curl(&["--get", "--data-urlencode", &query, url]).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["data"]["result"].as_array().unwrap().clone()
    }

    fn grafana_has_its_files(&self) {
        for (here, there) in
            [("provisioning", "/etc/grafana/provisioning"), ("dashboards", "/var/lib/grafana/dashboards")]
        {
            let find = |mut command: Command| {
                let output = command.output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let found = String::from_utf8(output.stdout).unwrap();
                found.lines().map(str::to_owned).collect::<BTreeSet<_>>()
            };
            let mut ours = Command::new("find");
            ours.args([".", "-type", "f"]).current_dir(workspace().join("examples/grafana").join(here));
            let ours = find(ours);
            assert!(!ours.is_empty(), "nothing in examples/grafana/{here}");
            let sees = ["exec", "-T", "grafana", "sh", "-c"];
            let script =
                format!("cd {there} && find . -type f -exec cat {{}} + >/dev/null && find . -type f");
            let theirs = self.engine.compose(&[&sees[..], &[&script]].concat()).unwrap();
            assert_eq!(theirs.lines().map(str::to_owned).collect::<BTreeSet<_>>(), ours);
        }
    }

    /// Takes all down; what is left of it.
    fn down(self) -> Vec<String> {
        self.engine.compose(&[&PROFILES[..], &["down", "--timeout", "5"]].concat()).unwrap();
        let containers = self.engine.docker(&["ps", "--all", "--quiet"]).unwrap();
        let networks = self.engine.docker(&["network", "ls", "--quiet", "--filter", "type=custom"]).unwrap();
        let left = [containers, networks].concat();
        drop(self.drivers);
        left.lines().map(str::to_owned).chain(self.engine.stop().unwrap()).collect()
    }
}

fn call(sdk: &str) -> String {
    let mut arguments: Value = serde_json::from_str(CHAT).unwrap();
    arguments["timeout"] = json!(PATIENCE.as_secs());
    let call = json!({
        "url": "http://localhost:10000", "sdk": sdk, "key": "demo-web-shop", "method": "chat.completions.create",
        "arguments": arguments, "max_retries": 0,
    });
    format!("{call}\n")
}

/// Asks again and again.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn our_images_are_built_by_a_rust_that_is_new_enough() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
    let after = |text: &str, word: &str| -> Vec<u32> {
        let number = text.split_once(word).expect(word).1.split(['-', '"']).next().unwrap().to_owned();
        number.split('.').map(|part| part.parse().unwrap()).collect()
    };
    let needed = after(&read("Cargo.toml"), "rust-version = \"");
    for dockerfile in ["tests/Dockerfile", "filter/cli/Dockerfile"] {
        assert!(after(&read(dockerfile), "FROM rust:") >= needed, "{dockerfile}: {needed:?}");
    }
}
