//! What was seen, was it what had to be, and how is it told?

use std::fmt::Write as _;

use super::load::Seen;
use super::{Pace, Scenario};

/// What has to be seen, and what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What has to be.
    pub says: String,
    /// What was.
    pub found: String,
    /// Whether that is so.
    pub holds: bool,
}

impl Mark {
    pub(super) fn new(says: impl Into<String>, found: impl Into<String>, holds: bool) -> Self {
        Self { says: says.into(), found: found.into(), holds }
    }

    /// Whether each request was served.
    pub(super) fn all_served(seen: &[Seen]) -> Self {
        let served = count(seen, Seen::is_served);
        let all = seen.len();
        Self::new("every request is served", format!("{served} of {all}"), served == all && served > 0)
    }

    /// The same, but the quick form only shows it: it needs a machine that does nothing else for minutes.
    pub(super) fn unless_quick(self, pace: Pace) -> Self {
        if !pace.is_quick() {
            return self;
        }
        Self { found: format!("{}; --quick does not judge it", self.found), holds: true, ..self }
    }
}

/// Some of the requests, to be counted.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) has: Box<dyn Fn(&Seen) -> bool + Send>,
}

impl Group {
    pub(super) fn new(name: impl Into<String>, has: impl Fn(&Seen) -> bool + Send + 'static) -> Self {
        Self { name: name.into(), has: Box::new(has) }
    }
}

/// What a chart shows of each group over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// How many there were.
    Count,
    /// How long they took, on the mean.
    Took,
}

/// A part of a picture.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) shows: Shows,
    pub(super) groups: Vec<Group>,
}

/// A part of a run, from when until when.
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) span: (f64, f64),
}

/// What came of a scenario.
pub struct Outcome {
    /// Which.
    pub scenario: Scenario,
    /// How fast it ran.
    pub pace: Pace,
    /// What had to be seen.
    pub marks: Vec<Mark>,
    /// Every request, in the order in which they were made.
    pub seen: Vec<Seen>,
    pub(super) stages: Vec<Stage>,
    /// The first one's groups are the columns of the table.
    pub(super) charts: Vec<Chart>,
}

impl Outcome {
    /// Whether all of it was seen that had to be.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.marks.iter().all(|mark| mark.holds)
    }

    /// The requests of each stage, and the marks, as Markdown has them.
    #[must_use]
    pub fn table(&self) -> String {
        let groups: Vec<&Group> =
            self.charts.first().map(|chart| chart.groups.iter().collect()).unwrap_or_default();
        let mut text = format!("{}: {} requests\n\n| stage |", self.scenario.name(), self.seen.len());
        for group in &groups {
            let _ = write!(text, " {} |", group.name);
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(groups.len()));
        for stage in &self.stages {
            let _ = write!(text, "| {} |", stage.name);
            for group in &groups {
                let _ = write!(text, " {} |", self.count(stage.span, &group.has));
            }
            text.push('\n');
        }
        text.push('\n');
        for mark in &self.marks {
            let word = if mark.holds { "PASS" } else { "FAIL" };
            let _ = writeln!(text, "{word}: {}: {}", mark.says, mark.found);
        }
        text
    }

    /// The charts over time.
    #[must_use]
    pub fn picture(&self) -> String {
        super::picture::draw(self)
    }

    fn count(&self, span: (f64, f64), has: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().filter(|seen| seen.is_within(span) && has(seen)).count()
    }
}

/// How many of them there are.
pub(super) fn count(seen: &[Seen], has: impl Fn(&Seen) -> bool) -> usize {
    seen.iter().filter(|seen| has(seen)).count()
}

/// Which part of the whole that is; none of nothing.
pub(super) fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// As a reader has it.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
