//! On which line does each value of a document stand, and which of them does Envoy read otherwise?

use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::{HashMap, HashSet};

/// The lines of one document.
#[derive(Default)]
pub(crate) struct Lines {
    of: HashMap<String, usize>,
    /// Texts whose lines are lines of the document.
    literal: HashSet<String>,
    /// Values that are written without quotes and mean something else to Envoy.
    pub(crate) misread: Vec<Misread>,
}

/// A value that Envoy reads otherwise than it looks.
pub(crate) struct Misread {
    pub(crate) path: String,
    pub(crate) written: String,
    pub(crate) envoys: String,
}

/// A mapping or a list that is being read.
enum Open {
    Mapping { path: String, key: Option<String> },
    List { path: String, next: usize },
}

impl Lines {
    /// Those of all documents of a text that are not empty; its first line has the number `first`.
    pub(crate) fn read(text: &str, first: usize) -> Vec<Self> {
        let (mut documents, mut lines, mut open) = (Vec::new(), Self::default(), Vec::new());
        let mut is_empty = true;
        for event in Parser::new_from_str(text) {
            // Whoever reads it tells what is wrong with it.
            let Ok((event, span)) = event else { break };
            let line = span.start.line() + first - 1;
            match event {
                Event::DocumentStart(_) => (lines, open, is_empty) = (Self::default(), Vec::new(), true),
                Event::DocumentEnd if !is_empty => documents.push(std::mem::take(&mut lines)),
                Event::MappingEnd | Event::SequenceEnd => drop(open.pop()),
                Event::Scalar(value, style, ..) => {
                    if let Some(Open::Mapping { key: key @ None, .. }) = open.last_mut() {
                        *key = Some(value.into_owned());
                        continue;
                    }
                    is_empty &= open.is_empty()
                        && style == ScalarStyle::Plain
                        && ["", "~", "null", "Null", "NULL"].contains(&&*value);
                    let path = place(&mut open);
                    if style == ScalarStyle::Plain
                        && let Some(envoys) = misread(&value)
                    {
                        lines.misread.push(Misread {
                            path: path.clone(),
                            written: value.into_owned(),
                            envoys,
                        });
                    }
                    if style == ScalarStyle::Literal {
                        lines.literal.insert(path.clone());
                    }
                    lines.of.insert(path, line);
                }
                Event::Alias(_) => drop(lines.of.insert(place(&mut open), line)),
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    is_empty = false;
                    let path = place(&mut open);
                    lines.of.insert(path.clone(), line);
                    open.push(match event {
                        Event::MappingStart(..) => Open::Mapping { path, key: None },
                        _ => Open::List { path, next: 0 },
                    });
                }
                _ => {}
            }
        }
        documents
    }

    /// Those of a text that stands at this path. Where its lines are none of the document, all of it is where it begins.
    pub(crate) fn inside(&self, path: &str, text: &str) -> Vec<Self> {
        let first = self.of(path).unwrap_or(1);
        if self.literal.contains(path) {
            // What is told is its first line that is not empty.
            let empty = text.bytes().take_while(|byte| *byte == b'\n').count();
            return Self::read(text, first.saturating_sub(empty).max(1));
        }
        let mut documents = Self::read(text, 1);
        for lines in &mut documents {
            lines.of.values_mut().for_each(|line| *line = first);
            lines.literal.clear();
        }
        documents
    }

    /// The line of what a path leads to, or of what it would be in.
    pub(crate) fn of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.of.get(path) {
                return Some(*line);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

/// The path of the value that comes now.
fn place(open: &mut [Open]) -> String {
    match open.last_mut() {
        None => String::new(),
        Some(Open::Mapping { path, key }) => {
            let key = key.take().unwrap_or_default();
            if path.is_empty() { key } else { format!("{path}.{key}") }
        }
        Some(Open::List { path, next }) => {
            *next += 1;
            format!("{path}[{}]", *next - 1)
        }
    }
}

/// What Envoy reads in place of a word without quotes, if that is not what YAML 1.2 says: yaml-cpp takes more words for true and
/// false, and numbers that begin with a zero for octal ones (observed, 1.40).
fn misread(word: &str) -> Option<String> {
    let is_cased = |word: &str| {
        let rest = word.get(1..).unwrap_or_default();
        let is_lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
        is_upper(word) || is_lower(rest)
    };
    let is_one_of = |words: &[&str]| is_cased(word) && words.contains(&&*word.to_ascii_lowercase());
    if is_one_of(&["y", "yes", "on"]) {
        return Some("true".to_owned());
    }
    if is_one_of(&["n", "no", "off"]) {
        return Some("false".to_owned());
    }
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    let is_octal = digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let number = i64::from_str_radix(word, 8).ok().filter(|_| is_octal)?;
    Some(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_the_line_that_it_stands_on() {
        let text = "# A comment.\na:\n- b: 1\n  c: { d: [ 2,\n    3 ] }\n- &x word\nc: *x\n---\n\n---\ne: |\n  first\n  second\n";
        let documents = Lines::read(text, 1);
        assert_eq!(documents.len(), 2);
        for (path, line) in [("a[0].b", 3), ("a[0].c.d[0]", 4), ("a[0].c.d[1]", 5), ("a[1]", 6), ("c", 7)] {
            assert_eq!(documents[0].of(path), Some(line), "{path}");
        }
        // What is not there would be in what is.
        assert_eq!(documents[0].of("a[0].x.y"), Some(3));
        assert_eq!(documents[1].of("e"), Some(12));
        assert_eq!(Lines::read("a: 1\n", 40)[0].of("a"), Some(40));
    }

    #[test]
    fn a_text_has_its_own_lines_only_where_it_is_written_in_lines() {
        for (text, line) in [
            ("a: |\n  b: 1\n  c: 2\n", 3),
            ("a: | # comment\n\n\n  b: 1\n  c: 2\n", 5),
            ("x: 0\na: \"b: 1\\nc: 2\"\n", 2),
            ("x: 0\na: \"b: 1\\nc: |\\n 2\"\n", 2),
        ] {
            let value: serde_json::Value = serde_yaml_ng::from_str(text).unwrap();
            let inside = Lines::read(text, 1)[0].inside("a", value["a"].as_str().unwrap());
            assert_eq!(inside[0].of("c"), Some(line), "{text}");
        }
        // A document that is nothing is not counted, however it is written.
        assert_eq!(Lines::read("Null\n---\na: 1\n", 1).len(), 1);
    }

    #[test]
    fn words_that_envoy_reads_otherwise_are_found() {
        let text = "a: no\nb: \"no\"\nc: [ On, oN, yes, 010, 09, 10, -017, true, 'off' ]\nno: x\n";
        let found: Vec<_> = Lines::read(text, 1)
            .remove(0)
            .misread
            .into_iter()
            .map(|one| (one.path, one.written, one.envoys))
            .collect();
        let expected = [
            ("a", "no", "false"),
            ("c[0]", "On", "true"),
            ("c[2]", "yes", "true"),
            ("c[3]", "010", "8"),
            ("c[6]", "-017", "-15"),
        ];
        assert_eq!(
            found,
            expected.map(|(path, written, envoys)| (path.into(), written.into(), envoys.into()))
        );
    }
}
