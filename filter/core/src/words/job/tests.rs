use super::*;
use crate::digest::hex;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

const BODY: What<'_> = What::Body {
    client: "web",
    kind: "job",
    method: "POST",
    path: "/v1/embeddings",
    headers: "{}",
    model: "m",
};
const ANSWER: What<'_> = What::Answer { client: "web", kind: "job" };

fn id(byte: u8) -> Id {
    Id::new(&[byte; ID_BYTES])
}

fn key(byte: u8) -> Key {
    Key::new([byte; KEY_BYTES])
}

#[test]
fn what_is_sealed_opens_where_it_belongs_and_nowhere_else() {
    let sealed = seal(Some(&key(1)), &NONCE, &id(1), BODY, b"a secret");
    assert!(!sealed.windows(6).any(|part| part == b"secret"));
    assert_eq!(open(Some(&key(1)), &id(1), BODY, &sealed), Ok(b"a secret".to_vec()));
    assert_eq!(open(Some(&key(2)), &id(1), BODY, &sealed), Err(Unopened::Wrong));
    assert_eq!(open(Some(&key(1)), &id(2), BODY, &sealed), Err(Unopened::Wrong));
    assert_eq!(open(Some(&key(1)), &id(1), ANSWER, &sealed), Err(Unopened::Wrong));
    assert_eq!(open(None, &id(1), BODY, &sealed), Err(Unopened::NoKey));
}

#[test]
fn what_lies_around_a_seal_is_held_by_it() {
    let What::Body { client, kind, method, path, headers, model } = BODY else { panic!() };
    let body = |client, kind, method, path, headers, model| What::Body {
        client,
        kind,
        method,
        path,
        headers,
        model,
    };
    let sealed = seal(Some(&key(1)), &NONCE, &id(1), BODY, b"a secret");
    for other in [
        body("other", kind, method, path, headers, model),
        body(client, "response", method, path, headers, model),
        body(client, kind, "GET", path, headers, model),
        body(client, kind, method, "/v1/completions", headers, model),
        body(client, kind, method, path, "{\"accept\":\"x\"}", model),
        body(client, kind, method, path, headers, "n"),
        // The same letters, cut elsewhere.
        body("webj", "ob", method, path, headers, model),
        body(client, kind, "POST/", "v1/embeddings", headers, model),
    ] {
        assert_eq!(open(Some(&key(1)), &id(1), other, &sealed), Err(Unopened::Wrong), "{other:?}");
    }
    let sealed = seal(Some(&key(1)), &NONCE, &id(1), ANSWER, b"an answer");
    for (client, kind) in [("other", "job"), ("web", "response"), ("webj", "ob")] {
        let other = What::Answer { client, kind };
        assert_eq!(open(Some(&key(1)), &id(1), other, &sealed), Err(Unopened::Wrong), "{other:?}");
    }
}

#[test]
fn a_change_of_any_byte_is_noticed() {
    let sealed = seal(Some(&key(1)), &NONCE, &id(1), ANSWER, b"an answer");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(open(Some(&key(1)), &id(1), ANSWER, &changed), Err(Unopened::Wrong), "{at}");
        assert!(open(Some(&key(1)), &id(1), ANSWER, &sealed[..at]).is_err(), "{at}");
    }
}

#[test]
fn without_a_key_it_lies_open_and_a_key_takes_nothing_open() {
    let lies = seal(None, &NONCE, &id(1), BODY, b"open");
    assert_eq!(lies, b"\0open");
    assert_eq!(open(None, &id(1), BODY, &lies), Ok(b"open".to_vec()));
    assert_eq!(open(Some(&key(1)), &id(1), BODY, &lies), Err(Unopened::Wrong));
}

/// <https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03#appendix-A.3.1>, whose associated data is no job's: of what
/// it has, the cipher text is independent of that.
#[test]
fn the_published_vector_of_the_cipher_holds() {
    let bytes: Vec<u8> = (0x80..0xa0).collect();
    let nonce: Vec<u8> = (0x40..0x58).collect();
    let key = Key::new(bytes.try_into().unwrap());
    let sealed = seal(Some(&key), &nonce.try_into().unwrap(), &id(1), BODY, b"Ladies and Gentlemen of the");
    let text = &sealed[1 + NONCE_BYTES..sealed.len() - 16];
    assert_eq!(hex(text), "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed290");
}

#[test]
fn an_id_and_a_key_are_read_as_they_are_written_only() {
    let text = "00112233445566778899aabbccddeeff";
    assert_eq!(Id::read(text).unwrap().text(), text);
    for wrong in [
        "",
        "00112233445566778899AABBCCDDEEFF",
        &text[1..],
        "0011223344556677:899aabbccddeeff",
        &format!("{text}0"),
    ] {
        assert_eq!(Id::read(wrong), None, "{wrong}");
    }
    let written = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    assert_eq!(Key::read(&format!("{written}\n")), Some(key(1)));
    for wrong in ["", "AQEB", "no base64", &written[..31]] {
        assert_eq!(Key::read(wrong), None, "{wrong}");
    }
    // Another secret is good enough if it is as long.
    let (one, other) = (Key::read(&written[..32]), Key::read(&"s".repeat(64)));
    assert!(one.is_some() && other.is_some() && one != other);
    assert_eq!(format!("{:?}", key(1)), "Key(…)");
}

#[test]
fn each_word_names_one_state_and_one_kind() {
    for state in State::ALL {
        assert_eq!(State::of(state.word().as_bytes()), Some(state));
    }
    for kind in [Kind::Job, Kind::Response] {
        assert_eq!(Kind::of(kind.word().as_bytes()), Some(kind));
    }
    assert_eq!((State::of(b"gone"), Kind::of(b"")), (None, None));
}

#[test]
fn all_keys_of_the_queue_share_a_slot() {
    let keys = Keys::new("eu");
    let mut all = keys.of_scripts(&id(1), "app").to_vec();
    all.push(keys.dead());
    assert!(all.iter().all(|key| key.starts_with("eu:{jobs}")), "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 9);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_back_and_none_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for key in [None, Some(key(3))] {
            let lies = seal(key.as_ref(), &NONCE, &id(1), BODY, &bytes);
            prop_assert_eq!(open(key.as_ref(), &id(1), BODY, &lies), Ok(bytes.clone()));
            let _ = open(key.as_ref(), &id(1), BODY, &bytes);
        }
    }
}
