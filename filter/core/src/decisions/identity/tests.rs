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

#[test]
fn a_token_of_every_algorithm_is_taken() {
    let directory = with_keys();
    for kid in ["rsa-1", "rsa-2", "ec-256", "ec-384", "ed25519"] {
        assert_eq!(show(&directory, &token(kid, &claims())), Ok("app"), "{kid}");
    }
    for algorithm in [Alg::RS384, Alg::RS512, Alg::PS256] {
        assert_eq!(show(&directory, &token_by(algorithm, "rsa-1", &claims())), Ok("app"), "{algorithm:?}");
    }
    let secrets = KeySet::new(vec![Key::secret(SECRET)]);
    let directory = self::directory(vec![issuer(Proof::Keys(secrets), &OF_SECRETS)], Proxy::default());
    for algorithm in [Alg::HS256, Alg::HS384, Alg::HS512] {
        assert_eq!(show(&directory, &token_by(algorithm, "secret", &claims())), Ok("app"), "{algorithm:?}");
    }
}

const INVALID: fn(Flaw) -> Found = |flaw| Err(Denial::InvalidToken(flaw));

#[test]
fn known_attacks_are_refused() {
    let directory = with_keys();
    let claims_text = claims().to_string();
    let good = token("rsa-1", &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    let header = |header: Value| signed(&header.to_string(), &claims_text, "rsa-1", Alg::RS256);
    let with_header = |text: &str| format!("{}.{body}.{signature}", b64(text));
    let ec = token("ec-256", &claims());
    let ec_signed = |bytes: &[u8]| format!("{}.{}", ec.rsplit_once('.').unwrap().0, b64(bytes));
    let modulus = public("rsa-1")[0]["n"].as_str().unwrap().to_owned();
    let hmac_with_public_key = |secret: &[u8]| {
        let message = format!("{}.{body}", b64(r#"{"alg":"HS256","kid":"rsa-1"}"#));
        let key = jsonwebtoken_10::EncodingKey::from_secret(secret);
        format!("{message}.{}", jsonwebtoken_10::crypto::sign(message.as_bytes(), &key, Alg::HS256).unwrap())
    };
    let rsa = Key::read(&Json::object(public("rsa-1")[0].to_string().as_bytes()).unwrap()).unwrap();
    let der = public_key::der(&rsa.decoding).unwrap();
    let mut cases: Vec<(&str, String, Found)> = vec![
        // RFC 8725 section 2.1: the algorithm is the attacker's to write.
        (
            "an RSA modulus as the secret of an HMAC",
            hmac_with_public_key(modulus.as_bytes()),
            INVALID(Flaw::Algorithm),
        ),
        ("an RSA key's DER as the secret of an HMAC", hmac_with_public_key(&der), INVALID(Flaw::Algorithm)),
        ("no algorithm", with_header(r#"{"kid":"rsa-1"}"#), INVALID(Flaw::Algorithm)),
        ("an algorithm that is no string", with_header(r#"{"alg":["RS256"]}"#), INVALID(Flaw::Algorithm)),
        ("an algorithm in other letters", with_header(r#"{"alg":"rs256"}"#), INVALID(Flaw::Algorithm)),
        (
            "an algorithm of encryption",
            with_header(r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#),
            INVALID(Flaw::Algorithm),
        ),
        (
            "an EC algorithm with an RSA key",
            header(json!({ "alg": "ES256", "kid": "rsa-1" })),
            INVALID(Flaw::UnknownKey),
        ),
        (
            "a PKCS#1 signature said to be PSS",
            header(json!({ "alg": "PS256", "kid": "rsa-1" })),
            INVALID(Flaw::Signature),
        ),
        (
            "a PSS signature said to be PKCS#1",
            signed(r#"{"alg":"RS256","kid":"rsa-1"}"#, &claims_text, "rsa-1", Alg::PS256),
            INVALID(Flaw::Signature),
        ),
        (
            "a hash said to be another",
            header(json!({ "alg": "RS512", "kid": "rsa-1" })),
            INVALID(Flaw::Signature),
        ),
        // Section 2.7 and RFC 7515 section 4.1: a key that the token brings along, or the way to one.
        (
            "an embedded key",
            signed(
                &json!({ "alg": "RS256", "kid": "rsa-1", "jwk": public("rsa-2")[0] }).to_string(),
                &claims_text,
                "rsa-2",
                Alg::RS256,
            ),
            INVALID(Flaw::Signature),
        ),
        (
            "a way to a key",
            signed(
                r#"{"alg":"RS256","jku":"https://attacker.example","x5u":"https://attacker.example"}"#,
                &claims_text,
                "ed25519",
                Alg::EdDSA,
            ),
            INVALID(Flaw::Signature),
        ),
        (
            "a key that is not published",
            header(json!({ "alg": "RS256", "kid": "rsa-9" })),
            INVALID(Flaw::UnknownKey),
        ),
        (
            "a key by injection",
            header(json!({ "alg": "RS256", "kid": "rsa-1' OR '1'='1" })),
            INVALID(Flaw::UnknownKey),
        ),
        (
            "a key by path",
            header(json!({ "alg": "RS256", "kid": "../../dev/null" })),
            INVALID(Flaw::UnknownKey),
        ),
        ("a key that is no string", header(json!({ "alg": "RS256", "kid": 1 })), INVALID(Flaw::Malformed)),
        ("a key that is null", header(json!({ "alg": "RS256", "kid": null })), INVALID(Flaw::Malformed)),
        ("nothing critical, null", header(json!({ "alg": "RS256", "crit": null })), INVALID(Flaw::Critical)),
        ("another key's name", header(json!({ "alg": "RS256", "kid": "rsa-2" })), INVALID(Flaw::Signature)),
        // RFC 7515 section 4.1.11, RFC 7797.
        (
            "a critical extension",
            header(json!({ "alg": "RS256", "crit": ["exp"], "exp": 1 })),
            INVALID(Flaw::Critical),
        ),
        ("nothing critical, said so", header(json!({ "alg": "RS256", "crit": [] })), INVALID(Flaw::Critical)),
        ("an unencoded payload", header(json!({ "alg": "RS256", "b64": false })), INVALID(Flaw::Malformed)),
        ("a compressed payload", header(json!({ "alg": "RS256", "zip": "DEF" })), INVALID(Flaw::Malformed)),
        // RFC 7519 section 4: what two readers may read differently.
        (
            "two algorithms",
            signed(r#"{"alg":"none","alg":"RS256","kid":"rsa-1"}"#, &claims_text, "rsa-1", Alg::RS256),
            INVALID(Flaw::Malformed),
        ),
        (
            "two expiries",
            signed(
                r#"{"alg":"RS256"}"#,
                &claims_text.replacen('{', r#"{"exp":9999999999,"#, 1),
                "rsa-1",
                Alg::RS256,
            ),
            INVALID(Flaw::Malformed),
        ),
        (
            "a claim twice, once with escapes",
            signed(
                r#"{"alg":"RS256"}"#,
                &claims_text.replacen('{', r#"{"\u0061zp":"x","#, 1),
                "rsa-1",
                Alg::RS256,
            ),
            INVALID(Flaw::Malformed),
        ),
        (
            "claims that are no object",
            signed(r#"{"alg":"RS256"}"#, "[]", "rsa-1", Alg::RS256),
            INVALID(Flaw::Malformed),
        ),
        (
            "claims with more behind them",
            signed(r#"{"alg":"RS256"}"#, &format!("{claims_text}x"), "rsa-1", Alg::RS256),
            INVALID(Flaw::Malformed),
        ),
        // The compact form.
        ("no signature", format!("{head}.{body}."), INVALID(Flaw::Signature)),
        (
            "another token's signature",
            format!("{head}.{}.{signature}", b64(claims_with(json!({ "azp": "x" })).to_string())),
            INVALID(Flaw::Signature),
        ),
        ("no claims", format!("{head}..{signature}"), INVALID(Flaw::Malformed)),
        ("no header", format!(".{body}.{signature}"), INVALID(Flaw::Malformed)),
        ("only dots", "..".to_owned(), INVALID(Flaw::Malformed)),
        ("two parts", format!("{head}.{body}"), Err(Denial::UnknownCredential)),
        ("four parts", format!("{good}.{signature}"), Err(Denial::UnknownCredential)),
        ("the JSON form", format!(r#"{{"payload":"{body}"}}"#), Err(Denial::UnknownCredential)),
        ("padding", format!("{head}.{body}.{signature}=="), INVALID(Flaw::Malformed)),
        (
            "bits that stand for nothing",
            format!("{head}.{body}.{}", uncanonical(signature)),
            INVALID(Flaw::Malformed),
        ),
        ("the other alphabet", format!("{head}.{body}.{}+", &signature[1..]), Err(Denial::UnknownCredential)),
        ("a space in it", format!("{head}. {body}.{signature}"), Err(Denial::UnknownCredential)),
        ("a signature cut short", format!("{head}.{body}.{}", &signature[..340]), INVALID(Flaw::Signature)),
        ("a longer signature", format!("{head}.{body}.{signature}AAAA"), INVALID(Flaw::Signature)),
        (
            "too long",
            format!("{head}.{}.{signature}", "A".repeat(jwt::TOKEN_BYTES_MAX)),
            INVALID(Flaw::TooLong),
        ),
        // ECDSA: CVE-2022-21449, and signatures that are no two numbers.
        ("zeros", ec_signed(&[0; 64]), INVALID(Flaw::Signature)),
        ("a zero r", ec_signed(&[&[0; 32][..], &[1; 32]].concat()), INVALID(Flaw::Signature)),
        ("a zero s", ec_signed(&[&[1; 32][..], &[0; 32]].concat()), INVALID(Flaw::Signature)),
        ("the order of the curve", ec_signed(&[0xff; 64]), INVALID(Flaw::Signature)),
        (
            "a DER signature",
            ec_signed(&[&[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01][..], &[0; 56]].concat()),
            INVALID(Flaw::Signature),
        ),
        ("63 bytes", ec_signed(&[1; 63]), INVALID(Flaw::Signature)),
        ("96 bytes", ec_signed(&[1; 96]), INVALID(Flaw::Signature)),
        (
            "another curve's key",
            signed(r#"{"alg":"ES384","kid":"ec-256"}"#, &claims_text, "ec-384", Alg::ES384),
            INVALID(Flaw::UnknownKey),
        ),
        (
            "Ed25519 zeros",
            format!("{}.{}", token("ed25519", &claims()).rsplit_once('.').unwrap().0, b64([0; 64])),
            INVALID(Flaw::Signature),
        ),
    ];
    // RFC 8725 section 3.2, in all letter cases: CVE-2015-9235 and its successors.
    let cased: Vec<String> = (0..16)
        .map(|bits| {
            let letter = |(at, letter): (usize, char)| {
                if bits >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
            };
            "none".chars().enumerate().map(letter).collect()
        })
        .collect();
    for none in cased.iter().map(String::as_str).chain(["", " none", "none "]) {
        let head = b64(json!({ "alg": none, "typ": "JWT" }).to_string());
        cases.push(("alg none", format!("{head}.{body}."), INVALID(Flaw::Algorithm)));
        cases.push(("alg none, signed", format!("{head}.{body}.{signature}"), INVALID(Flaw::Algorithm)));
    }
    assert_eq!(show(&directory, &good), Ok("app"));
    for (name, token, expected) in cases {
        assert_eq!(show(&directory, &token), expected, "{name}");
    }
}

/// The same bytes, in another spelling: the last letter stands for fewer bits than it has.
fn uncanonical(part: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = part.split_at(part.len() - 1);
    let at = LETTERS.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    format!("{rest}{}", char::from(LETTERS[at | 1]))
}

proptest! {
    #[test]
    fn a_token_that_was_changed_anywhere_is_refused(
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"ABCxyz019-_.=+/ \"".to_vec()),
        how in 0..3,
    ) {
        let good = token("ed25519", &claims());
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
        let changed = String::from_utf8(bytes).unwrap();
        // White space around a token is none of its bytes.
        prop_assume!(changed.trim() != good);
        prop_assert!(show(&with_keys(), &changed).is_err(), "{changed}");
    }
}

#[test]
fn an_algorithm_must_be_among_those_of_the_issuer() {
    let only = vec![issuer(Proof::Keys(key_set(&public("rsa"))), &[Algorithm::RS256])];
    let directory = directory(only, Proxy::default());
    assert_eq!(show(&directory, &token("rsa-1", &claims())), Ok("app"));
    for algorithm in [Alg::RS384, Alg::PS256] {
        let token = token_by(algorithm, "rsa-1", &claims());
        assert_eq!(show(&directory, &token), INVALID(Flaw::Algorithm), "{algorithm:?}");
    }
    // A key that is for one algorithm only.
    let mut key = public("rsa-1");
    key[0]["alg"] = json!("PS256");
    let directory = self::directory(vec![issuer(Proof::Keys(key_set(&key)), &OF_PAIRS)], Proxy::default());
    assert_eq!(show(&directory, &token_by(Alg::PS256, "rsa-1", &claims())), Ok("app"));
    assert_eq!(show(&directory, &token("rsa-1", &claims())), INVALID(Flaw::UnknownKey));
}

#[test]
fn a_token_without_a_keys_name_is_tried_with_all_that_fit() {
    let directory = with_keys();
    for kid in ["rsa-1", "rsa-2"] {
        let token = signed(r#"{"alg":"RS256"}"#, &claims().to_string(), kid, Alg::RS256);
        assert_eq!(show(&directory, &token), Ok("app"), "{kid}");
    }
}

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

/// What is told of whoever shows this.
fn caller(directory: &Directory<&'static str>, query: &str, headers: &[(&str, &str)]) -> Caller {
    directory.caller(headers.iter().map(|(name, value)| (*name, value.as_bytes())), query, Api::OpenAi)
}

#[test]
fn a_caller_is_told_by_the_beginning_of_its_key() {
    let mut directory = directory(Vec::new(), Proxy::default());
    directory.read_keys_from(vec![KeySource::XApiKey, KeySource::Query]);
    let key = "sk-0123456789abcdef0123456789abcdef";
    let bearer = format!("Bearer {key}");
    let query = format!("api-key={key}");
    let shown: [(&str, &[(&str, &str)]); 6] = [
        ("", &[("authorization", &bearer)]),
        ("", &[("api-key", key)]),
        ("", &[("x-api-key", key)]),
        (&query, &[]),
        ("", &[("api-key", ""), ("authorization", &bearer)]),
        // The first one of several.
        ("", &[("api-key", key), ("authorization", "Bearer another-key")]),
    ];
    for (query, headers) in shown {
        let told = caller(&directory, query, headers);
        assert_eq!(told.key_begins.as_deref(), Some("sk-01234"), "{query} {headers:?}");
        assert_eq!(told.address.as_deref(), Some("192.0.2.7"));
        assert_eq!((told.iss, told.sub, told.oid), (None, None, None));
    }
    for headers in [&[][..], &[("authorization", "Basic ZGVtby13ZWItc2hvcDo=")], &[("cookie", key)]] {
        let told = caller(&directory, "other=1", headers);
        assert_eq!(told, Caller { address: Some("192.0.2.7".to_owned()), ..Caller::default() });
    }
}

#[test]
fn where_no_key_is_read_none_is_told() {
    let directory = directory(Vec::new(), Proxy::default());
    let key = "sk-0123456789abcdef0123456789abcdef";
    let told = caller(&directory, &format!("api-key={key}"), &[("x-api-key", key)]);
    assert_eq!(told.key_begins, None);
}

#[test]
fn a_caller_with_a_token_is_told_by_its_claims_unverified() {
    let claims = claims_with(json!({ "sub": "user-1", "oid": "00000000-0000-4000-8000-000000000001" }));
    let good = token("ed25519", &claims);
    let (message, _) = good.rsplit_once('.').unwrap();
    for directory in [with_keys(), directory(Vec::new(), Proxy::default())] {
        for token in [good.clone(), format!("{message}."), format!("{message}.AAAA")] {
            let told = caller(&directory, "", &[("authorization", &format!("Bearer {token}"))]);
            assert_eq!(told.iss.as_deref(), Some(ISSUER));
            assert_eq!(told.sub.as_deref(), Some("user-1"));
            assert_eq!(told.oid.as_deref(), Some("00000000-0000-4000-8000-000000000001"));
            assert_eq!(told.key_begins, None);
        }
    }
    // What is no text is not told, and what is long is cut.
    let odd = token("ed25519", &claims_with(json!({ "sub": 7, "iss": "i".repeat(1000) })));
    let told = caller(&with_keys(), "", &[("api-key", &odd)]);
    assert_eq!((told.sub, told.iss), (None, Some("i".repeat(128))));
    // What only looks like a token is a key.
    let told = caller(&with_keys(), "", &[("api-key", "abcdefgh.ijklmnop.qrstuvwxyz-0123456789")]);
    assert_eq!((told.iss, told.key_begins.as_deref()), (None, Some("abcdefgh")));
}

fn values(directory: &Directory<&'static str>, bearer: &str) -> Values {
    let value = format!("Bearer {bearer}");
    let headers = [("authorization", value.as_bytes())].into_iter();
    match directory.identify(headers, "", Api::OpenAi, Moment::new(&MemoryStore::default(), NOW)) {
        Ok(Identity::Client(_, values)) => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_is_told_by_his_key_and_by_claims_of_his_token() {
    let (sub, deep, number) =
        (By::Claim("sub".into()), By::Claim("ext.tenant".into()), By::Claim("number".into()));
    let ann =
        token("ed25519", &claims_with(json!({ "sub": "ann", "ext": { "tenant": "north" }, "number": 7 })));
    // Nothing is told that nothing depends on.
    assert_eq!(values(&with_keys(), "key"), Values::default());
    assert_eq!(values(&with_keys(), &ann), Values::default());
    let mut directory = with_keys();
    for by in [&By::Key, &sub, &deep, &number] {
        directory.tell(by);
    }
    assert_eq!(values(&directory, "key").of(&By::Key), OfUser::of_hash(&Sha256::digest(b"key").into()));
    assert_eq!(values(&directory, "key").of(&sub), OfUser::NONE);
    // The second time from memory.
    for _ in 0..2 {
        let told = values(&directory, &ann);
        assert_eq!(told.of(&sub), OfUser::of(ISSUER, b"ann"));
        assert_eq!(told.of(&deep), OfUser::of(ISSUER, b"north"));
        // Only a string tells one user from another.
        assert_eq!((told.of(&number), told.of(&By::Key)), (OfUser::NONE, OfUser::NONE));
    }
    for sub_of_nobody in [json!(""), json!(null), json!(["ann"])] {
        let nobody = token("ed25519", &claims_with(json!({ "sub": sub_of_nobody })));
        assert_eq!(values(&directory, &nobody).of(&sub), OfUser::NONE, "{sub_of_nobody}");
    }
}

#[test]
fn of_a_token_that_envoy_has_verified_the_user_is_told_once() {
    let payloads = [("payload".to_owned(), claims_with(json!({ "sub": "ann" })).to_string())];
    let proxy = Proxy { payloads: payloads.into(), ..Proxy::default() };
    let mut directory = directory(vec![issuer(Proof::Envoy("payload".to_owned()), &[])], proxy);
    let sub = By::Claim("sub".into());
    directory.tell(&sub);
    let mut expected = Values::default();
    expected.note(sub, ISSUER, b"ann");
    assert_eq!(values(&directory, &token("ed25519", &claims())), expected);
}

#[test]
fn a_header_of_a_filter_tells_the_user_and_stands_once() {
    let header = By::Header("x-user".into());
    let mut directory = directory(Vec::new(), Proxy::default());
    directory.tell(&header);
    let ask = |users: &[&str]| {
        let users = users.iter().map(|user| ("x-user", user.as_bytes()));
        let headers = [("api-key", &b"key"[..])].into_iter().chain(users);
        match directory.identify(headers, "", Api::OpenAi, Moment::new(&MemoryStore::default(), NOW)) {
            Ok(Identity::Client(_, values)) => Ok(values.of(&header)),
            Ok(other) => panic!("{other:?}"),
            Err(denial) => Err(denial),
        }
    };
    assert_eq!(ask(&["ann"]), Ok(OfUser::of("", b"ann")));
    assert_eq!((ask(&[]), ask(&[""])), (Ok(OfUser::NONE), Ok(OfUser::NONE)));
    assert_eq!(ask(&["", "ann"]), Err(Denial::AmbiguousClient));
}
