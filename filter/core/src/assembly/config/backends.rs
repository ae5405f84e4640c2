//! The Envoy clusters, and what they speak.

pub(super) mod wire;

use super::{Backends, Build};
use crate::access::{Access, Grant, Proof};
use crate::allowance::Weights;
use crate::credential::{CredentialValue, Issued};
use crate::endpoint::{ApiVersion, Style, is_path_segment};
use crate::gauge::{Gauge, Gauges, Unit};
use crate::route::{Backend, Counts, Credential, number_of};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

/// The longest beginning of a backend's paths.
const BASE_BYTES_MAX: usize = 256;

/// Where Entra issues tokens, but for the clouds of some countries.
const ENTRA: &str = "login.microsoftonline.com";

/// What a client id is.
const CLIENT_ID: &str = "the client id, letters, digits and -";

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
            let base = self.base_path(&path, &backend);
            let region = backend.region.as_ref().map(|region| self.name(format!("{path}.region"), region));
            let credential = match &backend.credential {
                Some(credential) => self.credential(&format!("{path}.credential"), &backend.name, credential),
                None => None,
            };
            let counts = self.counts(&path, &backend);
            let declared = (backend.tokens_per_minute, backend.requests_per_minute);
            let gauges = self.gauges(&path, declared, counts, &[&backend.name]);
            let built = style.map(|style| {
                let base = base.unwrap_or(style.base()).into();
                Rc::new(Backend { name, cluster, style, base, region, credential, gauges, counts })
            });
            let built = built.filter(|_| self.errors.len() == faults);
            if backends.insert(backend.name.clone(), built).is_some() {
                self.fault(format!("{path}.name"), format!("{:?} stands more than once", backend.name));
            }
        }
        backends
    }

    fn counts(&mut self, path: &str, backend: &wire::Backend) -> Counts {
        let mut window = |field, seconds: Option<u32>, default| {
            let Some(seconds) = seconds else { return default };
            if !(1..=60).contains(&seconds) {
                self.fault(format!("{path}.{field}"), format!("{seconds}: expected 1 to 60"));
            }
            Duration::from_secs(seconds.into())
        };
        let of_tokens = window("window_s", backend.window_s, Counts::default().window);
        let requests_window = window("requests_window_s", backend.requests_window_s, of_tokens);
        let weights = match backend.counts {
            wire::Counted::PromptAndCap => Weights::UNCACHED,
            wire::Counted::Cap => Weights::PRODUCED,
        };
        Counts { window: of_tokens, requests_window, is_provisioned: backend.provisioned, weights }
    }

    /// Capacities of so many tokens and requests a minute, where they were declared, of what these names stand for.
    pub(super) fn gauges(
        &mut self,
        path: &str,
        (tokens, requests): (Option<u32>, Option<u32>),
        counts: Counts,
        names: &[&str],
    ) -> Gauges {
        let Counts { window, requests_window, is_provisioned, weights } = counts;
        let mut gauge = |field, one, per_minute: u32, of: Gauge| {
            let size = u64::from(per_minute) * of.window.as_secs() / 60;
            let size = u32::try_from(size).ok().and_then(NonZeroU32::new);
            if size.is_none() {
                let window_s = of.window.as_secs();
                let problem = format!("{per_minute}: expected at least one {one} in {window_s} s");
                self.fault(format!("{path}.{field}"), problem);
            }
            size.map(|size| Gauge { size, ..of })
        };
        let (id, size) = (number_of(names), NonZeroU32::MIN);
        let of_tokens =
            Gauge { id, pace_id: None, size, window, is_provisioned, unit: Unit::Tokens(weights) };
        // No deployment is called so.
        let id = number_of(&[names, &["", "requests"]].concat());
        let (window, is_provisioned) = (requests_window, false);
        let of_requests = Gauge { id, pace_id: None, size, window, is_provisioned, unit: Unit::Requests };
        Gauges {
            tokens: tokens.and_then(|tokens| gauge("tokens_per_minute", "token", tokens, of_tokens)),
            requests: requests
                .and_then(|requests| gauge("requests_per_minute", "request", requests, of_requests)),
        }
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
            (wire::Style::AzureV1 | wire::Style::OpenAi | wire::Style::Anthropic, Some(_)) => {
                self.fault(path, "only style azure has one");
                None
            }
            (wire::Style::AzureV1, None) => Some(Style::AzureV1),
            (wire::Style::OpenAi, None) => Some(Style::OpenAi),
            (wire::Style::Anthropic, None) => Some(Style::Anthropic),
        }
    }

    /// Each of its names can stand in a path as it is, so that no path below it leads out of it.
    fn base_path<'w>(&mut self, path: &str, backend: &'w wire::Backend) -> Option<&'w str> {
        let written = backend.base_path.as_deref()?;
        let is_path = written.strip_prefix('/').is_some_and(|names| names.split('/').all(is_path_segment));
        if !is_path || written.len() > BASE_BYTES_MAX {
            let problem = format!(
                "{written:?}: expected /NAME/NAME of at most {BASE_BYTES_MAX} bytes, its names of letters, digits and . _ - ~"
            );
            self.fault(format!("{path}.base_path"), problem);
        }
        Some(written)
    }

    fn credential(&mut self, path: &str, backend: &str, wire: &wire::Credential) -> Option<Credential> {
        match (&wire.header, &wire.env, &wire.azure) {
            (Some(header), Some(env), None) => self.key(path, header, env),
            (None, None, Some(azure)) => self.token(&format!("{path}.azure"), backend, azure),
            _ => {
                self.fault(path.to_owned(), "expected either header and env, or azure");
                None
            }
        }
    }

    fn key(&mut self, path: &str, written: &str, env: &str) -> Option<Credential> {
        let header = written.to_ascii_lowercase();
        if !matches!(header.as_str(), "api-key" | "authorization" | "x-api-key") {
            let problem = format!("{written:?}: expected api-key, x-api-key or authorization");
            self.fault(format!("{path}.header"), problem);
            return None;
        }
        let env_path = format!("{path}.env");
        let secret = self.secret(&env_path, env)?;
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = format!("environment variable {env:?} has characters that no header may have");
            self.fault(env_path, problem);
            return None;
        }
        let value = if header == "authorization" { format!("Bearer {secret}") } else { secret };
        Some(Credential { header, value: CredentialValue::fixed(value) })
    }

    /// The way to the tokens that this backend is shown.
    pub(super) fn token(&mut self, path: &str, backend: &str, wire: &wire::Azure) -> Option<Credential> {
        self.word(&format!("{path}.scope"), &wire.scope, "https://cognitiveservices.azure.com/.default");
        let (cluster, grant) = match (&wire.managed_identity, &wire.workload_identity, &wire.client_secret) {
            (Some(identity), None, None) => {
                let path = format!("{path}.managed_identity");
                if let Some(client_id) = &identity.client_id {
                    self.word(&format!("{path}.client_id"), client_id, CLIENT_ID);
                }
                let cluster = self.name(format!("{path}.cluster"), &identity.cluster);
                (cluster, Grant::ManagedIdentity { client_id: identity.client_id.clone() })
            }
            (None, Some(identity), None) => {
                let path = format!("{path}.workload_identity");
                let token_cluster = self.name(format!("{path}.token_cluster"), &identity.token_cluster);
                let proof = Proof::TokenFrom(token_cluster.to_string());
                let wire::WorkloadIdentity { cluster, tenant, client_id, host, .. } = identity;
                self.application(&path, (cluster, tenant, client_id, host.as_deref()), proof)
            }
            (None, None, Some(application)) => {
                let path = format!("{path}.client_secret");
                let secret = self.secret(&format!("{path}.env"), &application.env)?;
                let wire::ClientSecret { cluster, tenant, client_id, host, .. } = application;
                let names = (cluster, tenant, client_id, host.as_deref());
                self.application(&path, names, Proof::Secret(secret))
            }
            _ => {
                let problem = "expected exactly one of managed_identity, workload_identity, client_secret";
                self.fault(path.to_owned(), problem);
                return None;
            }
        };
        let issued = Rc::new(Issued::default());
        let access =
            Access::new(backend.into(), cluster.to_string(), wire.scope.clone(), grant, issued.clone());
        self.accesses.push(access);
        Some(Credential { header: "authorization".to_owned(), value: CredentialValue::Issued(issued) })
    }

    fn application(
        &mut self,
        path: &str,
        (cluster, tenant, client_id, host): (&String, &String, &String, Option<&str>),
        proof: Proof,
    ) -> (Rc<str>, Grant) {
        let cluster = self.name(format!("{path}.cluster"), cluster);
        self.word(&format!("{path}.tenant"), tenant, "its id or one of its domains");
        self.word(&format!("{path}.client_id"), client_id, CLIENT_ID);
        let host = host.unwrap_or(ENTRA);
        self.word(&format!("{path}.host"), host, ENTRA);
        let (host, tenant, client_id) = (host.to_owned(), tenant.clone(), client_id.clone());
        (cluster, Grant::Application { host, tenant, client_id, proof })
    }

    /// It stands in a request for a token as it is.
    fn word(&mut self, path: &str, written: &str, expected: &str) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
        if written.is_empty() || !written.bytes().all(is_plain) {
            self.fault(path.to_owned(), format!("{written:?}: expected {expected}"));
        }
    }
}
