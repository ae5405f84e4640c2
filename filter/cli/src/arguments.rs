//! What stands on the command line?

use std::collections::{BTreeMap, BTreeSet};

/// Files and options.
pub(crate) struct Arguments {
    pub(crate) files: Vec<String>,
    options: BTreeMap<String, String>,
    switches: BTreeSet<String>,
}

impl Arguments {
    /// Takes `--NAME VALUE` and `--NAME=VALUE` for the options that there are, `--NAME` for switches, and everything else for
    /// files.
    pub(crate) fn read(arguments: Vec<String>, options: &[&str], switches: &[&str]) -> Result<Self, String> {
        let mut read = Self { files: Vec::new(), options: BTreeMap::new(), switches: BTreeSet::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(option) = argument.strip_prefix("--") else {
                if argument.len() > 1 && argument.starts_with('-') {
                    return Err(format!("there is no option {argument}"));
                }
                read.files.push(argument);
                continue;
            };
            if switches.contains(&option) {
                read.switches.insert(option.to_owned());
                continue;
            }
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            if !options.contains(&name) {
                return Err(format!("there is no option --{name}"));
            }
            let value = value.or_else(|| arguments.next()).ok_or(format!("--{name} needs a value"))?;
            if read.options.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} stands twice"));
            }
        }
        Ok(read)
    }

    /// The one file that is needed.
    pub(crate) fn file(&self) -> Result<&str, String> {
        match self.files.as_slice() {
            [file] => Ok(file),
            [] => Err("no file is given".to_owned()),
            _ => Err("more than one file is given".to_owned()),
        }
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(crate) fn is_set(&self, switch: &str) -> bool {
        self.switches.contains(switch)
    }
}
