//! By which broker are requests queued, and what is it sent?

use super::super::{Build, Range};
use super::wire;
use crate::gateway::{Aspect, Broker, Secret, Template};
use std::collections::BTreeSet;
use std::time::Duration;

const AT: &str = "queue.broker";

/// More than any broker takes: 64 MiB.
const BYTES_CEILING: u64 = 64 << 20;

/// So many statuses say the same.
const TAKEN_MAX: usize = 8;

/// What is the connection's own, or Envoy's.
const NOT_OURS: [&str; 6] = ["connection", "content-length", "host", "te", "transfer-encoding", "upgrade"];

impl Build<'_> {
    pub(super) fn broker(&mut self, wire: &wire::Broker) -> Option<Broker> {
        let faults = self.errors.len();
        let cluster = self.name(format!("{AT}.cluster"), &wire.cluster).to_string();
        let authority = wire.authority.as_ref().unwrap_or(&wire.cluster).clone();
        let is_host = !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_graphic());
        if wire.authority.is_some() && !is_host {
            let problem = format!("{authority:?}: expected a host, with a port or without");
            self.fault(format!("{AT}.authority"), problem);
        }
        let path = self.broker_path(&wire.path);
        let query = wire.query_env.as_deref().and_then(|env| self.broker_query(env));
        let credential = wire.credential.as_ref();
        let credential =
            credential.and_then(|wire| self.token(&format!("{AT}.credential.azure"), AT, &wire.azure));
        let mut names: BTreeSet<String> = BTreeSet::new();
        names.extend(credential.iter().map(|credential| credential.header.clone()));
        let (mut headers, mut secrets) = (Vec::new(), Vec::new());
        for (name, value) in &wire.headers {
            let path = format!("{AT}.headers.{name}");
            let template = self.template(&path, value, Aspect::is_short);
            let is_plain = |text: &str| text.bytes().all(is_of_header);
            if template.iter().flat_map(Template::texts).any(|text| !is_plain(text)) {
                self.fault(path.clone(), "it has characters that no header may have");
            }
            headers.extend(self.header_name(&path, name, &mut names).zip(template));
        }
        for (name, env) in &wire.headers_env {
            let path = format!("{AT}.headers_env.{name}");
            let secret = self.secret(&path, env);
            if secret.iter().any(|secret| !secret.bytes().all(is_of_header)) {
                let problem = format!("environment variable {env:?} has characters that no header may have");
                self.fault(path.clone(), problem);
            }
            secrets.extend(self.header_name(&path, name, &mut names).zip(secret.map(Secret)));
        }
        let path_of_body = format!("{AT}.body");
        let body = self.template(&path_of_body, &wire.body, |_| true);
        if body.iter().any(|body| !body.aspects().any(Aspect::has_body)) {
            let problem = "it says nothing of what is asked: expected %request% or %body% in it";
            self.fault(path_of_body, problem);
        }
        let bytes = Range { default: 65_536, min: 1, max: BYTES_CEILING };
        let bytes_max = self.within(&format!("{AT}.bytes_max"), wire.bytes_max, &bytes);
        if wire.taken.is_empty() || wire.taken.len() > TAKEN_MAX {
            let problem = format!("{} entries: expected 1 to {TAKEN_MAX}", wire.taken.len());
            self.fault(format!("{AT}.taken"), problem);
        }
        for (at, status) in wire.taken.iter().enumerate() {
            if !(200..300).contains(status) {
                self.fault(format!("{AT}.taken[{at}]"), format!("{status}: expected 200 to 299"));
            }
        }
        if let Some(region) = &wire.region {
            self.name(format!("{AT}.region"), region);
        }
        let timeout = Range { default: 5000, min: 10, max: 60_000 };
        let timeout = self.within(&format!("{AT}.timeout_ms"), wire.timeout_ms, &timeout);
        let broker = Broker {
            cluster,
            authority,
            method: match wire.method {
                wire::Method::Post => "POST",
                wire::Method::Put => "PUT",
            },
            path: path?,
            query,
            headers,
            secrets,
            credential,
            body: body?,
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            taken: wire.taken.clone(),
            timeout: Duration::from_millis(timeout),
        };
        (self.errors.len() == faults).then_some(broker)
    }

    fn broker_path(&mut self, written: &str) -> Option<Template> {
        let path = format!("{AT}.path");
        let template = self.template(&path, written, Aspect::is_name)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !written.starts_with('/') || !template.texts().all(is_plain) {
            self.fault(path, format!("{written:?}: expected a path that begins with /, without #"));
        }
        Some(template.in_path())
    }

    fn broker_query(&mut self, env: &str) -> Option<Secret> {
        let path = format!("{AT}.query_env");
        let query = self.secret(&path, env)?;
        let query = query.strip_prefix('?').unwrap_or(&query);
        if !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            let problem = format!("environment variable {env:?} has characters that no query may have");
            self.fault(path, problem);
        }
        Some(Secret(query.to_owned()))
    }

    fn header_name(&mut self, path: &str, written: &str, names: &mut BTreeSet<String>) -> Option<String> {
        let name = written.to_ascii_lowercase();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let problem = if name.is_empty() || !name.bytes().all(is_plain) {
            "it is no name of a header"
        } else if NOT_OURS.contains(&name.as_str()) || name.starts_with("x-envoy-") {
            "it is Envoy's to say: expected another header"
        } else if !names.insert(name.clone()) {
            "this header is said more than once: expected each once, of headers, headers_env and credential"
        } else {
            return Some(name);
        };
        self.fault(path.to_owned(), problem);
        None
    }

    /// What is written with places for what is told of a request, of which some may stand here.
    fn template(&mut self, path: &str, written: &str, may_be: impl Fn(Aspect) -> bool) -> Option<Template> {
        let found = Template::read(written);
        let unknown = match &found {
            Ok(template) => template.aspects().find(|aspect| !may_be(*aspect)).map(Aspect::word),
            Err(unknown) => Some(unknown.as_str()),
        };
        if let Some(unknown) = unknown {
            let known = Aspect::ALL.into_iter().filter(|aspect| may_be(*aspect));
            let known: Vec<_> = known.map(|aspect| format!("%{}%", aspect.word())).collect();
            let problem = format!(
                "%{unknown}% stands for nothing here: expected one of {}, alone or with :json or :base64 before its end; %% is a percent sign",
                known.join(", ")
            );
            self.fault(path.to_owned(), problem);
            return None;
        }
        found.ok()
    }
}

const fn is_of_header(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte == b' '
}
