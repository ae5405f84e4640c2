//! Which sockets are served?

pub(super) mod wire;

use super::{Build, ModelsByName, one_of};
use crate::gateway::{ResponsesSocket, WhenExhausted};

impl From<wire::WhenExhausted> for WhenExhausted {
    fn from(wire: wire::WhenExhausted) -> Self {
        match wire {
            wire::WhenExhausted::Refuse => Self::Refuse,
            wire::WhenExhausted::Close => Self::Close,
        }
    }
}

impl Build<'_> {
    pub(super) fn responses_socket(
        &mut self,
        wire: &wire::Responses,
        by_name: &ModelsByName,
    ) -> ResponsesSocket {
        let model = wire.model.as_ref().and_then(|name| {
            let model = by_name.get(name.as_str()).cloned();
            if model.is_none() {
                let known = one_of(by_name.keys());
                let problem = format!("no model is named {name:?}: expected {known}");
                self.fault("websocket.responses.model".to_owned(), problem);
            }
            model
        });
        ResponsesSocket { model, when_exhausted: wire.when_exhausted.into() }
    }
}
