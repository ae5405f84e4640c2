//! What is the whole `envoy.yaml` of a gateway's configuration, or what are the patches of a control plane's gateway?
//!
//! The files of `envoy/` and of the examples are the templates: the tool has their texts in it, with their comments. What comes
//! of it is judged by `check` before it is printed.

mod blocks;
mod clusters;
mod file;
mod patches;
mod plan;
mod texts;

use crate::arguments::Render;
use crate::paint::print;
use crate::source::{self, Found};
use crate::{End, check};
use blocks::Missing;
pub(crate) use plan::Form;
use tollgate::config::ConfigError;

const ENVOY: &str = include_str!("../../../envoy/envoy.yaml");
const FLEET: &str = include_str!("../../../envoy/fleet.yaml");
const POOLS: &str = include_str!("../../../envoy/portable-pools.yaml");
const ONCE: &str = include_str!("../../../envoy/portable-once.yaml");
const AZURE: &str = include_str!("../../../examples/azure-tls/clusters.yaml");
const ISSUER: &str = include_str!("../../../examples/entra-id/clusters.yaml");

const HEAD: &str = "\
# Written by `tollgate render`: change the configuration that it was written from, and render it again.
#
";

/// Prints the whole file, or tells what is wrong with what it would be written from.
pub(crate) fn render(arguments: &Render) -> Result<End, String> {
    let file = &arguments.file;
    let text = source::text(file)?;
    let mut found = source::find_in(&text, file)?;
    let [found] = found.as_mut_slice() else {
        return Err(format!("{file} has {} gateway configurations: expected one", found.len()));
    };
    if arguments.form != Form::Envoy {
        found.forget_line();
    }
    let found = &*found;
    if found.envoy.is_none() {
        return Err(format!(
            "{file} has no envoy: expected it beside clients, models and backends, for example\n  envoy:\n    clusters:\n      \
             CLUSTER: {{ address: NAME.openai.azure.com }}"
        ));
    }
    if let Some(refusal) = check::refusal(found) {
        print(&refusal);
        return Ok(End::Found);
    }
    let loaded = found.load();
    let plan = match plan::read(found) {
        Ok(plan) => plan,
        Err(errors) => return Ok(check::refused(found, &errors)),
    };
    let unfit = plan::unfit(&plan, arguments.form, found);
    if !unfit.is_empty() {
        return Ok(check::refused(found, &unfit));
    }
    let mut variables: Vec<_> = loaded.variables.iter().map(String::as_str).collect();
    // In the order in which a reader meets them; those of the store last, as in the template.
    let of_store = found.value["store"].to_string();
    variables.sort_by_key(|name| (of_store.contains(&format!("\"{name}\"")), text.find(name)));
    let variables: Vec<_> = variables.into_iter().map(texts::scalar).collect();
    let variables = variables.join(", ");
    let whole = |gateway: &str| {
        let written = match arguments.form {
            Form::Envoy => file::written(&plan, &variables, gateway),
            form => patches::written(&plan, form, &variables, gateway),
        };
        written.map_err(|missing: Missing| format!("the tool itself is broken: {missing}"))
    };
    // The operator's own lines, with the comments; and where they cannot be moved as they are, their values.
    let mut rendered = whole(&own_lines(&text, found))?;
    let again = source::find_in(&rendered, file).unwrap_or_default();
    if !again.iter().map(|one| &one.value).eq([&found.value]) {
        rendered = whole(&format!("{:#}", found.value))?;
    }
    for again in source::find_in(&rendered, "what is rendered")? {
        if let Some(refusal) = check::refusal(&again) {
            print(&refusal);
            return Ok(End::Found);
        }
    }
    print(&rendered);
    Ok(End::Well)
}

/// What is wrong with the part for Envoy.
pub(crate) fn faults(found: &Found) -> Vec<ConfigError> {
    if found.envoy.is_none() { Vec::new() } else { plan::read(found).err().unwrap_or_default() }
}

/// The file's lines without those of the part for Envoy.
fn own_lines(text: &str, found: &Found) -> String {
    let lines: Vec<_> = text.lines().collect();
    let is_outer = |line: &str| !line.is_empty() && !line.starts_with([' ', '\t']);
    let mut kept: Vec<&str> = Vec::new();
    let mut at = 0;
    let mut has_record = false;
    while let Some(line) = lines.get(at) {
        at += 1;
        if line.starts_with("envoy:") {
            // What is said of it goes with it; the head of a file is of all of it.
            let comments = kept.iter().rev().take_while(|line| line.starts_with('#')).count();
            if comments < kept.len() {
                kept.truncate(kept.len() - comments);
            }
            at += lines[at..].iter().take_while(|line| !is_outer(line)).count();
            continue;
        }
        has_record |= line.starts_with("record:");
        kept.push(line);
    }
    let own = kept.join("\n");
    let record = found.value["record"].as_str().filter(|_| !has_record);
    let record = record.map(|record| format!("# As the access log above reads it.\nrecord: {record}\n"));
    format!("{}{}\n", record.unwrap_or_default(), own.trim_matches('\n'))
}
