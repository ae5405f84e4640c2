//! What do clients notice when the name of a backend is gone while Envoy runs?

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tollgate_tests::harness::{Gateway, Setup};

use crate::envoy_lines::part;
use crate::requests::{CHAT, WEB_SHOP, chat, nobody_is_limited};

/// What a name server says to whatever it is asked.
#[derive(Clone, Copy, Debug)]
enum Says {
    Loopback,
    NoSuchName,
    ServerFailure,
    Nothing,
}

/// A name server for one name, on a free port.
struct Names {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    server: tokio::task::JoinHandle<()>,
}

impl Names {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let says = Arc::new(Mutex::new(Says::Loopback));
        let server = tokio::spawn({
            let says = Arc::clone(&says);
            async move {
                let mut query = [0; 512];
                loop {
                    let (size, from) = socket.recv_from(&mut query).await.unwrap();
                    let now = *says.lock().unwrap();
                    if let Some(answer) = answer(&query[..size], now) {
                        socket.send_to(&answer, from).await.unwrap();
                    }
                }
            }
        });
        Self { address, says, server }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The message of RFC 1035 that answers this query.
fn answer(query: &[u8], says: Says) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let (code, answers) = match says {
        Says::Loopback => (0, 1),
        Says::ServerFailure => (2, 0),
        Says::NoSuchName => (3, 0),
        Says::Nothing => return None,
    };
    // The name ends with an empty label; its type and class follow.
    let end = HEADER + query[HEADER..].iter().position(|byte| *byte == 0)? + 5;
    let mut message = query[..2].to_vec();
    message.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    message.extend(&query[HEADER..end]);
    if answers == 1 {
        // The name at the message's 12th byte, A, IN, for a second, four bytes.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        message.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(message)
}

/// `ptu` has a name, which is asked for ten times a second.
fn is_named(envoy: &mut Value, server: SocketAddr) {
    let cluster = part(envoy, "/static_resources/clusters/0");
    *part(cluster, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address") =
        json!("ptu.test");
    let often = json!({ "base_interval": "0.1s", "max_interval": "0.1s" });
    cluster["dns_refresh_rate"] = json!("0.1s");
    cluster["dns_failure_refresh_rate"] = often;
    cluster["typed_dns_resolver_config"] = json!({
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{ "socket_address": { "address": "127.0.0.1", "port_value": server.port() } }],
            "query_timeout_seconds": 1,
            "query_tries": 1,
        },
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_the_name_of_a_backend_is_gone() {
    const OF_PTU: [(&str, &str); 1] = [("envoy_cluster_name", "ptu")];
    let names = Names::start().await;
    let server = names.address;
    let setup = Setup::new().edit(nobody_is_limited).patch(move |envoy| is_named(envoy, server));
    let gateway = Gateway::start(setup).await.unwrap();
    let asked_while = async |what: &mut (dyn std::future::Future<Output = ()> + Unpin)| {
        let ask = async {
            loop {
                let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        };
        tokio::select! {
            () = ask => {}
            () = what => {}
        }
    };
    let asked = |backend: &str| gateway.mock(backend).load().admitted;
    let ask = async || assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);

    // Nobody knows better: the last address that was told is used on.
    for says in [Says::Nothing, Says::ServerFailure] {
        let failures = "envoy_cluster_update_failure";
        let before = gateway.metric(failures, &OF_PTU).await.unwrap();
        names.say(says);
        let mut twice =
            Box::pin(async { while gateway.metric(failures, &OF_PTU).await.unwrap() < before + 2.0 {} });
        asked_while(&mut twice).await;
        ask().await;
        assert_eq!(asked("payg-a"), 0, "{says:?}");
    }
    // The name is gone: so is its address, and the next backend answers.
    names.say(Says::NoSuchName);
    let members = "envoy_cluster_membership_total";
    asked_while(&mut Box::pin(async { gateway.wait_for_metric(members, &OF_PTU, 1.0).await.unwrap() })).await;
    asked_while(&mut Box::pin(async { gateway.mock("payg-a").wait_for_requests(1).await })).await;
    // It is there again.
    names.say(Says::Loopback);
    asked_while(&mut Box::pin(async { gateway.wait_for_metric(members, &OF_PTU, 2.0).await.unwrap() })).await;
    gateway.mock("ptu").forget();
    asked_while(&mut Box::pin(async { gateway.mock("ptu").wait_for_requests(1).await })).await;
}
