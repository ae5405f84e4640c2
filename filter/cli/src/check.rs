//! Would it load?

use crate::arguments::Arguments;
use crate::paint::{Look, paint, print};
use crate::{End, source, surroundings};
use tollgate::config::ConfigError;

/// Tells every fault of every configuration in the files.
pub(crate) fn check(arguments: &Arguments) -> Result<End, String> {
    if arguments.files.is_empty() {
        return Err("no file is given".to_owned());
    }
    let mut end = End::Well;
    for file in &arguments.files {
        for found in source::find(file)? {
            let loaded = found.load();
            let (error, warning) = (paint(Look::Bad, "error"), paint(Look::Doubtful, "warning"));
            let mut lines: Vec<_> = surroundings::faults(&found, &loaded)
                .iter()
                .map(|fault| format!("  {error}: Envoy's part: {fault}\n"))
                .collect();
            if let Err(errors) = &loaded.gateway {
                lines.extend(errors.iter().map(|fault| format!("  {error}: {fault}\n")));
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
            print(&format!("{}: {verdict}\n{}", found.place, lines.concat()));
        }
    }
    Ok(end)
}

/// Tells the faults of a configuration that does not load, to whoever asks something else of it.
pub(crate) fn refused(place: &str, errors: &[ConfigError]) -> End {
    let error = paint(Look::Bad, "error");
    let lines: String = errors.iter().map(|fault| format!("  {error}: {fault}\n")).collect();
    print(&format!("{place}: {}\n{lines}", counted(errors.len(), "error")));
    End::Found
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
