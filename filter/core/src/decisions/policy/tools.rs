//! Which tools may the model call, how many, and where?
//!
//! All that are offered are looked at, wherever they stand, and the first that is not allowed is named. A tool that stands
//! for a server says its address: of that the host is read by a strict grammar, since readers of addresses differ about
//! what is odd.

use super::{Evaluation, Quota, Rule, shown};
use crate::denial::Denial;
use crate::request::{Field, MCP, Offer, Tool};

/// What the older functions are, as tools.
const FUNCTION: &str = "function";

/// What a tool of Anthropic's API is that does not say: the client's own.
/// <https://platform.claude.com/docs/en/api/messages#body-tools>
const CUSTOM: &str = "custom";

/// What chat's `web_search_options` are, as a tool.
const WEB_SEARCH: &str = "web_search";

/// The first tool of each kind that is not as it should be.
#[derive(Default)]
struct Found {
    without_type: Option<&'static str>,
    of_other_type: Option<Denial>,
    at_other_host: Option<Denial>,
    by_other_connector: Option<Denial>,
}

impl Evaluation<'_, '_> {
    /// What the model may call.
    pub(super) fn tools(&mut self) -> Result<(), Denial> {
        let policy = self.policy;
        let is_placed = policy.mcp_hosts.is_some() || policy.mcp_connectors.is_some();
        let is_looked_at = policy.tools != Quota::Allow || policy.tool_types.is_some() || is_placed;
        if !is_looked_at || !self.is_applied(Rule::Tools) {
            return Ok(());
        }
        let mut found = 0;
        let mut first = None;
        for field in [Field::Tools, Field::Functions, Field::WebSearchOptions] {
            let entries = match field {
                // It is one tool, however it is set.
                Field::WebSearchOptions => u64::from(self.request.raw(field).is_some()),
                _ => self.request.entries(field)?,
            };
            if entries > 0 {
                first = first.or(Some(field));
                self.older(field)?;
            }
            found += entries;
        }
        let mut others = Found::default();
        let untyped = self.asked.operation.is_of_anthropic().then_some(CUSTOM);
        let nested = self.request.tools(&mut |tool| others.look(policy, &tool, untyped))?;
        found += nested;
        let servers = self.request.raw(Field::McpServers).map(|_| Field::McpServers);
        let at = first.or(servers).unwrap_or(Field::Input);
        self.quota(Rule::Tools, policy.tools, at, found)?;
        if let Some(field) = others.without_type.filter(|_| policy.tool_types.is_some()) {
            return Err(Denial::MissingField(field));
        }
        for (rule, denial) in [
            (Rule::ToolTypes, others.of_other_type),
            (Rule::McpHosts, others.at_other_host),
            (Rule::McpConnectors, others.by_other_connector),
        ] {
            if let Some(denial) = denial {
                self.refuse(rule, denial)?;
            }
        }
        Ok(())
    }

    /// Chat's other ways to offer a tool, which have no `type`.
    fn older(&mut self, field: Field) -> Result<(), Denial> {
        let kind = match field {
            Field::Functions => FUNCTION,
            Field::WebSearchOptions => WEB_SEARCH,
            _ => return Ok(()),
        };
        let types = self.policy.tool_types.as_ref();
        if types.is_some_and(|types| types.iter().all(|word| word != kind)) {
            return self.refuse(Rule::ToolTypes, Denial::Forbidden(field.name()));
        }
        Ok(())
    }
}

impl Found {
    /// `untyped` is what a tool is that says no type.
    fn look(&mut self, policy: &super::Policy, tool: &Tool<'_>, untyped: Option<&str>) {
        let at = |of_tools, of_input, of_servers| match tool.offer {
            Offer::Tools => of_tools,
            Offer::Item => of_input,
            Offer::Server => of_servers,
        };
        let kind = at("tools.type", "input.tools.type", "mcp_servers");
        match (tool.kind.as_deref().or(untyped), &policy.tool_types) {
            (None, _) => self.without_type = self.without_type.or(Some(kind)),
            (Some(word), Some(types)) if types.iter().all(|other| other != word) => {
                self.of_other_type.get_or_insert_with(|| not_among(kind, word, types));
            }
            _ => {}
        }
        if policy.mcp_hosts.is_none() && policy.mcp_connectors.is_none() {
            return;
        }
        if let Some(url) = &tool.server_url {
            let field = at("tools.server_url", "input.tools.server_url", "mcp_servers.url");
            let hosts = policy.mcp_hosts.as_deref().unwrap_or_default();
            let host = host(url);
            if !host.as_ref().is_some_and(|host| hosts.iter().any(|pattern| matches(pattern, host))) {
                let asked = host.as_deref().unwrap_or(url);
                self.at_other_host.get_or_insert_with(|| not_among(field, asked, hosts));
            }
        }
        if let Some((name, id)) = &tool.connector {
            let field = match *name {
                "connector_id" => at("tools.connector_id", "input.tools.connector_id", "mcp_servers"),
                _ => at("tools.tunnel_id", "input.tools.tunnel_id", "mcp_servers"),
            };
            let connectors = policy.mcp_connectors.as_deref().unwrap_or_default();
            if connectors.iter().all(|other| other != id) {
                self.by_other_connector.get_or_insert_with(|| not_among(field, id, connectors));
            }
        }
        // A server that is named in no way that is known here.
        if tool.kind.as_deref() == Some(MCP) && tool.server_url.is_none() && tool.connector.is_none() {
            let field = at("tools.server_url", "input.tools.server_url", "mcp_servers.url");
            self.at_other_host.get_or_insert(Denial::MissingField(field));
        }
    }
}

fn not_among(field: &'static str, asked: &str, allowed: &[String]) -> Denial {
    if allowed.is_empty() {
        return Denial::Forbidden(field);
    }
    Denial::NotAllowed { field, asked: shown(asked), allowed: allowed.to_vec() }
}

/// The host of an address, in lower case; `None` if some reader might take it for another. It ends at a slash or with the
/// address, and has nothing before it and a port at the most behind it: `?`, `#`, `\` and `@` are where readers differ.
fn host(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && is_host(host)).then(|| host.to_ascii_lowercase())
}

/// Whether it is a plain name: labels of letters, digits and hyphens.
pub(crate) fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// `*.` stands for one label or more.
pub(super) fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        // A host does not begin with a dot, so that something stands before it.
        Some(end) => host.ends_with(end),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_host_of_an_address_is_read_strictly() {
        for (url, expected) in [
            ("https://mcp.example.com", Some("mcp.example.com")),
            ("https://mcp.example.com/", Some("mcp.example.com")),
            ("HTTPS://MCP.Example.com:8443/a@b?c#d", Some("mcp.example.com")),
            ("http://localhost/x", Some("localhost")),
            ("https://mcp.example.com.", None),
            ("https://good.com#@evil.com/", None),
            ("https://good.com?@evil.com/", None),
            ("https://good.com@evil.com/", None),
            ("https://good.com:80@evil.com/", None),
            (r"https://good.com\@evil.com/", None),
            (r"https:\\good.com/", None),
            ("https:///good.com", None),
            ("https:good.com", None),
            (" https://good.com", None),
            ("https://good.com\t.evil.com", None),
            ("https://good.com\n.evil.com", None),
            ("https://good.com%2eevil.com", None),
            ("https://good。com", None),
            ("https://[::1]/", None),
            ("https://good.com:", None),
            ("https://good.com:443443", None),
            ("wss://good.com/", None),
            ("good.com", None),
            ("", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url:?}");
        }
    }

    #[test]
    fn a_pattern_stands_for_labels_before_its_end() {
        for (pattern, host, expected) in [
            ("a.com", "a.com", true),
            ("a.com", "b.a.com", false),
            ("*.a.com", "b.a.com", true),
            ("*.a.com", "c.b.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.a.com", "ba.com", false),
            ("*.a.com", "a.long.name.com", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
