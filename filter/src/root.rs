//! The root contexts: read the configuration once, then make a context for each stream.

use crate::holding::Holding;
use crate::{
    access, attempt, configuration, directory, ended, fetched, fleet, host, http, jobs, journal, proxy_facts,
    sockets, standings, waiting,
};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use std::rc::Rc;
use tollgate::gateway::Gateway;
use tollgate::store::Moment;

/// A plugin of this VM, in one of its roles.
#[derive(Default)]
pub(crate) enum Root {
    /// Not configured yet, or in vain.
    #[default]
    Idle,
    /// In the listener's chain.
    Gateway(Rc<Gateway>, Rc<Holding>, Rc<fleet::Accounts>),
    /// Among the router's upstream filters.
    Attempt,
}

impl Root {
    fn configured() -> Result<Self, String> {
        let role = host::property(&["plugin_root_id"]).unwrap_or_default();
        match role.as_slice() {
            b"gateway" => {
                waiting::begin();
                let mut gateway = configuration::load()?;
                waiting::set_waiting_max(gateway.waiting_max);
                gateway.clients.trust(proxy_facts::Envoy);
                if let Err(fault) = gateway.enter_service(Moment::new(&host::SharedData, host::now())) {
                    log::error!("since when this configuration runs could not be noted: {fault:?}");
                }
                if let Some(client) = gateway.clients.anonymous() {
                    let name = &client.name.text;
                    log::warn!("client {name} is anonymous: whoever shows nothing is served as {name}");
                }
                if gateway.queue.as_ref().is_some_and(|queue| queue.key.is_none()) {
                    log::warn!("queue has no key_env: what clients ask lies open in it, and so do answers");
                }
                let gateway = Rc::new(gateway);
                journal::tick(&gateway);
                let accounts = Rc::new(fleet::configured(&gateway));
                ended::configured(&gateway, &accounts);
                standings::configured(gateway.clone());
                sockets::configured(&gateway);
                Ok(Self::Gateway(gateway, Rc::default(), accounts))
            }
            b"attempt" => Ok(Self::Attempt),
            other => Err(format!(
                "root_id {:?} is no role of Tollgate: expected gateway or attempt",
                String::from_utf8_lossy(other)
            )),
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_bytes: usize, _: usize) {
        let is_taken = fleet::answered(call, headers, body_bytes)
            || directory::answered(call, headers, body_bytes)
            || jobs::answered(call, headers, body_bytes)
            || access::answered(call, headers, body_bytes);
        if !is_taken {
            fetched::answered(call, headers, body_bytes);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match Self::configured() {
            Ok(root) => {
                *self = root;
                true
            }
            Err(problem) => {
                for line in problem.lines() {
                    log::error!("{line}");
                }
                false
            }
        }
    }

    fn on_queue_ready(&mut self, _: u32) {
        fleet::call();
        jobs::call();
    }

    fn on_tick(&mut self) {
        // Before streams are looked at, in whose names nothing can be fetched.
        if let Self::Gateway(gateway, _, accounts) = self {
            journal::tick(gateway);
            standings::tick();
            fetched::tick(gateway);
            directory::tick(gateway);
            access::tick(gateway);
            fleet::tick(gateway, accounts);
            ended::tick();
        }
        let lost = jobs::lost();
        waiting::tick();
        jobs::forget(lost);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        match self {
            Self::Idle => None,
            Self::Gateway(gateway, holding, _) => {
                Some(Box::new(http::Downstream::new(id, gateway.clone(), holding.clone())))
            }
            Self::Attempt => Some(Box::new(attempt::Upstream::new(id))),
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
