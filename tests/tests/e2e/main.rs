//! Does the gateway keep its promises, all the way through a real Envoy?
//!
//! Every test starts an Envoy and its backends of its own. What is expected is worked out from what was asked, by the
//! mock's rules and by [`requests`], not read back from the gateway.

// Used by several of them.
mod azure;
mod deaf;
mod drivers;
mod fleets;
mod issuer;
mod provider;
mod requests;
mod stand_in;
mod terminator;

// Who may call.
mod directory;
mod document;
mod identity;
mod key_sources;
mod proven;
mod secrecy;
mod tls_listener;
mod tokens;

// What may be asked, and what comes back.
mod bodies;
mod cases;
mod cors;
mod doors;
mod local_replies;
mod openings;
mod policy;

// What may be spent, and what is charged.
mod accounting;
mod background;
mod batches;
mod limits;
mod metering;
mod prices;
mod quotas;
mod soak;
mod users;

// Budgets of a fleet.
mod answered_later;
mod broker;
mod fleet;
mod fleet_deaths;
mod fleet_ends;
mod fleet_moves;
mod fleet_told;
mod page;
mod peaks;
mod store_link;
mod store_tls;
mod store_troubles;
mod worked_off;

// Where a request goes.
mod deployments;
mod failover;
mod faults;
mod fitting;
mod held;
mod kept;
mod keyless;
mod names;
mod nearness;
mod ordering;
mod pinned;
mod portable;
mod priority;
mod queue;
mod realtime;
mod responses_socket;
mod retries;
mod routing;
mod scenarios;
mod spend;
mod spilling;
mod steering;
mod throttling;
mod tiers;
mod tls;

// Streams and connections.
mod connections;
mod envoy_lines;
mod links;
mod overload;
mod streams;
mod trailers;

// Changes and failures while it runs.
mod configuration;
mod traps;
mod updates;
mod upgrade;

// What operators see.
mod dashboards;
mod every_line;
mod exact_cost;
mod explain;
mod extension_config;
mod replayed;

// Those who use it, and the files that are shipped.
mod agents;
mod ai_sdk;
mod examples;
mod langchain;
mod litellm;
mod mesh;
mod messages;
mod rendered;
mod sdk;
mod sdk_newer;
mod sdk_queue;
mod semantic_kernel;
