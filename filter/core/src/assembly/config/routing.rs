//! Can an Envoy that lacks a part be told where requests go?

pub(super) mod wire;

use super::{Backends, Build, one_of};
use crate::endpoint::Style;
use crate::gateway::Model;
use crate::route::{Backend, Fitted, Pool, Routing, Target};
use std::collections::HashMap;
use std::rc::Rc;

/// Targets that a request may go to one after the other, and where the configuration says so.
struct Company<'c> {
    path: String,
    targets: Vec<&'c Rc<Target>>,
}

impl Build<'_> {
    pub(super) fn routing(
        &mut self,
        wire: wire::Routing,
        backends: &Backends,
        models: &[Rc<Model>],
        other: &[Rc<Target>],
    ) -> Routing {
        let served = || models.iter().map(|model| model.targets.as_slice()).chain([other]);
        if let (Some(_), true) =
            (&wire.order, wire.pools.is_some() || matches!(wire.fitted, wire::Fitted::Once))
        {
            let problem =
                "has no meaning beside pools or fitted: once: expected only where the route reads the order";
            self.fault("routing.order".to_owned(), problem);
        }
        let order = self.listed("routing.order", &wire.order.unwrap_or_default(), backends);
        let order = order.iter().map(|backend| backend.cluster.clone()).collect();
        let pools = wire.pools.map(|pools| self.pools(&pools, backends, served));
        let fitted = match wire.fitted {
            wire::Fitted::EachAttempt => Fitted::EachAttempt,
            wire::Fitted::Once => Fitted::Once,
        };
        if fitted == Fitted::Once {
            for company in companies(pools.as_deref(), models, other) {
                self.agree(&company);
            }
            self.needs_each_attempt(models);
        }
        Routing { pools, order, fitted }
    }

    /// Refuses what is measured or taken at each attempt, where the request is fitted once.
    fn needs_each_attempt(&mut self, models: &[Rc<Model>]) {
        for (at, model) in models.iter().enumerate() {
            let wanted =
                [("order_by", model.nearness.is_some()), ("spill.limits", model.spill.budget.is_some())];
            for (field, _) in wanted.into_iter().filter(|(_, is_set)| *is_set) {
                let problem =
                    "needs routing.fitted: each_attempt, for it is measured or taken at each attempt";
                self.fault(format!("models[{at}].{field}"), problem);
            }
        }
    }

    fn pools<'t, S: Iterator<Item = &'t [Rc<Target>]>>(
        &mut self,
        wire: &[wire::Pool],
        backends: &Backends,
        served: impl Fn() -> S,
    ) -> Vec<Pool> {
        let mut clusters: HashMap<String, String> = backends
            .values()
            .flatten()
            .map(|backend| (backend.cluster.to_string(), format!("backend {:?}", backend.name)))
            .collect();
        let mut pools = Vec::new();
        for (at, pool) in wire.iter().enumerate() {
            let path = format!("routing.pools[{at}]");
            let cluster = self.name(format!("{path}.cluster"), &pool.cluster);
            if let Some(owner) = clusters.insert(pool.cluster.clone(), path.clone()) {
                let problem =
                    format!("{:?} is the cluster of {owner}: expected one of the pool's own", pool.cluster);
                self.fault(format!("{path}.cluster"), problem);
            }
            let faults = self.errors.len();
            let members = self.members(&format!("{path}.backends"), &pool.backends, backends);
            let serves = |targets: &[Rc<Target>]| {
                members.iter().all(|member| targets.iter().any(|target| is_at(target, member)))
            };
            if self.errors.len() == faults && members.len() == pool.backends.len() && !served().any(serves) {
                let problem = "no model is served by all of them: expected backends of one model";
                self.fault(format!("{path}.backends"), problem);
            }
            pools.push(Pool { cluster, members });
        }
        pools
    }

    fn members(&mut self, path: &str, wire: &[String], backends: &Backends) -> Vec<Rc<Backend>> {
        if wire.len() < 2 {
            self.fault(path.to_owned(), "expected at least two: one alone needs no pool");
        }
        self.listed(path, wire, backends)
    }

    /// Those that have a fault of their own are left out.
    fn listed(&mut self, path: &str, wire: &[String], backends: &Backends) -> Vec<Rc<Backend>> {
        let mut members = Vec::new();
        for (at, name) in wire.iter().enumerate() {
            let path = format!("{path}[{at}]");
            match backends.get(name) {
                _ if wire.iter().take(at).any(|earlier| earlier == name) => {
                    self.fault(path, format!("{name:?} stands more than once"));
                }
                None => {
                    let known = one_of(backends.keys());
                    self.fault(path, format!("no backend is named {name:?}: expected {known}"));
                }
                Some(backend) => members.extend(backend.clone()),
            }
        }
        members
    }

    /// Where a request is fitted once, all that it may go to are asked alike.
    fn agree(&mut self, company: &Company<'_>) {
        let Some((first, others)) = company.targets.split_first() else { return };
        let difference = others.iter().find_map(|other| Some((other, difference(first, other)?)));
        if let Some((other, what)) = difference {
            let problem = format!(
                "backends {:?} and {:?} differ in {what}: expected the same at all that one request may go to, where \
                 it is fitted once",
                first.word, other.word
            );
            self.fault(company.path.clone(), problem);
        }
    }
}

fn is_at(target: &Target, backend: &Backend) -> bool {
    target.backend.cluster == backend.cluster
}

/// Where a request's path and credential must do for more than one backend.
fn companies<'c>(
    pools: Option<&[Pool]>,
    models: &'c [Rc<Model>],
    other: &'c [Rc<Target>],
) -> Vec<Company<'c>> {
    let Some(pools) = pools else {
        let of = |(at, model): (usize, &'c Rc<Model>)| Company {
            path: format!("models[{at}].backends"),
            targets: model.targets.iter().collect(),
        };
        let other = Company { path: "other_endpoints".to_owned(), targets: other.iter().collect() };
        return models.iter().enumerate().map(of).chain([other]).collect();
    };
    let mut companies = Vec::new();
    for (at, pool) in pools.iter().enumerate() {
        for targets in models.iter().map(|model| model.targets.as_slice()).chain([other]) {
            // Of several deployments at a member a request may go to any.
            let at_member = |member: &Rc<Backend>| {
                let there: Vec<_> = targets.iter().filter(|target| is_at(target, member)).collect();
                (!there.is_empty()).then_some(there)
            };
            let targets: Option<Vec<_>> = pool.members.iter().map(at_member).collect();
            let path = format!("routing.pools[{at}].backends");
            companies.extend(targets.map(|targets| Company { path, targets: targets.concat() }));
        }
    }
    companies
}

/// What would have to be set for each of them.
fn difference(one: &Target, other: &Target) -> Option<&'static str> {
    match (&one.backend.style, &other.backend.style) {
        (Style::Azure(version), Style::Azure(others)) if version != others => Some("api_version"),
        (one, other) if one != other => Some("style"),
        _ if one.backend.base != other.backend.base => Some("base_path"),
        _ if one.backend.credential != other.backend.credential => Some("credential"),
        _ if one.deployment != other.deployment => Some("deployment"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::from_value;
    use serde_json::{Value, json};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// `a` and `b` are asked alike for `m`; `c` has another style, `d` another key, `e` another deployment.
    fn whole() -> Value {
        let azure = |name: &str, env: &str| {
            json!({ "name": name, "cluster": name, "style": "azure", "api_version": "2024-10-21",
                    "credential": { "header": "api-key", "env": env } })
        };
        json!({
            "clients": [{ "name": "web", "anonymous": true, "models": ["*"] }],
            "models": [
                { "name": "m", "backends": [
                    { "backend": "a", "deployment": "x" }, { "backend": "b", "deployment": "x" },
                    { "backend": "c" }, { "backend": "d", "deployment": "x" }, { "backend": "e", "deployment": "y" },
                ] },
                { "name": "n", "backends": [{ "backend": "a", "deployment": "n" }, { "backend": "b", "deployment": "n" }] },
            ],
            "backends": [
                azure("a", "A"), azure("b", "A"), { "name": "c", "cluster": "c", "style": "openai" },
                azure("d", "D"), azure("e", "A"), azure("f", "A"),
            ],
        })
    }

    #[track_caller]
    fn check(routing: Value, expected: &[&str]) {
        let mut config = whole();
        config["routing"] = routing;
        let env = |name: &str| Some(format!("secret-{name}"));
        let found = from_value(config, &env).err().unwrap_or_default();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_pool_is_of_backends_that_one_model_has() {
        check(json!({ "pools": [{ "cluster": "p", "backends": ["a", "c", "b"] }] }), &[]);
        check(json!({ "pools": [] }), &[]);
        let pools = json!({ "pools": [
            { "cluster": "p", "backends": ["a"] },
            { "cluster": "c", "backends": ["a", "b"] },
            { "cluster": "p", "backends": ["a", "a"] },
            { "cluster": "q", "backends": ["a", "z"] },
            { "cluster": "r", "backends": ["a", "f"] },
        ] });
        check(
            pools,
            &[
                "routing.pools[0].backends: expected at least two: one alone needs no pool",
                "routing.pools[1].cluster: \"c\" is the cluster of backend \"c\": expected one of the pool's own",
                "routing.pools[2].cluster: \"p\" is the cluster of routing.pools[0]: expected one of the pool's own",
                "routing.pools[2].backends[1]: \"a\" stands more than once",
                "routing.pools[3].backends[1]: no backend is named \"z\": expected one of \"a\", \"b\", \"c\", \"d\", \"e\", \"f\"",
                "routing.pools[4].backends: no model is served by all of them: expected backends of one model",
            ],
        );
        check(json!({ "pool": [] }), &["routing.pool: unknown field, expected one of pools, order, fitted"]);
        check(
            json!({ "fitted": "never" }),
            &["routing.fitted: unknown variant \"never\", expected \"each_attempt\" or \"once\""],
        );
    }

    #[test]
    fn an_order_is_of_backends_and_names_each_once() {
        check(json!({ "order": ["c", "a"] }), &[]);
        check(
            json!({ "order": ["a", "z", "a"] }),
            &[
                "routing.order[1]: no backend is named \"z\": expected one of \"a\", \"b\", \"c\", \"d\", \"e\", \"f\"",
                "routing.order[2]: \"a\" stands more than once",
            ],
        );
        let problem =
            "has no meaning beside pools or fitted: once: expected only where the route reads the order";
        let fault = format!("routing.order: {problem}");
        check(json!({ "order": ["a"], "pools": [] }), &[&fault]);
        let mut config = whole();
        config["models"].as_array_mut().unwrap().remove(0);
        config["routing"] = json!({ "order": ["a"], "fitted": "once" });
        let errors = from_value(config, &|name| Some(name.to_owned())).unwrap_err();
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [fault]);
    }

    fn differ(at: &str, one: &str, other: &str, what: &str) -> String {
        format!(
            "{at}: backends {one:?} and {other:?} differ in {what}: expected the same at all that one request may go to, \
             where it is fitted once"
        )
    }

    #[test]
    fn who_is_asked_by_a_request_that_is_fitted_once_is_asked_alike() {
        let once =
            |pool: &[&str]| json!({ "fitted": "once", "pools": [{ "cluster": "p", "backends": pool }] });
        check(once(&["a", "b"]), &[]);
        for (pool, what) in [("c", "style"), ("d", "credential"), ("e", "deployment")] {
            check(once(&["a", pool]), &[&differ("routing.pools[0].backends", "a", pool, what)]);
        }
        // Nobody goes from one to another.
        check(json!({ "fitted": "once", "pools": [] }), &[]);
        // A request may go to either deployment of the member, and on to the other backend.
        let mut config = whole();
        config["routing"] = once(&["a", "b"]);
        config["models"][0]["backends"][2] = json!({ "backend": "a", "deployment": "z" });
        let errors = from_value(config.clone(), &|name| Some(name.to_owned())).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, [differ("routing.pools[0].backends", "a/x", "a/z", "deployment")]);
        config["routing"]["pools"] = json!([]);
        assert!(from_value(config, &|name| Some(name.to_owned())).is_ok());
        // The whole order is told, so all of it must agree.
        check(json!({ "fitted": "once" }), &[&differ("models[0].backends", "a", "c", "style")]);
    }

    #[test]
    fn what_attempts_are_seen_for_is_refused_where_they_are_not() {
        let mut config = whole();
        config["routing"] = json!({ "fitted": "once" });
        config["models"].as_array_mut().unwrap().remove(0);
        config["models"][0]["order_by"] = json!("time_to_first_token");
        config["models"][0]["backends"][1]["priority"] = json!(1);
        config["models"][0]["spill"] = json!({ "limits": [{ "tokens": 9, "per": "day" }] });
        let errors = from_value(config, &|name| Some(name.to_owned())).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let problem = "needs routing.fitted: each_attempt, for it is measured or taken at each attempt";
        let expected =
            ["models[0].order_by", "models[0].spill.limits"].map(|field| format!("{field}: {problem}"));
        assert_eq!(errors, expected);
    }

    #[test]
    fn another_version_or_base_path_is_another_way_to_ask() {
        for (field, value) in [("api_version", "2024-06-01"), ("base_path", "/gateway/openai")] {
            let mut config = whole();
            config["routing"] = json!({ "fitted": "once" });
            config["models"].as_array_mut().unwrap().remove(0);
            config["backends"][1][field] = json!(value);
            config["other_endpoints"] = json!(["b", "d"]);
            let errors = from_value(config, &|name| Some(name.to_owned())).unwrap_err();
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(
                errors,
                [differ("models[0].backends", "a", "b", field), differ("other_endpoints", "b", "d", field),]
            );
        }
    }
}
