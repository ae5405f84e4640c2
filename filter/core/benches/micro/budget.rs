//! A budget: tokens taken before a request, and put back after it.

use crate::samples::{self, NOW};
use criterion::Criterion;
use std::hint::black_box;
use std::time::Duration;
use tollgate::endpoint::Operation;
use tollgate::limits::{self, Claim, Grant, Part, Spent};
use tollgate::store::{MemoryStore, Moment};
use tollgate::tokens::Usage;

pub(crate) fn bench(criterion: &mut Criterion) {
    let gateway = samples::gateway();
    let client = samples::client(&gateway);
    let store = MemoryStore::default();
    let mut now = NOW;
    criterion.bench_function("budget/reserve and settle, two limits", |bencher| {
        bencher.iter(|| {
            // Time goes on, so that the budget is never spent.
            now += Duration::from_millis(1);
            let claim = Claim {
                part: Part::All,
                budget: client.budget.clone(),
                model: None,
                operation: Operation::ChatCompletions,
                usage: Usage { prompt: black_box(1000), ..Usage::default() },
                cost: 0,
            };
            let Grant::Granted(granted) = limits::reserve(Moment::new(&store, now), claim).unwrap() else {
                panic!("the budget is spent");
            };
            let usage = Usage { prompt: black_box(700), ..Usage::default() };
            let spent = Spent { usage, cost: 0, requests: 1 };
            limits::settle(Moment::new(&store, now), &granted.reservation.settle(spent)).unwrap();
            granted.standing
        });
    });
}
