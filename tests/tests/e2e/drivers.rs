//! What do the official SDKs make of a call, in each of their languages, and the frameworks that are built on them?
//!
//! A driver is a small program that makes the calls it reads; tests/python/sdk.py and tests/node/sdk.mjs say the same of
//! the same answer, so that a test need not know whom it asks. Those of the frameworks have methods of their own.

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tollgate_tests::harness::{Gateway, tools};

use crate::requests::{GPT_4O, with};

/// A language in which there is an official SDK, or a framework for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    Python,
    Node,
    LangChain,
    SemanticKernel,
    Agents,
    LiteLlm,
    AiSdk,
    /// Anthropic's SDK for Python.
    AnthropicPython,
    /// The one for Node.
    AnthropicNode,
}

/// A class of a language's package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sdk {
    pub language: Language,
    pub class: &'static str,
}

/// Both classes of both packages.
pub const SDKS: [Sdk; 4] = [
    Sdk { language: Language::Python, class: "OpenAI" },
    Sdk { language: Language::Python, class: "AzureOpenAI" },
    Sdk { language: Language::Node, class: "OpenAI" },
    Sdk { language: Language::Node, class: "AzureOpenAI" },
];

/// A call of one of the SDK's methods.
#[derive(Clone, Debug)]
pub struct Call {
    pub sdk: Sdk,
    pub key: String,
    pub method: &'static str,
    pub arguments: Value,
    pub max_retries: u32,
}

impl Call {
    /// The SDK does not try again by itself.
    pub fn new(sdk: Sdk, key: &str, method: &'static str, arguments: Value) -> Self {
        Self { sdk, key: key.to_owned(), method, arguments, max_retries: 0 }
    }

    /// A chat, with these arguments as well.
    pub fn chat(sdk: Sdk, key: &str, more: Value) -> Self {
        let message = json!({ "role": "user", "content": "tell me something" });
        let arguments = json!({ "model": GPT_4O, "messages": [message] });
        Self::new(sdk, key, "chat.completions.create", with(arguments, more))
    }

    /// A call whose only argument is the id of a response, which has no name in Node.
    pub fn by_id(sdk: Sdk, key: &str, method: &'static str, id: &str) -> Self {
        let is_node = sdk.language == Language::Node;
        Self::new(sdk, key, method, if is_node { json!([id]) } else { json!({ "response_id": id }) })
    }

    fn line(&self, url: &str) -> String {
        let Self { sdk, key, method, arguments, max_retries } = self;
        let call = json!({
            "url": url, "sdk": sdk.class, "key": key, "method": method, "arguments": arguments,
            "max_retries": max_retries,
        });
        format!("{call}\n")
    }
}

/// What becomes of these calls, made one after the other: `answer` and `retries`, or `exception` and what it says.
pub async fn outcomes(gateway: &Gateway, calls: &[Call]) -> Vec<Value> {
    outcomes_at(gateway.url(), calls).await
}

/// The same, of a gateway that is there.
pub async fn outcomes_at(url: &str, calls: &[Call]) -> Vec<Value> {
    let mut drivers = BTreeMap::new();
    let mut outcomes = Vec::new();
    for call in calls {
        let driver = match drivers.entry(call.sdk.language) {
            Entry::Occupied(started) => started.into_mut(),
            Entry::Vacant(slot) => slot.insert(Driver::start(call.sdk.language).await),
        };
        outcomes.push(driver.outcome(&call.line(url)).await);
    }
    outcomes
}

/// A driver that runs.
struct Driver {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    async fn start(language: Language) -> Self {
        let command = tokio::task::spawn_blocking(move || command(language)).await.unwrap().unwrap();
        let mut process = Command::from(command)
            .env("NO_PROXY", "*")
            // What a language has compiled once it need not compile at each start.
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, input, output }
    }

    async fn outcome(&mut self, line: &str) -> Value {
        self.input.write_all(line.as_bytes()).await.unwrap();
        match self.output.next_line().await.unwrap() {
            Some(outcome) => serde_json::from_str(&outcome).unwrap(),
            None => {
                let mut said = String::new();
                self.process.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
                panic!("the driver has ended: {said}");
            }
        }
    }
}

/// How a language's driver is run. The first time, this installs what it needs.
fn command(language: Language) -> Result<std::process::Command> {
    let script = |path: &str| tools::workspace().join("tests").join(path);
    let python = |python: PathBuf, path: &str| {
        let mut command = std::process::Command::new(python);
        command.arg(script(path));
        command
    };
    let node = |path: &str| -> Result<std::process::Command> {
        let mut command = std::process::Command::new(tools::node()?);
        command.arg(script(path)).env("NODE_PATH", tools::node_packages()?);
        Ok(command)
    };
    Ok(match language {
        Language::Python => python(tools::python()?, "python/sdk.py"),
        Language::LangChain => python(tools::python()?, "python/langchain_client.py"),
        Language::Agents => python(tools::python()?, "python/agents_client.py"),
        Language::LiteLlm => python(tools::python()?, "python/litellm_client.py"),
        Language::SemanticKernel => python(tools::semantic_kernel()?, "python/semantic_kernel_client.py"),
        Language::AnthropicPython => python(tools::anthropic()?, "python/anthropic_client.py"),
        Language::AnthropicNode => node("node/anthropic_client.mjs")?,
        Language::Node => node("node/sdk.mjs")?,
        Language::AiSdk => node("node/ai_sdk.mjs")?,
    })
}
