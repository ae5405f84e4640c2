mod attacks;
mod told;

use super::claims::Path;
use super::issuer::{Issuer, Proof};
use super::keys::{KeySet, OF_PAIRS, OF_SECRETS};
use super::tokens::{
    AUDIENCE, ISSUER, NOW, Proxy, SECRET, asked, b64, claims, claims_with, public, signed, token, token_by,
};
use super::*;
use crate::caller::Caller;
use crate::store::MemoryStore;
use crate::value::Value as OfUser;
use jsonwebtoken::Algorithm;
use jsonwebtoken_10::Algorithm as Alg;
use keys::Key;
use proptest::prelude::*;
use serde_json::{Value, json};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

type Found = Result<&'static str, Denial>;

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn issuer(proof: Proof, algorithms: &[Algorithm]) -> Issuer {
    Issuer {
        name: "issuer".into(),
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned(), "other".to_owned()],
        algorithms: algorithms.to_vec(),
        leeway: Duration::from_secs(60),
        client_claim: None,
        proof,
    }
}

/// A directory that knows the API key `key`, and tokens of this issuer whose `azp` is `app`.
fn directory(issuers: Vec<Issuer>, proxy: Proxy) -> Directory<&'static str> {
    let has_issuer = !issuers.is_empty();
    let mut directory = Directory::new(issuers);
    assert_eq!(directory.enter(KeyHash::of(b"key"), Validity::ALWAYS, Rc::new("web")), None);
    if has_issuer {
        let app = Matcher { path: Path::parse("azp").unwrap(), value: "app".to_owned() };
        assert_eq!(directory.enter_claims(0, vec![app], Rc::new("app")), None);
    }
    directory.trust(proxy);
    directory
}

/// One whose issuer signs with all keys and algorithms of pairs.
fn with_keys() -> Directory<&'static str> {
    let issuers = vec![issuer(Proof::Keys(key_set(&public(""))), &OF_PAIRS)];
    directory(issuers, Proxy::default())
}

fn ask(directory: &Directory<&'static str>, headers: &[(&str, &str)], now: Duration) -> Found {
    ask_at(directory, "", headers, now)
}

fn ask_at(
    directory: &Directory<&'static str>,
    query: &str,
    headers: &[(&str, &str)],
    now: Duration,
) -> Found {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    let found = directory.identify(headers, query, Api::OpenAi, Moment::new(&MemoryStore::default(), now));
    found.map(|identity| *identity.client().expect("it is known at once"))
}

fn show(directory: &Directory<&'static str>, token: &str) -> Found {
    ask(directory, &[("authorization", &format!("Bearer {token}"))], NOW)
}

#[track_caller]
fn check(headers: &[(&str, &str)], expected: Found) {
    assert_eq!(ask(&directory(Vec::new(), Proxy::default()), headers, NOW), expected, "{headers:?}");
}

#[test]
fn a_key_is_taken_from_either_header() {
    check(&[("api-key", "key")], Ok("web"));
    check(&[("authorization", "Bearer key")], Ok("web"));
    check(&[("authorization", "bearer  key ")], Ok("web"));
    check(&[("authorization", "Bearer key"), ("api-key", "key")], Ok("web"));
}

#[test]
fn anything_else_is_refused() {
    check(&[], Err(Denial::MissingCredential));
    check(&[("api-key", "")], Err(Denial::MissingCredential));
    check(&[("authorization", "Basic key")], Err(Denial::MissingCredential));
    check(&[("authorization", "Bearer")], Err(Denial::MissingCredential));
    check(&[("authorization", "Bearer ")], Err(Denial::MissingCredential));
    check(&[("api-key", "other")], Err(Denial::UnknownCredential));
    check(&[("api-key", "key"), ("api-key", "key")], Err(Denial::AmbiguousCredential));
    check(
        &[("authorization", "Bearer key"), ("authorization", "Bearer key")],
        Err(Denial::AmbiguousCredential),
    );
    check(&[("authorization", "Bearer other"), ("api-key", "key")], Err(Denial::AmbiguousCredential));
    // Without an issuer a token is a key, and not one of ours.
    check(
        &[("authorization", &format!("Bearer {}", token("ed25519", &claims())))],
        Err(Denial::UnknownCredential),
    );
}

#[test]
fn a_key_is_read_from_more_sources_where_they_are_configured() {
    use KeySource::*;
    let check = |sources: &[KeySource], query: &str, headers: &[(&str, &str)], expected: Found| {
        let mut directory = directory(Vec::new(), Proxy::default());
        directory.read_keys_from(sources.to_vec());
        assert_eq!(ask_at(&directory, query, headers, NOW), expected, "{sources:?} {query} {headers:?}");
    };
    let (x_key, api_key, bearer) =
        (("x-api-key", "key"), ("api-key", "key"), ("authorization", "Bearer key"));
    let other = [("x-api-key", "other"), ("api-key", "other"), ("authorization", "Bearer other")];
    const AMBIGUOUS: Found = Err(Denial::AmbiguousCredential);
    const MISSING: Found = Err(Denial::MissingCredential);
    // Where it is none, it is not looked at.
    check(&[], "api-key=key", &[x_key], MISSING);
    check(&[Query], "", &[x_key], MISSING);
    check(&[XApiKey], "api-key=key", &[], MISSING);
    check(&[], "api-key=other", &[other[0], bearer], Ok("web"));

    check(&[XApiKey], "", &[x_key], Ok("web"));
    check(&[Query], "a=1&api-key=key", &[], Ok("web"));
    check(&[Query], "API%2DKey=k%65y", &[], Ok("web"));
    check(&[XApiKey, Query], "api-key=key", &[x_key, api_key, bearer], Ok("web"));
    check(&[XApiKey], "", &[other[0]], Err(Denial::UnknownCredential));
    check(&[Query], "api-key=other", &[], Err(Denial::UnknownCredential));
    for other in other {
        check(&[XApiKey, Query], "api-key=key", &[other], AMBIGUOUS);
    }
    for one in [api_key, bearer] {
        check(&[XApiKey], "", &[other[0], one], AMBIGUOUS);
        check(&[XApiKey], "", &[("x-api-key", ""), one], AMBIGUOUS);
        check(&[Query], "api-key=", &[one], AMBIGUOUS);
    }
    check(&[XApiKey], "", &[x_key, x_key], AMBIGUOUS);
    check(&[Query], "api-key=key&api%2dkey=key", &[], AMBIGUOUS);
    check(&[XApiKey], "", &[("x-api-key", "")], MISSING);
    for empty in ["api-key", "api-key="] {
        check(&[Query], empty, &[], MISSING);
    }
}

#[test]
fn a_hash_is_64_hexadecimal_digits() {
    let hex = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
    assert!(KeyHash::parse(hex) == Some(KeyHash::of(b"key")));
    assert!(KeyHash::parse(&hex.to_uppercase()) == Some(KeyHash::of(b"key")));
    for wrong in [&hex[1..], "", &hex.replace('2', "g"), &hex.replace("2c", "+c")] {
        assert!(KeyHash::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_key_is_good_from_its_first_instant_until_its_last() {
    let second = Duration::from_secs(1);
    let mut directory = Directory::default();
    let validity = Validity { from: NOW, until: NOW + second };
    assert_eq!(directory.enter(KeyHash::of(b"key"), validity, Rc::new("web")), None);
    let at = |now| ask(&directory, &[("api-key", "key")], now);
    assert_eq!(at(NOW - Duration::from_nanos(1)), Err(Denial::KeyNotYetValid));
    assert_eq!(at(NOW), Ok("web"));
    assert_eq!(at(NOW + second - Duration::from_nanos(1)), Ok("web"));
    assert_eq!(at(NOW + second), Err(Denial::KeyExpired));
}

const INVALID: fn(Flaw) -> Found = |flaw| Err(Denial::InvalidToken(flaw));

#[track_caller]
fn check_claims(more: Value, expected: Found) {
    assert_eq!(show(&with_keys(), &token("ed25519", &claims_with(more.clone()))), expected, "{more}");
}

#[test]
fn times_hold_to_the_second_with_the_leeway() {
    let now = NOW.as_secs();
    check_claims(json!({ "exp": now - 59 }), Ok("app"));
    check_claims(json!({ "exp": now - 60 }), Err(Denial::TokenExpired));
    check_claims(json!({ "exp": now as f64 - 59.5 }), Ok("app"));
    check_claims(json!({ "exp": 0 }), Err(Denial::TokenExpired));
    check_claims(json!({ "nbf": now + 60 }), Ok("app"));
    check_claims(json!({ "nbf": now + 61 }), Err(Denial::TokenNotYetValid));
    check_claims(json!({ "iat": now + 60 }), Ok("app"));
    check_claims(json!({ "iat": now + 61 }), Err(Denial::TokenNotYetValid));
    check_claims(json!({ "nbf": null, "iat": null }), Ok("app"));
    check_claims(json!({ "exp": null }), INVALID(Flaw::Times));
    for wrong in [json!((now + 600).to_string()), json!(-1), json!(1e300), json!([now + 600]), json!(true)] {
        check_claims(json!({ "exp": wrong }), INVALID(Flaw::Times));
        check_claims(json!({ "nbf": wrong }), INVALID(Flaw::Times));
    }
}

#[test]
fn a_token_is_for_us_if_its_audience_is() {
    check_claims(json!({ "aud": "other" }), Ok("app"));
    check_claims(json!({ "aud": ["x", AUDIENCE] }), Ok("app"));
    for wrong in [
        json!("x"),
        json!([]),
        json!(["x"]),
        json!("api://gateway/"),
        json!("API://gateway"),
        json!(1),
        json!({}),
    ] {
        check_claims(json!({ "aud": wrong }), Err(Denial::WrongAudience));
    }
    check_claims(json!({ "aud": null }), Err(Denial::WrongAudience));
}

#[test]
fn an_issuer_is_known_by_its_exact_name() {
    for wrong in [
        json!("https://issuer.example/v2.0/"),
        json!("https://ISSUER.example/v2.0"),
        json!([ISSUER]),
        json!(""),
    ] {
        check_claims(json!({ "iss": wrong }), Err(Denial::UnknownIssuer));
    }
    check_claims(json!({ "iss": null }), Err(Denial::UnknownIssuer));
}

#[test]
fn a_genuine_token_that_is_no_clients_is_refused() {
    check_claims(json!({ "azp": "x" }), Err(Denial::NoClient));
    check_claims(json!({ "azp": null }), Err(Denial::NoClient));
}

#[test]
fn two_issuers_do_not_vouch_for_each_others_tokens() {
    let other = "https://other.example";
    let mut second = issuer(Proof::Keys(key_set(&public("ed25519"))), &OF_PAIRS);
    second.issuer = other.to_owned();
    let first = issuer(Proof::Keys(key_set(&public("rsa"))), &OF_PAIRS);
    let mut directory = directory(vec![first, second], Proxy::default());
    let app = Matcher { path: Path::parse("azp").unwrap(), value: "app".to_owned() };
    assert_eq!(directory.enter_claims(1, vec![app], Rc::new("theirs")), None);
    assert_eq!(show(&directory, &token("rsa-1", &claims())), Ok("app"));
    let theirs = claims_with(json!({ "iss": other }));
    assert_eq!(show(&directory, &token("ed25519", &theirs)), Ok("theirs"));
    assert_eq!(show(&directory, &token("ed25519", &claims())), INVALID(Flaw::UnknownKey));
    assert_eq!(show(&directory, &token("rsa-1", &theirs)), INVALID(Flaw::UnknownKey));
}

#[test]
fn of_several_clients_that_match_the_first_counts() {
    let mut directory = with_keys();
    let matcher =
        |path: &str, value: &str| Matcher { path: Path::parse(path).unwrap(), value: value.to_owned() };
    let both = vec![matcher("azp", "app"), matcher("roles", "r")];
    assert_eq!(directory.enter_claims(0, both.clone(), Rc::new("second")), None);
    assert_eq!(directory.enter_claims(0, both, Rc::new("third")), Some(Rc::new("second")));
    assert_eq!(
        directory.enter_claims(0, vec![matcher("azp", "x"), matcher("roles", "r")], Rc::new("x")),
        None
    );
    assert_eq!(show(&directory, &token("ed25519", &claims_with(json!({ "roles": ["r"] })))), Ok("app"));
    let x = |roles: Value| token("ed25519", &claims_with(json!({ "azp": "x", "roles": roles })));
    assert_eq!(show(&directory, &x(json!(["r", "s"]))), Ok("x"));
    assert_eq!(show(&directory, &x(json!(["s"]))), Err(Denial::NoClient));
}

#[test]
fn a_token_is_verified_once_and_remembered_until_it_expires() {
    let before = asked();
    let issuers = vec![issuer(Proof::Keys(key_set(&public(""))), &OF_PAIRS)];
    let directory = directory(issuers, Proxy::default());
    let bearer = format!("Bearer {}", token("ed25519", &claims()));
    let at =
        |seconds: u64| ask(&directory, &[("authorization", &bearer)], NOW + Duration::from_secs(seconds));
    for seconds in [0, 1, 600, 659] {
        assert_eq!(at(seconds), Ok("app"));
    }
    assert_eq!(asked() - before, 1);
    for _ in 0..2 {
        assert_eq!(at(660), Err(Denial::TokenExpired));
    }
}

#[test]
fn what_is_refused_is_not_remembered() {
    let before = asked();
    let issuers = vec![issuer(Proof::Keys(key_set(&public("rsa"))), &OF_PAIRS)];
    let directory = directory(issuers, Proxy::default());
    let wrong = signed(r#"{"alg":"RS256","kid":"rsa-1"}"#, &claims().to_string(), "rsa-2", Alg::RS256);
    for _ in 0..2 {
        assert_eq!(show(&directory, &wrong), INVALID(Flaw::Signature));
    }
    assert_eq!(asked() - before, 2);
}

#[test]
fn certificates_headers_and_envoys_tokens_identify_as_keys_do() {
    let payload = ("payload".to_owned(), claims().to_string());
    let proxy = Proxy {
        certified: [(SanKind::Uri, "spiffe://corp/partner".to_owned())].into(),
        payloads: [payload].into(),
    };
    let from_envoy = || vec![issuer(Proof::Envoy("payload".to_owned()), &[])];
    assert_eq!(ask(&directory(from_envoy(), proxy), &[], NOW), Ok("app"));

    let uri = || Proxy {
        certified: [(SanKind::Uri, "spiffe://corp/partner".to_owned())].into(),
        ..Proxy::default()
    };
    let enter = |directory: &mut Directory<&'static str>| {
        let partner = Rc::new("partner");
        assert_eq!(
            directory.enter_certificate(SanKind::Uri, "spiffe://corp/partner".to_owned(), partner.clone()),
            None
        );
        assert_eq!(
            directory.enter_header("x-client".to_owned(), "legacy".to_owned(), Rc::new("legacy")),
            None
        );
        assert_eq!(directory.enter_header("x-client".to_owned(), "partner".to_owned(), partner), None);
    };
    let mut with = directory(Vec::new(), uri());
    enter(&mut with);
    assert_eq!(ask(&with, &[], NOW), Ok("partner"));
    assert_eq!(ask(&with, &[("x-client", "partner")], NOW), Ok("partner"));
    assert_eq!(ask(&with, &[("x-client", "legacy")], NOW), Err(Denial::AmbiguousClient));
    assert_eq!(ask(&with, &[("api-key", "key")], NOW), Err(Denial::AmbiguousClient));
    let mut without = directory(Vec::new(), Proxy::default());
    enter(&mut without);
    assert_eq!(ask(&without, &[("x-client", "legacy")], NOW), Ok("legacy"));
    assert_eq!(ask(&without, &[("x-client", "nobody")], NOW), Err(Denial::NoClient));
    let twice = [("x-client", "legacy"), ("x-client", "legacy")];
    assert_eq!(ask(&without, &twice, NOW), Err(Denial::AmbiguousClient));
    // Two keys are two keys, whatever else is there.
    let keys = [("x-client", "legacy"), ("api-key", "key"), ("authorization", "Bearer other")];
    assert_eq!(ask(&without, &keys, NOW), Err(Denial::AmbiguousCredential));
    assert_eq!(
        ask(&without, &[("x-client", "legacy"), ("api-key", "key")], NOW),
        Err(Denial::AmbiguousClient)
    );
    assert_eq!(
        ask(&without, &[("x-client", "legacy"), ("api-key", "other")], NOW),
        Err(Denial::UnknownCredential)
    );
    assert_eq!(ask(&without, &[], NOW), Err(Denial::MissingCredential));
    // The same name of another kind.
    let dns =
        Proxy { certified: [(SanKind::Dns, "spiffe://corp/partner".to_owned())].into(), ..Proxy::default() };
    let mut other = directory(Vec::new(), dns);
    enter(&mut other);
    assert_eq!(ask(&other, &[], NOW), Err(Denial::MissingCredential));
}

#[test]
fn of_a_token_that_envoy_verifies_only_what_envoy_says_counts() {
    let from_envoy = || vec![issuer(Proof::Envoy("payload".to_owned()), &[])];
    let with = |claims: Value| {
        directory(
            from_envoy(),
            Proxy { payloads: [("payload".to_owned(), claims.to_string())].into(), ..Proxy::default() },
        )
    };
    let bearer = token("rsa-1", &claims());
    assert_eq!(show(&with(claims()), &bearer), Ok("app"));
    assert_eq!(show(&with(claims_with(json!({ "azp": "x" }))), &bearer), Err(Denial::NoClient));
    assert_eq!(show(&directory(from_envoy(), Proxy::default()), &bearer), INVALID(Flaw::Signature));
    let late = claims_with(json!({ "exp": NOW.as_secs() - 60 }));
    assert_eq!(ask(&with(late), &[], NOW), Err(Denial::TokenExpired));
    let elsewhere = claims_with(json!({ "aud": "x" }));
    assert_eq!(ask(&with(elsewhere), &[], NOW), Err(Denial::WrongAudience));
    // Another provider's payload.
    let foreign = claims_with(json!({ "iss": "https://other.example" }));
    assert_eq!(ask(&with(foreign), &[], NOW), Err(Denial::MissingCredential));
}

#[test]
fn only_who_shows_nothing_is_anonymous() {
    let mut directory = directory(Vec::new(), Proxy::default());
    assert_eq!(directory.enter_anonymous(Rc::new("anybody")), None);
    assert_eq!(ask(&directory, &[], NOW), Ok("anybody"));
    assert_eq!(ask(&directory, &[("api-key", "key")], NOW), Ok("web"));
    assert_eq!(ask(&directory, &[("api-key", "kex")], NOW), Err(Denial::UnknownCredential));
    assert_eq!(ask(&directory, &[("api-key", "")], NOW), Err(Denial::MissingCredential));
    assert_eq!(ask(&directory, &[("authorization", "Basic eA==")], NOW), Err(Denial::MissingCredential));
}

#[test]
fn a_key_with_two_dots_is_a_key() {
    let mut directory = with_keys();
    assert_eq!(directory.enter(KeyHash::of(b"a.b.c"), Validity::ALWAYS, Rc::new("dotted")), None);
    assert_eq!(show(&directory, "a.b.c"), Ok("dotted"));
    assert_eq!(show(&directory, "a.b.d"), INVALID(Flaw::Malformed));
    // Tokens are sent as tokens.
    let token = token("ed25519", &claims());
    assert_eq!(ask(&directory, &[("api-key", &token)], NOW), Err(Denial::UnknownCredential));
}

#[test]
fn nothing_secret_can_be_printed() {
    let issuers = vec![issuer(Proof::Keys(KeySet::new(vec![Key::secret(SECRET)])), &OF_SECRETS)];
    let printed = format!("{:?}", directory(issuers, Proxy::default()));
    assert!(!printed.contains("0123456789") && !printed.contains("48, 49, 50"), "{printed}");
}
