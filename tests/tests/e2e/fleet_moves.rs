//! Is each store told its own, and nothing else, when a configuration moves from one to another?

use std::path::Path;

use serde_json::{Value, json};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Gateway, Redis, Setup};
use tollgate_tests::mock::Settings;

use crate::extension_config::{changed, take_effect, take_out, write};
use crate::fleets::{
    Fleet, Held, PASSWORD, all_is_told, charged, client, midnight_is_far, small_chat, until, until_async,
    used_of,
};
use crate::requests::CHAT;

/// So many requests a budget holds of each store, and so many of them are served before the first move.
const HOLDS: usize = 10;
const BEFORE: usize = 6;

/// Has the configuration move to the keys with this prefix. It takes effect when a client is known that nobody knew.
async fn move_to(gateway: &Gateway, folder: &Path, prefix: &str, newcomer: &str) {
    let change = |config: &mut Value| {
        config["store"]["redis"]["prefix"] = json!(prefix);
        config["clients"].as_array_mut().unwrap().push(client(newcomer, json!([])));
    };
    write(folder, &changed(folder, change));
    take_effect(folder);
    until_async(async || match gateway.post(CHAT, newcomer, &small_chat()).await.unwrap().status {
        200 => Ok(()),
        status => Err(format!("{newcomer} gets {status}")),
    })
    .await;
}

/// How many requests of a client a store has in its book of what was spent.
fn spent(redis: &Redis, prefix: &str, client: &str) -> u64 {
    let Reply::Array(days) = redis.ask(&["KEYS", &format!("{prefix}:spend:*")]).unwrap() else {
        panic!("no keys")
    };
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    let of_day = |day: &Reply| {
        let Reply::Array(fields) = redis.ask(&["HGETALL", &text(day)]).unwrap() else { panic!("no day") };
        let row = format!("r\u{1f}{client}\u{1f}");
        let rows = fields.chunks(2).filter(|field| text(&field[0]).starts_with(&row));
        rows.map(|field| text(&field[1]).split(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    days.iter().map(of_day).sum()
}

/// Waits until a store has so many requests of a client in its book of what was spent.
pub async fn is_spent(redis: &Redis, prefix: &str, client: &str, requests: usize) {
    until(|| match spent(redis, prefix, client) {
        spent if spent == requests as u64 => Ok(()),
        spent => Err(format!("{prefix} has {spent} requests of {client}, expected {requests}")),
    })
    .await;
}

#[tokio::test]
async fn what_one_store_is_owed_is_never_told_to_another() {
    let Some(redis) = Redis::or_skip("what_one_store_is_owed_is_never_told_to_another", Some(PASSWORD), &[])
    else {
        return;
    };
    midnight_is_far().await;
    let config = |config: &mut Value| {
        config["store"] = json!({ "spend": {}, "redis": {
            "cluster": "tollgate-store", "password_env": "REDIS_PASSWORD", "prefix": "left", "timeout_ms": 2500 } });
        config["on_store_failure"] = json!("deny");
        config["clients"] = json!([
            client("few", json!([ { "requests": HOLDS, "per": "day" } ])),
            client("held", json!([ { "tokens": 1_000_000, "per": "day" } ])),
        ]);
    };
    let folder = tempfile::tempdir().unwrap();
    let (place, of_envoy) = (folder.path(), folder.path().to_owned());
    let setup = Setup::new()
        .redis(redis.address(), PASSWORD)
        .workers(1)
        .edit(config)
        // Fewer than are asked for: what one costs is not what was reserved for it.
        .mock("ptu", Settings { completion_tokens: 3, ..Settings::default() });
    let setup = setup.patch(move |envoy| take_out(envoy, &of_envoy));
    let fleet = Fleet(vec![Gateway::start(setup).await.unwrap()]);
    let [gateway] = &fleet.0[..] else { panic!("one") };

    // One is held at its backend while the configuration moves. What it costs is known, and due, when all else of the old one is over.
    gateway.mock("ptu").update(|settings| settings.hold = true);
    let mut held = Held::default();
    held.ask(&fleet.0, &["held"], 1);
    held.are_decided(&fleet.0).await;
    gateway.mock("ptu").update(|settings| settings.hold = false);
    assert_eq!(fleet.serve("few", BEFORE).await, BEFORE);
    let reserved = used_of(&redis, "left:{client/held}");

    // In the other store nothing is spent, however much was in the first.
    move_to(gateway, place, "new", "first-newcomer").await;
    fleet.release();
    held.are_answered().await;
    fleet.use_up(&redis, "few", (0, HOLDS), &[429, 503]).await;
    charged(&redis, "new:{client/few}", HOLDS).await;
    charged(&redis, "left:{client/few}", BEFORE).await;

    // The first one is told what was owed to it, and the other nothing of it.
    let first = gateway.mock("ptu").received()[0].serial;
    let billed = gateway.mock("ptu").billed();
    let usage = &billed.iter().find(|billed| billed.serial == first).unwrap().usage;
    let cost = usize::try_from(usage.prompt + usage.completion).unwrap();
    assert_ne!(cost, reserved);
    charged(&redis, "left:{client/held}", cost).await;
    is_spent(&redis, "left", "held", 1).await;
    is_spent(&redis, "left", "few", BEFORE).await;
    is_spent(&redis, "new", "few", HOLDS).await;
    assert_eq!((spent(&redis, "new", "held"), used_of(&redis, "new:{client/held}")), (0, 0));

    // And back: what was spent there is spent, and no more.
    move_to(gateway, place, "left", "second-newcomer").await;
    fleet.use_up(&redis, "few", (BEFORE, HOLDS), &[429, 503]).await;
    all_is_told(gateway).await;
    charged(&redis, "left:{client/few}", HOLDS).await;
    charged(&redis, "new:{client/few}", HOLDS).await;
    assert_eq!(gateway.metric("tollgate_store_losses", &[]).await.unwrap(), 0.0);
}
