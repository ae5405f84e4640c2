//! Headers that pass beyond those that are known.

use super::Build;
use crate::headers::{Fault, Passing, Way};

/// The most names; each is looked at for every header of a request that is not known.
const NAMES_MAX: usize = 64;

impl Build<'_> {
    /// `own` are names that the configuration itself uses for credentials.
    pub(super) fn passing(&mut self, field: &str, names: &[String], way: Way, own: &[String]) -> Passing {
        let mut passing = Passing::default();
        if names.len() > NAMES_MAX {
            self.fault(
                field.to_owned(),
                format!("{} entries, at most {NAMES_MAX} are possible", names.len()),
            );
        }
        for (at, name) in names.iter().enumerate() {
            let path = format!("{field}[{at}]");
            match passing.add(name, way) {
                Ok(()) => {}
                Err(Fault::NoName) => {
                    let problem = format!(
                        "{name:?}: expected the name of a header, or the beginning of names and \"*\" as in \"x-corp-*\""
                    );
                    self.fault(path, problem);
                }
                Err(Fault::Never(never, why)) => {
                    self.fault(path, format!("{name:?} cannot pass, for {never:?} never does: {why}"));
                }
            }
        }
        for own in own.iter().filter(|own| passing.has(own)) {
            self.fault(field.to_owned(), format!("lets {own:?} pass, in which a credential is sent"));
        }
        passing
    }
}
