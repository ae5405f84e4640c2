//! Is a conversation by WebSocket governed and charged, turn by turn?

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::realtime::{HEARD, INPUT, LONG_TURN, OUTPUT, TURN};

use crate::drivers::{Call, Language, Sdk, outcomes};
use crate::requests::{WEB_SHOP, check_record, details, record_where};

const REALTIME: &str = "gpt-realtime";
/// What the client may use in a day, in which nothing comes back.
const BUDGET: u64 = 20_000;
/// A conversation that says nothing more for so long has nothing more to say.
const WITHIN: Duration = Duration::from_secs(15);

/// Conversations with two backends, one of them of each form of URL.
fn serves(config: &mut Value) {
    config["websocket"] = json!({ "realtime": {} });
    config["models"].as_array_mut().unwrap().push(json!({
        "name": REALTIME,
        "prices": { "prompt": 1, "completion": 2 },
        "backends": [{ "backend": "ptu", "deployment": "voice" }],
    }));
    config["clients"][0]["models"] = json!([REALTIME]);
}

async fn gateway(change: impl FnOnce(&mut Value) + Send + 'static) -> Gateway {
    serving(serves, change).await
}

/// A gateway that serves this, to a client with few tokens, but for a change.
pub(super) async fn serving(
    serves: fn(&mut Value),
    change: impl FnOnce(&mut Value) + Send + 'static,
) -> Gateway {
    let setup = Setup::new().workers(1).edit(move |config| {
        serves(config);
        // The policy of envoy.yaml has a default.
        config["clients"][0].as_object_mut().unwrap().remove("policy");
        config["clients"][0]["limits"] = json!([{ "tokens": BUDGET, "per": "day" }, { "concurrent": 2 }]);
        change(config);
    });
    Gateway::start(setup).await.unwrap()
}

/// A client's side.
pub(super) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn open(gateway: &Gateway) -> Self {
        Self::open_by(gateway, &format!("/v1/realtime?model={REALTIME}")).await.unwrap()
    }

    /// Or the status of what it gets in place of a conversation.
    pub(super) async fn open_by(gateway: &Gateway, path: &str) -> Result<Self, u16> {
        let url = format!("{}{path}", gateway.url().replace("http", "ws"));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {WEB_SHOP}").parse().unwrap());
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn say(&mut self, event: Value) {
        self.0.send(Message::text(event.to_string())).await.unwrap();
    }

    /// The next event of this type, whatever comes before.
    pub(super) async fn hear(&mut self, kind: &str) -> Value {
        let wanted = async {
            loop {
                match self.0.next().await.unwrap().unwrap() {
                    Message::Text(text) => {
                        let event: Value = serde_json::from_str(&text).unwrap();
                        if event["type"] == kind {
                            return event;
                        }
                    }
                    Message::Close(said) => panic!("closed while {kind} is awaited: {said:?}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(WITHIN, wanted).await.unwrap_or_else(|_| panic!("no {kind} comes"))
    }

    /// The code that it is closed with.
    async fn closed(&mut self) -> u16 {
        let closed = async {
            loop {
                if let Message::Close(said) = self.0.next().await.unwrap().unwrap() {
                    return said.unwrap().code.into();
                }
            }
        };
        tokio::time::timeout(WITHIN, closed).await.unwrap()
    }

    pub(super) async fn end(mut self) {
        let _ = self.0.close(None).await;
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

/// What is used of the client's tokens, which others tell a moment later.
pub(super) async fn used(gateway: &Gateway) -> u64 {
    let answer =
        gateway.http().get(format!("{}/tollgate/v1/usage", gateway.url())).bearer_auth(WEB_SHOP).send();
    let list: Value = answer.await.unwrap().json().await.unwrap();
    list["limits"][0]["used"].as_u64().unwrap()
}

async fn is_realtime(gateway: &Gateway) -> Value {
    record_where(gateway, |line| details(line)["operation"] == "realtime").await
}

#[tokio::test]
async fn each_turn_is_charged_and_the_log_has_their_sum() {
    let gateway = gateway(|_| {}).await;
    let mut client = Client::open(&gateway).await;
    client.hear("session.created").await;
    client.say(json!({ "type": "response.create" })).await;
    assert_eq!(client.hear("response.done").await["response"]["status"], "completed");
    assert_eq!(used(&gateway).await, INPUT + OUTPUT);
    // Nobody asks for this one.
    client.say(json!({ "type": "input_audio_buffer.append", "audio": TURN })).await;
    client.hear("response.done").await;
    let total = 2 * (INPUT + OUTPUT) + HEARD;
    assert_eq!(used(&gateway).await, total);
    client.end().await;
    let record = is_realtime(&gateway).await;
    check_record(
        &record,
        &json!({
            "client": "web-shop", "model": REALTIME, "backend": "ptu", "outcome": "served",
            "prompt_tokens": (2 * INPUT + HEARD - 4).to_string(), "completion_tokens": (2 * OUTPUT + 4).to_string(),
        }),
    );
    let details = details(&record);
    assert_eq!((&details["turns"], &details["prompt_audio_tokens"]), (&json!(3), &json!(INPUT + HEARD - 4)));
    let labels =
        [("client", "web-shop"), ("model", REALTIME), ("operation", "realtime"), ("outcome", "served")];
    // The turns, and the conversation itself.
    gateway.wait_for_metric("tollgate_requests", &labels, 4.0).await.unwrap();
}

#[tokio::test]
async fn a_conversation_goes_to_its_backend_without_the_clients_key() {
    let gateway = gateway(|_| {}).await;
    for path in [
        "/v1/realtime?model=gpt-realtime",
        "/openai/v1/realtime?model=gpt-realtime",
        "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime",
    ] {
        let mut client = Client::open_by(&gateway, path).await.unwrap();
        client.hear("session.created").await;
        client.end().await;
    }
    let received = gateway.mock("ptu").received();
    assert_eq!(received.len(), 3);
    for received in received {
        assert!(received.path.contains("/realtime?") && received.path.contains("voice"), "{}", received.path);
        let headers = format!("{:?}", received.headers);
        assert!(!headers.contains(WEB_SHOP) && !headers.contains("extensions"), "{headers}");
    }
}

#[tokio::test]
async fn a_conversation_that_is_not_configured_is_refused() {
    let gateway = gateway(|config| config["websocket"] = json!({})).await;
    let refused = Client::open_by(&gateway, "/v1/realtime?model=gpt-realtime").await;
    assert_eq!(refused.map(|_| ()).unwrap_err(), 426);
    assert_eq!(gateway.mock("ptu").received().len(), 0);
}

#[tokio::test]
async fn a_policy_holds_for_a_conversation() {
    let gateway = gateway(|config| {
        let policy = json!({ "name": "voice", "max_tokens": { "default": 9, "max": 12, "over": "clamp" }, "tools": "forbid" });
        config["policies"].as_array_mut().unwrap().push(policy);
        config["clients"][0]["policy"] = json!("voice");
    })
    .await;
    let mut client = Client::open(&gateway).await;
    // The default is there before the client says anything of it.
    client.say(json!({ "type": "conversation.item.retrieve", "item_id": "x" })).await;
    assert_eq!(client.hear("conversation.item.retrieved").await["item"]["max_output_tokens"], 9);
    client
        .say(json!({ "type": "session.update", "session": { "type": "realtime", "max_output_tokens": 500 } }))
        .await;
    assert_eq!(client.hear("session.updated").await["session"]["max_output_tokens"], 12);
    client.say(json!({ "type": "session.update", "event_id": "mine", "session": { "tools": [{ "type": "function" }] } })).await;
    let error = client.hear("error").await;
    assert_eq!((&error["error"]["event_id"], &error["error"]["param"]), (&json!("mine"), &json!("tools")));
    client.say(json!({ "type": "session.delete" })).await;
    assert_eq!(client.hear("error").await["error"]["param"], "type");
    client.say(json!({ "type": "response.create" })).await;
    let done = client.hear("response.done").await;
    assert_eq!(done["response"]["usage"]["output_tokens"], 12);
    client.end().await;
}

#[tokio::test]
async fn a_conversation_beyond_its_budget_is_told_and_stays() {
    let gateway =
        gateway(|config| config["clients"][0]["limits"] = json!([{ "tokens": 10, "per": "hour" }])).await;
    let mut client = Client::open(&gateway).await;
    client.say(json!({ "type": "response.create", "event_id": "mine" })).await;
    let error = client.hear("error").await["error"].clone();
    assert_eq!(
        (&error["event_id"], &error["code"]),
        (&json!("mine"), &json!("request_exceeds_limit")),
        "{error}"
    );
    // A turn that begins by itself is ended.
    client.say(json!({ "type": "input_audio_buffer.append", "audio": LONG_TURN })).await;
    client.hear("error").await;
    assert_eq!(client.hear("response.done").await["response"]["status"], "cancelled");
    client.end().await;
    let record = is_realtime(&gateway).await;
    assert_eq!(details(&record)["refused_turns"], 1);
    // What it has used all the same is charged.
    check_record(&record, &json!({ "prompt_tokens": INPUT.to_string(), "completion_tokens": "1" }));
}

#[tokio::test]
async fn a_conversation_beyond_its_budget_is_closed_if_so_configured() {
    let gateway = gateway(|config| {
        config["websocket"]["realtime"] = json!({ "when_exhausted": "close" });
        config["clients"][0]["limits"] = json!([{ "tokens": 10, "per": "hour" }]);
    })
    .await;
    let mut client = Client::open(&gateway).await;
    client.say(json!({ "type": "response.create" })).await;
    assert_eq!(client.closed().await, 1008);
}

#[tokio::test]
async fn a_conversation_takes_a_place_until_it_ends() {
    let gateway = gateway(|config| config["clients"][0]["limits"] = json!([{ "concurrent": 1 }])).await;
    let mut client = Client::open(&gateway).await;
    client.hear("session.created").await;
    let path = format!("/v1/realtime?model={REALTIME}");
    assert_eq!(Client::open_by(&gateway, &path).await.map(|_| ()).unwrap_err(), 429);
    // Its turns need none.
    client.say(json!({ "type": "response.create" })).await;
    client.hear("response.done").await;
    client.end().await;
    is_realtime(&gateway).await;
    Client::open(&gateway).await.end().await;
}

#[tokio::test]
async fn a_conversation_that_breaks_is_charged_by_what_was_seen() {
    let gateway = gateway(|_| {}).await;
    let mut client = Client::open(&gateway).await;
    client.say(json!({ "type": "input_audio_buffer.append", "audio": LONG_TURN })).await;
    client.hear("response.output_text.delta").await;
    client.hear("response.output_text.delta").await;
    drop(client);
    let record = is_realtime(&gateway).await;
    check_record(&record, &json!({ "outcome": "served", "estimated": "true" }));
    // Of "hello there", and not all that it might have said.
    let produced: u64 = record["completion_tokens"].as_str().unwrap().parse().unwrap();
    assert!((1..10).contains(&produced), "{record}");
}

#[tokio::test]
async fn the_official_sdks_hold_conversations() {
    let gateway = gateway(|_| {}).await;
    for language in [Language::Python, Language::Node] {
        let sdk = Sdk { language, class: "OpenAI" };
        let arguments = json!({ "model": REALTIME });
        let arguments = if language == Language::Node { json!([arguments]) } else { arguments };
        let found = outcomes(&gateway, &[Call::new(sdk, WEB_SHOP, "realtime", arguments)]).await.remove(0);
        assert_eq!(found["answer"]["text"], "hello there", "{language:?} {found}");
        assert_eq!(found["answer"]["output_tokens"], OUTPUT, "{language:?} {found}");
    }
    assert_eq!(used(&gateway).await, 2 * (INPUT + OUTPUT));
}
