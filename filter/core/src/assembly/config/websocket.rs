//! Which sockets are served?

pub(super) mod wire;

use crate::gateway::WhenExhausted;

impl wire::Realtime {
    pub(super) fn when_exhausted(&self) -> WhenExhausted {
        match self.when_exhausted {
            wire::WhenExhausted::Refuse => WhenExhausted::Refuse,
            wire::WhenExhausted::Close => WhenExhausted::Close,
        }
    }
}
