//! What does `envoy/queue.yaml` have to be?

use anyhow::Result;

use super::{before, headed, replace};

/// `fleet.yaml` with a queue in its store, and a client that a worker is.
pub(super) fn envoy(fleet: &str) -> Result<String> {
    let mut text = headed(ENVOY, fleet)?;
    text = before(&text, "clients:", QUEUE)?;
    text = replace(&text, "policy: frugal", "policy: frugal\npriority: low")?;
    text = before(&text, "policies:", WORKER)?;
    let keys = "environment_variables: { host_env_keys: [ PTU_KEY, PAYG_A_KEY, PAYG_B_KEY, REDIS_PASSWORD, QUEUE_KEY ] }";
    Ok(replace(&text, "environment_variables:", keys)?)
}

const ENVOY: &str = "\
# A queue in a Redis or Valkey, for what may be answered later. `tollgate work` works it off: docs/queue.md.
# Written from fleet.yaml by `cargo portable`, so that several Envoys have one queue as they have one set of budgets.
";

const QUEUE: &str = "\
# Of clients that say `prefer: respond-async`, and responses with `background: true`. Without `when`, the former only in
# place of a 429.
queue: { key_env: QUEUE_KEY, for: low, when: always, background: queue }";

const WORKER: &str = "\
# Asks as the client whose job it is.
- name: worker
  api_keys: [ { sha256: d98451ef87c1e0d24105824b1c67ec975f9d91a2a219ec36218728f292f059c1 } ]    # demo-worker
  models: [ \"*\" ]
  may_act_for: [ \"*\" ]";
