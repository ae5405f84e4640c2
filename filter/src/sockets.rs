//! A connection that was upgraded: Envoy's bytes become those of the [`Socket`], and what goes on becomes Envoy's.
//!
//! Observed on Envoy 1.40: after the upgrade the callbacks of the bodies get the raw bytes of both sides at any cut, first an empty
//! call each way. What a client's callback leaves in the buffer goes to the backend, and the other way round.

use crate::fleet::{self, Reserved};
use crate::host;
use proxy_wasm::types::{Action, BufferType};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tollgate::exchange::{Exchange, Finished, Interruption};
use tollgate::gateway::Gateway;
use tollgate::ledger::Turns;
use tollgate::socket::{Asked, Socket, World};
use tollgate::store::Moment;

thread_local! {
    /// What each listener's filter serves under now, by the filter's name.
    static SERVING: RefCell<HashMap<Vec<u8>, Rc<Gateway>>> = RefCell::default();
}

/// From now on the turns of this filter's connections are decided by this configuration.
pub(crate) fn configured(gateway: &Rc<Gateway>) {
    if gateway.serves_sockets() {
        SERVING.with_borrow_mut(|serving| serving.insert(name(), gateway.clone()));
    } else {
        SERVING.with_borrow_mut(|serving| serving.remove(&name()));
    }
}

fn name() -> Vec<u8> {
    host::property(&["plugin_name"]).unwrap_or_default()
}

/// One conversation.
pub(crate) struct Conversation {
    socket: Socket,
    gateway: Rc<Gateway>,
    filter: Vec<u8>,
    /// What goes to the backend once that does not wait any more.
    unsent: Vec<u8>,
}

impl Conversation {
    /// A conversation, if the exchange is one by now. `early` is what its client has sent before.
    pub(crate) fn opened(gateway: &Rc<Gateway>, exchange: &Exchange) -> Option<Self> {
        let socket = Socket::new(gateway.clone(), exchange.opened()?);
        Some(Self { socket, gateway: gateway.clone(), filter: name(), unsent: Vec::new() })
    }

    /// Whether something is waited for that no callback brings.
    pub(crate) fn waits(&self) -> bool {
        self.socket.waits()
    }

    /// The turns that have ended.
    pub(crate) fn finished(&mut self) -> Vec<Finished> {
        self.socket.finished()
    }

    /// Closes it, because its client has sent too much before it was open.
    pub(crate) fn came_too_early(&mut self) {
        self.socket.came_too_early();
    }

    /// Takes what is in the buffer of the client's side, behind what came `early`.
    pub(crate) fn client_says(&mut self, early: &[u8], bytes: usize, exchange: &mut Exchange) -> Action {
        let serving = SERVING.with_borrow(|serving| serving.get(&self.filter).cloned());
        if let Some(gateway) = serving.filter(|gateway| !Rc::ptr_eq(gateway, &self.gateway)) {
            self.socket.serve_under(&gateway);
            self.gateway = gateway;
        }
        let came = host::body(BufferType::HttpRequestBody, bytes);
        let out = self.act(|socket, world| {
            let mut out = socket.client_says(early, exchange, world);
            out.extend(socket.client_says(&came, exchange, world));
            out
        });
        self.unsent.extend(out);
        let holds = self.socket.holds();
        let goes = if holds { Vec::new() } else { std::mem::take(&mut self.unsent) };
        if goes != came {
            host::set_body(BufferType::HttpRequestBody, bytes, &goes);
        }
        if holds { Action::Pause } else { Action::Continue }
    }

    /// Goes on with what waits; whether a message of the client's does not any more.
    pub(crate) fn wake(&mut self, exchange: &mut Exchange) -> bool {
        let held = self.socket.holds();
        let out = self.act(|socket, world| socket.wake(exchange, world));
        self.unsent.extend(out);
        if !held || self.socket.holds() {
            return false;
        }
        host::set_body(BufferType::HttpRequestBody, 0, &std::mem::take(&mut self.unsent));
        true
    }

    /// Takes what is in the buffer of the backend's side.
    pub(crate) fn backend_says(&mut self, bytes: usize, exchange: &Exchange) {
        let came = host::body(BufferType::HttpResponseBody, bytes);
        let goes = self.act(|socket, world| socket.backend_says(&came, exchange, world));
        if goes != came {
            host::set_body(BufferType::HttpResponseBody, bytes, &goes);
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, interruption: impl Fn() -> Interruption) -> Turns {
        self.act(|socket, world| socket.end(world, interruption))
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Socket, &mut World<'_>) -> T) -> T {
        let (now, gateway) = (host::now(), self.gateway.clone());
        let mut reserve = |claim, since| match fleet::reserve(&gateway, claim, since, now) {
            Reserved::Now(grant) => Asked::Now(grant),
            Reserved::Later(claim) => Asked::Later(claim),
        };
        let moment = Moment::new(&host::SharedData, now);
        act(&mut self.socket, &mut World { moment, reserve: &mut reserve })
    }
}
