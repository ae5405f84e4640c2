//! Would it load?

use crate::arguments::Check;
use crate::lines::Misread;
use crate::paint::{Look, paint, print, print_json};
use crate::source::Found;
use crate::{End, render, source, surroundings};
use serde::Serialize;
use std::rc::Rc;
use tollgate::capability::AZURE_VERSIONS;
use tollgate::config::ConfigError;
use tollgate::gateway::{Gateway, Model};

/// Something that is wrong, or may be.
#[derive(Serialize)]
struct Fault {
    /// The file, and the line that it is on where there is one.
    place: Option<String>,
    /// Of the value in the configuration.
    path: Option<String>,
    problem: String,
    /// What may have been meant.
    meant: Option<String>,
}

/// What was found of one configuration.
#[derive(Serialize)]
struct Report {
    place: String,
    ok: bool,
    clients: Option<usize>,
    models: Option<usize>,
    sha256: Option<String>,
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
}

/// Tells every fault of every configuration in the files.
pub(crate) fn check(arguments: &Check) -> Result<End, String> {
    let mut reports = Vec::new();
    for file in &arguments.files {
        reports.extend(source::find(file)?.iter().map(Report::of));
    }
    let is_well = reports.iter().all(|report| report.ok);
    if arguments.json {
        print_json(&reports);
    } else {
        print(&reports.iter().map(Report::text).collect::<String>());
    }
    Ok(if is_well { End::Well } else { End::Found })
}

/// What is said of a configuration that is not well; of one that is, nothing.
pub(crate) fn refusal(found: &Found) -> Option<String> {
    let report = Report::of(found);
    (!report.ok).then(|| report.text())
}

/// Tells the faults of a configuration that does not load, to whoever asks something else of it.
pub(crate) fn refused(found: &Found, errors: &[ConfigError]) -> End {
    let lines: String = errors.iter().map(|fault| Fault::of(found, fault).text(Look::Bad, "error")).collect();
    print(&format!("{}: {}\n{lines}", found.place, counted(errors.len(), "error")));
    End::Found
}

/// The one configuration of a file, for whoever asks something else of it; its faults are told.
pub(crate) fn one(file: &str) -> Result<Result<Gateway, End>, String> {
    let mut found = source::find(file)?;
    if found.len() > 1 {
        return Err(format!("{file} has more than one gateway configuration"));
    }
    let found = found.remove(0);
    Ok(found.load().gateway.map_err(|errors| refused(&found, &errors)))
}

impl Report {
    fn of(found: &Found) -> Self {
        let loaded = found.load();
        let mut errors: Vec<_> = surroundings::faults(found, &loaded)
            .into_iter()
            .map(|fault| Fault {
                place: None,
                path: None,
                problem: format!("Envoy's part: {fault}"),
                meant: None,
            })
            .collect();
        errors.extend(found.misread().map(|(path, Misread { written, envoys, .. })| {
            let problem = format!("{written} without quotes is {envoys} for Envoy: expected \"{written}\"");
            Fault { place: Some(found.at(path)), path: Some(path.to_owned()), problem, meant: None }
        }));
        let gateway = loaded.gateway.as_ref().map_err(|faults| {
            errors.extend(faults.iter().map(|fault| Fault::of(found, fault)));
        });
        let gateway = gateway.ok();
        errors.extend(render::faults(found).iter().map(|fault| Fault::of(found, fault)));
        let models = gateway.map(|gateway| gateway.models.as_slice()).unwrap_or_default();
        let unset = loaded.unset.iter().map(|name| {
            let problem = format!("the environment variable {name} is not set here");
            Fault { place: None, path: None, problem, meant: None }
        });
        Self {
            place: found.place.clone(),
            ok: errors.is_empty(),
            clients: gateway.map(|gateway| gateway.roster.len()),
            models: gateway.map(|gateway| gateway.models.len()),
            sha256: gateway.map(|gateway| gateway.sha256.to_string()),
            warnings: unset
                .chain(unknown_versions(found))
                .chain(small_weights(models))
                .chain(counted_by_each_envoy(found))
                .chain(short_bounds(models))
                .collect(),
            errors,
        }
    }

    fn text(&self) -> String {
        let verdict = match (self.clients, self.models, &self.sha256) {
            (Some(clients), Some(models), Some(sha256)) if self.ok => format!(
                "{}: {}, {}, sha256 {sha256}",
                paint(Look::Good, "ok"),
                counted(clients, "client"),
                counted(models, "model")
            ),
            _ => counted(self.errors.len(), "error"),
        };
        let errors = self.errors.iter().map(|fault| fault.text(Look::Bad, "error"));
        let warnings = self.warnings.iter().map(|fault| fault.text(Look::Doubtful, "warning"));
        format!("{}: {verdict}\n{}", self.place, errors.chain(warnings).collect::<String>())
    }
}

impl Fault {
    fn of(found: &Found, fault: &ConfigError) -> Self {
        Self {
            place: Some(found.at(&fault.path)),
            path: Some(fault.path.clone()),
            problem: fault.problem.clone(),
            meant: meant(fault),
        }
    }

    fn text(&self, look: Look, word: &str) -> String {
        let before: String =
            [&self.place, &self.path].into_iter().flatten().map(|part| format!("{part}: ")).collect();
        let meant = self.meant.as_ref().map_or(String::new(), |word| format!(": did you mean {word}?"));
        format!("  {}: {before}{}{meant}\n", paint(look, word), self.problem)
    }
}

/// Versions of backends that Azure is not known to have.
fn unknown_versions(found: &Found) -> impl Iterator<Item = Fault> {
    let backends = found.value["backends"].as_array().into_iter().flatten().enumerate();
    let backends = backends.filter(|(_, backend)| backend["style"] == "azure");
    let versions = backends.filter_map(|(at, backend)| Some((at, backend["api_version"].as_str()?)));
    let unknown = versions.filter(|(_, version)| !AZURE_VERSIONS.contains(version));
    unknown.map(|(at, version)| {
        let path = format!("backends[{at}].api_version");
        let likeness =
            AZURE_VERSIONS.iter().map(|known| (strsim::damerau_levenshtein(known, version), *known));
        Fault {
            place: Some(found.at(&path)),
            path: Some(path),
            problem: format!("Azure is not known to have {version}"),
            // One that is newer than all that are known is like some old one, and not meant so.
            meant: likeness
                .min()
                .filter(|(steps, _)| *steps <= 3 && AZURE_VERSIONS.last().is_some_and(|last| version < *last))
                .map(|(_, known)| known.to_owned()),
        }
    })
}

/// Limits that a fleet does not share, though it has a store.
fn counted_by_each_envoy(found: &Found) -> impl Iterator<Item = Fault> {
    let has_store = !found.value["store"].is_null();
    let owners = ["clients", "groups"].into_iter().filter(move |_| has_store);
    let limits = owners.flat_map(|owners| {
        let each = found.value[owners].as_array().into_iter().flatten().enumerate();
        each.flat_map(move |(at, owner)| {
            let limits = owner["limits"].as_array().into_iter().flatten().enumerate();
            let split = limits.filter(|(_, limit)| !limit["by"].is_null());
            split.map(move |(limit, _)| format!("{owners}[{at}].limits[{limit}].by"))
        })
    });
    limits.map(|path| Fault {
        place: Some(found.at(&path)),
        path: Some(path),
        problem: "each Envoy of the fleet counts this for itself: a user has so much at each".to_owned(),
        meant: None,
    })
}

/// Backends whose weight is far below those of the others, and who get all requests when those pause.
fn small_weights(models: &[Rc<Model>]) -> impl Iterator<Item = Fault> {
    // A fifth of the weights and less.
    const ONE_IN: u64 = 5;
    let unbounded = models.iter().flat_map(|model| {
        let targets = model.targets.iter().filter(|target| target.share_max.is_none());
        targets.map(move |target| (model, target))
    });
    unbounded.filter_map(|(model, target)| {
        let weight = u64::from(target.weight.filter(|weight| *weight > 0)?);
        let equals = model.targets.iter().filter(|other| other.priority == target.priority);
        let all: u64 = equals.filter_map(|other| other.weight).map(u64::from).sum();
        let problem = format!(
            "model {:?}: backend {:?} has a weight of {weight} in {all} and no share_max: when the others pause, it gets all \
             requests",
            model.name.text, target.word
        );
        (weight * ONE_IN <= all).then_some(Fault { place: None, path: None, problem, meant: None })
    })
}

/// Bounds on the time of a whole answer that are below those on the time in which a stream begins.
fn short_bounds(models: &[Rc<Model>]) -> impl Iterator<Item = Fault> {
    models.iter().filter_map(|model| {
        let (stream, answer) = (model.stream_start_max?.as_millis(), model.answer_start_max?.as_millis());
        let problem = format!(
            "model {:?}: an answer_start_ms_max of {answer} is below the stream_start_ms_max of {stream}: a whole answer begins \
             when all of it is produced, which takes longer than the beginning of a stream",
            model.name.text
        );
        (answer < stream).then_some(Fault { place: None, path: None, problem, meant: None })
    })
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
