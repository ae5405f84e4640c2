//! Which tokens are taken, and which are attacks?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
