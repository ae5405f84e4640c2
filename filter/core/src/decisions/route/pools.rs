//! Which one cluster stands for the targets, where Envoy's route reads a name and not a list?
//!
//! Envoy goes down a pool's members by itself and asks nobody again, so a pool may stand for the targets only if each of
//! its members is one of them: whoever was left out, for its region, its pause or anything else, stays left out.

use super::{Backend, Target};
use std::rc::Rc;

/// An Envoy cluster of other clusters, which are tried in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What Envoy calls it.
    pub cluster: Rc<str>,
    /// The backends whose clusters it is made of.
    pub members: Vec<Rc<Backend>>,
}

/// How Envoy is told where a request goes, and who fits the request to its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Those that Envoy has; `None` where its route reads the whole order.
    pub pools: Option<Vec<Pool>>,
    /// The clusters that the route goes down by itself, in its order; empty where that is not known.
    pub order: Vec<Rc<str>>,
    /// Who sets path and credential.
    pub fitted: Fitted,
}

/// Who sets path and credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitted {
    /// Each attempt, for the backend that it goes to.
    EachAttempt,
    /// The listener's filter, for all attempts: its candidates are asked alike.
    Once,
}

impl Routing {
    /// The targets that Envoy will try, in its order, and the cluster that it is told; `None` if it is told them all.
    #[must_use]
    pub fn way(&self, targets: Vec<Rc<Target>>) -> (Option<Rc<str>>, Vec<Rc<Target>>) {
        let Some(pools) = &self.pools else { return (None, targets) };
        let Some(first) = targets.first() else { return (None, targets) };
        let usable = pools.iter().filter_map(|pool| Some((pool, pool.among(&targets)?)));
        // The first of equals, where `max_by_key` takes the last.
        match usable.rev().max_by_key(|(_, members)| members.len()) {
            Some((pool, members)) => (Some(pool.cluster.clone()), members),
            None => (Some(first.backend.cluster.clone()), vec![first.clone()]),
        }
    }

    /// Whether the route goes to these by itself, if it asks so many times more: what it would go to behind them is none of them.
    #[must_use]
    pub fn leads_to(&self, targets: &[Rc<Target>], retries: usize) -> bool {
        let is_there = |(target, cluster): (&Rc<Target>, &Rc<str>)| target.backend.cluster == *cluster;
        targets.len() <= self.order.len()
            && retries < targets.len()
            && targets.iter().zip(&self.order).all(is_there)
    }
}

impl Pool {
    /// Its members as targets, if all of them are, and the first is the first. Envoy goes to each member once, so of several
    /// deployments there only the first in the order is asked for.
    fn among(&self, targets: &[Rc<Target>]) -> Option<Vec<Rc<Target>>> {
        let of = |member: &Rc<Backend>| {
            targets.iter().find(|target| target.backend.cluster == member.cluster).cloned()
        };
        let members: Vec<_> = self.members.iter().map(of).collect::<Option<_>>()?;
        (members.first()?.number() == targets.first()?.number()).then_some(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Style;
    use crate::gauge::Gauges;
    use crate::route::Counts;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn target(name: char) -> Rc<Target> {
        let backend = Backend {
            name: name.to_string().into(),
            cluster: name.to_string().into(),
            style: Style::OpenAi,
            base: Style::OpenAi.base().into(),
            region: None,
            credential: None,
            gauges: Gauges::default(),
            counts: Counts::default(),
        };
        Rc::new(Target::new(Rc::new(backend), "d".into(), None))
    }

    /// Pools named by their members.
    fn routing(pools: &[&str]) -> Routing {
        let pool = |name: &&str| Pool {
            cluster: format!("pool-{name}").into(),
            members: name.chars().map(|member| target(member).backend.clone()).collect(),
        };
        Routing {
            pools: Some(pools.iter().map(pool).collect()),
            order: Vec::new(),
            fitted: Fitted::EachAttempt,
        }
    }

    fn names(targets: &[Rc<Target>]) -> String {
        targets.iter().map(|target| &*target.backend.name).collect()
    }

    #[track_caller]
    fn check(pools: &[&str], targets: &str, expected: (&str, &str)) {
        let (cluster, tried) = routing(pools).way(targets.chars().map(target).collect());
        assert_eq!((&*cluster.unwrap(), &*names(&tried)), expected);
    }

    #[test]
    fn the_largest_pool_that_begins_with_the_first_target_is_taken() {
        let pools = ["ab", "abc", "bc", "acb"];
        check(&pools, "abc", ("pool-abc", "abc"));
        check(&pools, "bc", ("pool-bc", "bc"));
        check(&pools, "abd", ("pool-ab", "ab"));
        // No pool begins with it, or has only what may be tried: its own cluster.
        check(&pools, "cab", ("c", "c"));
        check(&pools, "ac", ("a", "a"));
        check(&[], "ab", ("a", "a"));
    }

    #[test]
    fn the_route_leads_to_the_first_of_its_groups() {
        let order = ["a", "b", "c"].map(Rc::from).to_vec();
        let routing = Routing { pools: None, order, fitted: Fitted::EachAttempt };
        let leads = |targets: &str, retries| {
            routing.leads_to(&targets.chars().map(target).collect::<Vec<_>>(), retries)
        };
        for (targets, expected) in [
            ("abc", true),
            ("ab", true),
            ("a", true),
            ("b", false),
            ("ba", false),
            ("ac", false),
            ("aab", false),
            ("abcd", false),
        ] {
            assert_eq!(leads(targets, targets.len() - 1), expected, "{targets}");
        }
        // Asked once more, Envoy would go to what is behind them.
        assert!(!leads("ab", 2) && !leads("abc", 3));
        let routing = Routing { order: Vec::new(), ..routing };
        assert!(!routing.leads_to(&[target('a')], 0));
    }

    #[test]
    fn without_pools_the_whole_order_is_told() {
        let routing = Routing { pools: None, order: Vec::new(), fitted: Fitted::Once };
        let (cluster, tried) = routing.way("ab".chars().map(target).collect());
        assert_eq!((cluster, &*names(&tried)), (None, "ab"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_pool_never_brings_in_what_is_no_target(
            pools in proptest::collection::vec(proptest::sample::subsequence(vec!['a', 'b', 'c', 'd', 'e'], 2..=5), 0..6),
            targets in proptest::sample::subsequence(vec!['e', 'd', 'c', 'b', 'a'], 1..=5),
            turn in 0_usize..5,
        ) {
            let mut targets = targets;
            let at = turn % targets.len();
            targets.rotate_left(at);
            let pools: Vec<String> = pools.into_iter().map(|mut pool| {
                let at = turn % pool.len();
                pool.rotate_left(at);
                pool.into_iter().collect()
            }).collect();
            let pools: Vec<&str> = pools.iter().map(String::as_str).collect();
            let (cluster, tried) = routing(&pools).way(targets.iter().copied().map(target).collect());
            let tried = names(&tried);
            prop_assert!(tried.chars().all(|name| targets.contains(&name)));
            prop_assert_eq!(tried.chars().next(), targets.first().copied());
            // What is told is what will be tried.
            let cluster = cluster.unwrap();
            prop_assert_eq!(cluster.strip_prefix("pool-").unwrap_or(&cluster), tried);
        }
    }
}
