use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// A whole configuration with an issuer, and a client that is known by its tokens.
fn with_issuer(issuer: Value, jwt: Value) -> Value {
    let mut config = whole();
    let mut whole_issuer =
        json!({ "name": "entra", "issuer": "https://issuer.example", "audiences": ["us"] });
    whole_issuer.as_object_mut().unwrap().extend(issuer.as_object().unwrap().clone());
    config["issuers"] = json!([whole_issuer]);
    config["clients"][0]["jwt"] = jwt;
    config
}

fn jwks() -> Value {
    json!({ "jwks": { "cluster": "entra", "host": "login.example", "path": "/keys" } })
}

#[test]
fn an_issuer_has_defaults() {
    use crate::identity::issuer::Proof;
    use crate::identity::keys::OF_PAIRS;
    let config = with_issuer(jwks(), json!({ "issuer": "entra", "claims": { "azp": "x" } }));
    let gateway = load(config).unwrap();
    let issuer = &gateway.clients.issuers()[0];
    assert_eq!(issuer.leeway.as_secs(), 60);
    assert_eq!(issuer.algorithms, OF_PAIRS);
    let Proof::Fetched(fetched) = &issuer.proof else { panic!("{issuer:?}") };
    let origin = &fetched.origin;
    assert_eq!(
        (origin.refresh.as_secs(), origin.timeout.as_millis(), origin.wait.as_millis()),
        (3600, 5000, 3000)
    );
}

#[track_caller]
fn check_issuer(issuer: Value, jwt: Value, expected: &[&str]) {
    let found = load(with_issuer(issuer.clone(), jwt.clone())).map(|_| ()).err().unwrap_or_default();
    assert_eq!(found, expected, "{issuer} {jwt}");
}

#[test]
fn an_issuer_that_cannot_be_meant_is_refused() {
    let jwt = || json!({ "issuer": "entra", "claims": { "azp": "x" } });
    let with = |more: Value| {
        let mut issuer = jwks();
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        issuer
    };
    let key = &crate::identity::tokens::public("rsa-1")[0];
    check_issuer(json!({ "keys": [key] }), jwt(), &[]);
    check_issuer(with(json!({ "algorithms": ["RS256"], "leeway_s": 0 })), jwt(), &[]);
    let one_of = "issuers[0]: expected exactly one of jwks, keys, secret_env, verified_by_envoy";
    check_issuer(json!({}), jwt(), &[one_of]);
    check_issuer(with(json!({ "secret_env": "A" })), jwt(), &[one_of]);
    check_issuer(
        with(json!({ "issuer": "" })),
        jwt(),
        &["issuers[0].issuer: empty: expected the `iss` of its tokens"],
    );
    check_issuer(
        with(json!({ "audiences": [] })),
        jwt(),
        &["issuers[0].audiences: empty: expected at least one `aud` that is this gateway"],
    );
    check_issuer(with(json!({ "leeway_s": 301 })), jwt(), &["issuers[0].leeway_s: 301: expected 0 to 300"]);
    let pairs = "RS256, RS384, RS512, PS256, ES256, ES384, EdDSA";
    for wrong in ["HS256", "none", "rs256"] {
        let problem = format!("issuers[0].algorithms[0]: {wrong:?}: expected one of {pairs}");
        check_issuer(with(json!({ "algorithms": [wrong] })), jwt(), &[&problem]);
    }
    check_issuer(
        json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }),
        jwt(),
        &["issuers[0].keys[0]: is no key for signatures: expected kty RSA, EC or OKP (Ed25519)"],
    );
    check_issuer(json!({ "keys": [] }), jwt(), &["issuers[0].keys: 0 keys: expected 1 to 100"]);
    let jwks = json!({ "jwks": { "cluster": "entra", "host": "https://x", "path": "keys", "refresh_s": 0 } });
    check_issuer(
        jwks,
        jwt(),
        &[
            "issuers[0].jwks.host: \"https://x\": expected a host name",
            "issuers[0].jwks.path: \"keys\": expected a path that begins with /",
            "issuers[0].jwks.refresh_s: 0: expected 1 to 604800",
        ],
    );
    check_issuer(
        json!({ "secret_env": "A" }),
        jwt(),
        &["issuers[0].secret_env: environment variable \"A\" is shorter than 32 bytes"],
    );
    let envoy = json!({ "verified_by_envoy": { "jwt_authn_metadata": "p" }, "algorithms": ["RS256"] });
    check_issuer(
        envoy,
        jwt(),
        &["issuers[0].algorithms: not here: Envoy's jwt_authn decides which algorithms it takes"],
    );
    check_issuer(
        with(json!({ "client_claim": "a." })),
        jwt(),
        &["issuers[0].client_claim: \"a.\" is no path to a claim: expected for example \"azp\", \
             \"realm_access.roles\" or \"/a.b/c\""],
    );
}

#[test]
fn tokens_that_cannot_be_meant_are_refused() {
    let named = || {
        let mut issuer = jwks();
        issuer["client_claim"] = json!("azp");
        issuer
    };
    check_issuer(named(), json!({ "issuer": "entra" }), &[]);
    check_issuer(named(), json!({ "issuer": "entra", "client": "1111" }), &[]);
    check_issuer(
        jwks(),
        json!({ "issuer": "x" }),
        &["clients[0].jwt.issuer: no issuer is named \"x\": expected \"entra\""],
    );
    check_issuer(
        jwks(),
        json!({ "issuer": "entra" }),
        &[
            "clients[0].jwt.claims: empty: expected at least one, or every token of the issuer would be this client's",
        ],
    );
    check_issuer(
        jwks(),
        json!({ "issuer": "entra", "client": "1111" }),
        &["clients[0].jwt.client: issuer \"entra\" has no client_claim, which would have this value"],
    );
    let mut config = with_issuer(named(), json!({ "issuer": "entra", "client": "1111" }));
    config["clients"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "other", "jwt": { "issuer": "entra", "client": "1111" }, "models": ["*"] }));
    assert_eq!(load(config).unwrap_err(), ["clients[1].jwt: are the tokens of client \"web\" already"]);
}

#[test]
fn a_client_needs_a_way_in_and_nobody_elses() {
    check(
        "/clients/0/api_keys",
        json!([]),
        &[
            "clients[0]: nobody is this client: expected at least one of api_keys, jwt, certificate, trusted_header, anonymous: true",
        ],
    );
    check(
        "/clients/0/certificate",
        json!({}),
        &["clients[0].certificate: expected exactly one of uri_san, dns_san"],
    );
    for name in ["authorization", "x-tollgate-client", "", "a b"] {
        let problem = format!(
            "clients[0].trusted_header.name: {name:?}: expected the name of a header that only an earlier filter sets"
        );
        check("/clients/0/trusted_header", json!({ "name": name, "value": "x" }), &[&problem]);
    }
    check(
        "/clients/0/api_keys/0/not_before",
        json!("2026-11-01"),
        &[
            "clients[0].api_keys[0].not_before: \"2026-11-01\": expected a date and time in UTC such as 2026-11-01T00:00:00Z",
        ],
    );
    let mut config = whole();
    config["clients"][0]["api_keys"][0]["not_before"] = json!("2026-11-01T00:00:00Z");
    config["clients"][0]["api_keys"][0]["not_after"] = json!("2026-11-01T00:00:00Z");
    assert_eq!(
        load(config).unwrap_err(),
        ["clients[0].api_keys[0].not_after: is not after not_before: the key would never be valid"]
    );
    let ways = [
        (
            json!({ "certificate": { "uri_san": "spiffe://x" } }),
            "certificate.uri_san: is the certificate of client",
        ),
        (json!({ "certificate": { "dns_san": "x" } }), "certificate.dns_san: is the certificate of client"),
        (
            json!({ "trusted_header": { "name": "X-Who", "value": "x" } }),
            "trusted_header.value: is the header of client",
        ),
        (json!({ "anonymous": true }), "anonymous: is client"),
    ];
    for (way, problem) in ways {
        let mut config = whole();
        for name in ["one", "two"] {
            let mut client = json!({ "name": name, "models": ["*"] });
            client.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
            config["clients"].as_array_mut().unwrap().push(client);
        }
        assert_eq!(load(config).unwrap_err(), [format!("clients[2].{problem} \"one\" already")]);
    }
}

#[test]
fn keys_may_be_sent_elsewhere_too() {
    let mut config = whole();
    config["key_sources"] = json!(["x-api-key", "query"]);
    let gateway = load(config).unwrap();
    assert!(gateway.clients.reads_keys_from("x-api-key"));
    assert!(!load(whole()).unwrap().clients.reads_keys_from("x-api-key"));
    check(
        "/key_sources",
        json!(["cookie"]),
        &["key_sources[0]: unknown variant \"cookie\", expected \"x-api-key\" or \"query\""],
    );
    check(
        "/key_sources",
        json!(["query", "query", "query"]),
        &["key_sources: 3 entries, at most 2 are possible"],
    );
    // One header has one meaning.
    let mut config = whole();
    config["clients"][0]["trusted_header"] = json!({ "name": "X-Api-Key", "value": "x" });
    assert!(load(config.clone()).is_ok());
    config["key_sources"] = json!(["x-api-key"]);
    let problem = "clients[0].trusted_header.name: \"X-Api-Key\": expected the name of a header that only an earlier \
                   filter sets";
    assert_eq!(load(config).unwrap_err(), [problem]);
}

#[test]
fn a_client_may_use_what_it_is_told_and_nothing_else() {
    use crate::endpoint::Operation;
    let endpoints = |written: Value| {
        let mut config = whole();
        config["clients"][0]["endpoints"] = written;
        known(&load(config).unwrap()).endpoints.clone()
    };
    assert_eq!(endpoints(Value::Null), Operation::NAMED);
    assert_eq!(endpoints(json!(["embeddings", "other"])), [Operation::Embeddings, Operation::Other]);
    assert_eq!(endpoints(json!(["*"])), Operation::NAMED);
    check(
        "/clients/0/endpoints",
        json!(["chat"]),
        &[
            "clients[0].endpoints[0]: no endpoint is named \"chat\": expected one of \"*\", \"audio/speech\", \
           \"audio/transcriptions\", \"audio/translations\", \"chat/completions\", \"completions\", \"embeddings\", \
           \"images/edits\", \"images/generations\", \"messages\", \"messages/count_tokens\", \"models\", \"other\", \"realtime\", \
           \"responses\", \
           \"responses/compact\", \"responses/input_tokens\", \"responses/websocket\"",
        ],
    );
    check(
        "/clients/0/endpoints",
        json!([]),
        &["clients[0].endpoints: empty: expected at least one endpoint, or none at all for the default"],
    );
}

#[test]
fn a_prefix_stands_for_all_models_that_begin_like_it() {
    let mut config = whole();
    config["models"].as_array_mut().unwrap().extend([
        json!({ "name": "gpt-4.1", "backends": [{ "backend": "a" }] }),
        json!({ "name": "o1", "aliases": ["gpt-reasoner"], "backends": [{ "backend": "a" }] }),
    ]);
    let may = |models: Value| {
        let mut config = config.clone();
        config["clients"][0]["models"] = models;
        let gateway = load(config).unwrap();
        let client = known(&gateway);
        let may = gateway.models.iter().filter(|model| client.may_use(model));
        may.map(|model| model.name.text.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(may(json!(["gpt-4*"])), ["gpt-4o", "gpt-4.1"]);
    assert_eq!(may(json!(["gpt-4o*"])), ["gpt-4o"]);
    assert_eq!(may(json!(["gpt-r*", "gpt-4.1"])), ["gpt-4.1", "o1"]);
    assert_eq!(may(json!(["*"])), ["gpt-4o", "gpt-4.1", "o1"]);
    check(
        "/clients/0/models/0",
        json!("gpt-5*"),
        &[
            "clients[0].models[0]: no model's name begins like \"gpt-5*\": expected one of \"*\", \"gpt-4o\", \"gpt-4o-2024-08-06\"",
        ],
    );
}
