//! What do clients notice of a backend that is gone?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Mock, Settings};

use crate::envoy_lines::{part, take_out};
use crate::requests::{CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, with};

#[tokio::test]
async fn a_backend_whose_name_does_not_resolve_is_passed_over() {
    const ENDPOINTS: &str = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
    for closed_port_is_there in [true, false] {
        let setup = Setup::new().workers(1).edit(nobody_is_limited).patch(move |envoy: &mut Value| {
            let address = format!("{ENDPOINTS}/0/endpoint/address/socket_address/address");
            *part(envoy, &address) = json!("no-such-name.invalid");
            if !closed_port_is_there {
                take_out(envoy, &format!("{ENDPOINTS}/1"));
            }
        });
        let gateway = Gateway::start(setup).await.unwrap();
        let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
        let record = record_of(&gateway, &answer).await;
        let expected = match closed_port_is_there {
            true => json!({ "status": 200, "attempts": 2, "backend": "payg-a" }),
            // Why the closed port is there: Envoy does not go on from a cluster without an address.
            false => json!({ "status": 503, "flags": "UH" }),
        };
        check_record(&record, &expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_goes_unnoticed_and_is_used_again() {
    const AT_ONCE: usize = 16;
    let slow = || Settings { latency_ms: 5, chunk_delay_ms: 1, ..Settings::default() };
    let first = Mock::start("first", slow()).await.unwrap();
    let address = first.addr();
    let setup = Setup::new().edit(nobody_is_limited).backend("ptu", &first.url()).env("PTU_KEY", "unused");
    let gateway = Gateway::start(setup).await.unwrap();
    let client = async |at: usize| {
        let mut broken = 0;
        for _ in 0..40 {
            let body = with(chat("hello"), json!({ "stream": at.is_multiple_of(2) }));
            let request =
                gateway.http().post(format!("{}{CHAT}", gateway.url())).bearer_auth(WEB_SHOP).json(&body);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            // It had a first byte.
            broken += usize::from(answer.bytes().await.is_err());
        }
        broken
    };
    let kill = async {
        first.wait_for_requests(5 * AT_ONCE).await;
        first.stop().await;
    };
    let (broken, ()) = tokio::join!(futures_util::future::join_all((0..AT_ONCE).map(client)), kill);
    // No more than were under way when it was killed.
    let broken: usize = broken.into_iter().sum();
    assert!(broken <= AT_ONCE, "{broken}");
    assert!(!gateway.mock("payg-a").received().is_empty());

    let back = Mock::start_on(address, "first", Settings::default()).await.unwrap();
    let asked = async {
        loop {
            assert_eq!(gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap().status, 200);
        }
    };
    tokio::select! {
        () = back.wait_for_requests(1) => {}
        () = asked => {}
    }
}
