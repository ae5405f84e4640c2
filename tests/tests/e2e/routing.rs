//! Which backend comes first, and which never?

use serde_json::{Value, json};
use tollgate_tests::harness::{Gateway, Setup};
use tollgate_tests::mock::{Fault, Settings};

use crate::requests::{
    BATCH, CHAT, WEB_SHOP, chat, check_record, nobody_is_limited, record_of, refusal, with,
};

/// `ptu` and `payg-a` are in Europe, `payg-b` is not, and `web-shop` must stay there.
fn europe(config: &mut Value) {
    for (backend, region) in [(0, "eu"), (1, "eu"), (2, "us")] {
        config["backends"][backend]["region"] = json!(region);
    }
    config["clients"][0]["regions"] = json!(["eu"]);
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.post(CHAT, key, &with(chat("where am I"), json!({ "max_tokens": 8 }))).await.unwrap().status
}

#[tokio::test]
async fn a_client_never_leaves_its_regions_whatever_is_down() {
    let setup = Setup::new().edit(nobody_is_limited).edit(europe).patch(|envoy| {
        // Who ejects a backend for its errors is Envoy, which is not what is asked about here.
        for cluster in envoy["static_resources"]["clusters"].as_array_mut().unwrap() {
            cluster.as_object_mut().unwrap().remove("outlier_detection");
        }
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let faults = [
        Fault::answer(500),
        Fault::answer(503),
        Fault::close(),
        Fault::answer(429).header("retry-after-ms", "1"),
        Fault::answer(429),
        Fault::throttle_ms(60_000),
    ];
    for fault in faults {
        for backend in ["ptu", "payg-a"] {
            gateway.mock(backend).update(|settings| settings.faults = [fault.clone().always()].into());
        }
        for _ in 0..6 {
            let status = status(&gateway, WEB_SHOP).await;
            assert!([429, 500, 503].contains(&status), "{fault:?}: {status}");
        }
        assert_eq!(gateway.mock("payg-b").received(), [], "{fault:?}");
    }
    // Others go there.
    assert_eq!(status(&gateway, BATCH).await, 200);
    assert_eq!(gateway.mock("payg-b").received().len(), 1);
}

#[tokio::test]
async fn a_model_outside_of_the_clients_regions_is_refused_unasked() {
    let setup = Setup::new().workers(1).edit(europe).edit(|config| {
        config["models"][0]["backends"] = json!([{ "backend": "payg-b", "deployment": "gpt-4o" }]);
    });
    let gateway = Gateway::start(setup).await.unwrap();
    let answer = gateway.post(CHAT, WEB_SHOP, &chat("hello")).await.unwrap();
    assert_eq!(answer.status, 403);
    let message = "No backend for this model is in a region that this client may be served from.";
    assert_eq!(answer.json(), refusal(message, "permission_error", None, "region_not_permitted"));
    check_record(&record_of(&gateway, &answer).await, &json!({ "prompt_tokens": "0", "backend": null }));
    assert_eq!(gateway.mock("payg-b").received(), []);

    // The endpoints that nobody reads keep to it too.
    let request = gateway.http().get(format!("{}/v1/files", gateway.url())).bearer_auth(WEB_SHOP);
    assert_eq!(request.send().await.unwrap().status(), 403);
    assert_eq!(gateway.mock("payg-b").received(), []);
}

#[tokio::test]
async fn weights_share_requests_and_a_sticky_client_stays() {
    const REQUESTS: usize = 200;
    let canary = |config: &mut Value| {
        config["models"][0]["backends"] = json!([
            { "backend": "payg-a", "deployment": "gpt-4o", "weight": 75 },
            { "backend": "payg-b", "deployment": "gpt-4o", "weight": 25 },
        ]);
    };
    let quiet = || Settings { record: false, ..Settings::default() };
    let setup =
        Setup::new().edit(nobody_is_limited).edit(canary).mock("payg-a", quiet()).mock("payg-b", quiet());
    let gateway = Gateway::start(setup).await.unwrap();
    for _ in 0..REQUESTS {
        assert_eq!(status(&gateway, WEB_SHOP).await, 200);
    }
    let asked =
        |gateway: &Gateway| ["payg-a", "payg-b"].map(|backend| gateway.mock(backend).received().len());
    let [most, some] = asked(&gateway);
    // 50 are expected, and five standard deviations are 31.
    assert!(most + some == REQUESTS && (19..=81).contains(&some), "{most} {some}");

    let sticky = Setup::new()
        .edit(nobody_is_limited)
        .edit(canary)
        .edit(|config| config["models"][0]["sticky_by"] = json!("client"));
    let gateway = Gateway::start(sticky).await.unwrap();
    for _ in 0..20 {
        assert_eq!(status(&gateway, WEB_SHOP).await, 200);
    }
    assert!([[20, 0], [0, 20]].contains(&asked(&gateway)), "{:?}", asked(&gateway));
}

#[tokio::test]
async fn a_canary_gets_no_more_than_its_share_while_the_other_pauses() {
    const REQUESTS: usize = 100;
    let canary = |config: &mut Value| {
        config["models"][0]["backends"] = json!([
            { "backend": "payg-a", "deployment": "gpt-4o", "weight": 95 },
            { "backend": "payg-b", "deployment": "gpt-4o", "weight": 5, "share_max": 0.1 },
            { "backend": "ptu", "deployment": "gpt-4o-ptu", "priority": 1 },
        ]);
    };
    let busy = Fault::answer(429).header("retry-after", "300");
    let busy = || Settings { faults: [busy.clone()].into(), record: false, ..Settings::default() };
    let setup = Setup::new().workers(2).edit(nobody_is_limited).edit(canary);
    let gateway = Gateway::start(setup.mock("payg-a", busy())).await.unwrap();
    for _ in 0..REQUESTS {
        assert_eq!(status(&gateway, WEB_SHOP).await, 200);
    }
    let asked = ["payg-a", "payg-b", "ptu"].map(|backend| gateway.mock(backend).received().len());
    // Five were saved up, and the rest is a tenth.
    assert!((5 + REQUESTS / 10 - 2..=5 + REQUESTS / 10).contains(&asked[1]), "{asked:?}");
    assert_eq!(asked[1] + asked[2], REQUESTS, "{asked:?}");

    // Where nobody else is left, the rest is refused.
    gateway.mock("ptu").update(|settings| settings.faults = busy().faults);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(status(&gateway, WEB_SHOP).await);
    }
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!((3..=40 / 10 + 1).contains(&served), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn when_every_backend_pauses_on_a_guess_one_request_goes_to_see() {
    let only_ptu = |config: &mut Value| {
        config["models"][0]["backends"] = json!([{ "backend": "ptu", "deployment": "gpt-4o-ptu" }]);
    };
    let setup = Setup::new().workers(1).edit(nobody_is_limited).edit(only_ptu);
    let gateway = Gateway::start(setup).await.unwrap();
    gateway.mock("ptu").update(|settings| settings.faults = [Fault::answer(429)].into());
    assert_eq!(status(&gateway, WEB_SHOP).await, 429);
    // The backend named no time. The next one goes to see at once, finds it well, and all may go.
    for _ in 0..3 {
        assert_eq!(status(&gateway, WEB_SHOP).await, 200);
    }
    // Where it names one, nobody goes before it.
    let busy = Fault::answer(429).header("retry-after", "300");
    gateway.mock("ptu").update(|settings| settings.faults = [busy].into());
    for _ in 0..3 {
        assert_eq!(status(&gateway, WEB_SHOP).await, 429);
    }
    assert_eq!(gateway.mock("ptu").received().len(), 5);
}
