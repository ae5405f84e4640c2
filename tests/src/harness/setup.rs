//! What is different in this run from `envoy/envoy.yaml` with a mock behind every backend?

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::bootstrap::{Backend, Bootstrap, Upstream, backends};
use super::v8::Compile;
use crate::mock::{Mock, Settings};

type Change = Box<dyn FnOnce(&mut Value) + Send>;

/// A description of a run; every method gives it back changed.
#[derive(Default)]
pub struct Setup {
    file: Option<&'static str>,
    envoy: Option<&'static str>,
    config: Option<Value>,
    edits: Vec<Change>,
    patches: Vec<Change>,
    servers: BTreeMap<String, Server>,
    env: BTreeMap<String, String>,
    redis: Option<(SocketAddr, String)>,
    workers: Option<u32>,
    log_level: Option<String>,
    from_files: bool,
    compile: Compile,
    args: Vec<String>,
}

enum Server {
    Mock(Box<Settings>),
    Real(String),
}

/// What a run needs besides its directory.
pub(super) struct Scene {
    pub(super) bootstrap: Bootstrap,
    pub(super) mocks: BTreeMap<String, Mock>,
    /// Where each backend is, mock or real.
    pub(super) backends: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) workers: u32,
    pub(super) log_level: String,
    /// Whether listeners and clusters are in files of their own.
    pub(super) from_files: bool,
    pub(super) compile: Compile,
    pub(super) args: Vec<String>,
}

/// The key that Envoy is given for a backend that is a mock, unless the setup says otherwise.
#[must_use]
pub fn credential_of(backend: &str) -> String {
    format!("{backend}-key")
}

impl Setup {
    /// `envoy/envoy.yaml` with a mock of default settings behind every backend, and two workers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another file than `envoy/envoy.yaml`, by its path in the workspace.
    #[must_use]
    pub fn file(mut self, file: &'static str) -> Self {
        self.file = Some(file);
        self
    }

    /// `envoy/fleet.yaml`, and the Redis that is its store, with the password that it asks for.
    #[must_use]
    pub fn redis(mut self, address: SocketAddr, password: &str) -> Self {
        self.redis = Some((address, password.to_owned()));
        self.file("envoy/fleet.yaml")
    }

    /// How V8 compiles the module; [`Compile::Briefly`] when not set.
    #[must_use]
    pub fn compile(mut self, compile: Compile) -> Self {
        self.compile = compile;
        self
    }

    /// Another version of Envoy than the one that everything else is tested with.
    #[must_use]
    pub fn envoy(mut self, version: &'static str) -> Self {
        self.envoy = Some(version);
        self
    }

    /// Another gateway configuration than the one in `envoy.yaml`. Clusters follow from its backends.
    #[must_use]
    pub fn config(mut self, gateway: Value) -> Self {
        self.config = Some(gateway);
        self
    }

    /// A change to the gateway configuration.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.edits.push(Box::new(change));
        self
    }

    /// A change to the whole Envoy configuration, after everything else has been filled in.
    #[must_use]
    pub fn patch(mut self, change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.patches.push(Box::new(change));
        self
    }

    /// The settings of a backend's mock.
    #[must_use]
    pub fn mock(mut self, backend: &str, settings: Settings) -> Self {
        self.servers.insert(backend.to_owned(), Server::Mock(Box::new(settings)));
        self
    }

    /// A server that is there already instead of a mock: `http://HOST:PORT` or `https://HOST`. Its key has to be in the
    /// environment, under the name that the configuration gives.
    #[must_use]
    pub fn backend(mut self, backend: &str, url: &str) -> Self {
        self.servers.insert(backend.to_owned(), Server::Real(url.to_owned()));
        self
    }

    /// A variable of Envoy's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Envoy's worker threads; 2 when not set.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Envoy's log level; `info` when not set.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = Some(level.to_owned());
        self
    }

    /// Listeners and clusters come from files, and can be pushed: [`super::Gateway::push`].
    #[must_use]
    pub fn from_files(mut self) -> Self {
        self.from_files = true;
        self
    }

    /// More words of Envoy's command line.
    #[must_use]
    pub fn options<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(words.into_iter().map(str::to_owned));
        self
    }

    /// Everything that can be said without starting anything: mistakes show before there is a wait for a build.
    pub(super) fn plan(self) -> Result<Plan> {
        let mut bootstrap = Bootstrap::load_from(self.file.unwrap_or("envoy/envoy.yaml"))?;
        let gateway = bootstrap.gateway_mut()?;
        if let Some(config) = self.config {
            // The file's log reads the record as the file's own configuration leaves it.
            let record = gateway.get("record").cloned();
            *gateway = config;
            if let (Some(record), Some(fields)) = (record, gateway.as_object_mut()) {
                fields.entry("record").or_insert(record);
            }
        }
        for edit in self.edits {
            edit(gateway);
        }
        let declared = backends(gateway);
        order_of_groups(gateway, &declared);
        let of_stores = variables_of_stores(gateway);
        if let Some(name) = self.servers.keys().find(|name| declared.iter().all(|known| known.name != **name))
        {
            let known: Vec<_> = declared.iter().map(|backend| backend.name.as_str()).collect();
            bail!("the configuration has no backend {name:?}: it has {}", known.join(", "));
        }
        let mut upstreams = BTreeMap::new();
        for Backend { name, env, .. } in &declared {
            let Some(Server::Real(url)) = self.servers.get(name) else { continue };
            upstreams
                .insert(name.clone(), Upstream::from_url(url).with_context(|| format!("backend {name:?}"))?);
            if let Some(env) = env.as_ref().filter(|env| !self.env.contains_key(*env)) {
                let sentence = || format!("backend {name:?} is a real server: put its key into {env}");
                std::env::var_os(env).with_context(sentence)?;
            }
        }
        Ok(Plan {
            envoy: self.envoy,
            bootstrap,
            declared,
            of_stores,
            redis: self.redis,
            upstreams,
            servers: self.servers,
            patches: self.patches,
            env: self.env,
            workers: self.workers.unwrap_or(2),
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
            from_files: self.from_files,
            compile: self.compile,
            args: self.args,
        })
    }
}

/// A setup whose gateway configuration is settled.
pub(super) struct Plan {
    /// Its version, if it is not the usual one.
    pub(super) envoy: Option<&'static str>,
    bootstrap: Bootstrap,
    declared: Vec<Backend>,
    /// The variables that the credentials of the store and the broker are in.
    of_stores: BTreeSet<String>,
    redis: Option<(SocketAddr, String)>,
    /// Of the real servers; the mocks' follow when they have started.
    upstreams: BTreeMap<String, Upstream>,
    servers: BTreeMap<String, Server>,
    patches: Vec<Change>,
    env: BTreeMap<String, String>,
    workers: u32,
    log_level: String,
    from_files: bool,
    compile: Compile,
    args: Vec<String>,
}

impl Plan {
    /// Starts the mocks and fills in what was not known before.
    pub(super) async fn scene(mut self, module: &Path, access_log: &Path) -> Result<Scene> {
        let mut mocks = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for Backend { name, .. } in &self.declared {
            let settings = match self.servers.remove(name) {
                Some(Server::Real(url)) => {
                    urls.insert(name.clone(), url);
                    continue;
                }
                Some(Server::Mock(settings)) => *settings,
                None => Settings::default(),
            };
            let mock = Mock::start(name, settings).await;
            let mock = mock.with_context(|| format!("the mock of backend {name:?} cannot start"))?;
            let url = mock.url().to_string();
            // The host that the mock is asked for is the backend's name, so that a test can see whose it was.
            let upstream = Upstream { hostname: name.clone(), ..Upstream::from_url(&url)? };
            self.upstreams.insert(name.clone(), upstream);
            urls.insert(name.clone(), url);
            mocks.insert(name.clone(), mock);
        }

        let mut bootstrap = self.bootstrap;
        bootstrap.connect(&self.declared, &self.upstreams)?;
        bootstrap.load_module_from(module);
        let of_backends = self.declared.iter().filter_map(|backend| backend.env.clone());
        bootstrap.pass_environment(&of_backends.chain(self.of_stores.iter().cloned()).collect());
        bootstrap.listen_on_free_ports()?;
        bootstrap.log_access_to(access_log)?;
        if let Some((redis, _)) = &self.redis {
            bootstrap.reach_store(&access_log.with_file_name("store.sock"), *redis)?;
        }
        for patch in self.patches {
            patch(bootstrap.value_mut());
        }

        let mut env = mock_credentials(&self.declared, &mocks);
        env.extend(self.redis.map(|(_, password)| ("REDIS_PASSWORD".to_owned(), password)));
        env.extend(self.env);
        Ok(Scene {
            bootstrap,
            mocks,
            backends: urls,
            env,
            workers: self.workers,
            log_level: self.log_level,
            from_files: self.from_files,
            compile: self.compile,
            args: self.args,
        })
    }
}

/// The variables that a gateway configuration has the credentials of its store in, of its queue's broker, and the key of the queue.
fn variables_of_stores(gateway: &Value) -> BTreeSet<String> {
    let (redis, queue) = (&gateway["store"]["redis"], &gateway["queue"]);
    let broker = &queue["broker"];
    let of_headers = broker["headers_env"].as_object().into_iter().flat_map(|headers| headers.values());
    let of_store = [&redis["user_env"], &redis["password_env"], &broker["query_env"], &queue["key_env"]];
    of_store.into_iter().chain(of_headers).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A key for every mock. A variable that a real server's key is in as well is not ours to set.
fn mock_credentials(declared: &[Backend], mocks: &BTreeMap<String, Mock>) -> BTreeMap<String, String> {
    let is_real = |backend: &&Backend| !mocks.contains_key(&backend.name);
    let taken: BTreeSet<_> = declared.iter().filter(is_real).filter_map(|real| real.env.as_ref()).collect();
    let of_mocks = declared.iter().filter(|backend| mocks.contains_key(&backend.name));
    of_mocks
        .filter_map(|backend| Some((backend.env.clone()?, credential_of(&backend.name))))
        .filter(|(env, _)| !taken.contains(env))
        .collect()
}

/// A configuration that says the order of the route's groups says the one that they get here.
fn order_of_groups(gateway: &mut Value, backends: &[Backend]) {
    let Some(order) = gateway.pointer_mut("/routing/order") else { return };
    let is_first = |(at, backend): &(usize, &Backend)| {
        backends[..*at].iter().all(|earlier| earlier.cluster != backend.cluster)
    };
    *order = backends.iter().enumerate().filter(is_first).map(|(_, backend)| backend.name.as_str()).collect();
}
