//! What runs: the configuration, checked and resolved. No name is left to be looked up but those that requests bring.

use crate::access::Access;
use crate::capacity::{Precedence, Priority};
use crate::codec::{self, Reader, Stored, Writer};
use crate::denial::{Denial, shown};
use crate::endpoint::{Operation, values, without};
use crate::estimate::Lessons;
use crate::gauge::Gauge;
use crate::headers::{Headers, Passing, find};
use crate::identity::Directory;
use crate::ledger::{Name, RecordForm};
use crate::limits::{Account, Budget, client_of_key, is_of_a_value};
use crate::pinning::Pinning;
use crate::policy::Policy;
use crate::request::Family;
use crate::route::{self, Asker, Failing, Nearness, Routing, Shares, Target, Watch, number_of};
use crate::store::{self, Moment, StoreFault};
use crate::tier::Tier;
use crate::time::millis;
use crate::tokens::Usage;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

mod bodies;
mod broker;
mod fleet;
mod jobs;
mod joined;
mod keys;

pub use bodies::{BodyRoom, HELD_BYTES_MAX, HeldBytes};
pub use broker::{Aspect, Broker, Message, Template};
pub use fleet::{
    Beside, CAPACITY_SHA1, FleetStore, PAUSES_SHA1, PREFIX, Replies, SCRIPT_SHA1, SPEND_SHA1, Secret,
    StoreTrouble, keys_of, spend_key,
};
pub use jobs::{ActsFor, Dice, Enqueued, JobQueue, NewJob, Patience, QueueCall, Told, Wish};
pub use joined::{Joined, ReadClient, client_table};
pub use keys::{KeyReply, key_table};

/// A policy that looks on beside a client's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// What the operator calls it.
    pub name: Rc<str>,
    /// It audits.
    pub policy: Policy,
}

/// A caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// The word in logs and metrics.
    pub name: Name,
    /// Whose limits it shares with others, such as its department's.
    pub group: Option<Rc<str>>,
    /// What it may call.
    pub models: Rc<Permitted>,
    /// By which operations.
    pub endpoints: Vec<Operation>,
    /// What it may ask for.
    pub policy: Rc<Policy>,
    /// What looks on beside that.
    pub audits: Rc<[Audit]>,
    /// What it may ask of these models, by their own names.
    pub policy_by_model: Rc<HashMap<Rc<str>, Rc<Policy>>>,
    /// What it may spend.
    pub budget: Rc<Budget>,
    /// Who goes first where there is not room for all.
    pub priority: Priority,
    /// Whether it may go to targets of a lower priority.
    pub spills: bool,
    /// The only regions that may serve it; `None` is anywhere.
    pub regions: Option<Vec<Rc<str>>>,
    /// Whether it may know what is behind the gateway: backends, decisions, which configuration runs.
    pub operator: bool,
    /// For whom it may ask: a worker's credential.
    pub acts_for: ActsFor,
    /// How much of its bodies is held by this worker.
    pub held_bytes: Rc<HeldBytes>,
}

/// Which models a client may call.
#[derive(Debug, PartialEq, Eq)]
pub enum Permitted {
    /// Every one there is.
    All,
    /// These, by their own names, not their aliases.
    Named(HashSet<Rc<str>>),
}

/// A model as clients know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// Its own name.
    pub name: Name,
    /// What kind it is.
    pub family: Family,
    /// Where it is served, best first.
    pub targets: Vec<Rc<Target>>,
    /// Whether a client is always served by the same of several targets with weights, while that is open.
    pub is_sticky: bool,
    /// How long a backend may take until a stream begins, before the next one is asked.
    pub stream_start_max: Option<Duration>,
    /// The same for an answer that is no stream, which begins when it is finished: whoever is left may bill it.
    pub answer_start_max: Option<Duration>,
    /// How its targets are ordered by how soon they answer, if they are.
    pub nearness: Option<Nearness>,
    /// What bounds the shares of its targets; `None` where nothing does.
    pub shares: Option<Rc<Shares>>,
    /// The tiers of service that are asked for again as the default one, where they are refused.
    pub asks_again: Vec<Tier>,
    /// When its requests go to targets of a lower priority, and how much of them.
    pub spill: Spill,
    /// What its answers taught about its tokenizer.
    pub lessons: Lessons,
}

/// What goes to targets of a lower priority.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spill {
    /// The share of the others' capacity that stays free while there is room elsewhere, in millionths of it.
    pub spare: u32,
    /// How much may go there; `None` where that is not bounded.
    pub budget: Option<Rc<Budget>>,
}

impl Model {
    /// The number that decides between its targets' weights, for one request.
    #[must_use]
    pub fn lot(&self, client: &Client, now: Duration) -> u64 {
        // The clock's last digits are as good as dice.
        let number =
            if self.is_sticky { number_of(&[&client.name.text]) } else { u64::from(now.subsec_nanos()) };
        route::lot(number)
    }

    /// What is to be measured about a request, if its targets are ordered by how soon they answer.
    #[must_use]
    pub fn watch(&self, prompt_tokens: u64, is_stream: bool) -> Option<Watch> {
        Some(self.nearness.as_ref()?.watch(prompt_tokens, is_stream))
    }

    /// How long each attempt may take until its answer begins; `None` is as long as it takes.
    #[must_use]
    pub fn start_max(&self, is_stream: bool) -> Option<Duration> {
        if is_stream { self.stream_start_max } else { self.answer_start_max }
    }

    /// The most that these tokens can cost at any of its targets, in millionths of the currency. `asked` is the tier of
    /// service that the request names.
    #[must_use]
    pub fn cost_max(&self, usage: Usage, asked: Option<&str>) -> u64 {
        self.targets.iter().map(|target| target.micros_max(usage, asked)).max().unwrap_or(0)
    }

    /// Whether its price depends on the tier of service that a request names.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        self.targets.iter().any(|target| target.has_tiers())
    }
}

/// What happens to a request when the shared store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// It is served within this Envoy's part of its limits.
    Share,
    /// It is served and not limited.
    Allow,
    /// It is refused with 503.
    Deny,
}

/// What each priority means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precedences {
    /// Of those who go first.
    pub high: Precedence,
    /// Of those who go next.
    pub normal: Precedence,
    /// Of those who get what is left.
    pub low: Precedence,
}

/// How a request says that it is less important than its client's others. What says so goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowering {
    /// By this header.
    pub header: Rc<str>,
    /// By this parameter of the query, where one does.
    pub query: Option<Rc<str>>,
}

impl Default for Lowering {
    fn default() -> Self {
        Self { header: "x-priority".into(), query: None }
    }
}

impl Lowering {
    /// How important a request is: the least of what its client and itself say.
    #[must_use]
    pub fn of(&self, client: Priority, headers: &Headers, query: &str) -> Priority {
        let by_header = client.lowered_to(find(headers, &self.header));
        let Some(name) = &self.query else { return by_header };
        values(query, name).fold(by_header, |priority, word| priority.lowered_to(Some(word.as_bytes())))
    }

    /// A query without what says so.
    #[must_use]
    pub fn without<'q>(&self, query: &'q str) -> Cow<'q, str> {
        self.query.as_ref().map_or(Cow::Borrowed(query), |name| Cow::Owned(without(query, name)))
    }
}

impl Precedences {
    /// What this one means.
    #[must_use]
    pub fn of(&self, priority: Priority) -> Precedence {
        match priority {
            Priority::High => self.high,
            Priority::Normal => self.normal,
            Priority::Low => self.low,
        }
    }
}

/// Whose state is where.
#[derive(Debug)]
pub struct Pinned {
    /// Reads and writes the ids.
    pub pinning: Rc<Pinning>,
    /// Every backend under its name, as endpoints without a model go there.
    pub targets: HashMap<Rc<str>, Rc<Target>>,
    /// Whether the lines of batches are held to policies and limits.
    pub governs_batches: bool,
}

/// What happens on a socket when its client's limits are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenExhausted {
    /// The turn is refused, or ended, and the client told: the connection stays.
    Refuse,
    /// The connection is closed.
    Close,
}

/// How Responses are served by WebSocket.
#[derive(Debug)]
pub struct ResponsesSocket {
    /// Whose backends a connection goes to that names no model; `None`: the first model that its client may use.
    pub model: Option<Rc<Model>>,
    /// What happens when limits are used up.
    pub when_exhausted: WhenExhausted,
}

/// Everything.
#[derive(Debug)]
pub struct Gateway {
    /// Who may call.
    pub clients: Directory<Client>,
    /// All of them, in the order of the configuration.
    pub roster: Vec<Rc<Client>>,
    /// Those that stand in the store, as they are heard of; `None` where none may.
    pub joined: Option<Rc<Joined>>,
    /// What the clients of each group share, in no order.
    pub group_accounts: Vec<Rc<Account>>,
    /// The models, by name and alias.
    pub by_name: HashMap<Rc<str>, Rc<Model>>,
    /// The models in the order of the configuration.
    pub models: Vec<Rc<Model>>,
    /// Where endpoints go that are not named; empty where they are refused.
    pub other: Vec<Rc<Target>>,
    /// First segments of paths that are such endpoints too, besides those that are known.
    pub other_paths: Vec<String>,
    /// Whether any backend of a model speaks Anthropic's API.
    pub speaks_anthropic: bool,
    /// How ids carry their backends; `None` where they pass as they are.
    pub pinning: Option<Pinned>,
    /// How Envoy is told where a request goes.
    pub routing: Routing,
    /// Where the fleet's budgets stand; `None` where each Envoy has its own.
    pub store: Option<Rc<FleetStore>>,
    /// Which requests may be answered later; `None` where none is.
    pub queue: Option<JobQueue>,
    /// What happens when the store fails.
    pub on_store_failure: OnStoreFailure,
    /// What each priority means.
    pub precedences: Precedences,
    /// How a request says that it is less important.
    pub lowering: Lowering,
    /// How much is held by this worker of bodies of which it is not known yet whose they are.
    pub unidentified_bytes: Rc<HeldBytes>,
    /// How many requests may wait in each worker for room at a backend.
    pub waiting_max: usize,
    /// The ways to tokens of backends without a key.
    pub accesses: Vec<Access>,
    /// Every header that some backend's credential goes in: removed before each attempt, for all attempts of a request
    /// share one set of headers.
    pub credential_headers: Vec<String>,
    /// Headers of requests that go to backends beside those that do anyway.
    pub pass_headers: Passing,
    /// Headers of answers that go to clients beside those that do anyway.
    pub pass_answer_headers: Passing,
    /// Whether those who show nothing may ask whether there are backends that can be asked.
    pub health_open: bool,
    /// How the record of an exchange is left for the access log.
    pub record_form: RecordForm,
    /// Whether it names a client's users as they are said, and not by a hash.
    pub record_users_as_text: bool,
    /// Whether Realtime's sockets are served, and what happens when limits are used up.
    pub realtime: Option<WhenExhausted>,
    /// Whether those of Responses are.
    pub responses_socket: Option<ResponsesSocket>,
    /// Which targets fail of late.
    pub failing: Failing,
    /// The fingerprint of its configuration.
    pub sha256: String,
    /// Since when that is in service, from the epoch.
    pub since: Duration,
}

/// Which configuration serves in this process.
#[derive(Debug, PartialEq, Eq)]
struct Service {
    sha256: String,
    since_ms: u64,
}

impl Stored for Service {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { sha256: from.text()?.to_owned(), since_ms: from.u64()? })
    }

    fn write(&self, to: &mut Writer) {
        to.text(&self.sha256);
        to.u64(self.since_ms);
    }
}

impl Gateway {
    /// The accounts that a fleet shares, by their keys.
    #[must_use]
    pub fn shared_accounts(&self) -> HashMap<String, Rc<Account>> {
        let spills = self.models.iter().filter_map(|model| model.spill.budget.as_ref());
        let budgets = self.roster.iter().map(|client| &client.budget).chain(spills);
        let groups = self.group_accounts.iter().filter(|account| account.shared_name().is_some());
        let accounts = budgets.flat_map(|budget| budget.shared()).chain(groups);
        accounts.map(|account| (account.key().to_owned(), account.clone())).collect()
    }

    /// The accounts with limits that somebody wants to be told of, by their keys.
    #[must_use]
    pub fn watched(&self) -> BTreeMap<&str, &Rc<Account>> {
        let accounts = self.roster.iter().flat_map(|client| client.budget.watched());
        let mut watched = BTreeMap::new();
        watched.extend(accounts.map(|account| (account.key(), account)));
        watched
    }

    /// Each capacity that somebody declared.
    #[must_use]
    pub fn gauges(&self) -> Vec<Gauge> {
        let targets = self.models.iter().flat_map(|model| &model.targets);
        let gauges = targets.flat_map(|target| target.gauges.iter());
        // Models weigh a capacity that they share each in its own way, and it is one.
        let mut by_id: BTreeMap<u64, Gauge> = BTreeMap::new();
        by_id.extend(gauges.map(|gauge| (gauge.id, gauge)));
        by_id.into_values().collect()
    }

    /// The models that a client may use; all of them for whoever has shown nothing, who is told no names.
    pub fn models_for(&self, client: Option<&Client>) -> impl Iterator<Item = &Rc<Model>> {
        self.models.iter().filter(move |model| client.is_none_or(|client| client.may_use(model)))
    }

    /// The model that is meant, by a client or by whoever has shown nothing.
    pub fn model_for(&self, client: Option<&Client>, name: &str) -> Result<Rc<Model>, Denial> {
        let found = match client {
            Some(client) => return self.model(client, name),
            None => self.by_name.get(name).cloned(),
        };
        found.ok_or_else(|| Denial::ModelNotAllowed(shown(name)))
    }

    /// Whether it tells of requests that were queued: a store does, a broker does not.
    #[must_use]
    pub fn tells_of_jobs(&self) -> bool {
        self.queue.as_ref().is_some_and(JobQueue::tells)
    }

    /// From now on it serves, unless one with the same fingerprint already does in this process: then it has since that did.
    pub fn enter_service(&mut self, moment: Moment<'_>) -> Result<(), StoreFault> {
        self.accesses.iter().for_each(Access::enter_service);
        self.since = store::update(moment.store, "tollgate/configuration", |record| match codec::decode::<
            Service,
        >(record)
        .filter(|service| service.sha256 == self.sha256)
        {
            Some(service) => (None, Duration::from_millis(service.since_ms)),
            None => {
                let since_ms = millis(moment.now);
                let service = Service { sha256: self.sha256.clone(), since_ms };
                (Some(codec::encode(&service)), moment.now)
            }
        })?;
        Ok(())
    }

    /// Whether a request of this client may need a token that is being fetched for the first time, or has ended before the next
    /// one came; and the faults of the store, without which none is waited for.
    #[must_use]
    pub fn awaits_token(&self, client: &Client, moment: Moment<'_>) -> (bool, u64) {
        let is_of = |target: &Rc<Target>, access: &Access| *target.backend.name == *access.backend;
        let may_need = |access: &&Access| {
            let of_models = self.models_for(Some(client)).flat_map(|model| &model.targets);
            of_models.chain(&self.other).any(|target| is_of(target, access))
        };
        let (mut awaits, mut faults) = (false, 0);
        // All tokens are there but for moments, so that is asked first.
        let lacking = self.accesses.iter().filter(|access| access.is_lacking(moment.now));
        for access in lacking.filter(may_need) {
            match access.is_awaited(moment) {
                Ok(is_awaited) => awaits |= is_awaited,
                Err(_) => faults += 1,
            }
        }
        (awaits, faults)
    }

    /// The model that a backend calls so, or that is called so here.
    #[must_use]
    pub fn model_called(&self, backend: &str, name: &str) -> Option<Rc<Model>> {
        let is_it = |target: &Rc<Target>| *target.backend.name == *backend && *target.deployment == *name;
        let served = self.models.iter().find(|model| model.targets.iter().any(is_it));
        served.or_else(|| self.by_name.get(name)).cloned()
    }

    /// The client of this name.
    #[must_use]
    pub fn client(&self, name: &str) -> Option<Rc<Client>> {
        let configured = self.configured(name).cloned();
        configured.or_else(|| self.joined.as_ref()?.get(name))
    }

    /// The client of this name in the configuration.
    #[must_use]
    pub fn configured(&self, name: &str) -> Option<&Rc<Client>> {
        self.roster.iter().find(|client| *client.name.text == *name)
    }

    /// What is written down of a client of which this is known alone: it was configured once, or another worker has heard of it.
    #[must_use]
    pub fn name_of(&self, name: &str) -> Name {
        match (self.client(name), &self.joined) {
            (Some(client), _) => client.name.clone(),
            // Of those there is no end.
            (None, Some(joined)) => joined.unlabelled(name),
            (None, None) => Name::new(name),
        }
    }

    /// Whether this is a client as it is configured, and not what the entry of a key leaves of one.
    #[must_use]
    pub fn is_whole(&self, client: &Rc<Client>) -> bool {
        self.configured(&client.name.text).is_some_and(|whole| Rc::ptr_eq(whole, client))
    }

    /// The account of this key, of a client, a group or what spills.
    #[must_use]
    pub fn account(&self, key: &str) -> Option<Rc<Account>> {
        let clients = self.roster.iter().map(|client| &client.budget);
        let spills = self.models.iter().filter_map(|model| model.spill.budget.as_ref());
        let configured = clients.chain(spills).find_map(|budget| budget.account(key));
        let of_group = || self.group_accounts.iter().find(|account| account.key() == key).cloned();
        configured.or_else(of_group).or_else(|| self.joined_account(key)).or_else(|| {
            let keys = self.clients.issued().filter(|_| is_of_a_value(key))?;
            keys.find_map(|client| client.budget.account(key))
        })
    }

    /// The account of this key, of a client that stands in the store and that this worker has heard of.
    #[must_use]
    pub fn joined_account(&self, key: &str) -> Option<Rc<Account>> {
        self.joined.as_ref()?.get(client_of_key(key)?)?.budget.account(key)
    }

    /// The model a client means. One that does not exist and one that it may not use are refused alike.
    pub fn model(&self, client: &Client, name: &str) -> Result<Rc<Model>, Denial> {
        self.by_name
            .get(name)
            .filter(|model| client.may_use(model))
            .cloned()
            .ok_or_else(|| Denial::ModelNotAllowed(shown(name)))
    }
}

impl Gateway {
    /// What happens on a socket of this operation when limits are used up, if it is served.
    #[must_use]
    pub fn socket(&self, operation: Operation) -> Option<WhenExhausted> {
        match operation {
            Operation::Realtime => self.realtime,
            Operation::ResponsesSocket => self.responses_socket.as_ref().map(|socket| socket.when_exhausted),
            _ => None,
        }
    }

    /// Whether any socket is served.
    #[must_use]
    pub const fn serves_sockets(&self) -> bool {
        self.realtime.is_some() || self.responses_socket.is_some()
    }
}

impl Client {
    /// Whether it may use an endpoint. What Tollgate answers itself tells of its own only, so everybody may ask.
    pub fn check_endpoint(&self, operation: Operation) -> Result<(), Denial> {
        let is_answered_here = !operation.reaches_backends();
        if is_answered_here || self.endpoints.contains(&operation) {
            Ok(())
        } else {
            Err(Denial::EndpointNotAllowed(operation.word()))
        }
    }

    /// Who asks, when it is decided where a request of its own goes.
    #[must_use]
    pub fn asker(&self, lot: u64) -> Asker<'_> {
        Asker { regions: self.regions.as_deref(), stays: !self.spills, lot, ..Asker::default() }
    }

    /// Whether the model is one of its own.
    #[must_use]
    pub fn may_use(&self, model: &Model) -> bool {
        match &*self.models {
            Permitted::All => true,
            Permitted::Named(names) => names.contains(&model.name.text),
        }
    }

    /// What it may ask of a model.
    #[must_use]
    pub fn policy(&self, model: &Model) -> &Rc<Policy> {
        self.policy_by_model.get(&model.name.text).unwrap_or(&self.policy)
    }

    /// The longest body it may send, before it is known for which model.
    #[must_use]
    pub fn request_bytes_max(&self) -> usize {
        let policies = self.policy_by_model.values().chain([&self.policy]);
        policies.map(|policy| policy.request_bytes_max).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_law_of_stored_values_holds() {
        codec::law::holds(
            "configuration",
            &[Service { sha256: "5f".repeat(32), since_ms: 1_795_000_000_000 }],
        );
    }
}
