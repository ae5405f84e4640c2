//! How much may the model be told to think, to say and to draw?
//!
//! Words with an order, so that one that is too much has a nearest that is allowed. Chat, Responses and Messages say them in
//! different places; a server might read any of these, so all are held at each.

use super::{Evaluation, Levels, Over, Rule, drawing, shown};
use crate::denial::Denial;
use crate::endpoint::Operation;
use crate::request::{Field, Inner, Tool};
use std::borrow::Cow;

/// The tool that draws.
const DRAWS: &str = "image_generation";

/// Where an item of the input says how much the model is to think from there on.
const ITEM_EFFORT: &str = "input.reasoning.effort";

impl Evaluation<'_, '_> {
    /// How much it may think.
    pub(super) fn effort(&mut self) -> Result<(), Denial> {
        let policy = self.policy;
        let rule = Rule::ReasoningEffort;
        let Some(efforts) = policy.reasoning_effort.as_ref().filter(|_| self.is_applied(rule)) else {
            return Ok(());
        };
        let takes_default = self.asked.family.reasons();
        let inners = &[Inner::ReasoningEffort, Inner::OutputConfigEffort];
        self.levels(rule, efforts, (Field::ReasoningEffort, inners), takes_default)?;
        // Told once, however many items there are.
        let mut clamps = None;
        let mut is_refused = false;
        for effort in self.request.efforts()? {
            if efforts.allows(&effort.word) {
                continue;
            }
            match nearest(efforts, &effort.word) {
                Some(to) => {
                    if *clamps.get_or_insert_with(|| self.clamps(rule, ITEM_EFFORT, to)) {
                        self.request.set_effort(&effort, to);
                    }
                }
                None if is_refused => {}
                None => {
                    is_refused = true;
                    self.refuse(rule, not_allowed(efforts, ITEM_EFFORT, &effort.word))?;
                }
            }
        }
        Ok(())
    }

    /// How much it may say.
    pub(super) fn verbosity(&mut self) -> Result<(), Denial> {
        let policy = self.policy;
        let rule = Rule::Verbosity;
        let Some(verbosities) = policy.verbosity.as_ref().filter(|_| self.is_applied(rule)) else {
            return Ok(());
        };
        let takes_default = self.asked.family.has_verbosity();
        self.levels(rule, verbosities, (Field::Verbosity, &[Inner::TextVerbosity]), takes_default)
    }

    /// How large images may be and how well drawn, by the endpoint or by a tool. Answers how many tokens each may have of
    /// those that the endpoint draws.
    pub(super) fn images(&mut self) -> Result<Option<u32>, Denial> {
        let policy = self.policy;
        let rules =
            [(Rule::Size, &policy.size, Field::Size), (Rule::Quality, &policy.quality, Field::Quality)];
        if matches!(self.asked.operation, Operation::ImageGenerations | Operation::ImageEdits) {
            let [size, quality] = rules.map(|(rule, levels, field)| self.drawn(rule, levels.as_ref(), field));
            return Ok(Some(drawing::tokens(size?.as_deref(), quality?.as_deref(), self.request.stream)));
        }
        for (rule, levels, field) in rules {
            if let Some(levels) = levels.as_ref().filter(|_| self.is_applied(rule)) {
                self.drawn_by_tools(rule, levels, field)?;
            }
        }
        Ok(None)
    }

    /// The word that goes on to the endpoint, if there is one.
    fn drawn(&mut self, rule: Rule, levels: Option<&Levels>, field: Field) -> Result<Option<String>, Denial> {
        let word = self.request.word(field).map(|word| word.map(Cow::into_owned));
        // Without a rule it is the backend's to refuse what is no word.
        let Some(levels) = levels else { return Ok(word.unwrap_or_default()) };
        match (word?, &levels.default) {
            (Some(word), _) => {
                let Some(to) = self.level_at(rule, levels, field.name(), &word)? else {
                    return Ok(Some(word));
                };
                self.request.set(field, format!("\"{to}\""));
                Ok(Some(to.to_owned()))
            }
            (None, Some(default)) if self.defaults(rule) => {
                self.request.set(field, format!("\"{default}\""));
                Ok(Some(default.clone()))
            }
            (None, _) => Ok(None),
        }
    }

    /// The same of the tools that draw, told once however many there are.
    fn drawn_by_tools(&mut self, rule: Rule, levels: &Levels, field: Field) -> Result<(), Denial> {
        let path = if field == Field::Size { "tools.size" } else { "tools.quality" };
        let mut drawing = Vec::new();
        self.request.tools(&mut |tool: Tool<'_>| {
            if tool.kind.as_deref() == Some(DRAWS) {
                drawing.push(tool);
            }
        })?;
        let (mut clamps, mut defaults) = (None, None);
        let mut is_refused = false;
        for tool in drawing {
            match (tool.level(field)?, &levels.default) {
                (Some(word), _) if levels.allows(&word) => {}
                (Some(word), _) => match nearest(levels, &word) {
                    Some(to) => {
                        if *clamps.get_or_insert_with(|| self.clamps(rule, path, to)) {
                            self.request.set_level(&tool, field, to);
                        }
                    }
                    None if is_refused => {}
                    None => {
                        is_refused = true;
                        self.refuse(rule, not_allowed(levels, path, &word))?;
                    }
                },
                (None, Some(default)) => {
                    if *defaults.get_or_insert_with(|| self.defaults(rule)) {
                        self.request.set_level(&tool, field, default);
                    }
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// `takes_default`: whether the model does not refuse the field.
    fn levels(
        &mut self,
        rule: Rule,
        levels: &Levels,
        (field, inners): (Field, &[Inner]),
        takes_default: bool,
    ) -> Result<(), Denial> {
        let chat = self.request.word(field)?;
        let mut is_absent = chat.is_none();
        if let Some(word) = chat
            && let Some(to) = self.level_at(rule, levels, field.name(), &word)?
        {
            self.request.set(field, format!("\"{to}\""));
        }
        for inner in inners {
            let Some(word) = self.request.inner(*inner)? else { continue };
            is_absent = false;
            if let Some(to) = self.level_at(rule, levels, inner.path(), &word)? {
                self.request.set_inner(*inner, to)?;
            }
        }
        let Some(default) = levels.default.as_ref().filter(|_| is_absent && takes_default) else {
            return Ok(());
        };
        let operation = self.asked.operation;
        if !matches!(operation, Operation::ChatCompletions | Operation::Responses) || !self.defaults(rule) {
            return Ok(());
        }
        match inners.first().filter(|_| operation == Operation::Responses) {
            Some(inner) => self.request.set_inner(*inner, default),
            None => {
                self.request.set(field, format!("\"{default}\""));
                Ok(())
            }
        }
    }

    /// What a word is to be changed to, if it is.
    fn level_at<'l>(
        &mut self,
        rule: Rule,
        levels: &'l Levels,
        field: &'static str,
        word: &str,
    ) -> Result<Option<&'l str>, Denial> {
        if levels.allows(word) {
            return Ok(None);
        }
        match nearest(levels, word) {
            Some(to) => Ok(self.clamps(rule, field, to).then_some(to)),
            None => {
                self.refuse(rule, not_allowed(levels, field, word))?;
                Ok(None)
            }
        }
    }
}

fn nearest<'l>(levels: &'l Levels, word: &str) -> Option<&'l str> {
    levels.nearest(word).filter(|_| levels.over == Over::Clamp)
}

fn not_allowed(levels: &Levels, field: &'static str, word: &str) -> Denial {
    Denial::NotAllowed { field, asked: shown(word), allowed: levels.allowed.clone() }
}
