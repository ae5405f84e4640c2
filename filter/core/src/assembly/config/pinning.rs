//! How ids lead back to their backends.

pub(super) mod wire;

use super::{Backends, Build};
use crate::gateway::Pinned;
use crate::pinning::{BoundTo, Key, Pinning, Unsealed};
use crate::route::{Target, number_of};
use std::rc::Rc;

/// A shorter secret could be found by trying.
const SECRET_BYTES_MIN: usize = 32;

/// More are a slip: each is tried on an id that no other opens.
const SECRETS_MAX: usize = 8;

impl Build<'_> {
    pub(super) fn pinning(&mut self, wire: &wire::Pinning, backends: &Backends) -> Option<Pinned> {
        let path = "pinning.secret_envs";
        if wire.secret_envs.is_empty() || wire.secret_envs.len() > SECRETS_MAX {
            let problem = format!("{} entries: expected 1 to {SECRETS_MAX}", wire.secret_envs.len());
            self.fault(path.to_owned(), problem);
        }
        let mut keys = Vec::new();
        for (at, env) in wire.secret_envs.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let Some(secret) = self.secret(&path, env) else { continue };
            if secret.len() < SECRET_BYTES_MIN {
                let problem = format!(
                    "environment variable {env:?} has {} bytes: expected at least {SECRET_BYTES_MIN}, for example of \
                     `openssl rand -hex 32`",
                    secret.len()
                );
                self.fault(path, problem);
            }
            keys.extend(Key::new(secret.as_bytes()));
        }
        let backends: Vec<_> = backends.values().flatten().collect();
        let numbers = backends.iter().map(|backend| (backend.name.clone(), number_of(&[&backend.name])));
        let bound_to = match wire.bound_to {
            wire::BoundTo::Client => BoundTo::Client,
            wire::BoundTo::Anyone => BoundTo::Anyone,
        };
        let unsealed = match (wire.unsealed_ids, bound_to) {
            (Some(wire::UnsealedIds::Pass), _) | (None, BoundTo::Anyone) => Unsealed::Pass,
            (Some(wire::UnsealedIds::Refuse), _) | (None, BoundTo::Client) => Unsealed::Refuse,
        };
        let governs_batches = wire.batches == wire::Batches::Govern;
        if governs_batches && bound_to == BoundTo::Anyone {
            // One client would use what another's policy let pass.
            let problem = "govern: expected bound_to: client beside it".to_owned();
            self.fault("pinning.batches".to_owned(), problem);
        }
        let target = |backend| Rc::new(Target::of_no_deployment(backend));
        match Pinning::new(keys, numbers, bound_to, unsealed) {
            Ok(pinning) => Some(Pinned {
                pinning: Rc::new(pinning),
                targets: backends
                    .into_iter()
                    .map(|backend| (backend.name.clone(), target(backend.clone())))
                    .collect(),
                governs_batches,
            }),
            Err((one, other)) => {
                let problem =
                    format!("{one:?} and {other:?} have the same number by chance: expected another name");
                self.fault("backends".to_owned(), problem);
                None
            }
        }
    }
}
