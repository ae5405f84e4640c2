//! The Envoy clusters, and what they speak.

pub(super) mod wire;

use super::{Backends, Build};
use crate::allowance::Weights;
use crate::endpoint::{ApiVersion, Style};
use crate::gauge::Gauge;
use crate::route::{Backend, Counts, Credential, number_of};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

impl Build<'_> {
    pub(super) fn backends(&mut self, wire: Vec<wire::Backend>) -> Backends {
        let mut backends = HashMap::new();
        let mut clusters: HashMap<String, usize> = HashMap::new();
        for (at, backend) in wire.into_iter().enumerate() {
            let path = format!("backends[{at}]");
            let faults = self.errors.len();
            let name = self.name(format!("{path}.name"), &backend.name);
            let cluster = self.name(format!("{path}.cluster"), &backend.cluster);
            if let Some(earlier) = clusters.insert(backend.cluster.clone(), at) {
                let problem = format!(
                    "backends[{earlier}] has cluster {:?} too: expected one cluster for each backend",
                    backend.cluster
                );
                self.fault(format!("{path}.cluster"), problem);
            }
            let style = self.style(&path, &backend);
            let region = backend.region.as_ref().map(|region| self.name(format!("{path}.region"), region));
            let credential = match &backend.credential {
                Some(credential) => self.credential(&format!("{path}.credential"), credential),
                None => None,
            };
            let counts = self.counts(&path, &backend);
            let gauge = backend.tokens_per_minute.and_then(|tokens| {
                let path = format!("{path}.tokens_per_minute");
                self.gauge(path, tokens, counts, number_of(&[&backend.name]))
            });
            let built = style
                .map(|style| Rc::new(Backend { name, cluster, style, region, credential, gauge, counts }));
            let built = built.filter(|_| self.errors.len() == faults);
            if backends.insert(backend.name.clone(), built).is_some() {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", backend.name));
            }
        }
        backends
    }

    fn counts(&mut self, path: &str, backend: &wire::Backend) -> Counts {
        let window_s = backend.window_s.unwrap_or(60);
        if !(1..=60).contains(&window_s) {
            self.fault(format!("{path}.window_s"), format!("{window_s}: expected 1 to 60"));
        }
        Counts { window: Duration::from_secs(window_s.into()), is_provisioned: backend.provisioned }
    }

    /// A capacity of so many tokens a minute, counted over a window of so long.
    pub(super) fn gauge(
        &mut self,
        path: String,
        tokens_per_minute: u32,
        counts: Counts,
        id: u64,
    ) -> Option<Gauge> {
        let Counts { window, is_provisioned } = counts;
        let tokens = u64::from(tokens_per_minute) * window.as_secs() / 60;
        let tokens = u32::try_from(tokens).ok().and_then(NonZeroU32::new);
        if tokens.is_none() {
            let window_s = window.as_secs();
            let problem = format!("{tokens_per_minute}: expected at least one token in {window_s} s");
            self.fault(path, problem);
        }
        tokens.map(|tokens| Gauge { id, tokens, window, is_provisioned, weights: Weights::UNCACHED })
    }

    fn style(&mut self, path: &str, backend: &wire::Backend) -> Option<Style> {
        let path = format!("{path}.api_version");
        match (backend.style, backend.api_version.as_deref()) {
            (wire::Style::Azure, Some(text)) => {
                let version = ApiVersion::parse(text);
                if version.is_none() {
                    self.fault(path, format!("{text:?}: expected YYYY-MM-DD or YYYY-MM-DD-preview"));
                }
                version.map(Style::Azure)
            }
            (wire::Style::Azure, None) => {
                self.fault(path, "missing: style azure needs one, for example \"2024-10-21\"");
                None
            }
            (wire::Style::AzureV1 | wire::Style::OpenAi, Some(_)) => {
                self.fault(path, "only style azure has one");
                None
            }
            (wire::Style::AzureV1, None) => Some(Style::AzureV1),
            (wire::Style::OpenAi, None) => Some(Style::OpenAi),
        }
    }

    fn credential(&mut self, path: &str, wire: &wire::Credential) -> Option<Credential> {
        let header = wire.header.to_ascii_lowercase();
        if !matches!(header.as_str(), "api-key" | "authorization") {
            self.fault(
                format!("{path}.header"),
                format!("{:?}: expected api-key or authorization", wire.header),
            );
            return None;
        }
        let env_path = format!("{path}.env");
        let secret = self.secret(&env_path, &wire.env)?;
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.fault(
                env_path,
                format!("environment variable {:?} has characters that no header may have", wire.env),
            );
            return None;
        }
        let value = if header == "authorization" { format!("Bearer {secret}") } else { secret };
        Some(Credential { header, value })
    }
}
