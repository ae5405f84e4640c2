//! Is a request that may wait published to a broker, to the letter and once, and is nothing else?
//!
//! The configurations are those of `examples/queue`. The broker is a stand-in; the tests play who takes its messages out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tollgate_tests::harness::bootstrap::gateway_from;
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Answer, Gateway, Setup};

use crate::azure::Azure;
use crate::fleets::client;
use crate::provider::Asked;
use crate::requests::{CHAT, RESPONSES, details, record_of, with};
use crate::stand_in::StandIn;

const EVENT_HUBS: &str = "event-hubs";
const STORAGE_QUEUE: &str = "storage-queue";
const SAS: &str = "sv=2021-12-02&sp=a&sig=s%2B%3D";

/// What a client asks: each byte of it counts.
const BODY: &str = "{ \"model\": \"gpt-4o\",\"max_tokens\":  10, \"messages\":[{\"role\":\"user\",\"content\":\"<ü & \\\"%\\n\"}]}\n";

/// A broker that takes each message with this status. It ends with this value.
struct Broker {
    server: StandIn,
    asked: Arc<Mutex<Vec<Asked>>>,
    status: Arc<Mutex<u16>>,
    held: watch::Sender<bool>,
}

impl Broker {
    async fn start() -> Self {
        let (asked, status) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(Mutex::new(201)));
        let held = watch::Sender::new(false);
        let (log, answers, holds) = (asked.clone(), status.clone(), held.clone());
        let server = StandIn::start(move |request: Request<hyper::body::Incoming>| {
            let (log, answers, mut holds) = (log.clone(), answers.clone(), holds.subscribe());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                let (method, headers) = (head.method.to_string(), head.headers);
                log.lock().unwrap().push(Asked { method, path, headers, body });
                let _ = holds.wait_for(|is_held| !*is_held).await;
                let status = *answers.lock().unwrap();
                Ok(Response::builder().status(status).body(Full::new(Bytes::new())).unwrap())
            }
        })
        .await;
        Self { server, asked, status, held }
    }

    /// What has arrived since it was last asked for.
    fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A gateway with an example's queue, into which all goes that may. Keys are names, but the example's own.
fn setup(example: &str, broker: SocketAddr, azure: SocketAddr, edit: fn(&mut Value)) -> Setup {
    let example = gateway_from(&workspace().join(format!("examples/queue/{example}.yaml"))).unwrap();
    let cluster = example["queue"]["broker"]["cluster"].as_str().unwrap().to_owned();
    let clusters = [(cluster, broker), ("imds".to_owned(), azure)];
    Setup::new()
        .workers(1)
        .env("QUEUE_SAS", &format!("?{SAS}"))
        .env("HUB_SAS", "SharedAccessSignature sr=hub&sig=s%3d&se=1&skn=send")
        .edit(move |config| {
            config["clients"] = json!([
                with(client("shop", json!([])), json!({ "policy": "short" })),
                with(client("swede", json!([])), json!({ "regions": ["swedencentral"] })),
                example["clients"][0],
            ]);
            config["policies"] = json!([{ "name": "short", "max_tokens": { "max": 100, "over": "reject" } }]);
            config["models"] = json!([{ "name": "gpt-4o", "backends": [{ "backend": "ptu", "deployment": "gpt-4o-ptu" }] }]);
            config["backends"][0]["region"] = json!("swedencentral");
            config["queue"] = with(example["queue"].clone(), json!({ "for": "normal", "when": "always" }));
            // Longer than a busy machine takes for anything.
            config["queue"]["broker"]["timeout_ms"] = json!(60_000);
            edit(config);
        })
        .patch(move |envoy| {
            for (name, at) in clusters {
                let address = json!({ "address": at.ip().to_string(), "port_value": at.port() });
                let endpoint = json!({ "endpoint": { "address": { "socket_address": address } } });
                let assignment = json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] });
                let cluster = json!({ "name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment });
                envoy["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
            }
        })
}

/// Before this broker; nobody issues tokens.
async fn start(example: &str, broker: SocketAddr, edit: fn(&mut Value)) -> Gateway {
    Gateway::start(setup(example, broker, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), edit)).await.unwrap()
}

async fn ask(gateway: &Gateway, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let request = gateway.http().post(format!("{}{CHAT}?tag=1&api-key={key}", gateway.url()));
    let request = request.header("api-key", key).header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::read(request.body(body.to_vec()).send().await.unwrap()).await.unwrap()
}

async fn publish(gateway: &Gateway, key: &str, body: &[u8]) -> Answer {
    let headers = [("prefer", "respond-async"), ("openai-beta", "b=1"), ("x-secret", "shh")];
    ask(gateway, key, &headers, body).await
}

#[track_caller]
fn check_code(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{}", answer.text());
}

/// The headers of a message but those that Envoy's own connection has.
fn said(message: &Asked) -> Vec<(&str, &str)> {
    let own = |name: &str| {
        name.starts_with("x-envoy-")
            || ["x-forwarded-for", "x-forwarded-proto", "x-request-id"].contains(&name)
    };
    let mut said: Vec<_> =
        message.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    said.retain(|(name, _)| !own(name));
    said.sort_unstable();
    said
}

/// That the client was told so, and of the one message what was asked; it is sent again as who takes it out does.
async fn check_replay(gateway: &Gateway, taken: &Answer, request: &Value) {
    let id = taken.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (taken.status, taken.header("preference-applied")),
        (202, "respond-async"),
        "{}",
        taken.text()
    );
    assert_eq!(taken.json(), json!({ "id": id, "object": "job", "state": "queued" }));
    assert!(!taken.headers.contains_key("location"), "{:?}", taken.headers);
    assert_eq!(record_of(gateway, taken).await["outcome"], "queued");
    let expected = json!({
        "id": id, "client": "shop", "priority": "normal", "model": "gpt-4o", "method": "POST",
        "path": format!("{CHAT}?tag=1"),
        "headers": { "accept": "*/*", "content-type": "application/json", "openai-beta": "b=1" }, "body": BODY,
    });
    assert_eq!(request, &expected);
    let (path, body) = (request["path"].as_str().unwrap(), request["body"].as_str().unwrap());
    let again = gateway.http().post(format!("{}{path}", gateway.url())).bearer_auth("demo-replay");
    let again =
        again.header("tollgate-act-for", request["client"].as_str().unwrap()).header("tollgate-job", &id);
    let again = request["headers"]
        .as_object()
        .unwrap()
        .iter()
        .fold(again, |again, (name, value)| again.header(name, value.as_str().unwrap()));
    let again = again.header("prefer", "respond-async").body(body.to_owned()).send().await.unwrap();
    let served = Answer::read(again).await.unwrap();
    assert_eq!(served.status, 200, "{}", served.text());
    let record = record_of(gateway, &served).await;
    assert_eq!((&record["client"], &record["outcome"]), (&json!("shop"), &json!("served")));
    let told = details(&record);
    assert_eq!((&told["job"], &told["worker"]), (&json!(id), &json!("replay")));
    let received = gateway.mock("ptu").received();
    assert_eq!((received.len(), &received[0].json()), (1, &serde_json::from_str(BODY).unwrap()));
}

#[tokio::test]
async fn event_hubs_gets_a_request_to_the_letter_and_once() {
    let (broker, azure) = (Broker::start().await, Azure::start().await);
    let gateway = Gateway::start(setup(EVENT_HUBS, broker.server.addr, azure.addr(), |_| {})).await.unwrap();
    let taken = loop {
        // Without a token nothing is published.
        let answer = publish(&gateway, "shop", BODY.as_bytes()).await;
        if answer.status == 202 {
            break answer;
        }
        check_code(&answer, 503, "queue_unavailable");
    };
    let messages = broker.take();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(
        (message.method.as_str(), message.path.as_str()),
        ("POST", "/HUB/messages?api-version=2014-01")
    );
    let length = message.body.len().to_string();
    let token = azure.issued()[0].clone();
    let expected = [
        ("authorization", format!("Bearer {token}")),
        ("brokerproperties", r#"{"PartitionKey":"shop"}"#.to_owned()),
        ("content-length", length),
        ("content-type", "application/atom+xml;type=entry;charset=utf-8".to_owned()),
        ("host", "NAMESPACE.servicebus.windows.net".to_owned()),
    ];
    let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(said(message), expected);
    check_replay(&gateway, &taken, &message.json()).await;
    assert_eq!(broker.take().len(), 0);
    gateway.wait_for_metric("tollgate_broker_messages", &[("outcome", "taken")], 1.0).await.unwrap();
    let logs = format!("{} {:?}", gateway.log_text().unwrap(), gateway.access_log().unwrap());
    assert!(!logs.contains(&token));
}

#[tokio::test]
async fn a_storage_queue_gets_a_request_to_the_letter_and_once() {
    let broker = Broker::start().await;
    let gateway = start(STORAGE_QUEUE, broker.server.addr, |_| {}).await;
    let taken = publish(&gateway, "shop", BODY.as_bytes()).await;
    let messages = broker.take();
    let [message] = &messages[..] else { panic!("{messages:?} {}", taken.text()) };
    assert_eq!(
        (message.method.as_str(), message.path.clone()),
        ("POST", format!("/QUEUE/messages?messagettl=86400&{SAS}"))
    );
    let (length, date) = (message.body.len().to_string(), message.header("x-ms-date").to_owned());
    let expected = [
        ("content-length", length.as_str()),
        ("content-type", "application/xml"),
        ("host", "ACCOUNT.queue.core.windows.net"),
        ("x-ms-date", date.as_str()),
        ("x-ms-version", "2021-12-02"),
    ];
    assert_eq!(said(message), expected);
    // Sat, 28 Nov 2026 21:33:13 GMT
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    let text = message.text();
    let text = text.strip_prefix("<QueueMessage><MessageText>").unwrap();
    let text = text.strip_suffix("</MessageText></QueueMessage>").unwrap();
    let request: Value = serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
    check_replay(&gateway, &taken, &request).await;
    // Nobody is told of it here, and a policy refuses before anything is published.
    let id = taken.json()["id"].as_str().unwrap().to_owned();
    let job = gateway.http().get(format!("{}/tollgate/v1/jobs/{id}", gateway.url())).bearer_auth("shop");
    check_code(&Answer::read(job.send().await.unwrap()).await.unwrap(), 404, "unknown_url");
    let greedy = json!({ "model": "gpt-4o", "messages": [], "max_tokens": 101 }).to_string();
    check_code(&publish(&gateway, "shop", greedy.as_bytes()).await, 400, "parameter_above_maximum");
    // A response in the background is the backend's.
    let body = json!({ "model": "gpt-4o", "input": "x", "background": true });
    assert_ne!(gateway.post(RESPONSES, "shop", &body).await.unwrap().status, 202);
    assert_eq!(broker.take().len(), 0);
}

#[tokio::test]
async fn a_broker_that_does_not_take_it_is_a_503() {
    let broker = Broker::start().await;
    let gateway = start(STORAGE_QUEUE, broker.server.addr, |_| {}).await;
    for status in [200, 403, 404, 413, 500, 503] {
        *broker.status.lock().unwrap() = status;
        let answer = publish(&gateway, "shop", BODY.as_bytes()).await;
        check_code(&answer, 503, "queue_unavailable");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(broker.take().len(), 1, "{status}: it is asked once");
    }
    gateway.wait_for_metric("tollgate_broker_messages", &[("outcome", "refused")], 6.0).await.unwrap();
    let sentence = "the queue's broker storage-queue does not take messages: it answers 200";
    assert_eq!(gateway.log_text().unwrap().matches("does not take messages").count(), 1);
    assert!(gateway.log_text().unwrap().contains(sentence));
    *broker.status.lock().unwrap() = 201;
    assert_eq!(publish(&gateway, "shop", BODY.as_bytes()).await.status, 202);
    assert_eq!(gateway.mock("ptu").received().len(), 0);
}

#[tokio::test]
async fn a_broker_that_is_away_or_too_slow_is_a_503() {
    // Who hangs up, who is not there, and who does not answer.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (rude, closed) = (listener.local_addr().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let hangs_up = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    for address in [rude, closed] {
        let gateway = start(STORAGE_QUEUE, address, |_| {}).await;
        check_code(&publish(&gateway, "shop", BODY.as_bytes()).await, 503, "queue_unavailable");
    }
    hangs_up.abort();
    let slow = Broker::start().await;
    slow.held.send_replace(true);
    let soon = |config: &mut Value| config["queue"]["broker"]["timeout_ms"] = json!(100);
    let gateway = start(STORAGE_QUEUE, slow.server.addr, soon).await;
    check_code(&publish(&gateway, "shop", BODY.as_bytes()).await, 503, "queue_unavailable");
    assert_eq!(gateway.mock("ptu").received().len(), 0);
}

#[tokio::test]
async fn a_client_of_regions_leaves_them_by_no_broker() {
    let broker = Broker::start().await;
    let gateway = start(STORAGE_QUEUE, broker.server.addr, |_| {}).await;
    assert_eq!(publish(&gateway, "swede", BODY.as_bytes()).await.status, 202);
    assert_eq!(broker.take().len(), 1);
    let elsewhere: [fn(&mut Value); 2] = [
        |config| config["queue"]["broker"]["region"] = json!("westeurope"),
        |config| config["queue"]["broker"]["region"] = Value::Null,
    ];
    for edit in elsewhere {
        let gateway = start(STORAGE_QUEUE, broker.server.addr, edit).await;
        assert_eq!(publish(&gateway, "swede", BODY.as_bytes()).await.status, 200);
        assert_eq!(broker.take().len(), 0);
        assert_eq!(publish(&gateway, "shop", BODY.as_bytes()).await.status, 202);
        assert_eq!(broker.take().len(), 1);
    }
}

#[tokio::test]
async fn what_is_too_long_for_a_broker_is_answered_at_once() {
    let broker = Broker::start().await;
    let gateway = start(STORAGE_QUEUE, broker.server.addr, |_| {}).await;
    let long = |bytes: usize| {
        let content = "x".repeat(bytes);
        json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": content }] }).to_string()
    };
    // 64 KiB of base64 are 48 KiB, and there is a little around the body.
    assert_eq!(publish(&gateway, "shop", long(48_000).as_bytes()).await.status, 202);
    assert_eq!(publish(&gateway, "shop", long(50_000).as_bytes()).await.status, 200);
    let messages = broker.take();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].body.len() <= 65_536);
}

#[tokio::test]
async fn what_a_peak_would_refuse_is_published_with_a_signature() {
    let broker = Broker::start().await;
    let gateway = start(EVENT_HUBS, broker.server.addr, |config| {
        config["queue"]["when"] = json!("full");
        config["clients"][0]["limits"] = json!([{ "requests": 1, "per": "day" }]);
        let broker = config["queue"]["broker"].as_object_mut().unwrap();
        broker.remove("credential");
        broker.insert("headers_env".to_owned(), json!({ "Authorization": "HUB_SAS" }));
    })
    .await;
    assert_eq!(publish(&gateway, "shop", BODY.as_bytes()).await.status, 200);
    assert_eq!(broker.take().len(), 0);
    assert_eq!(publish(&gateway, "shop", BODY.as_bytes()).await.status, 202);
    let messages = broker.take();
    assert_eq!(messages[0].header("authorization"), "SharedAccessSignature sr=hub&sig=s%3d&se=1&skn=send");
    check_code(&ask(&gateway, "shop", &[], BODY.as_bytes()).await, 429, "insufficient_quota");
    assert_eq!(broker.take().len(), 0);
}
