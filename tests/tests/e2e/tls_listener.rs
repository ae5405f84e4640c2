//! How does Envoy speak TLS to its clients?

use serde_json::{Value, json};
use tollgate_tests::harness::Gateway;

use crate::envoy_lines::part;

/// A change of the Envoy configuration: the same once more on another port, with this certificate and key in one file. Clients
/// may show certificates of the authorities in the other file.
pub fn listen_with_tls(server: String, authorities: Option<String>) -> impl FnOnce(&mut Value) + Send {
    move |envoy| {
        let listeners = part(envoy, "/static_resources/listeners").as_array_mut().unwrap();
        let mut listener = listeners[0].clone();
        listener["name"] = json!("tls");
        let mut context = json!({
            "tls_certificates": [{
                "certificate_chain": { "filename": server }, "private_key": { "filename": server },
            }],
        });
        if let Some(authorities) = authorities {
            context["validation_context"] = json!({ "trusted_ca": { "filename": authorities } });
        }
        listener["filter_chains"][0]["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": context,
            },
        });
        listeners.push(listener);
    }
}

/// The port of that listener.
pub async fn tls_port(gateway: &Gateway) -> String {
    let listeners: Value =
        serde_json::from_str(&gateway.admin("/listeners?format=json").await.unwrap()).unwrap();
    let listeners = listeners["listener_statuses"].as_array().unwrap();
    let tls = listeners.iter().find(|listener| listener["name"] == "tls").unwrap();
    tls["local_address"]["socket_address"]["port_value"].to_string()
}
