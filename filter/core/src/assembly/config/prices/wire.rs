//! What tokens cost, as the operator writes it.

use crate::config::fractions;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An object with the prices of all kinds of tokens, and what else is given.
macro_rules! prices {
    ($(#[$doc:meta])* $name:ident { $($more:tt)* }) => {
        $(#[$doc])*
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
        #[derive(Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            /// Of tokens that were sent.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(deserialize_with = "fractions::one")]
            pub(in crate::config) prompt: f64,
            /// Of tokens that were sent and found in the backend's cache. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(in crate::config) cached: Option<f64>,
            /// Of tokens that were sent and written into the backend's cache. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(in crate::config) cache_write: Option<f64>,
            /// Of tokens that were sent as audio. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(in crate::config) prompt_audio: Option<f64>,
            /// Of tokens that were sent as images. Absent: as `prompt`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(in crate::config) prompt_image: Option<f64>,
            /// Of tokens that were produced: nothing if not said, as for embeddings.
            #[serde(default, deserialize_with = "fractions::one")]
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            pub(in crate::config) completion: f64,
            /// Of tokens that were produced as audio. Absent: as `completion`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(in crate::config) completion_audio: Option<f64>,
            /// Of tokens that were produced as images. Absent: as `completion`.
            #[cfg_attr(feature = "schema", schemars(range(min = 0.0, max = 1_000_000.0)))]
            #[serde(default, deserialize_with = "fractions::maybe")]
            pub(in crate::config) completion_image: Option<f64>,
            $($more)*
        }

        impl $name {
            /// All kinds, each with its own price or the one that holds in its place.
            pub(in crate::config) fn kinds(&self) -> Kinds {
                Kinds {
                    prompt: self.prompt,
                    cached: self.cached.unwrap_or(self.prompt),
                    cache_write: self.cache_write.unwrap_or(self.prompt),
                    prompt_audio: self.prompt_audio.unwrap_or(self.prompt),
                    prompt_image: self.prompt_image.unwrap_or(self.prompt),
                    completion: self.completion,
                    completion_audio: self.completion_audio.unwrap_or(self.completion),
                    completion_image: self.completion_image.unwrap_or(self.completion),
                }
            }
        }
    };
}

/// The prices of all kinds of tokens.
#[derive(Clone, Copy)]
pub(in crate::config) struct Kinds {
    pub(in crate::config) prompt: f64,
    pub(in crate::config) cached: f64,
    pub(in crate::config) cache_write: f64,
    pub(in crate::config) prompt_audio: f64,
    pub(in crate::config) prompt_image: f64,
    pub(in crate::config) completion: f64,
    pub(in crate::config) completion_audio: f64,
    pub(in crate::config) completion_image: f64,
}

prices! {
    /// The price of a million tokens, in any currency.
    Prices {
        /// The prices of all tokens of a request whose prompt is long. Absent: the same.
        pub(in crate::config) above: Option<Above>,
        /// The prices in tiers of service other than the default one, by the word that the answer's `service_tier` has:
        /// `flex`, `priority`; batches are `batch`. Absent: the same.
        #[serde(default)]
        pub(in crate::config) tiers: BTreeMap<String, TierPrices>,
    }
}

prices! {
    /// The prices in one tier of service.
    TierPrices {
        /// The prices of all tokens of a request whose prompt is long. Absent: the same.
        pub(in crate::config) above: Option<Above>,
    }
}

prices! {
    /// The prices of all tokens of a request whose prompt is long.
    Above {
        /// They hold where the prompt has more tokens than this.
        #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
        pub(in crate::config) prompt_tokens: u64,
    }
}
