//! What is told of a caller, and of its user?

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

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
    assert_eq!(values(&directory, "key").of(&By::Key), OfUser::of_hash(KeyHash::of(b"key").bytes()));
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
