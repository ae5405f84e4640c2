//! How many names are label values of metrics, and which value the others share?

use crate::ledger::Name;
use serde::Deserialize;
use std::rc::Rc;

/// How many names may be label values; those beyond share the value `other`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    /// So many clients, the first of the list, have a label value of their own.
    pub(super) clients_max: usize,
    /// So many models, the first of the list, have a label value of their own.
    pub(super) models_max: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { clients_max: 200, models_max: 50 }
    }
}

/// The label value that all names share for which there is no room.
pub(super) const OTHER: &str = "other";

/// A name with its label: its own for the first `labels_max` of a list.
pub(super) fn labelled(text: Rc<str>, at: usize, labels_max: usize) -> Name {
    let label = if at < labels_max { text.clone() } else { OTHER.into() };
    Name { text, label }
}
