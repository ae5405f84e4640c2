//! An answer as it streams by: events, whole and cut, and JSON.

use crate::samples::{DELTA, USAGE, json_answer};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use tollgate::endpoint::Operation;
use tollgate::usage::{Format, Reader, UsageEvent};

pub(crate) fn bench(criterion: &mut Criterion) {
    events(criterion);
    usage_event(criterion);
    json(criterion);
}

fn reader(format: Format, usage_event: UsageEvent) -> Reader {
    Reader::new(format, Operation::ChatCompletions, usage_event)
}

/// Events that carry no usage: nearly all there are. The time is that of all events of the chunks.
fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    let eight = DELTA.repeat(8);
    // However the network cuts: three pieces to an event, none at its end.
    let cut: Vec<_> = eight.chunks(DELTA.len() / 3 + 1).collect();
    let chunkings: [(&str, u64, Vec<&[u8]>); 3] =
        [("1 event", 1, vec![DELTA]), ("8 events in one chunk", 8, vec![&eight]), ("8 events cut", 8, cut)];
    for (mode, usage_event) in [("hide", UsageEvent::Hide), ("watch", UsageEvent::Show)] {
        for (name, events, chunks) in &chunkings {
            group.throughput(Throughput::Elements(*events));
            group.bench_with_input(BenchmarkId::new(mode, name), chunks, |bencher, chunks| {
                let mut reader = reader(Format::Events, usage_event);
                bencher.iter(|| {
                    for chunk in chunks {
                        let _ = black_box(reader.push(black_box(chunk), false));
                    }
                });
            });
        }
    }
    group.finish();
}

/// The one event that is parsed.
fn usage_event(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(1));
    for (mode, usage_event) in [("hide", UsageEvent::Hide), ("watch", UsageEvent::Show)] {
        group.bench_function(BenchmarkId::new(mode, "the usage event"), |bencher| {
            let mut reader = reader(Format::Events, usage_event);
            bencher.iter(|| reader.push(black_box(USAGE), false));
            assert_eq!(reader.usage().map(|usage| usage.total()), Some(600));
        });
    }
    group.finish();
}

fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json answer");
    for (name, bytes) in [("2 KB", 2 << 10), ("64 KB", 64 << 10)] {
        let answer = json_answer(bytes);
        group.throughput(Throughput::Bytes(answer.len() as u64));
        group.bench_with_input(BenchmarkId::new("scan", name), &answer, |bencher, answer| {
            bencher.iter_batched(
                || reader(Format::Json, UsageEvent::Show),
                |mut reader| {
                    let _ = reader.push(black_box(answer), true);
                    assert!(reader.usage().is_some());
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
