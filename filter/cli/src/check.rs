//! Would it load?

use crate::arguments::Check;
use crate::lines::Misread;
use crate::paint::{Look, paint, print};
use crate::source::Found;
use crate::{End, source, surroundings};
use tollgate::capability::AZURE_VERSIONS;
use tollgate::config::ConfigError;

/// Tells every fault of every configuration in the files.
pub(crate) fn check(arguments: &Check) -> Result<End, String> {
    let mut end = End::Well;
    for file in &arguments.files {
        for found in source::find(file)? {
            let loaded = found.load();
            let (error, warning) = (paint(Look::Bad, "error"), paint(Look::Doubtful, "warning"));
            let mut lines: Vec<_> = surroundings::faults(&found, &loaded)
                .iter()
                .map(|fault| format!("  {error}: Envoy's part: {fault}\n"))
                .collect();
            lines.extend(found.misread().map(|(path, Misread { written, envoys, .. })| {
                let at = found.at(path);
                format!("  {error}: {at}: {path}: {written} without quotes is {envoys} for Envoy: expected \"{written}\"\n")
            }));
            if let Err(errors) = &loaded.gateway {
                lines.extend(errors.iter().map(|fault| told(&found, fault)));
            }
            let verdict = match &loaded.gateway {
                Ok(gateway) if lines.is_empty() => format!(
                    "{}: {}, {}, sha256 {}",
                    paint(Look::Good, "ok"),
                    counted(gateway.roster.len(), "client"),
                    counted(gateway.models.len(), "model"),
                    gateway.sha256
                ),
                _ => counted(lines.len(), "error"),
            };
            if !lines.is_empty() {
                end = End::Found;
            }
            let unset = loaded.unset.iter();
            lines.extend(
                unset.map(|name| format!("  {warning}: the environment variable {name} is not set here\n")),
            );
            lines.extend(
                unknown_versions(&found).into_iter().map(|version| format!("  {warning}: {version}\n")),
            );
            print(&format!("{}: {verdict}\n{}", found.place, lines.concat()));
        }
    }
    Ok(end)
}

/// Tells the faults of a configuration that does not load, to whoever asks something else of it.
pub(crate) fn refused(found: &Found, errors: &[ConfigError]) -> End {
    let lines: String = errors.iter().map(|fault| told(found, fault)).collect();
    print(&format!("{}: {}\n{lines}", found.place, counted(errors.len(), "error")));
    End::Found
}

/// A fault, with the line that it is on and what may have been meant.
fn told(found: &Found, fault: &ConfigError) -> String {
    let meant = meant(fault).map_or(String::new(), |word| format!(": did you mean {word}?"));
    format!("  {}: {}: {fault}{meant}\n", paint(Look::Bad, "error"), found.at(&fault.path))
}

/// Versions of backends that Azure is not known to have.
fn unknown_versions(found: &Found) -> Vec<String> {
    let backends = found.value["backends"].as_array().into_iter().flatten().enumerate();
    let versions = backends.filter_map(|(at, backend)| Some((at, backend["api_version"].as_str()?)));
    let unknown = versions.filter(|(_, version)| !AZURE_VERSIONS.contains(version));
    let told = unknown.map(|(at, version)| {
        let path = format!("backends[{at}].api_version");
        let likeness =
            AZURE_VERSIONS.iter().map(|known| (strsim::damerau_levenshtein(known, version), known));
        let meant = likeness.min().map_or(String::new(), |(_, known)| format!(": did you mean {known}?"));
        format!("{}: {path}: Azure is not known to have {version}{meant}", found.at(&path))
    });
    told.collect()
}

/// Of the words that were expected, the one that is like the one that stands there.
fn meant(fault: &ConfigError) -> Option<String> {
    let (what, expected) = fault.problem.split_once("expected ")?;
    let written = match what.split('"').nth(1) {
        Some(quoted) => quoted,
        None if what.starts_with("unknown field") => fault.path.rsplit('.').next()?,
        None => return None,
    };
    let words = expected.strip_prefix("one of ").unwrap_or(expected);
    let words = words.split(", ").flat_map(|words| words.split(" or ")).map(|word| word.trim_matches('"'));
    let likeness = words.map(|word| (strsim::damerau_levenshtein(word, written), word));
    let (steps, word) = likeness.filter(|(_, word)| !word.contains(' ')).min()?;
    (steps <= written.chars().count() / 3).then(|| word.to_owned())
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
