//! What goes to backends of a lower priority, as the operator writes it.

use crate::config::fractions;
use crate::config::limits::wire::Limit;
use serde::Deserialize;

/// What goes to backends of a lower priority.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Spill {
    /// When this share of a backend's capacity is in use, requests go to the next one, if that has room.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
    #[serde(default, deserialize_with = "fractions::maybe")]
    pub(in crate::config) above: Option<f64>,
    /// How much may go there, all clients together.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub(in crate::config) limits: Vec<Limit>,
}
