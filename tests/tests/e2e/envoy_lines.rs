//! Which lines of `envoy/envoy.yaml` would break silently?
//!
//! Each is taken out here: something that a client, a backend or the log can see must be another with it than without.
//! A line that holds a time is shortened instead, and must be there to be. What other tests notice is not repeated.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Mock, Settings};

use crate::metering::{load_module, trapping_module};
use crate::requests::{
    CHAT, EMBEDDING, EMBEDDINGS, GPT_4O, INSTRUCT, WEB_SHOP, chat, check_record, nobody_is_limited,
    record_where, with,
};

pub const LISTENER: &str = "/static_resources/listeners/0";
pub const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
pub const ROUTE: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/\
                     routes/0";
pub const ROUTER: &str = "http_filters/3/typed_config";
pub const PTU: &str = "/static_resources/clusters/0";

/// Something of `envoy.yaml`, which must be there.
#[track_caller]
pub fn part<'a>(envoy: &'a mut Value, path: &str) -> &'a mut Value {
    envoy.pointer_mut(path).unwrap_or_else(|| panic!("envoy.yaml has no {path}"))
}

/// Takes a line out, which must have been there.
#[track_caller]
pub fn take_out(envoy: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = part(envoy, parent);
    let removed = match parent {
        Value::Array(items) => Some(items.remove(name.parse().unwrap())),
        parent => parent.as_object_mut().unwrap().remove(name),
    };
    assert!(removed.is_some(), "envoy.yaml has no {path}");
}

/// A line of the access log has this field too.
#[track_caller]
pub fn log_too(manager: &mut Value, name: &str, format: &str) {
    let line = part(manager, "/access_log/0/typed_config/log_format/text_format_source/inline_string");
    *line = json!(line.as_str().unwrap().replacen('{', &format!("{{\"{name}\":\"{format}\","), 1));
}

/// A time that stands in `envoy.yaml` becomes this one.
pub fn shortened(envoy: &mut Value, path: &str, to: &str) {
    *part(envoy, path) = json!(to);
}

/// What is written to Envoy as it is, and all that comes back.
pub async fn raw(gateway: &Gateway, request: &str) -> String {
    let mut stream = TcpStream::connect(gateway.url().trim_start_matches("http://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(path: &str, key: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Whether a client can choose the id of its request.
    ChosenId,
    /// The status of a request that hides its path so.
    Status(&'static str),
    /// A header of the request at the backend.
    AtBackend(&'static str),
    /// Whether a backend gets the order of a request that does not go by the route's own.
    OrderAtBackend,
    /// What a filter before Tollgate sees of headers that only we may set.
    BeforeTollgate,
    /// The status of a request whose first backend is not the first of the route.
    FirstAttempt,
    /// How many of five requests that fail over at once are served.
    FailOvers,
    /// How many addresses of a backend Envoy takes for well.
    Well,
    /// This limit in Envoy's own account of a cluster.
    Bound(&'static str),
    /// Whether anybody is served after a trap.
    AfterTrap,
}

async fn see(gateway: &Gateway, seen: Seen) -> Value {
    match seen {
        Seen::ChosenId => {
            let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
            let answer = request.header("x-request-id", "chosen").json(&chat("hello")).send().await.unwrap();
            json!(answer.headers()["x-request-id"] == "chosen")
        }
        Seen::Status(path) => {
            let body = json!({ "model": INSTRUCT, "prompt": "x" });
            let answer = raw(gateway, &request(path, WEB_SHOP, &body)).await;
            json!(answer.split(' ').nth(1).unwrap())
        }
        Seen::AtBackend(header) => {
            assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
            json!(gateway.mock("ptu").received()[0].header(header).is_some())
        }
        Seen::OrderAtBackend => {
            let body = json!({ "model": EMBEDDING, "input": "hello" });
            assert_eq!(gateway.post(EMBEDDINGS, WEB_SHOP, &body).await.unwrap().status, 200);
            json!(gateway.mock("payg-a").received()[0].header("x-tollgate-candidates").is_some())
        }
        Seen::BeforeTollgate => {
            let request = gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP);
            let request = request.header("x-envoy-probe", "1").header("x-tollgate-probe", "2");
            assert_eq!(request.json(&chat("hello")).send().await.unwrap().status(), 200);
            gateway.wait_for_log(1).await.unwrap()[0]["probe"].clone()
        }
        Seen::FirstAttempt => {
            let body = json!({ "model": EMBEDDING, "input": "hello" });
            json!(gateway.post(EMBEDDINGS, WEB_SHOP, &body).await.unwrap().status)
        }
        Seen::FailOvers => fail_overs(gateway).await,
        Seen::Well => {
            let labels = [("envoy_cluster_name", "ptu")];
            json!(gateway.metric("envoy_cluster_membership_healthy", &labels).await.unwrap())
        }
        Seen::Bound(name) => {
            let page = gateway.admin("/clusters").await.unwrap();
            let start = format!("ptu::default_priority::{name}::");
            json!(page.lines().find_map(|line| line.strip_prefix(&start)))
        }
        Seen::AfterTrap => {
            let url = format!("{}{CHAT}", gateway.url());
            let trap = gateway.http().post(&url).bearer_auth(WEB_SHOP).header("x-trap", "1");
            let _ = trap.json(&chat("hello")).send().await;
            let deadline = Instant::now() + Duration::from_secs(3);
            while Instant::now() < deadline {
                if gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status == 200 {
                    return json!(true);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            json!(false)
        }
    }
}

/// Five requests are at the second backend at once, having been refused by the first.
async fn fail_overs(gateway: &Gateway) -> Value {
    const AT_ONCE: usize = 5;
    gateway.mock("ptu").update(|settings| settings.faults = [Fault::answer(500).always()].into());
    gateway.mock("payg-a").update(|settings| settings.hold = true);
    let body = chat("hello");
    let asked = futures_util::future::join_all((0..AT_ONCE).map(|_| gateway.post(CHAT, WEB_SHOP, &body)));
    let release = async {
        // Those that may not go on are answered at once, and are in the log.
        let all_there = || {
            let refused = gateway.access_log().unwrap().len();
            gateway.mock("payg-a").received().len() + refused >= AT_ONCE
        };
        while !all_there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gateway.mock("payg-a").release();
    };
    let (answers, ()) = tokio::join!(asked, release);
    json!(answers.into_iter().filter(|answer| answer.as_ref().unwrap().status == 200).count())
}

/// A line, what is seen with it, and what without.
struct Line {
    path: String,
    also: fn(&mut Value),
    seen: Seen,
    with: Value,
    without: Value,
}

fn line(path: &str, seen: Seen, with: Value, without: Value) -> Line {
    Line { path: path.to_owned(), also: |_| (), seen, with, without }
}

fn lines() -> Vec<Line> {
    let manager = |name: &str| format!("{MANAGER}/{name}");
    let threshold = |name: &str| format!("{PTU}/circuit_breakers/thresholds/0/{name}");
    let bound = |name: &'static str, default: &str| {
        line(&threshold(name), Seen::Bound(name), json!("4096"), json!(default))
    };
    vec![
        line(&manager("use_remote_address"), Seen::ChosenId, json!(false), json!(true)),
        line(
            &manager("normalize_path"),
            Seen::Status("/v1/files/../completions"),
            json!("403"),
            json!("404"),
        ),
        line(
            &manager("path_with_escaped_slashes_action"),
            Seen::Status("/v1/files%2f..%2fcompletions"),
            json!("400"),
            json!("404"),
        ),
        Line {
            also: look_before_tollgate,
            ..line(
                &manager("early_header_mutation_extensions"),
                Seen::BeforeTollgate,
                json!("- -"),
                json!("1 2"),
            )
        },
        line(
            &format!("{ROUTE}/request_headers_to_remove"),
            Seen::AtBackend("x-forwarded-for"),
            json!(false),
            json!(true),
        ),
        line(
            &manager(&format!("{ROUTER}/suppress_envoy_headers")),
            Seen::AtBackend("x-envoy-original-host"),
            json!(false),
            json!(true),
        ),
        Line {
            // Envoy then tells backends how long it will wait.
            also: |envoy| take_out(envoy, &format!("{MANAGER}/{ROUTER}/suppress_envoy_headers")),
            ..line(
                &format!("{ROUTE}/route/timeout"),
                Seen::AtBackend("x-envoy-expected-rq-timeout-ms"),
                json!(false),
                json!(true),
            )
        },
        line(
            &manager("http_filters/1/typed_config/request_rules/0/remove"),
            Seen::OrderAtBackend,
            json!(false),
            json!(true),
        ),
        line(
            &manager("http_filters/2/typed_config/clear_route_cache"),
            Seen::FirstAttempt,
            json!(200),
            json!(503),
        ),
        // Else every thousandth request would go to the closed port first.
        line(
            &format!("{PTU}/load_assignment/endpoints/0/lb_endpoints/1/health_status"),
            Seen::Well,
            json!(1.0),
            json!(2.0),
        ),
        // Envoy allows three retries at a time by default.
        line(&threshold("max_retries"), Seen::FailOvers, json!(5), json!(3)),
        bound("max_connections", "1024"),
        bound("max_pending_requests", "1024"),
        bound("max_requests", "1024"),
    ]
}

/// Where the lines of the table stand.
pub fn paths_of_lines() -> Vec<String> {
    lines().into_iter().map(|line| line.path).collect()
}

/// The first filter notes what it sees of two headers.
fn look_before_tollgate(envoy: &mut Value) {
    let manager = part(envoy, MANAGER);
    let format = json!({ "inline_string": "%REQ(x-envoy-probe)% %REQ(x-tollgate-probe)%" });
    let probe = json!({
        "name": "probe",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "probe", "factory_key": "envoy.string",
                "format_string": { "text_format_source": format },
            }],
        },
    });
    manager["http_filters"].as_array_mut().unwrap().insert(0, probe);
    log_too(manager, "probe", "%FILTER_STATE(probe:PLAIN)%");
}

#[tokio::test]
async fn each_line_makes_a_difference_that_can_be_seen() {
    for Line { path, also, seen, with, without } in lines() {
        for (is_there, expected) in [(true, with), (false, without)] {
            let at = path.clone();
            let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| {
                if !is_there {
                    take_out(envoy, &at);
                }
                also(envoy);
            });
            let gateway = Gateway::start(setup).await.unwrap();
            assert_eq!(see(&gateway, seen).await, expected, "{path}: {seen:?}, the line there: {is_there}");
        }
    }
}

/// Its part is of the requests at the backend that has just failed.
#[tokio::test]
async fn a_retry_budget_would_keep_requests_from_the_next_backend() {
    let budget = |envoy: &mut Value| {
        let path = format!("{PTU}/circuit_breakers/thresholds/0");
        take_out(envoy, &format!("{path}/max_retries"));
        part(envoy, &path)["retry_budget"] = json!({ "budget_percent": { "value": 20 } });
    };
    let gateway =
        Gateway::start(Setup::new().workers(1).edit(nobody_is_limited).patch(budget)).await.unwrap();
    assert_eq!(see(&gateway, Seen::FailOvers).await, json!(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_trapped_is_replaced_because_envoy_yaml_says_so() {
    let module = tokio::task::spawn_blocking(trapping_module).await.unwrap();
    for is_there in [true, false] {
        let module = module.clone();
        let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| {
            load_module(envoy, &module);
            let attempt = format!("{ROUTER}/upstream_http_filters/0/typed_config/config");
            for filter in ["http_filters/0/typed_config/config", &attempt] {
                if !is_there {
                    take_out(envoy, &format!("{MANAGER}/{filter}/failure_policy"));
                    take_out(envoy, &format!("{MANAGER}/{filter}/reload_config"));
                }
            }
        });
        let gateway = Gateway::start(setup).await.unwrap();
        assert_eq!(see(&gateway, Seen::AfterTrap).await, json!(is_there));
    }
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_is_ended() {
    let setup = Setup::new().workers(1).patch(|envoy| {
        shortened(envoy, &format!("{MANAGER}/request_headers_timeout"), "0.5s");
        shortened(envoy, &format!("{MANAGER}/request_timeout"), "1s");
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let whole = request(CHAT, WEB_SHOP, &chat("hello"));
    let head = raw(&gateway, "POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\n").await;
    assert!(head.starts_with("HTTP/1.1 408 ") && head.contains("\"code\":\"proxy_error\""), "{head}");
    let body = raw(&gateway, &whole[..whole.len() - 5]).await;
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("\"code\":\"proxy_error\""), "{body}");
    for line in gateway.wait_for_log(2).await.unwrap() {
        check_record(&line, &json!({ "status": 408, "prompt_tokens": "0", "backend": null }));
    }
}

#[tokio::test]
async fn a_backend_that_never_answers_is_ended_and_costs_nothing() {
    let setup = Setup::new()
        .workers(1)
        .patch(|envoy| shortened(envoy, &format!("{ROUTE}/route/idle_timeout"), "0.5s"))
        .mock("ptu", Settings { faults: [Fault::hang()].into(), ..Settings::default() });
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (504, json!("backend_timeout")));
    let expected = json!({ "flags": "SI", "prompt_tokens": "0", "completion_tokens": "0" });
    check_record(&gateway.wait_for_log(1).await.unwrap()[0], &expected);
}

#[tokio::test]
async fn an_answer_that_drips_for_ever_is_ended_and_charged() {
    let drips = Settings { chunk_delay_ms: 20, completion_tokens: 500, ..Settings::default() };
    let longest = format!("{MANAGER}/common_http_protocol_options/max_stream_duration");
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .patch(move |envoy| shortened(envoy, &longest, "1s"))
        .mock("ptu", drips);
    let gateway = Gateway::start(setup).await.unwrap();
    let body = with(chat("hello"), json!({ "stream": true, "max_tokens": 500 }));
    let answer = raw(&gateway, &request(CHAT, WEB_SHOP, &body)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("[DONE]"), "{answer}");
    let record = record_where(&gateway, |line| line["outcome"] == "broken").await;
    check_record(&record, &json!({ "status": 200, "estimated": "true" }));
    assert_ne!(record["completion_tokens"], "0");
}

/// Asks for a long stream and reads nothing; what the backend could send until then.
async fn sent_to_a_client_that_stalls(without: Option<String>) -> f64 {
    let long = Settings { completion_tokens: 12_000, record: false, ..Settings::default() };
    let setup = Setup::new()
        .workers(1)
        .edit(nobody_is_limited)
        .edit(|config| drop(config["clients"][0].as_object_mut().unwrap().remove("policy")))
        .patch(move |envoy| {
            shortened(envoy, &format!("{ROUTE}/route/idle_timeout"), "3s");
            // SO_SNDBUF: what waits in the kernel does not wait in Envoy.
            let (level, name) = if cfg!(target_os = "macos") { (0xffff, 0x1001) } else { (1, 7) };
            part(envoy, LISTENER)["socket_options"] =
                json!([{ "level": level, "name": name, "int_value": 4096, "state": "STATE_LISTENING" }]);
            if let Some(path) = without {
                take_out(envoy, &path);
            }
        })
        .mock("ptu", long);
    let gateway = Gateway::start(setup).await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = gateway.url().trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let body = with(chat("hello"), json!({ "stream": true, "max_tokens": 12_000 }));
    stream.write_all(request(CHAT, WEB_SHOP, &body).as_bytes()).await.unwrap();
    // The idle timeout ends it, and it is settled.
    let record = record_where(&gateway, |line| line["outcome"] == "broken").await;
    check_record(&record, &json!({ "status": 200, "flags": "SI", "estimated": "true", "model": GPT_4O }));
    let labels = [("envoy_cluster_name", "ptu")];
    gateway.metric("envoy_cluster_upstream_cx_rx_bytes_total", &labels).await.unwrap()
}

#[tokio::test]
async fn a_client_that_stalls_holds_little_memory_and_is_ended() {
    // An Envoy that is starved reads more at once before it notices that nobody takes it: 656058 in one of some dozens of runs.
    let mut bytes = f64::INFINITY;
    for _ in 0..3 {
        bytes = bytes.min(sent_to_a_client_that_stalls(None).await);
        if bytes < 300_000.0 {
            break;
        }
    }
    assert!(bytes < 300_000.0, "{bytes}");
    let bytes =
        sent_to_a_client_that_stalls(Some(format!("{LISTENER}/per_connection_buffer_limit_bytes"))).await;
    assert!(bytes > 700_000.0, "{bytes}");
}

/// `ptu` has a second address, and the first answers so, six times; which are asked after that, and how many are ejected.
async fn after_six(fault: Fault, change: impl FnOnce(&mut Value) + Send + 'static) -> (bool, f64) {
    let second = Mock::start("second", Settings::default()).await.unwrap();
    let port = second.addr().port();
    let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy| {
        let endpoints = part(envoy, &format!("{PTU}/load_assignment/endpoints/0/lb_endpoints"));
        let mut other = endpoints[0].clone();
        other["endpoint"]["address"]["socket_address"]["port_value"] = json!(port);
        endpoints.as_array_mut().unwrap().insert(1, other);
        change(part(envoy, PTU));
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let first = gateway.mock("ptu");
    first.update(|settings| settings.faults = [fault.times(6)].into());
    for _ in 0..24 {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
    }
    first.forget();
    for _ in 0..12 {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
    }
    let name = "envoy_cluster_outlier_detection_ejections_active";
    let ejected = gateway.metric(name, &[("envoy_cluster_name", "ptu")]).await.unwrap();
    (!first.received().is_empty(), ejected + 0.0)
}

/// Makes a 429 count as a failure, beside 5xx.
fn busy_is_failing(cluster: &mut Value) {
    let status = |matcher: Value| json!({ "http_response_headers_match": { "headers": [{ "name": ":status", "string_match": matcher }] } });
    let failing = json!({ "safe_regex": { "regex": "5.." } });
    let rules = json!([status(failing), status(json!({ "exact": "429" }))]);
    cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http_protocol_options": {} },
        "outlier_detection": { "error_matcher": { "or_match": { "rules": rules } } },
    });
}

#[tokio::test]
async fn an_address_that_fails_is_ejected_and_one_that_is_busy_is_not() {
    let fails = || Fault::answer(500);
    assert_eq!(after_six(fails(), |_| ()).await, (false, 1.0));
    for line in ["outlier_detection", "outlier_detection/max_ejection_percent"] {
        let without = move |cluster: &mut Value| take_out(cluster, &format!("/{line}"));
        assert_eq!(after_six(fails(), without).await, (true, 0.0), "{line}");
    }
    // One of three that are known is well: too few by Envoy's default, which then asks all.
    assert_eq!(after_six(fails(), |cluster| take_out(cluster, "/common_lb_config")).await, (true, 1.0));
    let busy = || Fault::answer(429).header("retry-after-ms", "1");
    assert_eq!(after_six(busy(), |_| ()).await, (true, 0.0));
    // Ten seconds and longer, for a millisecond.
    assert_eq!(after_six(busy(), busy_is_failing).await, (false, 1.0));
}

#[tokio::test]
async fn an_ejected_backend_is_asked_where_it_is_the_only_one() {
    let only = |config: &mut Value| {
        config["models"][0]["backends"] = json!([{ "backend": "ptu", "deployment": "gpt-4o-ptu" }]);
    };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(only);
    let gateway = Gateway::start(setup).await.unwrap();
    gateway.mock("ptu").update(|settings| settings.faults = [Fault::answer(500).times(8)].into());
    for expected in [500; 8].into_iter().chain([200; 4]) {
        assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, expected);
    }
    assert_eq!(gateway.mock("ptu").received().len(), 12);
    let name = "envoy_cluster_outlier_detection_ejections_active";
    assert_eq!(gateway.metric(name, &[("envoy_cluster_name", "ptu")]).await.unwrap(), 1.0);
}
