//! One request and its answer, from the first header to the record, as the filter drives it.

use crate::samples::{self, DELTA, DONE, NOW, USAGE};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;
use tollgate::attempt::Begun;
use tollgate::exchange::{Exchange, Forward, Interruption, Origin, Step};
use tollgate::gateway::Gateway;
use tollgate::ledger::Outcome;
use tollgate::limits;
use tollgate::store::{MemoryStore, Moment, Outside};
use tollgate::tokens::Usage;

pub(crate) fn bench(criterion: &mut Criterion) {
    let gateway = samples::gateway();
    let store = MemoryStore::default();
    let answer = samples::json_answer(2 << 10);
    let events: Vec<&[u8]> = std::iter::repeat_n(DELTA, 100).chain([USAGE, DONE]).collect();
    let whole: [&[u8]; 1] = [&answer];
    let chat = |request: Vec<u8>, content_type, answer, completion| Conversation {
        request_headers: samples::request_headers(),
        request,
        response_headers: samples::response_headers(content_type),
        answer,
        used: Usage { prompt: 500, completion, ..Usage::default() },
    };
    let conversations = [
        ("2 KB chat, JSON answer", chat(samples::chat_request(2 << 10), "application/json", &whole[..], 200)),
        ("1 MB chat, JSON answer", chat(samples::chat_request(1 << 20), "application/json", &whole[..], 200)),
        (
            "2 KB chat, 100-event stream",
            chat(samples::stream_request(2 << 10), "text/event-stream", &events[..], 100),
        ),
    ];
    let mut now = NOW;
    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(1));
    for (name, conversation) in &conversations {
        group.bench_with_input(BenchmarkId::from_parameter(name), conversation, |bencher, conversation| {
            bencher.iter(|| {
                now += Duration::from_millis(1);
                conversation.hold(gateway.clone(), &store, now)
            });
        });
    }
    group.finish();
}

/// All that Envoy hands over.
struct Conversation<'a> {
    request_headers: Vec<(String, Vec<u8>)>,
    request: Vec<u8>,
    response_headers: Vec<(String, Vec<u8>)>,
    answer: &'a [&'a [u8]],
    /// What the answer says.
    used: Usage,
}

impl Conversation<'_> {
    /// Answers how many series are counted up for it.
    fn hold(&self, gateway: Rc<Gateway>, store: &MemoryStore, now: Duration) -> usize {
        let mut exchange = Exchange::new(gateway);
        let _ = black_box(exchange.request_head(
            black_box(&self.request_headers),
            false,
            Moment::new(store, now),
        ));
        let Step::Reserve(claim) = exchange.request_body(black_box(&self.request), Moment::new(store, now))
        else {
            panic!("the request is refused");
        };
        let grant = limits::reserve(Moment::new(store, now), claim);
        let Step::Forward(Forward { flight, patch, .. }) = exchange.reserved(grant) else {
            panic!("there is no budget, or no backend");
        };
        black_box(patch);

        let clock = || now;
        let outside = Outside::new(store, &clock);
        let Begun { mut attempt, departure, .. } = flight.begin(b"ptu", &outside).unwrap();
        let _ = black_box(departure);
        let _ = black_box(attempt.response_head(self.response_headers.clone(), false, &outside));

        let _ =
            black_box(exchange.response_head(black_box(&self.response_headers), false, || Origin::Backend));
        let last = self.answer.len() - 1;
        for (at, chunk) in self.answer.iter().enumerate() {
            let _ = black_box(exchange.response_chunk(black_box(chunk), at == last, || now));
        }

        let finished = exchange.finish(Moment::new(store, now), || Interruption::Other);
        assert_eq!((finished.record.outcome, finished.record.usage), (Outcome::Served, self.used));
        for settlement in &finished.settlements {
            limits::settle(Moment::new(store, now), settlement).unwrap();
        }
        finished.record.additions().len()
    }
}
