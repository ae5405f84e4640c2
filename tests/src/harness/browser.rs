//! A real browser that has opened a page.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::envoy::{RunDir, tail};
use super::leash::Leashed;
use super::tools;

/// Chromium without a window. It ends with this value, and all that it has kept with it.
pub struct Browser {
    // First, so that it is dropped before its files are.
    _process: Leashed,
    dir: RunDir,
}

/// How long it may take to start, and how often that is looked at.
const WITHIN: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);

/// What it says is kept there.
const LOG: &str = "chromium.log";

impl Browser {
    /// Opens a page. What the page does it has to tell itself.
    ///
    /// # Errors
    /// Chromium is not there and cannot be installed, or does not start.
    pub async fn open(page: &str) -> Result<Self> {
        let program = tokio::task::spawn_blocking(tools::chromium).await??;
        let dir = RunDir::new()?;
        let said = File::create(dir.file(LOG)).context("cannot create Chromium's log")?;
        let mut command = Command::new(program);
        command
            // Its sandbox needs rights that a container does not have; it opens only pages of the tests.
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--no-proxy-server", "--disable-background-networking"])
            .args(["--enable-logging=stderr", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", dir.file("profile").display()))
            .arg(page)
            .env("HOME", dir.file("home"))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let process = Leashed::spawn(&mut command).context("Chromium cannot be started")?;
        Ok(Self { _process: process, dir })
    }

    /// The page, to be used as a person does.
    ///
    /// # Errors
    /// It does not open, or cannot be reached.
    pub async fn page(&self) -> Result<Page> {
        let began = Instant::now();
        loop {
            match self.find().await {
                Ok(url) => return Ok(Page { socket: connect_async(url).await?.0, calls: 0 }),
                Err(why) if began.elapsed() > WITHIN => return Err(why.context(self.said())),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Where it takes orders for its page.
    async fn find(&self) -> Result<String> {
        let told = fs::read_to_string(self.dir.file("profile/DevToolsActivePort"))?;
        let port = told.lines().next().context("no port")?;
        let list = reqwest::get(format!("http://127.0.0.1:{port}/json/list")).await?;
        let pages: Vec<Value> = list.json().await?;
        let page = pages.iter().find(|page| page["type"] == "page").context("no page")?;
        Ok(page["webSocketDebuggerUrl"].as_str().context("no address")?.to_owned())
    }

    /// The end of what it has said.
    #[must_use]
    pub fn said(&self) -> String {
        tail(&self.dir.file(LOG))
    }
}

/// A page that is open, and is used by keys and seen by scripts: <https://chromedevtools.github.io/devtools-protocol/>.
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
}

impl Page {
    /// Orders something of Chromium.
    ///
    /// # Errors
    /// It is gone, or refuses.
    pub async fn order(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.calls += 1;
        let order = json!({ "id": self.calls, "method": method, "params": parameters });
        self.socket.send(Message::text(order.to_string())).await?;
        loop {
            let message = self.socket.next().await.context("Chromium is gone")??;
            let Ok(mut told) = serde_json::from_str::<Value>(message.to_text()?) else { continue };
            if told["id"] == self.calls {
                ensure!(told["error"].is_null(), "{method}: {told}");
                return Ok(told["result"].take());
            }
        }
    }

    /// What an expression is worth on the page.
    ///
    /// # Errors
    /// It throws.
    pub async fn see(&mut self, expression: &str) -> Result<Value> {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut found = self.order("Runtime.evaluate", parameters).await?;
        ensure!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        Ok(found["result"]["value"].take())
    }

    /// Presses a key, and lets it go.
    ///
    /// # Errors
    /// Chromium is gone.
    pub async fn press(&mut self, key: Key) -> Result<()> {
        let (name, code, text) = match key {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut parameters =
                json!({ "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code });
            if kind == "keyDown" {
                parameters["text"] = json!(text);
            }
            self.order("Input.dispatchKeyEvent", parameters).await?;
        }
        Ok(())
    }

    /// Types where the focus is.
    ///
    /// # Errors
    /// Chromium is gone.
    pub async fn write(&mut self, text: &str) -> Result<()> {
        self.order("Input.insertText", json!({ "text": text })).await.map(drop)
    }
}

/// Keys that are more than a letter.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// To the next element.
    Tab,
    /// Sends a form.
    Enter,
}
