//! Does the built tool say what it should, and end as it should?

mod common;

use common::{root, run, tool};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn check(arguments: &[&str], input: &str, code: i32, printed: &str) {
    assert_eq!(run(arguments, input), (code, printed.to_owned(), String::new()));
}

fn example() -> String {
    fs::read_to_string(root().join("examples/ptu-first/gateway.yaml")).unwrap()
}

/// The configuration of the example inside of a Wasm filter, as Envoy and Istio have it.
fn in_filter(keys: &str, attempt: &str) -> String {
    let inside = example().replace('\n', "\n      ");
    format!(
        "filters:\n- config:\n    root_id: gateway\n    allow_on_headers_stop_iteration: true\n    \
         vm_config: {{ vm_id: t, environment_variables: {{ host_env_keys: [ {keys} ] }} }}\n    \
         configuration:\n      value:\n        {}\n    failure_policy: FAIL_RELOAD\n- config:\n    root_id: attempt\n    \
         failure_policy: FAIL_RELOAD\n    vm_config: {attempt}\n",
        inside.replace("\n      ", "\n        ")
    )
}

const SHA256: &str = "44456ffbdb5bb5b1a75ed5a7254d404f0bcfe4d04f3d976654d55d73d088f465";

#[test]
fn a_configuration_that_loads_is_well_an_unset_secret_a_warning() {
    let expected = format!(
        "examples/ptu-first/gateway.yaml: ok: 1 client, 1 model, sha256 {SHA256}\n  warning: the environment variable \
         PTU_KEY is not set here\n"
    );
    check(&["check", "examples/ptu-first/gateway.yaml"], "", 0, &expected);
}

/// The folders of the examples that are gateway configurations.
fn examples() -> Vec<PathBuf> {
    let folders = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = folders.filter(|folder| folder.join("gateway.yaml").exists()).collect();
    found.sort();
    found
}

#[test]
fn every_example_is_well_without_a_warning() {
    assert!(examples().len() > 5);
    for example in examples() {
        let text = fs::read_to_string(example.join("gateway.yaml")).unwrap();
        let variables = text.split("env: ").skip(1).map(|rest| (rest.split(' ').next().unwrap(), "x"));
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["check", "gateway.yaml"])
            .current_dir(&example)
            .env_clear()
            .envs(variables)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}: {printed}", example.display());
        assert!(printed.starts_with("gateway.yaml: ok: ") && printed.lines().count() == 1, "{printed}");
    }
}

#[test]
fn a_small_weight_without_a_bound_is_a_warning() {
    let config = |next: &str| {
        format!(
            "clients: [{{ name: web, anonymous: true, models: ['*'] }}]\n\
             models: [{{ name: m, backends: [{{ backend: a, weight: 80 }}, {{ backend: b, weight: {next} }}] }}]\n\
             backends: [{{ name: a, cluster: a, style: openai }}, {{ name: b, cluster: b, style: openai }}]\n"
        )
    };
    let warnings = |next: &str| {
        let (code, printed, _) = run(&["check", "-"], &config(next));
        assert_eq!(code, 0, "{printed}");
        printed.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let warning = "  warning: model \"m\": backend \"b\" has a weight of 20 in 100 and no share_max: when the others pause, \
                   it gets all requests";
    assert_eq!(warnings("20"), [warning]);
    for fine in ["21", "0", "20, share_max: 0.4"] {
        assert_eq!(warnings(fine), [] as [&str; 0], "{fine}");
    }
}

#[test]
fn what_a_fleet_does_not_share_is_a_warning() {
    let config = |store: &str| {
        format!(
            "clients: [{{ name: web, anonymous: true, models: ['*'], group: g, limits: [{{ tokens: 1, per: day }}] }}]\n\
             groups: [{{ name: g, limits: [{{ tokens: 1, per: day, by: {{ claim: sub }} }}] }}]\n\
             models: [{{ name: m, backends: [{{ backend: a }}] }}]\n\
             backends: [{{ name: a, cluster: a, style: openai }}]\n\
             {store}"
        )
    };
    let (code, printed, _) = run(&["check", "-"], &config("store: { redis: { cluster: s } }\n"));
    assert_eq!(code, 0, "{printed}");
    let warning =
        "groups[0].limits[0].by: each Envoy of the fleet counts this for itself: a user has so much at each";
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert!(printed.contains(warning), "{printed}");
    let (_, alone, _) = run(&["check", "-"], &config(""));
    assert_eq!(alone.lines().count(), 1, "{alone}");
}

#[test]
fn a_bound_on_answers_below_that_on_streams_is_a_warning() {
    let warnings = |answer: u32| {
        let config = format!(
            "clients: [{{ name: web, anonymous: true, models: ['*'] }}]\n\
             models: [{{ name: m, stream_start_ms_max: 5000, answer_start_ms_max: {answer}, backends: [{{ backend: a }}] }}]\n\
             backends: [{{ name: a, cluster: a, style: openai }}]\n"
        );
        let (code, printed, _) = run(&["check", "-"], &config);
        assert_eq!(code, 0, "{printed}");
        printed.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let warning = "  warning: model \"m\": an answer_start_ms_max of 4999 is below the stream_start_ms_max of 5000: a whole answer \
                   begins when all of it is produced, which takes longer than the beginning of a stream";
    assert_eq!(warnings(4999), [warning]);
    assert_eq!(warnings(5000), [] as [&str; 0]);
}

#[test]
fn the_examples_commands_of_the_tool_print_what_is_shown() {
    let mut ran = 0;
    for example in examples() {
        let readme = fs::read_to_string(example.join("README.md")).unwrap();
        for block in readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            for command in block.split("$ ").filter_map(|command| command.strip_prefix("tollgate ")) {
                let (arguments, shown) = command.split_once('\n').unwrap();
                let arguments: Vec<_> = arguments.split(' ').collect();
                check(&arguments, "", 0, shown);
                ran += 1;
            }
        }
    }
    assert!(ran > 0);
}

#[test]
fn every_fault_is_told_with_its_path() {
    let config =
        example().replace("backend: payg,", "backend: azure,").replace("models: [ \"*\" ]", "models: []");
    let expected = "-: 2 errors\n  error: -:10: models[0].backends[1].backend: no backend is named \"azure\": expected one of \
                    \"payg\", \"ptu\"\n  error: -:5: clients[0].models: empty: expected at least one model, or \"*\" for all\n";
    let warning = "  warning: the environment variable PTU_KEY is not set here\n";
    check(&["check", "-"], &config, 1, &format!("{expected}{warning}"));
    // Who asks something else of it is told the same.
    check(&["prove", "-"], &config, 1, expected);
    check(&["explain", "-", "--client", "team", "--model", "gpt-4o"], &config, 1, expected);
}

#[test]
fn a_configuration_inside_of_another_file_is_found_and_checked() {
    let place = "-:9";
    let warning = "  warning: the environment variable PTU_KEY is not set here\n";
    let vm = "{ vm_id: t, environment_variables: { host_env_keys: [ PTU_KEY, PAYG_KEY ] } }";
    let well = format!("{place}: ok: 1 client, 1 model, sha256 {SHA256}\n{warning}");
    let envoy = in_filter("PTU_KEY, PAYG_KEY", vm);
    check(&["check", "-"], &envoy, 0, &well);
    // As the text of a file in a ConfigMap.
    let map = format!("data:\n  envoy.yaml: |\n    {}", envoy.replace('\n', "\n    "));
    let expected = well.replace(place, "-:11");
    check(&["check", "-"], &map, 0, &expected);
    let (code, printed, _) = run(&["check", "docker-compose.yml"], "");
    assert!(code == 0 && printed.starts_with("./envoy/envoy.yaml:231: ok: "), "{printed}");
    let expected = format!(
        "{place}: 2 errors\n  error: Envoy's part: the vm_config of both filters differs: expected the same, for they share \
         one VM\n  error: Envoy's part: vm_config.environment_variables.host_env_keys: expected PAYG_KEY among them\n{warning}"
    );
    check(&["check", "-"], &in_filter("PTU_KEY", vm), 1, &expected);
}

#[test]
fn a_configuration_is_found_in_resources_and_in_compose_files() {
    let warnings = "  warning: the environment variable PTU_KEY is not set here\n";
    for file in ["examples/istio/envoyfilter.yaml", "examples/envoy-gateway/envoypatchpolicy.yaml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let line = |what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
        let place = line(" clients:");
        let (code, printed, _) = run(&["check", file], "");
        let (verdict, rest) = printed.split_once('\n').unwrap();
        assert!(verdict.starts_with(&format!("{file}:{place}: ok: 1 client, 1 model, sha256 ")), "{printed}");
        assert_eq!((code, rest), (0, warnings));
        // What is around it there is looked at, too.
        let unheld =
            text.replace("allow_on_headers_stop_iteration: true", "allow_on_headers_stop_iteration: false");
        let unpassed = text.replace("host_env_keys: [ PTU_KEY, PAYG_KEY ]", "host_env_keys: [ PAYG_KEY ]");
        for (text, fault) in [
            (unheld, "the filter with root_id gateway: expected allow_on_headers_stop_iteration: true"),
            (unpassed, "vm_config.environment_variables.host_env_keys: expected PTU_KEY among them"),
        ] {
            let expected = format!("-:{place}: 1 error\n  error: Envoy's part: {fault}\n{warnings}");
            check(&["check", "-"], &text, 1, &expected);
        }
        let fault =
            "models[0].backends[1].backend: no backend is named \"azure\": expected one of \"payg\", \"ptu\"";
        let at = line("{ backend: payg, ");
        let text = text.replace("{ backend: payg, ", "{ backend: azure, ");
        let (code, printed, _) = run(&["check", "-"], &text);
        assert!(code == 1 && printed.contains(&format!("  error: -:{at}: {fault}\n")), "{printed}");
    }
    for file in
        ["examples/istio/envoyfilter-fleet.yaml", "examples/envoy-gateway/envoypatchpolicy-fleet.yaml"]
    {
        let (code, printed, _) = run(&["check", file], "");
        assert!(code == 0 && printed.contains(": ok: 1 client, 1 model, sha256 "), "{printed}");
        let text = fs::read_to_string(root().join(file)).unwrap();
        let fault = "the route with the path \"/redis\": expected upgrade_configs: ";
        let (code, printed, _) = run(&["check", "-"], &text.replace("allow_post: true", "allow_post: false"));
        assert!(code == 1 && printed.contains(fault), "{printed}");
    }
    let compose = format!(
        "services:\n  envoy:\n    configs: [ {{ source: gateway, target: /etc/envoy/gateway.yaml }} ]\nconfigs:\n  \
         gateway:\n    content: |\n      {}",
        example().replace('\n', "\n      ")
    );
    let expected = format!("-:8: ok: 1 client, 1 model, sha256 {SHA256}\n{warnings}");
    check(&["check", "-"], &compose, 0, &expected);
    let inside = in_filter("PAYG_KEY", "{}").replace('\n', "\n      ");
    let compose = format!("services: {{}}\nconfigs:\n  envoy:\n    content: |\n      {inside}");
    let (code, printed, _) = run(&["check", "-"], &compose);
    let place = "-:13: 2 errors\n";
    assert!(code == 1 && printed.starts_with(place), "{printed}");
}

#[test]
fn the_proof_lists_who_may_reach_what() {
    let config = example()
        .replace("models: [ \"*\" ]", "models: [ \"*\" ]\n  regions: [ eu ]")
        .replace("cluster: ptu,", "cluster: ptu, region: eu,");
    let expected = "gpt-4o\n  team: only eu\n    reach  ptu/gpt-4o-ptu (region eu)\n    never  payg/gpt-4o (no region)\n    \
                    17 combinations of failures, refused in 4\nproven: no failure leads out of a region.\n";
    check(&["prove", "-"], &config, 0, expected);
}

#[test]
fn explain_asks_the_exchange_that_serves() {
    let body = tempfile::NamedTempFile::new().unwrap();
    fs::write(body.path(), r#"{"model":"gpt-4o","max_tokens":4096,"stream":true,"messages":[]}"#).unwrap();
    let file = body.path().to_str().unwrap();
    let (code, printed, _) =
        run(&["explain", "envoy/envoy.yaml", "--client", "web-shop", "--body", file], "");
    for line in [
        "client    web-shop\n",
        "policy    interactive\n",
        "rule      max_tokens: changed to max_tokens=512\n",
        "edit      max_tokens: 4096 becomes 512\n",
        "edit      stream_options: {\"include_usage\":true} is written\n",
        "1         ptu: cluster ptu, region swedencentral, ",
        "2         payg-a: cluster payg-a, ",
    ] {
        assert!(code == 0 && printed.contains(line), "{line}: {printed}");
    }
    let refused = "client    web-shop\nregions   anywhere\npriority  normal\nlimit     100000 tokens per minute\nrefused   403 model_not_allowed: The model `gpt-35-turbo-instruct` \
                   does not exist, or this client may not use it.\n";
    let arguments = ["explain", "envoy/envoy.yaml", "--client=web-shop", "--model=gpt-35-turbo-instruct"];
    check(&arguments, "", 1, refused);
}

#[test]
fn explain_speaks_words_and_tells_limits_priority_and_price() {
    let config = r#"{
        "clients": [{ "name": "team", "anonymous": true, "models": ["*"], "policy": "loose", "audit_policy": ["strict"],
            "group": "sales", "priority": "low", "spill": "never",
            "limits": [{ "tokens": 100000, "per": "minute", "models": ["gpt-5"] }, { "concurrent": 4 }] }],
        "groups": [{ "name": "sales", "limits": [{ "cost": 2.5, "per": "day" }] }],
        "policies": [
            { "name": "loose", "mode": "audit", "n": { "max": 1, "over": "reject" }, "seed": "drop" },
            { "name": "strict", "max_tokens": { "default": 10, "max": 50, "over": "clamp" } }],
        "models": [{ "name": "gpt-5", "prices": { "prompt": 2, "completion": 10 }, "backends": [{ "backend": "payg" }] }],
        "backends": [{ "name": "payg", "cluster": "payg", "style": "openai" }]
    }"#;
    let explained = |body: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), body).unwrap();
        let (code, printed, problem) =
            run(&["explain", "-", "--client", "team", "--body", file.path().to_str().unwrap()], config);
        assert_eq!(code, 0, "{printed}{problem}");
        printed
    };
    let printed = explained(r#"{"model":"gpt-5","messages":[],"n":2,"seed":1,"max_completion_tokens":100}"#);
    for line in [
        "priority  low, never spills\n",
        "limit     100000 tokens per minute, models gpt-5\n",
        "limit     4 concurrent\n",
        "limit     2.5 cost per day, of group sales\n",
        "policy    loose\naudit     strict\n",
        "rule      max_tokens: only audited by strict: it would change the value to what is allowed\n",
        "rule      n: only audited: it would refuse the request\n",
        "rule      seed: only audited: it would change the value to what is allowed\n",
        ", costs 0.00",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let printed = explained(r#"{"model":"gpt-5","messages":[]}"#);
    let line = "rule      max_tokens: only audited by strict: it would write a value, for there is none\n";
    assert!(printed.contains(line), "{printed}");
}

#[test]
fn a_key_is_hashed_and_never_taken_from_the_command_line() {
    let hash = "{ sha256: d25609d3ba89bdec4185a20547540e43ceb6b59e433558321254efe37ae4ec98 }\n";
    for key in ["demo-web-shop", "demo-web-shop\n", "demo-web-shop\r\n"] {
        let (code, printed, _) = run(&["hash-key"], key);
        assert_eq!((code, printed.as_str()), (0, hash));
    }
    for key in ["--demo-web-shop", "-demo-web-shop"] {
        let (code, printed, problem) = run(&["hash-key", key], "");
        assert!(code == 2 && printed.is_empty() && !problem.contains("demo"), "{problem}");
    }
    let (code, printed, problem) = run(&["hash-key", "demo-web-shop"], "");
    assert_eq!((code, printed.as_str()), (2, ""));
    assert!(!problem.contains("demo-web-shop"), "{problem}");
}

#[test]
fn a_key_that_can_be_guessed_is_hashed_with_a_warning() {
    for (key, bits) in [
        ("demo-web-shop", Some(65)),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Some(5)),
        ("abcdefghijklmnopqrstuvwxyz0123456789", Some(10)),
        ("4f1c9a7e2b", Some(52)),
        ("d2f19c5a8e3b7046f1d82c95", None),
        ("tg-7ea2d19c5a8e3b7046f1d82c957ea2d19c5a8e3b7046f1d82c957ea2d19c5a8e", None),
        ("Xq7Rk2Zp9Lw4Tn8Vb3Yc", None),
    ] {
        let (code, printed, told) = run(&["hash-key"], key);
        assert!(code == 0 && printed.starts_with("{ sha256: "), "{key}");
        let expected = bits.map_or(String::new(), |bits| {
            format!("warning: this key can be guessed: by its length and characters it has {bits} bits at the most")
        });
        assert!(told.starts_with(&expected) && told.is_empty() == bits.is_none(), "{key}: {told}");
        assert!(!told.contains(key), "{told}");
    }
}

#[test]
fn a_wrong_call_is_told_on_standard_error() {
    for (arguments, problem) in [
        (&[][..], "Usage: tollgate <COMMAND>"),
        (&["chek"], "unrecognized subcommand 'chek'"),
        (&["check"], "required arguments were not provided"),
        (&["prove", "a", "b"], "unexpected argument 'b' found"),
        (&["explain", "-", "--who", "x"], "unexpected argument '--who' found"),
        (&["explain", "-", "--client"], "a value is required for '--client <NAME>'"),
        (&["schema", "a"], "unexpected argument 'a' found"),
        (&["schema", "--yaml"], "unexpected argument '--yaml' found"),
        (&["check", "-v"], "unexpected argument '-v' found"),
        (&["replay", "--new", "a", "log"], "--old <FILE>"),
        (&["budget", "show", "--store", "redis://x"], "<--client <NAME>|--group <NAME>|--spill <MODEL>>"),
        (&["keys", "issue", "--store", "redis://x"], "--client <NAME>"),
        (&["hash-key"], "error: no key came on standard input\n"),
    ] {
        let (code, printed, told) = run(arguments, "");
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}");
        assert!(told.contains(problem), "{told}\nnot {problem}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let argument = std::ffi::OsStr::from_bytes(b"gateway\xff.yaml");
        let output = tool().arg("check").arg(argument).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(output.stderr).contains("invalid UTF-8"));
    }
}

#[test]
fn each_command_tells_how_it_is_used() {
    let (code, printed, _) = run(&["help"], "");
    let commands = ["check", "prove", "explain", "replay", "schema", "budget", "keys", "clients", "hash-key"];
    assert!(code == 0 && commands.iter().all(|word| printed.contains(&format!("\n  {word} "))), "{printed}");
    for command in commands {
        let (code, printed, _) = run(&[command, "--help"], "");
        assert!(code == 0 && printed.contains(&format!("Usage: tollgate {command}")), "{printed}");
        assert_eq!(run(&["help", command], "").1, printed);
    }
}

#[test]
fn what_cannot_be_read_is_told_and_never_passed_over() {
    let help = "\n";
    let nothing = "- has no gateway configuration: expected clients, models and backends, or a Wasm filter with root_id: \
                   gateway and a configuration";
    let twice = "clients: []\nmodels: []\nbackends: []\nclients: []\n";
    let map = format!("data:\n  gateway.yaml: |\n    {}", twice.replace('\n', "\n    "));
    let inside = "; the text at -:3 is not YAML: duplicate entry with key \"clients\"";
    for (input, problem) in [
        ("", nothing.to_owned()),
        ("text\n", nothing.to_owned()),
        (twice, "- is not YAML: duplicate entry with key \"clients\"".to_owned()),
        (&map, format!("{nothing}{inside}")),
        (
            "a: [",
            "- is not YAML: did not find expected node content at line 2 column 1, while parsing a flow \
                  node"
                .to_owned(),
        ),
    ] {
        let expected = (2, String::new(), format!("error: {problem}{help}"));
        assert_eq!(run(&["check", "-"], input), expected, "{input:?}");
    }
    let filter = |value: &str| {
        format!(
            "root_id: gateway\nallow_on_headers_stop_iteration: true\nconfiguration: {{ value: {value:?} }}\n"
        )
    };
    for (value, problem) in [
        ("clients: []", "a text that is not JSON: expected value at line 1 column 1"),
        (r#"{"clients":[],"clients":[]}"#, "duplicate entry with key \"clients\""),
    ] {
        let expected = format!("-:3: 1 error\n  error: -:3: configuration: {problem}\n");
        check(&["check", "-"], &filter(value), 1, &expected);
    }
}

#[test]
fn a_body_may_come_on_standard_input() {
    let (code, printed, problem) = run(
        &["explain", "examples/ptu-first/gateway.yaml", "--client", "team", "--body", "-"],
        "{\"model\":\"gpt-4o\",\"messages\":[]}",
    );
    assert!(code == 0 && printed.contains("model     gpt-4o\n"), "{printed}{problem}");
}

#[test]
fn what_a_request_takes_of_a_capacity_is_told() {
    let config = r#"{
        "clients": [{ "name": "team", "anonymous": true, "models": ["*"] }],
        "models": [{ "name": "gpt-5", "backends": [
            { "backend": "ptu", "weights": { "completion": 8 } }, { "backend": "payg" }] }],
        "backends": [
            { "name": "ptu", "cluster": "ptu", "style": "openai", "tokens_per_minute": 6000, "window_s": 30,
              "requests_per_minute": 60, "requests_window_s": 10 },
            { "name": "payg", "cluster": "payg", "style": "openai" }]
    }"#;
    let body = r#"{"model":"gpt-5","messages":[],"max_completion_tokens":100}"#;
    let file = std::env::temp_dir().join(format!("tollgate-capacity-{}.json", std::process::id()));
    fs::write(&file, body).unwrap();
    let (_, printed, problem) =
        run(&["explain", "-", "--client", "team", "--body", file.to_str().unwrap()], config);
    fs::remove_file(&file).unwrap();
    assert!(printed.contains("reserves  100 tokens"), "{printed}{problem}");
    assert!(
        printed.contains(
            "priority 0, takes 800 of its 3000 tokens in 30 s, takes 1 of its 10 requests in 10 s\n"
        ),
        "{printed}"
    );
    assert_eq!(printed.matches("takes ").count(), 2, "{printed}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = tool().arg("schema").stdout(full).output().unwrap();
    let problem = "error: the result cannot be written: No space left on device (os error 28)\n";
    assert_eq!((output.status.code(), text(output.stderr).as_str()), (Some(2), problem));
    // Whoever has read enough is no fault.
    let mut child = tool().arg("schema").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn a_word_that_is_nearly_right_is_answered_with_the_right_one() {
    for (from, to, fault) in [
        (
            "deployment: gpt-4o-ptu",
            "deploiment: gpt-4o-ptu",
            "-:9: models[0].backends[0].deploiment: unknown field, expected one of ",
        ),
        (
            "backend: ptu",
            "backend: pto",
            "-:9: models[0].backends[0].backend: no backend is named \"pto\": expected one of ",
        ),
        (
            "style: azure,",
            "style: azurr,",
            "-:12: backends[0].style: unknown variant \"azurr\", expected one of ",
        ),
    ] {
        let right =
            from.split(": ").nth(usize::from(!to.starts_with("deploiment"))).unwrap().trim_end_matches(',');
        let (code, printed, _) = run(&["check", "-"], &example().replacen(from, to, 1));
        let line = printed.lines().find(|line| line.contains(fault)).unwrap_or_else(|| panic!("{printed}"));
        assert!(code == 1 && line.ends_with(&format!(": did you mean {right}?")), "{line}");
    }
    // What is like none of them is answered with all.
    let (_, printed, _) = run(&["check", "-"], &example().replacen("backend: ptu", "backend: east", 1));
    assert!(
        printed.contains("no backend is named \"east\": expected one of \"payg\", \"ptu\"\n"),
        "{printed}"
    );
}

#[test]
fn what_envoy_reads_otherwise_than_it_looks_is_told() {
    let config =
        example().replace("name: team", "name: no").replace("deployment: gpt-4o-ptu", "deployment: 010");
    let (code, printed, _) = run(&["check", "-"], &config);
    for line in [
        "  error: -:3: clients[0].name: no without quotes is false for Envoy: expected \"no\"\n",
        "  error: -:9: models[0].backends[0].deployment: 010 without quotes is 8 for Envoy: expected \"010\"\n",
    ] {
        assert!(code == 1 && printed.contains(line), "{printed}");
    }
    let quoted = example().replace("name: team", "name: \"no\"");
    assert_eq!(run(&["check", "-"], &quoted).0, 0);
}

#[test]
fn a_version_that_azure_is_not_known_to_have_is_a_warning() {
    let (code, printed, _) = run(&["check", "-"], &example().replace("2024-10-21", "2024-10-12"));
    let line = "  warning: -:12: backends[0].api_version: Azure is not known to have 2024-10-12: did you mean 2024-10-21?\n";
    assert!(code == 0 && printed.contains(line), "{printed}");
}

/// What a command prints with `--json`, and its exit code.
fn as_json(arguments: &[&str], input: &str) -> (i32, serde_json::Value) {
    let (code, printed, _) = run(&[arguments, &["--json"]].concat(), input);
    (code, serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}")))
}

#[test]
fn what_commands_tell_is_json_for_programs() {
    use serde_json::json;
    let (code, told) = as_json(&["check", "-"], &example());
    assert_eq!(
        (code, &told[0]["ok"], &told[0]["clients"], &told[0]["sha256"]),
        (0, &json!(true), &json!(1), &json!(SHA256))
    );
    let (code, told) = as_json(&["check", "-"], &example().replacen("backend: ptu", "backend: pto", 1));
    let error = json!([{
        "place": "-:9",
        "path": "models[0].backends[0].backend",
        "problem": "no backend is named \"pto\": expected one of \"payg\", \"ptu\"",
        "meant": "ptu",
    }]);
    assert_eq!((code, &told[0]["ok"], &told[0]["errors"]), (1, &json!(false), &error));
    let (code, told) = as_json(&["prove", "-"], &example());
    assert_eq!((code, &told[0]["holds"], &told[0]["reach"][0]["backend"]), (0, &json!(true), &json!("ptu")));
    let explain = ["explain", "-", "--client", "team", "--model"];
    let (code, told) = as_json(&[&explain[..], &["gpt-4o"]].concat(), &example());
    let first = json!({ "backend": "ptu", "path": "/openai/deployments/gpt-4o-ptu/chat/completions?api-version=2024-10-21" });
    for (member, value) in first.as_object().unwrap() {
        assert_eq!((code, &told["backends"][0][member]), (0, value));
    }
    let (code, told) = as_json(&[&explain[..], &["gpt-5"]].concat(), &example());
    assert_eq!((code, &told["refused"]["code"]), (1, &json!("model_not_allowed")));
}

#[test]
fn a_request_by_a_key_that_may_less_is_explained() {
    let config = example() + "store: { redis: { cluster: s } }\ndirectory: { store: {} }\n";
    let explain =
        |key: &str| run(&["explain", "-", "--client", "team", "--model", "gpt-4o", "--key", key], &config);
    let (code, told, _) = explain("limits: [ { tokens: 5000, per: day } ], priority: low");
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("5000 tokens per day, of the key") && told.contains("low"), "{told}");
    let (code, _, problem) = explain("models: [ gpt-5 ]");
    assert!(code == 2 && problem.contains("--key: models: none that its client may call"), "{problem}");
}

#[test]
fn a_client_of_one_field_is_a_client_with_a_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = example() + "store: { redis: { cluster: s } }\ndirectory: { store: {} }\n";
    fs::write(file.path(), config).unwrap();
    let path = file.path().to_str().unwrap();
    for (entry, expected) in [
        ("name: x", "x: client: missing field \"models\""),
        ("clients: x", "expected a client as it stands in clients"),
    ] {
        let (code, printed, told) =
            run(&["clients", "put", "-", "--config", path, "--store", "redis://127.0.0.1:1"], entry);
        assert!(code != 101 && (printed.clone() + &told).contains(expected), "{code} {printed} {told}");
    }
}
