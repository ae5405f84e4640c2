//! An operator's hand on a fleet's budgets: the tool against a real Redis.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tollgate::calendar::{Span, rfc3339};
use tollgate::resp::Reply;
use tollgate_tests::fleet::call::{Answer, Ask, Call, Kind};
use tollgate_tests::fleet::histories::LEASE_MS;
use tollgate_tests::fleet::script;
use tollgate_tests::harness::{Redis, tools};

use super::script::redis;

/// A store that a fleet has spent in, a configuration that names its limits, and the tool.
struct Desk {
    redis: Redis,
    dir: tempfile::TempDir,
    tool: PathBuf,
    /// Ids by their words.
    ids: BTreeMap<String, u64>,
    /// When the month ends, as the tool writes it.
    ends: String,
}

fn configuration() -> Value {
    json!({
        "clients": [ {
            "name": "web", "api_keys": [{ "sha256": "0".repeat(64) }], "models": ["*"],
            "limits": [ { "tokens": 1000, "per": "month" }, { "cost": 2.5, "per": "month" }, { "concurrent": 4 } ],
        } ],
        "models": [{ "name": "m", "prices": { "prompt": 1, "completion": 1 }, "backends": [{ "backend": "b" }] }],
        "backends": [{ "name": "b", "cluster": "b", "style": "openai" }],
    })
}

impl Desk {
    fn new(redis: Redis) -> Self {
        let configuration = configuration();
        let gateway = tollgate::config::from_value(configuration.clone(), &|_| None).unwrap();
        let account = gateway.account("tollgate/limits/client/web").unwrap();
        let ids = account.limits().map(|(id, allowance)| (allowance.word.to_string(), id)).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gateway.yaml"), configuration.to_string()).unwrap();
        let mut desk = Self { redis, dir, tool: tools::tool().unwrap(), ids, ends: String::new() };
        // The window is known from the first answer; a month that ends between the two calls has the second say so.
        let first = desk.call(1, 0, 0);
        let window = first.limits[0].window;
        desk.ends = rfc3339(Span::Month.bounds(window.unsigned_abs()).1);
        desk.call(2, window, first.rev);
        desk
    }

    /// A holder spends 300 tokens and 1.25 of money, and holds some and two places.
    fn call(&self, seq: u64, window: i64, rev_seen: i64) -> Answer {
        let ask = |word: &str, kind, size, left, need| Ask {
            id: self.ids[word],
            kind,
            size,
            window: if kind == Kind::Places { 0 } else { window.unsigned_abs() },
            ack: 0,
            left,
            give: 0,
            need,
            want: 0,
            shadow: false,
            used_seen: 0,
        };
        let month = Kind::Window(Span::Month);
        let asks = vec![
            ask("tokens/month", month, 1000, -300, 20),
            ask("cost/month", month, 2_500_000, -1_250_000, 0),
            ask("concurrent", Kind::Places, 4, 0, 1),
        ];
        self.ask(&Call { holder: "ab12".to_owned(), seq, lease_ms: LEASE_MS, rev_seen, asks })
    }

    fn ask(&self, call: &Call) -> Answer {
        let words =
            ["EVAL", &script().unwrap(), "2", "tollgate:{client/web}", "tollgate:{client/web}:holders"];
        let words: Vec<_> = words.map(str::to_owned).into_iter().chain(call.words()).collect();
        let reply = self.redis.connect().unwrap().ask(&words).unwrap();
        Answer::read(&reply).unwrap_or_else(|| panic!("{reply:?}"))
    }

    /// How the tool ends, and what it prints and complains of; times of holders are left out.
    fn run(&self, words: &str) -> (i32, String, String) {
        let words = words.replace("STORE", &self.redis.url());
        let output = Command::new(&self.tool)
            .arg("budget")
            .args(words.split(' '))
            .current_dir(self.dir.path())
            .env_clear()
            .env("REDIS_PASSWORD", "pass")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (printed, complaint) = (text(output.stdout), text(output.stderr));
        let lines =
            printed.lines().map(|line| match (line.split_once("called "), line.split_once(" s ago")) {
                (Some((before, _)), Some((_, behind))) => format!("{before}called T{behind}\n"),
                _ => format!("{line}\n"),
            });
        (output.status.code().unwrap(), lines.collect(), complaint)
    }

    #[track_caller]
    fn check(&self, words: &str, code: i32, printed: &str, complaint: &str) {
        let address = self.redis.address().to_string();
        let (printed, complaint) =
            (printed.replace("ADDRESS", &address), complaint.replace("ADDRESS", &address));
        let complaint = match complaint.as_str() {
            "" => complaint,
            _ => format!("error: {complaint}\n"),
        };
        assert_eq!(self.run(words), (code, printed, complaint), "{words}");
    }

    fn rev(&self) -> i64 {
        let Reply::Bulk(rev) = self.redis.ask(&["HGET", "tollgate:{client/web}", "rev"]).unwrap() else {
            panic!()
        };
        String::from_utf8(rev).unwrap().parse().unwrap()
    }
}

#[test]
fn budgets_are_shown_in_the_words_of_the_configuration() {
    let Some(redis) = redis("budgets_are_shown_in_the_words_of_the_configuration", &[]) else { return };
    let desk = Desk::new(redis);
    let id = |word: &str| format!("{:016x}", desk.ids[word]);
    let (tokens, cost, places) = (id("tokens/month"), id("cost/month"), id("concurrent"));
    let ends = &desk.ends;
    let mut lines = [
        (
            tokens.clone(),
            format!("limit    tokens/month ({tokens}): 300 of 1000 used, 190 held, 510 left; ends {ends}\n"),
        ),
        (
            cost.clone(),
            format!("limit    cost/month ({cost}): 1.25 of 2.50 used, 0.00 held, 1.25 left; ends {ends}\n"),
        ),
        (places.clone(), format!("limit    concurrent ({places}): 1 of 4 held, 3 left\n")),
    ];
    lines.sort();
    let mut holds = [(tokens, "190 of tokens/month"), (places, "1 of concurrent")];
    holds.sort();
    let limits = lines.map(|(_, line)| line).concat();
    let holds = holds.map(|(_, held)| held).join(", ");
    let expected = format!(
        "account  client/web in redis://ADDRESS under tollgate\n{limits}holder   ab12: called T, holds {holds}\n"
    );
    desk.check("show --store STORE --client web --config gateway.yaml", 0, &expected, "");
    // Without a configuration, by what the store knows.
    let expected = expected.replace("tokens/month", "per month").replace("cost/month", "per month");
    let expected = expected
        .replace("1.25 of 2.50 used, 0.00 held, 1.25 left", "1250000 of 2500000 used, 0 held, 1250000 left");
    desk.check("show --store STORE --client web", 0, &expected, "");
    let nothing =
        "client/lab: nothing stands in redis://ADDRESS under tollgate: no Envoy has asked for it yet\n";
    desk.check("show --store STORE --client lab", 1, nothing, "");
    let nothing =
        "client/web: nothing stands in redis://ADDRESS under other: no Envoy has asked for it yet\n";
    desk.check("show --store STORE --client web --prefix other", 1, nothing, "");
    // For programs.
    let (code, printed, _) = desk.run("show --store STORE --client web --config gateway.yaml --json");
    let told: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let tokens =
        told["limits"].as_array().unwrap().iter().find(|limit| limit["limit"] == "tokens/month").unwrap();
    let numbers = ["size", "used", "held", "left"].map(|member| tokens[member].as_u64().unwrap());
    assert_eq!((code, numbers, &tokens["ends"]), (0, [1000, 300, 190, 510], &serde_json::json!(ends)));
    assert_eq!(told["holders"][0]["holds"], serde_json::json!({ "tokens/month": 190, "concurrent": 1 }));
    assert_eq!(desk.run("show --store STORE --client lab --json"), (1, "null\n".to_owned(), String::new()));
}

#[test]
fn an_operator_gives_and_resets_and_every_change_is_counted() {
    let Some(redis) = redis("an_operator_gives_and_resets_and_every_change_is_counted", &[]) else { return };
    let desk = Desk::new(redis);
    let rev = desk.rev();
    let with = |words: &str| format!("{words} --store STORE --client web --config gateway.yaml");
    desk.check(
        &with("give 100 --limit tokens/month"),
        0,
        "client/web: tokens/month: 200 used, and not 300\n",
        "",
    );
    desk.check(
        &with("give 0.5 --limit cost/month"),
        0,
        "client/web: cost/month: 0.75 used, and not 1.25\n",
        "",
    );
    assert_eq!(desk.rev(), rev + 2);
    // No more than what is used can be given.
    let id = format!("{:016x}", desk.ids["tokens/month"]);
    let words = format!("give 900 --store STORE --client web --limit {id}");
    desk.check(&words, 0, "client/web: per month: 0 used, and not 200\n", "");
    let (code, printed, _) = desk.run(&with("reset"));
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    let expected =
        ["client/web: cost/month: 0.00 used, and not 0.75", "client/web: tokens/month: 0 used, and not 0"];
    assert_eq!((code, lines.as_slice()), (0, &expected[..]));
    assert_eq!(desk.rev(), rev + 4);
    // The next call of an Envoy is told so.
    let answer = desk.call(3, 0, rev);
    let used: Vec<_> = answer.limits.iter().map(|told| told.used).collect();
    assert_eq!((used, answer.rev), (vec![0, 0, 0], rev + 5));
}

#[test]
fn what_an_operator_calls_wrongly_is_refused_with_a_word() {
    let Some(redis) = redis("what_an_operator_calls_wrongly_is_refused_with_a_word", &[]) else { return };
    let mut desk = Desk::new(redis);
    let with = |words: &str| format!("{words} --store STORE --client web --config gateway.yaml");
    let mut all: Vec<_> =
        desk.ids.iter().filter(|(word, _)| *word != "concurrent").map(|(word, id)| (*id, word)).collect();
    all.sort_unstable();
    let all: Vec<_> = all.into_iter().map(|(id, word)| format!("{word} ({id:016x})")).collect();
    let one_of = format!("--limit: expected one of {}", all.join(", "));
    let store = "--store: expected redis://HOST:PORT or rediss://HOST:PORT, with USER:PASSWORD@ before the host and /DATABASE \
                 behind it where they are needed";
    for (words, complaint) in [
        ("show --client web --store http://:secret@127.0.0.1".to_owned(), store),
        ("show --client web --store redis://:secret@".to_owned(), store),
        (
            "show --store STORE --client lab --config gateway.yaml".to_owned(),
            "client/lab has no limits in the configuration",
        ),
        (with("give 5"), &one_of),
        (with("give 5 --limit concurrent"), &one_of),
        (with("give 0 --limit tokens/month"), "AMOUNT 0: expected more than 0 and at most 1000"),
        (with("give 1001 --limit tokens/month"), "AMOUNT 1001: expected more than 0 and at most 1000"),
        (with("give 1.5 --limit tokens/month"), "AMOUNT 1.5: expected more than 0 and at most 1000"),
        (with("give much --limit cost/month"), "AMOUNT much: expected more than 0 and at most 2.50"),
        (with("show --password-env NONE"), "--password-env: the environment variable NONE is not set"),
    ] {
        desk.check(&words, 2, "", complaint);
    }
    desk.redis.ask(&["HSET", "tollgate:{client/web}", "v", "3"]).unwrap();
    let version =
        "redis://ADDRESS: tollgate:{client/web}: the record is of version 3, and this tool knows version 2";
    desk.check(&with("reset"), 2, "", version);
    desk.redis.kill();
    let (code, printed, complaint) = desk.run(&with("show"));
    let address = desk.redis.address();
    assert_eq!((code, printed.as_str()), (2, ""));
    assert!(complaint.starts_with(&format!("error: redis://{address} does not answer: ")), "{complaint}");
}

#[test]
fn a_password_comes_from_the_environment_and_is_never_shown() {
    let test = "a_password_comes_from_the_environment_and_is_never_shown";
    let Some(redis) = Redis::or_skip(test, Some("pass"), &[]) else { return };
    let desk = Desk::new(redis);
    let bare = format!("show --store redis://{} --client web", desk.redis.address());
    let (code, _, complaint) = desk.run(&bare);
    assert_eq!(code, 2);
    assert!(complaint.contains("NOAUTH") || complaint.contains("uthentication"), "{complaint}");
    for words in
        [format!("{bare} --password-env REDIS_PASSWORD"), "show --store STORE --client web".to_owned()]
    {
        let (code, printed, complaint) = desk.run(&words);
        assert_eq!((code, complaint.as_str()), (0, ""));
        assert!(printed.contains("300 of 1000 used") && !printed.contains("pass"), "{printed}");
    }
    let wrong = format!("show --store redis://:wrongword@{} --client web", desk.redis.address());
    let (code, printed, complaint) = desk.run(&wrong);
    assert_eq!((code, printed.as_str()), (2, ""));
    assert!(!complaint.contains("wrongword"), "{complaint}");
}

#[test]
fn a_store_behind_tls_must_prove_its_name() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (certificate, key) = (file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()));
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let words = ["--tls-port", &port.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let words = [&words[..], &["--tls-auth-clients", "no"]].concat();
    let Some(redis) = redis("a_store_behind_tls_must_prove_its_name", &words) else { return };
    let desk = Desk::new(redis);
    let run = |host: &str, trusted: &str| {
        let mut tool = Command::new(&desk.tool);
        tool.args(["budget", "show", "--client", "web", "--store", &format!("rediss://{host}:{port}")]);
        let output = tool.env_clear().env("SSL_CERT_FILE", trusted).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, printed, complaint) = run("localhost", &certificate);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert!(
        printed.starts_with(&format!("account  client/web in rediss://localhost:{port} under")),
        "{printed}"
    );
    // Another name than the certificate's; and one that nobody has vouched for.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = file("other.pem", &other.cert.pem());
    for (host, trusted) in [("127.0.0.1", &certificate), ("localhost", &other)] {
        let (code, printed, complaint) = run(host, trusted);
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{complaint}");
        assert!(complaint.contains("does not answer"), "{complaint}");
    }
}
