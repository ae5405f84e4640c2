//! The layers hold: a module uses only modules of layers below its own.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// From the lowest to the highest; within `decisions`, none uses another.
const WORDS: &[(&str, &str)] = &[
    ("allowance", include_str!("allowance.rs")),
    ("answer", include_str!("answer.rs")),
    ("calendar", include_str!("calendar.rs")),
    ("decision", include_str!("decision.rs")),
    ("capability", include_str!("capability.rs")),
    ("codec", include_str!("codec.rs")),
    ("denial", include_str!("denial.rs")),
    ("digest", include_str!("digest.rs")),
    ("endpoint", include_str!("endpoint.rs")),
    ("failure", include_str!("failure.rs")),
    ("finding", include_str!("finding.rs")),
    ("form", include_str!("form.rs")),
    ("gauge", include_str!("gauge.rs")),
    ("headers", include_str!("headers.rs")),
    ("health", include_str!("health.rs")),
    ("ids", include_str!("ids.rs")),
    ("json", include_str!("json.rs")),
    ("media", include_str!("media.rs")),
    ("number", include_str!("number.rs")),
    ("prices", include_str!("prices.rs")),
    ("request", include_str!("request.rs")),
    ("sse", include_str!("sse.rs")),
    ("store", include_str!("store.rs")),
    ("time", include_str!("time.rs")),
    ("tokens", include_str!("tokens.rs")),
];
const DECISIONS: &[(&str, &str)] = &[
    ("capacity", include_str!("capacity.rs")),
    ("estimate", include_str!("estimate.rs")),
    ("identity", include_str!("identity.rs")),
    ("journal", include_str!("journal.rs")),
    ("ledger", include_str!("ledger.rs")),
    ("limits", include_str!("limits.rs")),
    ("pending", include_str!("pending.rs")),
    ("pinning", include_str!("pinning.rs")),
    ("policy", include_str!("policy.rs")),
    ("route", include_str!("route.rs")),
    ("usage", include_str!("usage.rs")),
];
const ASSEMBLY: &[(&str, &str)] = &[
    ("config", include_str!("config.rs")),
    ("gateway", include_str!("gateway.rs")),
    ("standings", include_str!("standings.rs")),
];
const ORDER: &[(&str, &str)] = &[
    ("attempt", include_str!("attempt.rs")),
    ("exchange", include_str!("exchange.rs")),
    ("prove", include_str!("prove.rs")),
];

/// The files inside a module belong to its layer.
const INSIDE_WORDS: &[(&str, &str)] = &[
    ("endpoint", include_str!("endpoint/query.rs")),
    ("endpoint", include_str!("endpoint/resources.rs")),
    ("form", include_str!("form/head.rs")),
    ("json", include_str!("json/edits.rs")),
    ("json", include_str!("json/names.rs")),
    ("json", include_str!("json/walks.rs")),
    ("request", include_str!("request/fields.rs")),
    ("request", include_str!("request/models.rs")),
    ("request", include_str!("request/offers.rs")),
    ("request", include_str!("request/parts.rs")),
    ("request", include_str!("request/prompt.rs")),
    ("sse", include_str!("sse/beginning.rs")),
];
const INSIDE_DECISIONS: &[(&str, &str)] = &[
    ("capacity", include_str!("capacity/queue.rs")),
    ("capacity", include_str!("capacity/window.rs")),
    ("estimate", include_str!("estimate/learnt.rs")),
    ("estimate", include_str!("estimate/lessons.rs")),
    ("estimate", include_str!("estimate/parts.rs")),
    ("estimate", include_str!("estimate/sample.rs")),
    ("estimate", include_str!("estimate/strings.rs")),
    ("estimate", include_str!("estimate/text.rs")),
    ("identity", include_str!("identity/claims.rs")),
    ("identity", include_str!("identity/der.rs")),
    ("identity", include_str!("identity/issuer.rs")),
    ("identity", include_str!("identity/jwks.rs")),
    ("identity", include_str!("identity/jwt.rs")),
    ("identity", include_str!("identity/keys.rs")),
    ("identity", include_str!("identity/signature.rs")),
    ("identity", include_str!("identity/verified.rs")),
    ("limits", include_str!("limits/bucket.rs")),
    ("limits", include_str!("limits/kept.rs")),
    ("limits", include_str!("limits/measured.rs")),
    ("limits", include_str!("limits/part.rs")),
    ("limits", include_str!("limits/record.rs")),
    ("limits", include_str!("limits/standing.rs")),
    ("pinning", include_str!("pinning/quoted.rs")),
    ("pinning", include_str!("pinning/stamp.rs")),
    ("policy", include_str!("policy/fields.rs")),
    ("policy", include_str!("policy/known.rs")),
    ("policy", include_str!("policy/levels.rs")),
    ("policy", include_str!("policy/production.rs")),
    ("policy", include_str!("policy/prompt.rs")),
    ("policy", include_str!("policy/rules.rs")),
    ("policy", include_str!("policy/sampling.rs")),
    ("policy", include_str!("policy/service.rs")),
    ("policy", include_str!("policy/table.rs")),
    ("policy", include_str!("policy/tools.rs")),
    ("route", include_str!("route/answer.rs")),
    ("route", include_str!("route/cooldown.rs")),
    ("route", include_str!("route/failing.rs")),
    ("route", include_str!("route/nearness.rs")),
    ("route", include_str!("route/order.rs")),
    ("route", include_str!("route/pools.rs")),
    ("usage", include_str!("usage/counts.rs")),
    ("usage", include_str!("usage/events.rs")),
    ("usage", include_str!("usage/scan.rs")),
    ("usage", include_str!("usage/texts.rs")),
];
const INSIDE_ASSEMBLY: &[(&str, &str)] = &[
    ("config", include_str!("config/backends.rs")),
    ("config", include_str!("config/clients.rs")),
    ("config", include_str!("config/dates.rs")),
    ("config", include_str!("config/fingerprint.rs")),
    ("config", include_str!("config/fractions.rs")),
    ("config", include_str!("config/issuers.rs")),
    ("config", include_str!("config/limits.rs")),
    ("config", include_str!("config/models.rs")),
    ("config", include_str!("config/passing.rs")),
    ("config", include_str!("config/pinning.rs")),
    ("config", include_str!("config/policies.rs")),
    ("config", include_str!("config/prices.rs")),
    ("config", include_str!("config/priorities.rs")),
    ("config", include_str!("config/routing.rs")),
    ("config", include_str!("config/schema.rs")),
    ("config", include_str!("config/spill.rs")),
    ("config", include_str!("config/tools.rs")),
    ("config", include_str!("config/ways_in.rs")),
    ("config", include_str!("config/wire.rs")),
    ("gateway", include_str!("gateway/bodies.rs")),
];
const INSIDE_ORDER: &[(&str, &str)] = &[
    ("attempt", include_str!("attempt/bodies.rs")),
    ("attempt", include_str!("attempt/first_token.rs")),
    ("attempt", include_str!("attempt/opening.rs")),
    ("attempt", include_str!("attempt/spilling.rs")),
    ("exchange", include_str!("exchange/admitting.rs")),
    ("exchange", include_str!("exchange/anybody.rs")),
    ("exchange", include_str!("exchange/body.rs")),
    ("exchange", include_str!("exchange/closed.rs")),
    ("exchange", include_str!("exchange/cost.rs")),
    ("exchange", include_str!("exchange/draft.rs")),
    ("exchange", include_str!("exchange/ending.rs")),
    ("exchange", include_str!("exchange/fitting.rs")),
    ("exchange", include_str!("exchange/head.rs")),
    ("exchange", include_str!("exchange/looking.rs")),
    ("exchange", include_str!("exchange/naming.rs")),
    ("exchange", include_str!("exchange/pinned.rs")),
    ("exchange", include_str!("exchange/preparing.rs")),
    ("exchange", include_str!("exchange/reserving.rs")),
    ("exchange", include_str!("exchange/sent.rs")),
    ("exchange", include_str!("exchange/spilling.rs")),
    ("exchange", include_str!("exchange/status.rs")),
    ("exchange", include_str!("exchange/step.rs")),
    ("exchange", include_str!("exchange/stored.rs")),
];

/// The modules of this crate that a source names, outside its tests.
fn used(source: &str) -> Vec<&str> {
    let product = source.split("#[cfg(test)]").next().unwrap();
    product
        .split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .collect()
}

#[track_caller]
fn check(layer: &[(&str, &str)], may_use: &[&[(&str, &str)]]) {
    for (module, source) in layer {
        for name in used(source) {
            let known = may_use.iter().flat_map(|layer| layer.iter()).any(|(other, _)| *other == name);
            assert!(known, "{module} uses {name}, which is not below it");
        }
    }
}

#[test]
fn each_module_uses_only_what_is_below_it() {
    check(WORDS, &[WORDS]);
    check(DECISIONS, &[WORDS]);
    check(INSIDE_WORDS, &[WORDS]);
    check(INSIDE_DECISIONS, &[WORDS]);
    check(INSIDE_ASSEMBLY, &[WORDS, DECISIONS, ASSEMBLY]);
    check(INSIDE_ORDER, &[WORDS, DECISIONS, ASSEMBLY, ORDER]);
    check(ASSEMBLY, &[WORDS, DECISIONS, ASSEMBLY]);
    check(ORDER, &[WORDS, DECISIONS, ASSEMBLY, ORDER]);
}

#[test]
fn every_module_has_a_layer() {
    let listed = WORDS.len() + DECISIONS.len() + ASSEMBLY.len() + ORDER.len();
    let modules = include_str!("lib.rs").lines().filter(|line| line.starts_with("pub mod ")).count();
    assert_eq!(listed, modules);
}

#[test]
fn the_decisions_know_no_serde_but_to_read_answers() {
    for (module, source) in DECISIONS {
        let product = source.split("#[cfg(test)]").next().unwrap();
        assert!(*module == "usage" || !product.contains("serde"), "{module} knows serde");
    }
}
