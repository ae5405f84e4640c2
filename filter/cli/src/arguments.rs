//! What stands on the command line?

use crate::new::Backends;
use crate::render::Form;
use crate::statement::Wanted;
use clap::{Args, Parser, Subcommand};

/// Checks, proves and explains configurations of Tollgate, by the code that serves.
#[derive(Parser)]
#[command(name = "tollgate", version, after_help = FILES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FILES: &str = "\
FILE is YAML or JSON: a gateway configuration alone, or whatever has one in it: a configuration of Envoy, an
EnvoyFilter of Istio, a ConfigMap, a Compose file that has it inside or mounts it. - is standard input.
No network is used but by budget, spend, keys, work and jobs, and no secret is needed but there: a variable of the environment
that is not set is a warning.

Exit codes: 0 all is well, 1 something was found, 2 the call itself was wrong, or a file cannot be
read or the result not be written.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a first configuration: its clients' keys are told on standard error, once
    New(New),
    /// Tell every fault, with its line and its path
    Check(Check),
    /// Write the whole envoy.yaml of a configuration that has an envoy part beside it, or the patches of a gateway
    Render(Render),
    /// List which client may reach which backends in which regions, and go through all failures to show that none leads out
    Prove(Prove),
    /// Tell what becomes of a request: its policy's edits, and the backends in their order
    Explain(Explain),
    /// Tell which requests of an access log would be refused or moved under a new configuration, and what all would have cost
    Replay(Replay),
    /// Add up what the requests of access logs have cost, by client, model, backend, tier, day or month
    Bill(Bill),
    /// Add up what a fleet's store has kept of what was spent, in the same way
    Spend(Spend),
    /// Print the JSON Schema of a configuration, for editors; or the reference of its fields
    Schema(Schema),
    /// Tell what a fleet has used and holds of limits, and change what is used
    Budget {
        #[command(subcommand)]
        act: Act,
    },
    /// Issue, list and revoke keys while the gateway runs, in a fleet's store: see directory in the configuration
    Keys {
        #[command(subcommand)]
        act: KeyAct,
    },
    /// Add, list and remove clients while the gateway runs, in a fleet's store: see directory in the configuration
    Clients {
        #[command(subcommand)]
        act: ClientAct,
    },
    /// Work the queue off: send what waits in a fleet's store to the gateway, as its clients', and keep the answers
    Work(Work),
    /// Tell which jobs are in the queue, and queue dead ones again or remove them
    Jobs {
        #[command(subcommand)]
        act: JobAct,
    },
    /// Read an API key from standard input, and print the line for the configuration
    HashKey {
        // Taken so that it can be refused without being shown.
        #[arg(hide = true, allow_hyphen_values = true)]
        key: Vec<String>,
    },
}

#[derive(Args)]
pub(crate) struct Check {
    /// Configurations, or files that have one in them; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<String>,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Render {
    /// A gateway configuration, with where its clusters are in its member envoy; - is standard input
    pub(crate) file: String,
    /// For whom
    #[arg(long, value_enum, default_value = "envoy")]
    pub(crate) form: Form,
}

#[derive(Args)]
pub(crate) struct New {
    #[command(flatten)]
    pub(crate) backends: Backends,
    /// A client, which gets a key of its own; may stand several times
    #[arg(long = "client", value_name = "NAME", required = true)]
    pub(crate) clients: Vec<String>,
    /// A model, which all backends have; may stand several times
    #[arg(long = "model", value_name = "NAME", default_value = "gpt-4o")]
    pub(crate) models: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Prove {
    /// A configuration, or a file that has one in it
    pub(crate) file: String,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Explain {
    /// A configuration, or a file that has one in it
    pub(crate) file: String,
    /// Who asks
    #[arg(long, value_name = "NAME")]
    pub(crate) client: String,
    /// The model, where the body does not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// What is asked for
    #[arg(long, value_name = "PATH", default_value = "chat/completions")]
    pub(crate) endpoint: String,
    /// The request's body; a small one if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<String>,
    /// What an issued key may of what its client may, as it was issued with: 'models: [ gpt-4o ], priority: low'
    #[arg(long, value_name = "WORDS")]
    pub(crate) key: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Replay {
    /// The configuration that was in force
    #[arg(long, value_name = "FILE")]
    pub(crate) old: String,
    /// The one that is asked about
    #[arg(long, value_name = "FILE")]
    pub(crate) new: String,
    /// The access log, as envoy.yaml writes it
    pub(crate) log: String,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Bill {
    /// Access logs, as envoy.yaml writes them; - is standard input
    #[arg(value_name = "LOG", required = true)]
    pub(crate) logs: Vec<String>,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

#[derive(Args)]
pub(crate) struct Spend {
    #[command(flatten)]
    pub(crate) address: StoreAddress,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

#[derive(Args)]
pub(crate) struct Schema {
    /// The reference of all fields, in Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}

#[derive(Subcommand)]
pub(crate) enum Act {
    /// Tell what a fleet has used and holds
    Show(Account),
    /// Make so much less used of one limit
    Give {
        /// How much
        amount: String,
        #[command(flatten)]
        account: Account,
    },
    /// Make nothing used, of one limit or of all
    Reset(Account),
}

/// Where a fleet's store is.
#[derive(Args)]
pub(crate) struct StoreAddress {
    /// The fleet's store: redis://HOST:PORT, or rediss:// with TLS; USER:PASSWORD@ and /DATABASE where they are needed
    #[arg(long, value_name = "URL")]
    pub(crate) store: String,
    /// The variable of the environment with the store's password
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) password_env: Option<String>,
    /// What the keys begin with, if the configuration does not say it
    #[arg(long, value_name = "NAME")]
    pub(crate) prefix: Option<String>,
}

/// Whose limits, and where they stand.
#[derive(Args)]
pub(crate) struct Account {
    #[command(flatten)]
    pub(crate) address: StoreAddress,
    /// The configuration, whose words limits are called by
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// Which limit, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) limit: Option<String>,
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum KeyAct {
    /// Make a key and print it, once: the store has only its hash
    Issue {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        issue: NewKey,
    },
    /// Tell which keys there are, of one client or of all
    List {
        #[command(flatten)]
        address: StoreAddress,
        /// Only this client's
        #[arg(long, value_name = "NAME")]
        client: Option<String>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Take keys away: Envoys that know them go on for fresh_s of the configuration
    Revoke {
        #[command(flatten)]
        keys: Keys,
        /// Which key, as list names it; it may be shortened
        #[arg(long, value_name = "ID", required_unless_present = "all")]
        id: Option<String>,
        /// All of the client's keys
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// Issue a new key, and let the client's others end
    Rotate {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        issue: NewKey,
        /// How long the others go on, in hours
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        old_for: u64,
    },
}

#[derive(Subcommand)]
pub(crate) enum ClientAct {
    /// Check clients against the configuration and write them, in the place of those of the same names: Envoys follow within fresh_s
    Put {
        #[command(flatten)]
        address: StoreAddress,
        /// The configuration, whose models, policies, groups and regions they may name
        #[arg(long, value_name = "FILE")]
        config: String,
        /// The client as it stands in clients of a configuration, or a list of them, in YAML or JSON; - for standard input
        file: String,
    },
    /// Check a document with clients, as it stands behind the cluster of directory.document
    Check {
        /// The configuration beside which they stand; without it models, policies, groups and regions are not looked at
        #[arg(long, value_name = "FILE")]
        config: Option<String>,
        /// The document; - for standard input
        file: String,
    },
    /// Tell which clients there are
    List {
        #[command(flatten)]
        address: StoreAddress,
        /// The configuration: then it is told which of them no Envoy with it uses, and why
        #[arg(long, value_name = "FILE")]
        config: Option<String>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print a client as it stands there
    Show {
        #[command(flatten)]
        address: StoreAddress,
        /// Its name
        name: String,
    },
    /// Take a client away: Envoys that know it go on for fresh_s of the configuration. Its keys stay, for it may come back
    Remove {
        #[command(flatten)]
        address: StoreAddress,
        /// Its name
        name: String,
    },
}

/// Whose keys, and where they stand.
#[derive(Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    pub(crate) address: StoreAddress,
    /// The client, as the configuration or its entry in the store names it
    #[arg(long, value_name = "NAME")]
    pub(crate) client: String,
    /// The configuration: then only a client that it or the store has gets a key
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is said of a new key.
#[derive(Args)]
pub(crate) struct NewKey {
    /// From when it is good, such as 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<String>,
    /// Until just before when it is good
    #[arg(long, value_name = "TIME")]
    pub(crate) not_after: Option<String>,
    /// What list tells of it: where it is used, who asked for it
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// The only models that it may call, of its client's; gpt-4* for all of them that begin like that
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) models: Option<Vec<String>>,
    /// What it may spend beside what its client may, in the words of clients[].limits: 'tokens: 50000, per: day'. May be given several times
    #[arg(long = "limit", value_name = "LIMIT")]
    pub(crate) limits: Vec<String>,
    /// The policy that it is held to beside its client's
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// The only regions that may serve it, of its client's
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) regions: Option<Vec<String>>,
    /// Who goes first, where its client goes before it: high, normal or low
    #[arg(long, value_name = "PRIORITY")]
    pub(crate) priority: Option<String>,
}

#[derive(Args)]
pub(crate) struct Work {
    #[command(flatten)]
    pub(crate) address: StoreAddress,
    /// The gateway: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: String,
    /// The variable of the environment with this worker's key at the gateway
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) key_env: String,
    /// The variable of the environment with the key that seals bodies: queue.key_env of the configuration
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) seal_env: Option<String>,
    /// How many jobs run at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) concurrency: u16,
    /// After so many tries a job is a dead letter
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) tries: u32,
    /// End when no job is left that can be taken within ten seconds
    #[arg(long)]
    pub(crate) once: bool,
    /// Where Prometheus finds metrics: HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
    /// A worker that gave no sign of life for so many seconds is dead, and its jobs are taken over
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=86400))]
    pub(crate) dead_after: u32,
    /// A whole answer comes in so many seconds, or that try has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub(crate) timeout: u32,
    /// When told to stop, what runs has so many seconds to end; then it is put back
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=86400))]
    pub(crate) grace: u32,
    /// For how many days dead letters are kept
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub(crate) keep_dead: u32,
    /// So many dead letters are kept; beyond that the oldest are dropped
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) dead_max: u32,
    /// Where a client is told that a job of its is over; may stand several times
    #[arg(long = "webhook", value_name = "CLIENT=URL")]
    pub(crate) webhooks: Vec<String>,
    /// The variable of the environment with the secret that its notices are signed with: whsec_ and base64
    #[arg(long = "webhook-secret-env", value_name = "CLIENT=VARIABLE")]
    pub(crate) webhook_secrets: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum JobAct {
    /// Tell which jobs there are
    List {
        #[command(flatten)]
        address: StoreAddress,
        /// Only dead letters
        #[arg(long)]
        dead: bool,
        /// Only this client's
        #[arg(long, value_name = "NAME")]
        client: Option<String>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Tell all that is known of one
    Show {
        #[command(flatten)]
        job: OneJob,
        /// What was asked and answered too: the variable of the environment with the key that seals bodies
        #[arg(long, value_name = "VARIABLE")]
        seal_env: Option<String>,
        /// What was asked and answered too, which lies open
        #[arg(long, conflicts_with = "seal_env")]
        open: bool,
    },
    /// Queue a dead letter again
    Retry {
        #[command(flatten)]
        job: OneJob,
    },
    /// Remove a job, and all that is kept of it
    Drop {
        #[command(flatten)]
        job: OneJob,
    },
}

/// Which job, and where it stands.
#[derive(Args)]
pub(crate) struct OneJob {
    /// The job, as list names it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) address: StoreAddress,
    /// As JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// A client's
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
    /// A group's
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// What spills of a model
    #[arg(long, value_name = "MODEL")]
    pub(crate) spill: Option<String>,
}
