//! Is Redis asked through TLS as `envoy/fleet.yaml` shows it, and only if it proves that it is the one that is meant?

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use rcgen::SanType;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tollgate_tests::harness::tools::workspace;
use tollgate_tests::harness::{Gateway, Redis, Setup};

use crate::envoy_lines::part;
use crate::fleets::until_async;
use crate::requests::{CHAT, WEB_SHOP, chat};
use crate::terminator::Authority;

const PASSWORD: &str = "a password";

/// The lines that stand in the file as a comment.
fn lines_for_tls() -> Value {
    let file = fs::read_to_string(workspace().join("envoy/fleet.yaml")).unwrap();
    let lines = file.lines().skip_while(|line| !line.contains("# transport_socket:"));
    let lines: Vec<_> = lines.map(|line| line.replacen("# ", "", 1)).collect();
    let whole: Value = serde_yaml_ng::from_str(&lines.join("\n")).unwrap();
    whole["transport_socket"].clone()
}

#[tokio::test]
async fn a_store_is_asked_by_tls_only_if_it_proves_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let authority = Authority::new();
    fs::write(place("authority.pem"), authority.pem()).unwrap();
    for (name, is_asked) in [("redis", true), ("another", false)] {
        fs::write(place("redis.pem"), authority.pem_for(SanType::DnsName(name.try_into().unwrap()))).unwrap();
        // Bound as long as it is needed and never listening: nobody else is given its port, and Redis shares it.
        let reserves = TcpSocket::new_v4().unwrap();
        reserves.set_reuseaddr(true).unwrap();
        reserves.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = reserves.local_addr().unwrap().port();
        let words = [
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &place("redis.pem")],
            ["--tls-key-file", &place("redis.pem")],
            ["--tls-ca-cert-file", &place("authority.pem")],
            ["--tls-auth-clients", "no"],
        ];
        let redis = Redis::start_with(Some(PASSWORD), &words.concat()).unwrap();
        let authorities = place("authority.pem");
        let setup = Setup::new()
            .redis(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PASSWORD)
            .workers(1)
            .edit(|config| {
                config["clients"][0]["limits"] = json!([ { "requests": 2, "per": "day" } ]);
                // So that a busy machine is not taken for a store that is gone.
                config["store"]["redis"]["timeout_ms"] = json!(4000);
            })
            .patch(move |envoy| {
                let mut tls = lines_for_tls();
                let trusted = "/typed_config/common_tls_context/validation_context/trusted_ca/filename";
                *part(&mut tls, trusted) = json!(authorities);
                let clusters = part(envoy, "/static_resources/clusters").as_array_mut().unwrap();
                let redis = clusters.iter_mut().find(|cluster| cluster["name"] == "redis").unwrap();
                redis["transport_socket"] = tls;
            });
        let gateway = Gateway::start(setup).await.unwrap();
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let outcome = if is_asked { "ok" } else { "unreached" };
        until_async(async || {
            let calls = gateway.metric("tollgate_store_calls", &[("outcome", outcome)]).await.unwrap();
            if calls > 0.0 { Ok(()) } else { Err(format!("{name}: no call is {outcome}")) }
        })
        .await;
        let keys = redis.ask(&["KEYS", "*"]).unwrap();
        assert_eq!(format!("{keys:?}").contains("Bulk"), is_asked, "{name}: {keys:?}");
    }
}
