//! A request's body: read, held to the policy, estimated, and edited.

use crate::samples::{self, chat_request, chat_request_options_first, image_request, stream_request};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use tollgate::endpoint::Operation;
use tollgate::estimate::{self, Learnt};
use tollgate::json::Patch;
use tollgate::policy::{self, Asked, Policy};
use tollgate::request::{Family, Request};

pub(crate) fn bench(criterion: &mut Criterion) {
    let gateway = samples::gateway();
    let client = samples::client(&gateway);
    let mut group = criterion.benchmark_group("body");
    let bodies = [
        ("777 B", chat_request(777)),
        ("2 KB", chat_request(2 << 10)),
        ("2 KB, a stream", stream_request(2 << 10)),
        ("64 KB", chat_request(64 << 10)),
        ("1 MB", chat_request(1 << 20)),
        ("1 MB, options first", chat_request_options_first(1 << 20)),
        ("1 MB, an image", image_request(1 << 20)),
    ];
    for (name, body) in &bodies {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("parse and edit", name), body, |bencher, body| {
            bencher.iter(|| parse_and_edit(black_box(body), &client.policy));
        });
    }
    let every_rule = samples::every_rule();
    for (name, body) in &bodies {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("hold to every rule", name), body, |bencher, body| {
            bencher.iter(|| parse_and_edit(black_box(body), &every_rule));
        });
    }
    group.finish();
}

/// What an exchange does with a body.
fn parse_and_edit(body: &[u8], policy: &Policy) -> (u64, Option<Patch>) {
    let mut request = Request::read(body).unwrap();
    let prompt_tokens = Learnt::default().prompt_tokens(&estimate::sketch(request.prompt.iter().copied()));
    let asked = Asked { operation: Operation::ChatCompletions, family: Family::Gpt4, prompt_tokens };
    let ceiling = policy::apply(policy, &asked, &mut request).unwrap().ceiling;
    request.set_model("gpt-4o-ptu");
    if request.stream {
        request.ask_for_usage();
    }
    (prompt_tokens + ceiling.tokens(), request.patch())
}
