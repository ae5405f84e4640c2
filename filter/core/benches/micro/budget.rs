//! A budget: tokens taken before a request, and put back after it.

use crate::samples::{self, NOW};
use criterion::Criterion;
use std::hint::black_box;
use std::time::Duration;
use tollgate::limits::{self, Claim, Grant};
use tollgate::store::MemoryStore;

pub(crate) fn bench(criterion: &mut Criterion) {
    let gateway = samples::gateway();
    let client = gateway.clients.identify([("api-key", &b"key"[..])].into_iter()).unwrap();
    let store = MemoryStore::default();
    let mut now = NOW;
    criterion.bench_function("budget/reserve and settle, two limits", |bencher| {
        bencher.iter(|| {
            // Time goes on, so that the budget is never spent.
            now += Duration::from_millis(1);
            let claim = Claim { budget: client.budget.clone(), tokens: black_box(1000) };
            let Grant::Granted(reservation, standing) = limits::reserve(&store, claim, now).unwrap() else {
                panic!("the budget is spent");
            };
            limits::settle(&store, &reservation.settle(black_box(700)), now).unwrap();
            standing
        });
    });
}
