//! What Envoy offers: shared data, metrics, properties, headers, the clock.
//!
//! Byte getters only: the SDK's string getters panic on values that are not UTF-8. A host call that fails is answered
//! with what a caller can go on with, and logged where it should not happen.

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType, Status};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tollgate::access::Question;
use tollgate::answer::Answer;
use tollgate::digest::Fnv1a;
use tollgate::fetching::Fetch;
use tollgate::gateway::{Broker, Message};
use tollgate::identity::fetched::Origin;
use tollgate::ledger::{Kind, Series};
use tollgate::store::{GLANCE_MAX, Loaded, Outside, Store, StoreFault, Swap, Version};

/// The time, since the epoch.
pub(crate) fn now() -> Duration {
    hostcalls::get_current_time()
        .ok()
        .and_then(|now| now.duration_since(SystemTime::UNIX_EPOCH).ok())
        .unwrap_or_default()
}

/// Envoy's shared data: one table for all workers of the process.
pub(crate) struct SharedData;

/// The shared data and the clock, for one callback.
pub(crate) const fn outside() -> Outside<'static> {
    Outside::new(&SharedData, &now)
}

/// What this worker has last seen of the key that it glances at: only one is.
struct Glanced {
    key: String,
    value: Rc<[u8]>,
    at: Duration,
}

thread_local! {
    static GLANCED: RefCell<Option<Glanced>> = const { RefCell::new(None) };
}

/// What is about to be written is not what was seen.
fn forget_glance(key: &str) {
    GLANCED.with_borrow_mut(|glanced| {
        glanced.take_if(|glanced| glanced.key == key);
    });
}

/// A version that no key ever has: a write with it stands only where there is nothing yet.
const NO_VERSION: u32 = u32::MAX;

impl Store for SharedData {
    fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
        let (value, version) = hostcalls::get_shared_data(key).map_err(|_| StoreFault::Unavailable)?;
        Ok(Loaded { value: value.unwrap_or_default(), version: Version(version) })
    }

    fn glance(&self, key: &str, now: Duration) -> Result<Rc<[u8]>, StoreFault> {
        let seen = GLANCED.with_borrow(|glanced| {
            let glanced = glanced.as_ref().filter(|glanced| glanced.key == key)?;
            (now.abs_diff(glanced.at) < GLANCE_MAX).then(|| glanced.value.clone())
        });
        if let Some(value) = seen {
            return Ok(value);
        }
        let value: Rc<[u8]> = self.load(key)?.value.into();
        let glanced = Glanced { key: key.to_owned(), value: value.clone(), at: now };
        GLANCED.set(Some(glanced));
        Ok(value)
    }

    fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
        forget_glance(key);
        match hostcalls::set_shared_data(key, Some(value), Some(version.0.unwrap_or(NO_VERSION))) {
            Ok(()) => Ok(Swap::Done),
            Err(Status::CasMismatch) => Ok(Swap::Stale),
            Err(_) => Err(StoreFault::Unavailable),
        }
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
        forget_glance(key);
        hostcalls::set_shared_data(key, Some(value), None).map_err(|_| StoreFault::Unavailable)
    }
}

/// From now on the root context's tick comes this often.
pub(crate) fn tick_every(period: Duration) {
    if let Err(status) = hostcalls::set_tick_period(period) {
        log::error!("no tick can be had: {status:?}");
    }
}

/// Makes the host calls that follow be about this stream. False if it is gone.
pub(crate) fn act_for(id: u32) -> bool {
    hostcalls::set_effective_context(id).is_ok()
}

/// Lets a request go on that was held.
pub(crate) fn resume_request() {
    if let Err(status) = hostcalls::resume_http_request() {
        log::error!("a request that waited could not go on: {status:?}");
    }
}

thread_local! {
    static METRICS: RefCell<HashMap<Series, u32, BuildHasherDefault<Fnv1a>>> = RefCell::default();
}

/// What the store answered; its fault is logged, with what could not be done, and counted.
pub(crate) fn answered<T>(result: Result<T, StoreFault>, failure: &str) -> Option<T> {
    if let Err(fault) = &result {
        log::error!("{failure}: {fault:?}");
        count(Series::StoreFaults, 1);
    }
    result.ok()
}

/// Adds to a counter or a histogram, or sets a gauge, each of which is defined when it is first met.
pub(crate) fn count(series: Series, amount: u64) {
    let known = METRICS.with_borrow(|metrics| metrics.get(&series).copied());
    let is_counter = series.kind() == Kind::Counter;
    let metric = match known {
        Some(metric) => metric,
        None => match hostcalls::define_metric(kind(&series), &series.name()) {
            Ok(metric) => {
                METRICS.with_borrow_mut(|metrics| metrics.insert(series, metric));
                metric
            }
            Err(status) => {
                log::error!("Envoy refused the metric {}: {status:?}", series.name());
                return;
            }
        },
    };
    let counted = if is_counter {
        hostcalls::increment_metric(metric, i64::try_from(amount).unwrap_or(i64::MAX))
    } else {
        hostcalls::record_metric(metric, amount)
    };
    if let Err(status) = counted {
        log::error!("a metric could not be counted: {status:?}");
    }
}

fn kind(series: &Series) -> MetricType {
    match series.kind() {
        Kind::Counter => MetricType::Counter,
        Kind::Histogram => MetricType::Histogram,
        Kind::Gauge => MetricType::Gauge,
    }
}

/// A property of the stream, if it is there.
pub(crate) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// Sets a property of the stream; Envoy's logs and filters read it as filter state `wasm.NAME`.
pub(crate) fn set_property(name: &str, value: &[u8]) {
    if let Err(status) = hostcalls::set_property(vec![name], Some(value)) {
        log::error!("the property {name} could not be set: {status:?}");
    }
}

/// All headers at once: from the third one on cheaper than one by one, and repeated ones are seen.
pub(crate) fn headers(map: MapType) -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(map).unwrap_or_default()
}

/// One header, for where only one is needed.
pub(crate) fn header(map: MapType, name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(map, name).ok().flatten()
}

/// Sets a header, in place of all of this name.
pub(crate) fn set_header(map: MapType, name: &str, value: &str) {
    if let Err(status) = hostcalls::set_map_value(map, name, Some(value)) {
        log::error!("the header {name} could not be set: {status:?}");
    }
}

/// Removes a header.
pub(crate) fn remove_header(map: MapType, name: &str) {
    if let Err(status) = hostcalls::remove_map_value(map, name) {
        log::error!("the header {name} could not be removed: {status:?}");
    }
}

/// The most changes of headers that are made one by one. To remove one costs as much as two of those that all headers are
/// written with (measured on 1.40).
const SINGLE_EDITS_MAX: usize = 3;

/// Removes headers and then sets others, in place of all of their names. `headers` is the whole map as it is now: many
/// changes are made by writing it anew, which is one call.
pub(crate) fn edit_headers(
    map: MapType,
    headers: &[(String, Vec<u8>)],
    remove: &[String],
    set: &[(&'static str, String)],
) {
    if remove.len() + set.len() <= SINGLE_EDITS_MAX {
        remove.iter().for_each(|name| remove_header(map, name));
        set.iter().for_each(|(name, value)| set_header(map, name, value));
        return;
    }
    let is_kept = |name: &String| !remove.contains(name) && set.iter().all(|(other, _)| other != name);
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    // Of a name that is set twice, the last one holds.
    let is_last = |at: usize, name: &str| set.iter().skip(at + 1).all(|(other, _)| *other != name);
    let new = set.iter().enumerate().filter(|(at, (name, _))| is_last(*at, name));
    let written = kept
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .chain(new.map(|(_, (name, value))| (*name, value.as_bytes())));
    if let Err(status) = hostcalls::set_map_bytes(map, written.collect()) {
        log::error!("{map:?} could not be changed: {status:?}");
    }
}

/// Removes all headers, or trailers.
pub(crate) fn remove_all(map: MapType) {
    if let Err(status) = hostcalls::set_map(map, Vec::new()) {
        log::error!("{map:?} could not be removed: {status:?}");
    }
}

/// The first `bytes` of a body.
pub(crate) fn body(buffer: BufferType, bytes: usize) -> Vec<u8> {
    hostcalls::get_buffer(buffer, 0, bytes).ok().flatten().unwrap_or_default()
}

/// Replaces the first `replaced` bytes of a body.
pub(crate) fn set_body(buffer: BufferType, replaced: usize, bytes: &[u8]) {
    if let Err(status) = hostcalls::set_buffer(buffer, 0, replaced, bytes) {
        log::error!("a body could not be changed: {status:?}");
    }
}

/// Asks a cluster for something; the answer comes to the root context, under this number.
///
/// With an `etag` the answer may be that it is the same still.
pub(crate) fn fetch(origin: &Origin, etag: Option<&str>) -> Option<u32> {
    let mut headers = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &*origin.host),
        (":path", &origin.path),
        ("accept", "application/json"),
    ];
    headers.extend(etag.map(|etag| ("if-none-match", etag)));
    dispatch(&origin.cluster, headers, None, origin.timeout)
}

/// Asks for a token; the answer comes to the root context, under this number.
pub(crate) fn ask(question: &Question<'_>, timeout: Duration) -> Option<u32> {
    let headers = vec![
        (":method", question.method),
        (":scheme", "https"),
        (":authority", question.host),
        (":path", &question.path),
        question.header,
    ];
    dispatch(question.cluster, headers, question.body.as_deref().map(str::as_bytes), timeout)
}

/// Publishes a message; the answer comes to the root context, under this number.
pub(crate) fn publish(broker: &Broker, message: &Message) -> Option<u32> {
    let mut headers = vec![
        (":method", broker.method),
        (":scheme", "https"),
        (":authority", &broker.authority),
        (":path", &message.path),
    ];
    headers.extend(message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    dispatch(&broker.cluster, headers, Some(&message.body), broker.timeout)
}

/// Sends a body to a cluster; the answer comes to the root context, under this number.
pub(crate) fn post(cluster: &str, path: &str, body: &[u8], timeout: Duration) -> Option<u32> {
    let headers = vec![(":method", "POST"), (":scheme", "http"), (":authority", cluster), (":path", path)];
    dispatch(cluster, headers, Some(body), timeout)
}

fn dispatch(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: Option<&[u8]>,
    timeout: Duration,
) -> Option<u32> {
    match hostcalls::dispatch_http_call(cluster, headers, body, Vec::new(), timeout) {
        Ok(call) => Some(call),
        Err(status) => {
            log::error!("cluster {cluster} cannot be asked: {status:?}");
            None
        }
    }
}

/// A queue of this name, whose messages bring the root context.
pub(crate) fn queue(name: &str) -> Option<u32> {
    match hostcalls::register_shared_queue(name) {
        Ok(queue) => Some(queue),
        Err(status) => {
            log::error!("the queue {name} cannot be had: {status:?}");
            None
        }
    }
}

/// Sends a message that says nothing. False if it cannot be sent.
pub(crate) fn enqueue(queue: u32) -> bool {
    match hostcalls::enqueue_shared_queue(queue, Some(b"!")) {
        Ok(()) => true,
        Err(status) => {
            log::error!("a queue takes nothing: {status:?}");
            false
        }
    }
}

/// Takes all messages out.
pub(crate) fn empty_queue(queue: u32) {
    while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
}

/// What a fetch has brought; a body that is not too long is read.
pub(crate) fn fetched(headers: usize, body_bytes: usize, bytes_max: usize, body: &mut Vec<u8>) -> Fetch<'_> {
    let status = if headers == 0 { None } else { fetched_status() };
    match status {
        // Envoy's own words for what did not come, or not in time.
        None | Some(503 | 504) => Fetch::Nothing,
        Some(304) => Fetch::Unchanged,
        Some(200) if body_bytes > bytes_max => Fetch::TooLong,
        Some(200) => {
            *body = fetched_body(body_bytes);
            Fetch::Body(body)
        }
        Some(_) => Fetch::Refusal,
    }
}

/// The `etag` of the answer to a fetch, if that has headers.
pub(crate) fn fetched_etag(headers: usize) -> Option<String> {
    // The SDK's getters do not bear an answer without headers, which is a call that was reset.
    if headers == 0 {
        return None;
    }
    let etag = header(MapType::HttpCallResponseHeaders, "etag")?;
    String::from_utf8(etag).ok().filter(|etag| etag.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// The status of the answer to a fetch.
pub(crate) fn fetched_status() -> Option<u16> {
    let status = header(MapType::HttpCallResponseHeaders, ":status")?;
    std::str::from_utf8(&status).ok()?.parse().ok()
}

/// The body of the answer to a fetch.
pub(crate) fn fetched_body(bytes: usize) -> Vec<u8> {
    body(BufferType::HttpCallResponseBody, bytes)
}

/// Answers in the backend's place.
pub(crate) fn answer(answer: &Answer) {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if let Err(status) = hostcalls::send_http_response(u32::from(answer.status), headers, Some(&answer.body))
    {
        log::error!("an answer could not be sent: {status:?}");
    }
}
