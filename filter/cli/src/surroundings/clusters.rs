//! Do the clusters do their part: those of backends, and those that give keys and tokens?

use super::every;
use super::filters::is_type;
use crate::source::Found;
use serde_json::Value;
use std::collections::BTreeSet;
use tollgate::gateway::Gateway;

/// How Envoy may find a cluster's addresses.
const DISCOVERIES: [&str; 5] = ["STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"];

/// What each lacks.
pub(super) fn faults(found: &Found, gateway: &Gateway) -> Vec<String> {
    let wanted = super::wanted(gateway);
    let mut faults = asked_clusters(found);
    for cluster in clusters(&found.around) {
        if cluster["name"].as_str().is_some_and(|name| wanted.contains(name)) {
            faults.extend(backend(cluster));
        }
    }
    faults
}

/// Clusters that give the keys of issuers, a document with clients or the tokens of backends, and the queue's broker, where Envoy says which it knows.
fn asked_clusters(found: &Found) -> Vec<String> {
    if clusters(&found.around).is_empty() || super::has_more_clusters(&found.around) {
        return Vec::new();
    }
    // Also those whose addresses come from elsewhere.
    let is_cluster = |value: &Value| {
        ["load_assignment", "type", "cluster_type"].iter().any(|name| value.get(name).is_some())
    };
    let known = every(&found.around, &is_cluster);
    let known: BTreeSet<_> = known.iter().filter_map(|cluster| cluster["name"].as_str()).collect();
    let issuers = found.value["issuers"].as_array().into_iter().flatten().enumerate();
    let of_issuers = issuers.filter_map(|(at, issuer)| {
        let without = "every token of this issuer would wait, and get 503";
        Some((format!("issuers[{at}].jwks.cluster"), issuer["jwks"]["cluster"].as_str()?, without))
    });
    let document = &found.value["directory"]["document"]["cluster"];
    let without =
        "no client of the document would be known, and each key that is not configured would get 503";
    let of_document = document.as_str().map(|name| ("directory.document.cluster".to_owned(), name, without));
    let backends = found.value["backends"].as_array().into_iter().flatten().enumerate();
    let of_backends = backends.flat_map(|(at, backend)| {
        let without = "there would be no token for this backend, and nothing would be sent to it";
        of_tokens(format!("backends[{at}]"), backend, without)
    });
    let broker = &found.value["queue"]["broker"];
    let without = "nothing would be queued, and clients that let their requests be would get 503";
    let of_broker = broker["cluster"].as_str().map(|name| ("queue.broker.cluster".to_owned(), name, without));
    let of_broker = of_broker.into_iter().chain(of_tokens("queue.broker".to_owned(), broker, without));
    let missing = of_issuers.chain(of_document).chain(of_backends).chain(of_broker).filter_map(
        |(path, cluster, without)| {
            // Envoy Gateway calls its own clusters so: they are in no patch.
            (!known.contains(cluster) && !cluster.contains('/'))
                .then(|| format!("{path}: Envoy has no cluster {cluster:?}: {without}"))
        },
    );
    missing.collect()
}

/// Those that give the tokens of what has this credential.
fn of_tokens<'v>(
    path: String,
    of: &'v Value,
    without: &'static str,
) -> impl Iterator<Item = (String, &'v str, &'static str)> {
    let grants = of["credential"]["azure"].as_object().into_iter().flatten();
    grants.flat_map(move |(grant, said)| {
        let path = format!("{path}.credential.azure.{grant}");
        ["cluster", "token_cluster"]
            .into_iter()
            .filter_map(move |field| Some((format!("{path}.{field}"), said[field].as_str()?, without)))
    })
}

/// The clusters in this document, in whatever form.
fn clusters(around: &Value) -> Vec<&Value> {
    let is_found = |cluster: &Value| {
        // Those whose addresses come from elsewhere have a way to find them, and none here.
        let how = cluster["type"].as_str().is_some_and(|how| DISCOVERIES.contains(&how));
        how || cluster.get("load_assignment").is_some()
    };
    every(around, &|value| value.get("name").is_some() && is_found(value))
}

/// What a backend's cluster lacks.
fn backend(cluster: &Value) -> Vec<String> {
    let name = &cluster["name"];
    let mut faults = Vec::new();
    if cluster.get("outlier_detection").is_none() {
        faults.push(format!(
            "cluster {name}: expected outlier_detection: without it an address that fails is asked as often as the others"
        ));
    }
    let tls = every(&cluster["transport_socket"], &|value| is_type(value, ".tls.v3.UpstreamTlsContext"));
    let asks_https = !every(&cluster["load_assignment"], &|value| value["port_value"] == 443).is_empty();
    let has_socket =
        ["transport_socket", "transport_socket_matches"].iter().any(|name| cluster.get(name).is_some());
    match tls.first() {
        None if asks_https && !has_socket => faults.push(format!(
            "cluster {name}: expected a transport_socket with TLS for port 443: without it the key goes there unencrypted"
        )),
        None => {}
        Some(tls) => faults.extend(certificate(cluster, tls).map(|fault| format!("cluster {name}: {fault}"))),
    }
    faults
}

/// What is not looked at of a backend's certificate.
fn certificate(cluster: &Value, tls: &Value) -> Option<String> {
    let common = &tls["common_tls_context"];
    if !common["validation_context_sds_secret_config"].is_null() {
        // What it checks stands elsewhere.
        return None;
    }
    let combined = &common["combined_validation_context"];
    if !combined["validation_context_sds_secret_config"].is_null() {
        return None;
    }
    let checks = if combined.is_null() {
        &common["validation_context"]
    } else {
        &combined["default_validation_context"]
    };
    if checks["trust_chain_verification"] == "ACCEPT_UNTRUSTED" {
        return Some(
            "expected no trust_chain_verification: ACCEPT_UNTRUSTED: with it any certificate is taken, and whoever answers gets the key"
                .to_owned(),
        );
    }
    if checks.get("custom_validator_config").is_some() {
        // What it checks is its own.
        return None;
    }
    let authorities = [
        "trusted_ca",
        "system_root_certs",
        "ca_certificate_provider_instance",
        "verify_certificate_hash",
        "verify_certificate_spki",
    ];
    let knows_authorities = authorities.iter().any(|name| checks.get(name).is_some());
    let names = [
        "match_typed_subject_alt_names",
        "match_subject_alt_names",
        "verify_certificate_hash",
        "verify_certificate_spki",
    ];
    let knows_names = tls["auto_sni_san_validation"] == true
        || names.iter().any(|name| checks.get(name).is_some())
        || !every(cluster, &|value| value["auto_san_validation"] == true).is_empty();
    if !knows_authorities {
        return Some(
            "expected trusted_ca in its validation_context: without it any certificate is taken, and whoever answers gets the key"
                .to_owned(),
        );
    }
    (!knows_names).then(|| {
        "expected match_typed_subject_alt_names in its validation_context, or auto_sni_san_validation: without it a certificate for any name is taken, and \
         whoever has one gets the key"
            .to_owned()
    })
}
