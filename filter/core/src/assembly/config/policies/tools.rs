//! How are the tools of a policy written: as a word, or as an object with what holds?

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::fmt;

/// Which tools a request may have.
#[cfg_attr(feature = "schema", derive(serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "kebab-case"))]
#[derive(Default)]
pub(in crate::config) enum Tools {
    #[default]
    Allow,
    Forbid,
    Rules(Rules),
}

/// Only these: at least one of the fields.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rules {
    /// How many there may be. Absent: any number.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(in crate::config) max: Option<u32>,
    /// Their types, any words: `function`, `web_search`, `web_search_preview_2025_03_11`. Absent: all.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) types: Option<Vec<String>>,
    /// The hosts of MCP servers, as `mcp.example.com` or `*.example.com`. Absent: all, if `mcp_connectors` is absent too.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) mcp_hosts: Option<Vec<String>>,
    /// The `connector_id`s and `tunnel_id`s that may stand in for a host. Absent: all, if `mcp_hosts` is absent too.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(in crate::config) mcp_connectors: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tools;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`allow`, `forbid` or an object")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Tools, E> {
        match word {
            "allow" => Ok(Tools::Allow),
            "forbid" => Ok(Tools::Forbid),
            _ => Err(E::unknown_variant(
                word,
                &["allow", "forbid", "max", "types", "mcp_hosts", "mcp_connectors"],
            )),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tools, A::Error> {
        Rules::deserialize(MapAccessDeserializer::new(map)).map(Tools::Rules)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Tools {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tools".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let rules = Rules::json_schema(generator);
        schemars::json_schema!({
            "description": "Which tools a request may have.",
            "oneOf": [
                { "const": "allow", "description": "Any.", "type": "string" },
                { "const": "forbid", "description": "None.", "type": "string" },
                rules
            ]
        })
    }
}
