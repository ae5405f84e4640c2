//! What is the whole `envoy.yaml` of a gateway's configuration?
//!
//! `envoy/envoy.yaml` is the template, `envoy/fleet.yaml` where there is a store, and the examples' clusters where there is TLS:
//! the tool has their texts in it, with their comments. What comes of it is judged by `check` before it is printed.

mod blocks;
mod plan;

use crate::arguments::Render;
use crate::paint::print;
use crate::source::{self, Found};
use crate::{End, check};
use blocks::{Missing, extent, indented, replace};
use plan::{Cluster, Plan, Tls};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use tollgate::config::ConfigError;

const ENVOY: &str = include_str!("../../../envoy/envoy.yaml");
const FLEET: &str = include_str!("../../../envoy/fleet.yaml");
const AZURE: &str = include_str!("../../../examples/azure-tls/clusters.yaml");
const ISSUER: &str = include_str!("../../../examples/entra-id/clusters.yaml");

const HEAD: &str = "\
# Tollgate on an Envoy. Written by `tollgate render`: change the configuration that it was written from, and render it again.
#
";

/// Prints the whole file, or tells what is wrong with what it would be written from.
pub(crate) fn render(arguments: &Render) -> Result<End, String> {
    let file = &arguments.file;
    let text = source::text(file)?;
    let found = source::find_in(&text, file)?;
    let [found] = found.as_slice() else {
        return Err(format!("{file} has {} gateway configurations: expected one", found.len()));
    };
    if found.envoy.is_none() {
        return Err(format!(
            "{file} has no envoy: expected it beside clients, models and backends, for example\n  envoy:\n    clusters:\n      \
             CLUSTER: {{ address: NAME.openai.azure.com }}"
        ));
    }
    if let Some(refusal) = check::refusal(found) {
        print(&refusal);
        return Ok(End::Found);
    }
    let loaded = found.load();
    let plan = match plan::read(found) {
        Ok(plan) => plan,
        Err(errors) => return Ok(check::refused(found, &errors)),
    };
    let mut variables: Vec<_> = loaded.variables.iter().map(String::as_str).collect();
    // In the order in which a reader meets them; those of the store last, as in the template.
    let of_store = found.value["store"].to_string();
    variables.sort_by_key(|name| (of_store.contains(&format!("\"{name}\"")), text.find(name)));
    let broken = |missing: Missing| format!("the tool itself is broken: {missing}");
    let whole = |gateway: &str| written(&plan, &variables, gateway).map_err(broken);
    // The operator's own lines, with the comments; and where they cannot be moved as they are, their values.
    let mut rendered = whole(&own_lines(&text, found))?;
    let again = source::find_in(&rendered, file).unwrap_or_default();
    if !again.iter().map(|one| &one.value).eq([&found.value]) {
        rendered = whole(&format!("{:#}", found.value))?;
    }
    for again in source::find_in(&rendered, "what is rendered")? {
        if let Some(refusal) = check::refusal(&again) {
            print(&refusal);
            return Ok(End::Found);
        }
    }
    print(&rendered);
    Ok(End::Well)
}

/// What is wrong with the part for Envoy.
pub(crate) fn faults(found: &Found) -> Vec<ConfigError> {
    if found.envoy.is_none() { Vec::new() } else { plan::read(found).err().unwrap_or_default() }
}

/// The file's lines without those of the part for Envoy.
fn own_lines(text: &str, found: &Found) -> String {
    let lines: Vec<_> = text.lines().collect();
    let is_outer = |line: &str| !line.is_empty() && !line.starts_with([' ', '\t']);
    let mut kept: Vec<&str> = Vec::new();
    let mut at = 0;
    let mut has_record = false;
    while let Some(line) = lines.get(at) {
        at += 1;
        if line.starts_with("envoy:") {
            // What is said of it goes with it; the head of a file is of all of it.
            let comments = kept.iter().rev().take_while(|line| line.starts_with('#')).count();
            if comments < kept.len() {
                kept.truncate(kept.len() - comments);
            }
            at += lines[at..].iter().take_while(|line| !is_outer(line)).count();
            continue;
        }
        has_record |= line.starts_with("record:");
        kept.push(line);
    }
    let own = kept.join("\n");
    let record = found.value["record"].as_str().filter(|_| !has_record);
    let record = record.map(|record| format!("# As the access log above reads it.\nrecord: {record}\n"));
    format!("{}{}\n", record.unwrap_or_default(), own.trim_matches('\n'))
}

fn written(plan: &Plan, variables: &[&str], gateway: &str) -> Result<String, Missing> {
    let template = if plan.store.is_some() { FLEET } else { ENVOY };
    let chain = cut(ENVOY, "# The chain", "admin:")?;
    let whole = &template[find(template, "\nadmin:")? + 1..];
    let (head, clusters) = whole.split_at(find(whole, "\n  clusters:\n")? + 1);
    let text = swap(head, "address: 127.0.0.1, port_value: 9901", &socket(plan.admin))?;
    let text = swap(&text, "address: 0.0.0.0, port_value: 10000", &socket(plan.listen))?;
    let text = match &plan.tls {
        Some(tls) => swap(&text, "    filter_chains:\n    - filters:\n", &of_listener(tls))?,
        None => text,
    };
    let text = swap(&text, "/etc/envoy/tollgate.wasm", &scalar(&plan.module))?;
    let keys: Vec<_> = variables.iter().map(|name| scalar(name)).collect();
    let keys = format!("environment_variables: {{ host_env_keys: [ {} ] }}", keys.join(", "));
    let text = replace(&text, "environment_variables:", &keys)?;
    let group = |cluster: &Cluster| {
        let name = scalar(&cluster.name);
        format!("- {{ name: {name}, clusters: [ {{ cluster_name: {name}, weight: 1 }} ] }}\n")
    };
    let groups: String = plan.backends.iter().map(group).collect();
    let text = replace(&text, "priority_groups:", &format!("priority_groups:\n{groups}"))?;
    let text = replace(&text, "value:", &format!("value:\n{}", indented(gateway, 2)))?;
    let text = swap(
        &text,
        " For a real Azure OpenAI resource: its host name, port 443, and the TLS of\n  # examples/azure-tls.\n",
        "\n",
    )?;
    let mut all = String::from("  clusters:\n");
    for (at, backend) in plan.backends.iter().enumerate() {
        // The first says what the others repeat.
        let (name, next) = if at == 0 { ("ptu", "payg-a") } else { ("payg-a", "payg-b") };
        let model = cut(clusters, &format!("  - name: {name}\n"), &format!("  - name: {next}\n"))?;
        all.push_str(&of_backend(model, name, backend)?);
    }
    for issuer in &plan.issuers {
        all.push_str(&of_issuer(issuer)?);
    }
    if let Some(store) = &plan.store {
        all.push_str(&of_store(&clusters[find(clusters, "\n\n")? + 1..], store)?);
    }
    Ok(format!("{HEAD}{chain}{text}{all}"))
}

fn of_backend(model: &str, of: &str, cluster: &Cluster) -> Result<String, Missing> {
    let name = scalar(&cluster.name);
    let text = swap(model, &format!("- name: {of}\n"), &format!("- name: {name}\n"))?;
    let text = swap(&text, &format!("cluster_name: {of}\n"), &format!("cluster_name: {name}\n"))?;
    let (host, address) = (scalar(&cluster.host), scalar(&cluster.address));
    let text = swap(&text, &format!("hostname: {of}, "), &format!("hostname: {host}, "))?;
    let port = cluster.port;
    let there = format!("address: {address}, port_value: {port}");
    let text = swap(&text, &format!("address: {of}, port_value: 8080"), &there)?;
    Ok(format!("{text}{}", of_upstream(AZURE, "RESOURCE.openai.azure.com", cluster)?))
}

fn of_issuer(cluster: &Cluster) -> Result<String, Missing> {
    const HOST: &str = "login.microsoftonline.com";
    let text = replace(&ISSUER[extent(ISSUER, "- name: entra")?], "transport_socket:", "")?;
    let name = scalar(&cluster.name);
    let text = swap(&text, "name: entra\n", &format!("name: {name}\n"))?;
    let text = swap(&text, "cluster_name: entra\n", &format!("cluster_name: {name}\n"))?;
    let there = format!("address: {}, port_value: {}", scalar(&cluster.address), cluster.port);
    let text = swap(&text, &format!("address: {HOST}, port_value: 443"), &there)?;
    Ok(format!("{}{}", indented(&text, 2), of_upstream(ISSUER, HOST, cluster)?))
}

fn of_store(model: &str, cluster: &Cluster) -> Result<String, Missing> {
    let there = format!("address: {}, port_value: {}", scalar(&cluster.address), cluster.port);
    let text = swap(model, "address: redis, port_value: 6379", &there)?;
    let text = &text[..find(&text, "    # With TLS, the name")?];
    Ok(format!("{text}{}", of_upstream(AZURE, "RESOURCE.openai.azure.com", cluster)?))
}

/// The TLS of a cluster, after the model of an example's, whose host that is.
fn of_upstream(example: &str, of: &str, cluster: &Cluster) -> Result<String, Missing> {
    let Some(authorities) = &cluster.authorities else { return Ok(String::new()) };
    let host = scalar(&cluster.host);
    let text = &example[extent(example, "transport_socket:")?];
    let text = swap(text, "/etc/ssl/certs/ca-certificates.crt", &scalar(authorities))?;
    let text = if cluster.host.parse::<IpAddr>().is_ok() {
        // SNI is for names; a server at an address has to have the address in its certificate.
        let text = replace(&text, "sni:", "")?;
        swap(&text, "san_type: DNS", "san_type: IP_ADDRESS")?
    } else {
        swap(&text, &format!("sni: {of}"), &format!("sni: {host}"))?
    };
    let text = swap(&text, &format!("exact: {of}"), &format!("exact: {host}"))?;
    let of_azure =
        " One for\n        # *.openai.azure.com is for it too; by its suffix the names of others would pass.";
    let text = if cluster.host.ends_with(".azure.com") { text } else { text.replace(of_azure, "") };
    Ok(indented(&text, 2))
}

fn of_listener(tls: &Tls) -> String {
    format!(
        r#"    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [ h2, http/1.1 ]
            tls_certificates: [ {{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }} ]
      filters:
"#,
        scalar(&tls.certificate),
        scalar(&tls.key)
    )
}

fn socket(at: SocketAddr) -> String {
    format!("address: {}, port_value: {}", scalar(&at.ip().to_string()), at.port())
}

/// A text as YAML has it: with quotes unless nobody could read it otherwise.
fn scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok();
    let means_more = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_safe = text.bytes().all(is_plain) && !means_more.contains(&&*text.to_ascii_lowercase());
    if is_address || (is_word && is_safe) { text.to_owned() } else { Value::from(text).to_string() }
}

fn find(text: &str, what: &str) -> Result<usize, Missing> {
    text.find(what).ok_or_else(|| Missing(what.to_owned()))
}

/// From the first of the one to the first of the other after it.
fn cut<'t>(text: &'t str, from: &str, to: &str) -> Result<&'t str, Missing> {
    let text = &text[find(text, from)?..];
    Ok(&text[..find(text, to)?])
}

/// The one in place of the first of the other.
fn swap(text: &str, what: &str, by: &str) -> Result<String, Missing> {
    find(text, what).map(|_| text.replacen(what, by, 1))
}
