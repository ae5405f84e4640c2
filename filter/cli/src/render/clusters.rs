//! What are the clusters of a rendered file? Each as what stands alone: how it stands in a list or a patch is its form's.

use super::blocks::{Missing, place, replace};
use super::plan::{Cluster, Pool};
use super::texts::{alone, block, find, scalar, swap};
use super::{AZURE, ISSUER};
use std::net::IpAddr;

/// A backend's cluster in a template, and what is another's there.
pub(super) struct Model {
    pub(super) text: String,
    pub(super) name: &'static str,
    pub(super) host: &'static str,
    pub(super) port: u16,
}

impl Model {
    pub(super) fn backend(&self, cluster: &Cluster) -> Result<String, Missing> {
        let Self { name: of, host: at, port: by, .. } = *self;
        let name = scalar(&cluster.name);
        let text = swap(&self.text, &format!("name: {of}\n"), &format!("name: {name}\n"))?;
        let text = swap(&text, &format!("cluster_name: {of}\n"), &format!("cluster_name: {name}\n"))?;
        // Only in pools an endpoint says whose it is.
        let text = text.replace(&format!("{{ cluster: {of} }}"), &format!("{{ cluster: {name} }}"));
        let text = swap(&text, &format!("hostname: {at}"), &format!("hostname: {}", scalar(&cluster.host)))?;
        let text = swap(&text, &format!("address: {at}, port_value: {by}"), &leads(cluster))?;
        Ok(format!("{}{}", without_tls(&text)?, tls(AZURE, RESOURCE, cluster)?))
    }
}

/// Clusters that are taken for one; of it, the model is called so.
pub(super) fn pool(model: &str, of: &str, pool: &Pool) -> Result<String, Missing> {
    let text = swap(model, &format!("name: {of}\n"), &format!("name: {}\n", scalar(&pool.name)))?;
    let members: Vec<_> = pool.members.iter().map(|name| scalar(name)).collect();
    replace(&text, "clusters:", &format!("clusters: [ {} ]", members.join(", ")))
}

pub(super) fn issuer(cluster: &Cluster) -> Result<String, Missing> {
    const HOST: &str = "login.microsoftonline.com";
    let text = without_tls(&alone(ISSUER, "- name: entra")?)?;
    let name = scalar(&cluster.name);
    let text = swap(&text, "name: entra\n", &format!("name: {name}\n"))?;
    let text = swap(&text, "cluster_name: entra\n", &format!("cluster_name: {name}\n"))?;
    let text = swap(&text, &format!("address: {HOST}, port_value: 443"), &leads(cluster))?;
    Ok(format!("{text}{}", tls(ISSUER, HOST, cluster)?))
}

/// The end of a template, from its way to the store on, with the store's own cluster last.
pub(super) fn store(template: &str, host: &str, cluster: &Cluster) -> Result<String, Missing> {
    let text = swap(template, &format!("address: {host}, port_value: 6379"), &leads(cluster))?;
    let (end, indent) = place(&text, "# With TLS, the name")?;
    Ok(format!("{}{}", &text[..end], super::blocks::indented(&tls(AZURE, RESOURCE, cluster)?, indent)))
}

const RESOURCE: &str = "RESOURCE.openai.azure.com";

fn leads(cluster: &Cluster) -> String {
    format!("address: {}, port_value: {}", scalar(&cluster.address), cluster.port)
}

fn without_tls(text: &str) -> Result<String, Missing> {
    if text.contains("transport_socket:") {
        replace(text, "transport_socket:", "")
    } else {
        Ok(text.to_owned())
    }
}

/// The TLS of a cluster, after the model of an example's, whose host that is.
fn tls(example: &str, of: &str, cluster: &Cluster) -> Result<String, Missing> {
    let Some(authorities) = &cluster.authorities else { return Ok(String::new()) };
    let host = scalar(&cluster.host);
    let text = block(example, "transport_socket:")?;
    let text = swap(&text, "/etc/ssl/certs/ca-certificates.crt", &scalar(authorities))?;
    let text = if cluster.host.parse::<IpAddr>().is_ok() {
        // SNI is for names; a server at an address has to have the address in its certificate.
        let text = replace(&text, "sni:", "")?;
        swap(&text, "san_type: DNS", "san_type: IP_ADDRESS")?
    } else {
        swap(&text, &format!("sni: {of}"), &format!("sni: {host}"))?
    };
    let text = swap(&text, &format!("exact: {of}"), &format!("exact: {host}"))?;
    if cluster.host.ends_with(".azure.com") {
        return Ok(text);
    }
    // What that says of Azure's own certificates.
    let Ok(of_azure) = find(&text, " One for\n") else { return Ok(text) };
    let rest = &text[of_azure..];
    let end = find(rest, "would pass.")? + "would pass.".len();
    Ok(format!("{}{}", &text[..of_azure], &rest[end..]))
}
