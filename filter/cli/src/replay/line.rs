//! What does a line of the access log say?
//!
//! The fields are those of the access log in `envoy/envoy.yaml`, and the members of its `details`.

use serde_json::Value;
use tollgate::prices::Service;
use tollgate::tokens::Usage;

/// A request of a client.
pub(crate) struct Line {
    /// The day that it began in, as `2026-11-28`.
    pub(crate) day: Option<String>,
    pub(crate) client: String,
    /// The group of that client, then.
    pub(crate) group: Option<String>,
    /// As configured: what it was charged for.
    pub(crate) paid_model: Option<String>,
    /// As it was asked for, else as configured.
    pub(crate) model: Option<String>,
    /// Where it was served, or tried last.
    pub(crate) backend: Option<String>,
    /// What the model is called there.
    pub(crate) deployment: Option<String>,
    pub(crate) operation: String,
    pub(crate) outcome: String,
    pub(crate) usage: Usage,
    pub(crate) is_estimated: bool,
    /// What it cost, as was reckoned then.
    pub(crate) price_micros: Option<u64>,
    /// The tier of service that it was served in.
    pub(crate) tier: Option<String>,
    /// Whether another deployment of the backend's own served it.
    pub(crate) is_spillover: bool,
    /// Whether it went where the ids in it led.
    pub(crate) is_pinned: bool,
}

impl Line {
    /// How the backend said that it had served it.
    pub(crate) fn service(&self) -> Service<'_> {
        Service { tier: self.tier.as_deref(), is_spillover: self.is_spillover }
    }

    /// What is said of a file that has no line to read.
    pub(crate) fn none_in(file: &str) -> String {
        format!(
            "{file} has no record of a request of a client: expected the JSON lines of envoy.yaml's access log"
        )
    }

    /// `None` for what is no record of a request whose client was known.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(text).ok()?;
        // Envoy writes what is not there as null, and as a dash where it makes a text of it.
        let word = |value: &Value| value.as_str().filter(|word| *word != "-").map(str::to_owned);
        let number =
            |value: &Value| value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        let details = match &line["details"] {
            Value::String(text) => serde_json::from_str(text).ok()?,
            typed @ Value::Object(_) => typed.clone(),
            _ => return None,
        };
        let count = |name: &str| number(&details[name]).unwrap_or(0);
        Some(Self {
            day: line["start_time"]
                .as_str()
                .and_then(|time| time.split_once('T'))
                .map(|(day, _)| day.to_owned()),
            paid_model: word(&line["model"]),
            client: word(&line["client"])?,
            group: word(&details["group"]),
            model: word(&details["model_asked"]).or_else(|| word(&line["model"])),
            backend: word(&line["backend"]),
            deployment: word(&details["deployment"]),
            operation: word(&details["operation"])?,
            outcome: word(&line["outcome"])?,
            usage: Usage {
                prompt: number(&line["prompt_tokens"]).unwrap_or(0),
                cached: count("cached_tokens"),
                cache_write: count("cache_write_tokens"),
                prompt_audio: count("prompt_audio_tokens"),
                prompt_image: count("prompt_image_tokens"),
                completion: number(&line["completion_tokens"]).unwrap_or(0),
                reasoning: count("reasoning_tokens"),
                completion_audio: count("completion_audio_tokens"),
                completion_image: count("completion_image_tokens"),
            },
            is_estimated: line["estimated"] == "true" || line["estimated"] == true,
            price_micros: number(&details["price_micros"]),
            tier: word(&details["service_tier"]),
            is_spillover: details["served_by_spillover"] == true,
            is_pinned: details["pinned"] == "followed",
        })
    }
}
