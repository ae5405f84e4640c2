//! What can the newcomer type next?

use std::io;

use serde_json::Value;
use tollgate_tests::harness::Gateway;
use tollgate_tests::harness::bootstrap::backends;

use crate::page::{Page, Tone};
use crate::show::WEB_SHOP;

/// The clients and backends of a configuration that the show does not know.
pub fn who_and_what(config: &Value, gateway: &Gateway, page: &mut Page) -> io::Result<()> {
    page.line(&page.paint(Tone::Title, &format!("Tollgate is up: Envoy at {}", gateway.url())))?;
    page.title("Who may ask for what")?;
    for client in list(config, "clients") {
        let policy =
            client["policy"].as_str().map_or_else(String::new, |policy| format!(", policy {policy}"));
        page.asks(name(client), &format!("{}{policy}", names(&client["models"])))?;
    }
    page.title("What is served where")?;
    for model in list(config, "models") {
        let backends: Vec<_> =
            list(model, "backends").iter().filter_map(|backend| backend["backend"].as_str()).collect();
        page.asks(name(model), &backends.join(", "))?;
    }
    for backend in backends(config) {
        if let Some(url) = gateway.backends().get(&backend.name) {
            page.asks(&backend.name, &page.paint(Tone::Aside, url))?;
        }
    }
    Ok(())
}

/// Lines to copy and paste.
pub fn curl(config: &Value, gateway: &Gateway, page: &mut Page) -> io::Result<()> {
    let url = gateway.url();
    let key = if has_demo_key(config) { WEB_SHOP } else { "YOUR-KEY" };
    let model = list(config, "models").first().map_or("MODEL", |model| name(model));
    let body = |more: &str| {
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hello from curl."}}]{more}}}"#)
    };
    page.title("Your turn")?;
    let json = "-H 'content-type: application/json'";
    for line in [
        format!("curl {url}/v1/chat/completions {json} -H 'authorization: Bearer {key}' -d '{}'", body("")),
        format!(
            "curl -N {url}/v1/chat/completions {json} -H 'api-key: {key}' -d '{}'",
            body(r#","stream":true"#)
        ),
        format!("curl -s {}/stats/prometheus | grep ^tollgate", gateway.admin_url()),
    ] {
        page.line(&format!("  {line}"))?;
    }
    if key != WEB_SHOP {
        page.line("  YOUR-KEY is a key whose SHA-256 is in the configuration.")?;
    }
    let end = page.paint(Tone::Aside, "Requests show up here as they are answered. Ctrl-C ends it all.");
    page.line(&format!("\n{end}"))
}

/// Whether the first demo client of `envoy/envoy.yaml` is in this configuration.
fn has_demo_key(config: &Value) -> bool {
    use sha2::{Digest, Sha256};
    let hash = hex::encode(Sha256::digest(WEB_SHOP));
    list(config, "clients")
        .iter()
        .flat_map(|client| list(client, "api_keys"))
        .any(|key| key["sha256"] == hash)
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or("?")
}

fn names(value: &Value) -> String {
    let names = value.as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
