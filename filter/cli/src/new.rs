//! What is a first configuration?
//!
//! One that serves at once: every client may use every model, and backends are asked one after the other. Limits, policies and
//! prices are for the operator to add.

use crate::arguments::New;
use crate::paint::print;
use crate::{End, key};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Write};
use tollgate::digest::hex;

/// A backend of the command line.
#[derive(Clone)]
pub(crate) struct Backend {
    /// The Azure resource; without one it is OpenAI itself.
    resource: Option<String>,
    region: Option<String>,
    is_provisioned: bool,
}

/// Backends, each with the options that stand behind it.
#[derive(Clone)]
pub(crate) struct Backends(Vec<Backend>);

impl Args for Backends {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name)
                .long(name)
                .help(help)
                .action(ArgAction::Append)
                .num_args(0)
                .default_missing_value("")
        };
        let named = |name: &'static str, value: &'static str, help: &'static str| {
            Arg::new(name).long(name).help(help).action(ArgAction::Append).value_name(value)
        };
        command
            .arg(named("azure", "NAME", "An Azure OpenAI resource; may stand several times"))
            .arg(named("region", "REGION", "Where the resource before it is"))
            .arg(flag("ptu", "The resource before it has provisioned throughput, and is asked first"))
            .arg(flag("openai", "OpenAI itself"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Backends {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut words = Vec::new();
        for name in ["azure", "region", "ptu", "openai"] {
            let at = matches.indices_of(name).into_iter().flatten();
            let values = matches.get_many::<String>(name).into_iter().flatten();
            words.extend(at.zip(values).map(|(at, value)| (at, name, value.clone())));
        }
        words.sort();
        let wrong =
            |problem: &str| Error::raw(clap::error::ErrorKind::ValueValidation, format!("{problem}\n"));
        let mut backends: Vec<Backend> = Vec::new();
        for (_, name, value) in words {
            let last = backends.last_mut().filter(|backend| backend.resource.is_some());
            match (name, last) {
                ("azure" | "openai", _) => backends.push(Backend {
                    resource: (name == "azure").then_some(value),
                    region: None,
                    is_provisioned: false,
                }),
                ("region", Some(last)) => last.region = Some(value),
                ("ptu", Some(last)) => last.is_provisioned = true,
                _ => {
                    return Err(wrong(&format!(
                        "--{name} is of no resource: expected it behind --azure NAME"
                    )));
                }
            }
        }
        if backends.is_empty() {
            return Err(wrong("no backend is given: expected --azure NAME or --openai"));
        }
        Ok(Self(backends))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Backend {
    fn name(&self) -> &str {
        self.resource.as_deref().unwrap_or("openai")
    }

    /// The variable of the environment that its key is in.
    fn variable(&self) -> String {
        format!("{}_KEY", self.name().replace('-', "_").to_ascii_uppercase())
    }
}

/// Prints it, and tells the clients' keys on standard error.
pub(crate) fn new(arguments: &New) -> Result<End, String> {
    let mut backends = arguments.backends.0.clone();
    let resources = backends.iter().filter_map(|backend| backend.resource.as_ref());
    let regions = backends.iter().filter_map(|backend| backend.region.as_ref());
    for (what, words) in [
        ("--azure", resources.collect::<Vec<_>>()),
        ("--region", regions.collect()),
        ("--client", arguments.clients.iter().collect()),
        ("--model", arguments.models.iter().collect()),
    ] {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if let Some(word) = words.iter().find(|word| word.is_empty() || !word.bytes().all(is_word)) {
            return Err(format!("{what} {word:?}: expected letters, digits and -, _ or . alone"));
        }
    }
    for (what, names) in [
        ("backend", backends.iter().map(Backend::name).collect::<Vec<_>>()),
        ("client", arguments.clients.iter().map(String::as_str).collect()),
        ("model", arguments.models.iter().map(String::as_str).collect()),
    ] {
        let mut seen = BTreeSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(**name)) {
            return Err(format!("the {what} {name} stands twice"));
        }
    }
    backends.sort_by_key(|backend| !backend.is_provisioned);
    let mut text = String::from(
        "# Written by `tollgate new`. `tollgate render` makes the whole envoy.yaml of it.\nclients:\n",
    );
    let mut told = String::new();
    for client in &arguments.clients {
        let key = key::new()?;
        told.push_str(&format!("the key of {client}, which stands nowhere else: {key}\n"));
        let hash = hex(&Sha256::digest(&key));
        text.push_str(&format!(
            "- name: \"{client}\"\n  api_keys: [ {{ sha256: \"{hash}\" }} ]\n  models: [ \"*\" ]\n"
        ));
    }
    text.push_str("models:\n");
    for model in &arguments.models {
        text.push_str(&format!("- name: \"{model}\"\n  backends:    # the lowest priority is asked first\n"));
        for (priority, backend) in backends.iter().enumerate() {
            text.push_str(&format!("  - {{ backend: \"{}\", priority: {priority} }}\n", backend.name()));
        }
    }
    text.push_str("backends:\n");
    for backend in &backends {
        let name = backend.name();
        let (style, header) =
            if backend.resource.is_some() { ("azure-v1", "api-key") } else { ("openai", "authorization") };
        text.push_str(&format!("- name: \"{name}\"\n  cluster: \"{name}\"\n  style: {style}\n"));
        if let Some(region) = &backend.region {
            text.push_str(&format!("  region: \"{region}\"\n"));
        }
        if backend.is_provisioned {
            text.push_str("  provisioned: true\n");
        }
        text.push_str(&format!("  credential: {{ header: {header}, env: \"{}\" }}\n", backend.variable()));
    }
    text.push_str("envoy:\n  clusters:\n");
    for backend in &backends {
        let host = backend.resource.as_ref().map(|name| format!("{name}.openai.azure.com"));
        let host = host.as_deref().unwrap_or("api.openai.com");
        text.push_str(&format!("    \"{}\": {{ address: {host} }}\n", backend.name()));
    }
    print(&text);
    io::stderr().write_all(told.as_bytes()).map_err(|error| format!("the keys cannot be told: {error}"))?;
    Ok(End::Well)
}
