//! Which tools does a request offer, and what do the items of its input set?
//!
//! Tools stand in `tools`, in a namespace that stands there, in Messages' `mcp_servers`, and in items of Responses' `input`
//! that hand in more of them (`additional_tools`, `tool_search_output`); an item (`configuration_update`) may change how much the model thinks. Exact,
//! as the count of parts is, and made only where a policy asks.
//! <https://platform.openai.com/docs/api-reference/responses/create>, as of openai-python 3.57.0.
//! Not decided here: what of it may be.

use super::{Field, Request, string, there};
use crate::denial::{Ambiguity, Denial};
use crate::json::{self, Fault, Member, Names, Object};
use std::borrow::Cow;

/// How deep tools may stand inside of tools. A namespace holds functions, and no namespace.
const DEPTH_MAX: usize = 4;

static TYPE: Names<1> = Names::new(["type"]);
static TOOL: Names<7> =
    Names::new(["type", "tools", "server_url", "connector_id", "tunnel_id", "size", "quality"]);
static ITEM: Names<3> = Names::new(["type", "tools", "reasoning"]);
static EFFORT: Names<1> = Names::new(["effort"]);
static URL: Names<1> = Names::new(["url"]);

/// The type of a tool that stands for a server.
pub const MCP: &str = "mcp";

/// The item that repeats what a server said it has, and offers nothing.
const LISTING: &str = "mcp_list_tools";

/// Where a tool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// In `tools`.
    Tools,
    /// In an item of `input` that hands it in.
    Item,
    /// In `mcp_servers`, where all are servers.
    Server,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool<'a> {
    /// Where it stands.
    pub offer: Offer,
    /// Its `type`, if it has one.
    pub kind: Option<Cow<'a, str>>,
    /// The address of the MCP server that it stands for.
    pub server_url: Option<Cow<'a, str>>,
    /// The connector or the tunnel that stands in for an address: the member, and what it says.
    pub connector: Option<(&'static str, Cow<'a, str>)>,
    /// Where it stands; `None` if it is no object.
    object: Option<Object<'a, 7>>,
}

/// How much an item tells the model to think.
#[derive(Clone, Debug)]
pub struct Effort<'a> {
    /// What it says.
    pub word: Cow<'a, str>,
    member: Member<'a>,
}

/// Takes a tool.
type Each<'e, 'a> = &'e mut dyn FnMut(Tool<'a>);

impl<'a> Request<'a> {
    /// Goes through all tools that are offered. Answers how many there are besides the entries of `tools`.
    pub fn tools(&self, each: Each<'_, 'a>) -> Result<u64, Denial> {
        let mut nested = 0;
        if let Some(tools) = self.raw(Field::Tools) {
            self.tools_of(tools, Offer::Tools, 0, &mut nested, each)?;
        }
        nested += self.servers(each)?;
        self.items(&mut |item| {
            let [kind, tools, _] = &item.members;
            let Some(tools) = there(tools) else { return Ok(()) };
            let kind = there(kind).map(|kind| string(kind.value, "input.type")).transpose()?;
            if kind.as_deref() == Some(LISTING) {
                return Ok(());
            }
            self.tools_of(tools.value, Offer::Item, 1, &mut nested, each)
        })?;
        Ok(nested)
    }

    /// The servers that stand by themselves; answers how many there are. Each is named by its address.
    /// <https://platform.claude.com/docs/en/agents-and-tools/mcp-connector>
    fn servers(&self, each: Each<'_, 'a>) -> Result<u64, Denial> {
        let field = Field::McpServers;
        let Some(servers) = self.raw(field) else { return Ok(0) };
        let wrong = Denial::InvalidField { field: field.name(), expected: "an array of objects" };
        let mut found = 0;
        elements(servers, &wrong, &mut |server| {
            found += 1;
            let [url] = self.find(server, &URL, field.name(), &wrong)?.members;
            let server_url = there(&url).map(|url| string(url.value, field.name())).transpose()?;
            let kind = Some(Cow::Borrowed(MCP));
            each(Tool { offer: Offer::Server, kind, server_url, connector: None, object: None });
            Ok(())
        })?;
        Ok(found)
    }

    /// The tools of one array. Those at depth 0 are not counted.
    fn tools_of(
        &self,
        tools: &'a str,
        offer: Offer,
        depth: usize,
        nested: &mut u64,
        each: Each<'_, 'a>,
    ) -> Result<(), Denial> {
        let field = if offer == Offer::Item { "input" } else { "tools" };
        if depth == DEPTH_MAX {
            return Err(Denial::InvalidField { field, expected: "tools nested at most 4 levels deep" });
        }
        // What is no tool is one of no type.
        let odd = Tool { offer, kind: None, server_url: None, connector: None, object: None };
        if !tools.starts_with('[') {
            each(odd);
            return Ok(());
        }
        elements(tools, &Denial::NotAnObject, &mut |tool| {
            *nested += u64::from(depth > 0);
            if !tool.starts_with('{') {
                each(odd.clone());
                return Ok(());
            }
            let object = self.find(tool, &TOOL, field, &Denial::NotAnObject)?;
            let [kind, tools, server_url, connector, tunnel, ..] = &object.members;
            let word = |member: &Option<Member<'a>>| {
                there(member).map(|member| string(member.value, field)).transpose()
            };
            let connector = match (word(connector)?, word(tunnel)?) {
                (Some(_), Some(_)) => return Err(Denial::Exclusive("connector_id", "tunnel_id")),
                (Some(id), None) => Some(("connector_id", id)),
                (None, id) => id.map(|id| ("tunnel_id", id)),
            };
            let (kind, server_url) = (word(kind)?, word(server_url)?);
            let inside = there(tools).map(|tools| tools.value);
            each(Tool { offer, kind, server_url, connector, object: Some(object) });
            match inside {
                Some(tools) => self.tools_of(tools, offer, depth + 1, nested, each),
                None => Ok(()),
            }
        })
    }

    /// Goes through the `type`s of an array's objects.
    pub fn types(&self, field: Field, each: &mut dyn FnMut(Option<Cow<'a, str>>)) -> Result<(), Denial> {
        let Some(array) = self.raw(field) else { return Ok(()) };
        let wrong = Denial::InvalidField { field: field.name(), expected: "an array of objects" };
        elements(array, &wrong, &mut |entry| {
            let [kind] = self.find(entry, &TYPE, field.name(), &wrong)?.members;
            each(there(&kind).map(|kind| string(kind.value, field.name())).transpose()?);
            Ok(())
        })
    }

    /// How much the items of the input tell the model to think.
    pub fn efforts(&self) -> Result<Vec<Effort<'a>>, Denial> {
        let mut efforts = Vec::new();
        self.items(&mut |item| {
            let [_, _, reasoning] = &item.members;
            let Some(reasoning) = there(reasoning).filter(|reasoning| reasoning.value.starts_with('{'))
            else {
                return Ok(());
            };
            let [effort] = self.find(reasoning.value, &EFFORT, "input", &Denial::NotAnObject)?.members;
            if let Some(member) = there(&effort).cloned() {
                efforts.push(Effort { word: string(member.value, "input.reasoning.effort")?, member });
            }
            Ok(())
        })?;
        Ok(efforts)
    }

    /// Writes what an item says. `word` must need no escapes.
    pub fn set_effort(&mut self, effort: &Effort<'_>, word: &str) {
        self.edits.splice(effort.member.span(), &format!("\"{word}\""));
    }

    /// Writes how large or how well a tool draws. `word` must need no escapes.
    pub fn set_level(&mut self, tool: &Tool<'_>, field: Field, word: &str) {
        let json = format!("\"{word}\"");
        match (tool.member(field), &tool.object) {
            (Some(member), _) => self.edits.replace(member, json),
            (None, Some(object)) => self.edits.insert(object, field.name(), &json),
            (None, None) => {}
        }
    }

    /// Goes through the items of the input that are objects.
    fn items(&self, each: &mut dyn FnMut(Object<'a, 3>) -> Result<(), Denial>) -> Result<(), Denial> {
        let Some(input) = self.raw(Field::Input).filter(|input| input.starts_with('[')) else {
            return Ok(());
        };
        elements(input, &Denial::NotAnObject, &mut |item| {
            if !item.starts_with('{') {
                return Ok(());
            }
            each(self.find(item, &ITEM, "input", &Denial::NotAnObject)?)
        })
    }

    /// The members of an object inside of a field. `wrong` is said if it is none.
    fn find<const N: usize>(
        &self,
        object: &'a str,
        names: &'static Names<N>,
        field: &'static str,
        wrong: &Denial,
    ) -> Result<Object<'a, N>, Denial> {
        json::find(self.body, object, names).map_err(|fault| match fault {
            Fault::NotAnObject => wrong.clone(),
            Fault::Syntax(problem) => Denial::InvalidJson(problem),
            Fault::Duplicate(name) => Denial::AmbiguousPart { field, name, problem: Ambiguity::Duplicate },
            Fault::Disguised(name) => Denial::AmbiguousPart { field, name, problem: Ambiguity::Disguised },
        })
    }
}

impl<'a> Tool<'a> {
    /// How large or how well it draws.
    pub fn level(&self, field: Field) -> Result<Option<Cow<'a, str>>, Denial> {
        let member = self.member(field).filter(|member| member.value != "null");
        member.map(|member| string(member.value, field.name())).transpose()
    }

    fn member(&self, field: Field) -> Option<&Member<'a>> {
        let [.., size, quality] = &self.object.as_ref()?.members;
        match field {
            Field::Size => size.as_ref(),
            Field::Quality => quality.as_ref(),
            _ => None,
        }
    }
}

/// Goes through the elements of an array until one is refused. `wrong` is said if it is none.
fn elements<'a>(
    array: &'a str,
    wrong: &Denial,
    each: &mut dyn FnMut(&'a str) -> Result<(), Denial>,
) -> Result<(), Denial> {
    match json::elements(array, each) {
        Ok(()) => Ok(()),
        Err(denial) => Err(denial.unwrap_or_else(|| wrong.clone())),
    }
}
