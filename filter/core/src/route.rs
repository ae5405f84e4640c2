//! Where may this request go, and in which order?
//!
//! The targets of a model in their configured order, less those that asked for a pause. The pauses stand in one record
//! that all workers share. Not decided here: what happens at a target; Envoy connects, balances and retries.

use crate::denial::Denial;
use crate::endpoint::Style;
use crate::gauge::Gauge;
use crate::store::{self, Store, StoreFault};
use crate::tokens::Prices;
use std::rc::Rc;
use std::time::Duration;

/// The longest pause that is taken from an answer: whatever a backend says, it is asked again after this.
pub const COOLDOWN_MAX: Duration = Duration::from_secs(600);

/// The pause after a 429 that names none.
pub const COOLDOWN_DEFAULT: Duration = Duration::from_secs(1);

/// Where the pauses are kept.
const KEY: &str = "tollgate/cooldowns";

/// A backend: one Envoy cluster, and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What the operator calls it; the word in logs and metrics.
    pub name: Rc<str>,
    /// What Envoy calls it.
    pub cluster: Rc<str>,
    /// How it wants to be asked.
    pub style: Style,
    /// Where it is, in the operator's word.
    pub region: Option<Rc<str>>,
    /// The header that lets us in; `None` where Envoy adds it.
    pub credential: Option<Credential>,
    /// How much all its deployments take together, if anybody said.
    pub gauge: Option<Gauge>,
    /// How that is counted, and what a deployment of its own takes.
    pub counts: Counts,
}

/// How a backend counts what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Over so long.
    pub window: Duration,
    /// Whether what was asked for and not used is given back.
    pub is_provisioned: bool,
}

/// A header with a secret in it, which does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `api-key` or `authorization`, in lower case.
    pub header: String,
    /// The whole value.
    pub value: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}: …)", self.header)
    }
}

/// A model at a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub backend: Rc<Backend>,
    /// What it is called there.
    pub deployment: Rc<str>,
    /// What it costs there, if anybody said.
    pub prices: Option<Prices>,
    /// How much it takes, if anybody said.
    pub gauge: Option<Gauge>,
    id: u64,
}

impl Target {
    /// A deployment at a backend.
    #[must_use]
    pub fn new(backend: Rc<Backend>, deployment: Rc<str>, prices: Option<Prices>) -> Self {
        let id = number_of(&[&backend.name, &deployment]);
        Self { gauge: backend.gauge, backend, deployment, prices, id }
    }

    /// The number by which its pauses are known.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.id
    }
}

/// A number for these names, for a record that outlives a configuration; of some hundred no two share one by chance.
#[must_use]
pub fn number_of(names: &[&str]) -> u64 {
    // FNV-1a. <http://www.isthe.com/chongo/tech/comp/fnv/>
    names
        .join("\0")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which targets have asked for a pause, as read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cooldowns {
    pauses: Vec<Pause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    target: u64,
    /// Nanoseconds since the epoch.
    until: u64,
}

impl Cooldowns {
    const BYTES: usize = 16;

    /// Reads them.
    pub fn load(store: &dyn Store) -> Result<Self, StoreFault> {
        Ok(Self::read(&store.load(KEY)?.value))
    }

    /// Writes that a target asked for a pause. A longer one that is known already stands.
    pub fn note(
        store: &dyn Store,
        target: &Target,
        pause: Duration,
        now: Duration,
    ) -> Result<(), StoreFault> {
        let now = nanos(now);
        let until = now.saturating_add(nanos(pause.min(COOLDOWN_MAX)));
        store::update(store, KEY, |record| {
            let mut pauses = Self::read(record).pauses;
            pauses.retain(|pause| pause.until > now);
            match pauses.iter_mut().find(|pause| pause.target == target.id) {
                Some(pause) if pause.until >= until => return (None, ()),
                Some(pause) => pause.until = until,
                None => pauses.push(Pause { target: target.id, until }),
            }
            (Some(Self { pauses }.write()), ())
        })
    }

    fn read(record: &[u8]) -> Self {
        let pauses = record.chunks_exact(Self::BYTES).filter_map(|bytes| {
            let (target, until) = bytes.split_at_checked(8)?;
            Some(Pause {
                target: u64::from_le_bytes(target.try_into().ok()?),
                until: u64::from_le_bytes(until.try_into().ok()?),
            })
        });
        Self { pauses: pauses.collect() }
    }

    fn write(&self) -> Vec<u8> {
        self.pauses
            .iter()
            .flat_map(|pause| [pause.target.to_le_bytes(), pause.until.to_le_bytes()].concat())
            .collect()
    }

    /// How long the target with this number is still to be left alone.
    #[must_use]
    pub fn remaining(&self, target: u64, now: Duration) -> Duration {
        let now = nanos(now);
        let pause = self.pauses.iter().find(|pause| pause.target == target);
        pause.map_or(Duration::ZERO, |pause| Duration::from_nanos(pause.until.saturating_sub(now)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The targets to try, best first; those that pause are behind the others if their capacity was declared, and left out
/// if not. When none is left, the refusal carries the shortest wait.
pub fn candidates(
    targets: &[Rc<Target>],
    cooldowns: &Cooldowns,
    now: Duration,
) -> Result<Vec<Rc<Target>>, Denial> {
    let (mut ready, pausing): (Vec<_>, Vec<_>) =
        targets.iter().cloned().partition(|target| cooldowns.remaining(target.id, now).is_zero());
    // Where there is a queue for its capacity, a pause may be waited for.
    if ready.is_empty() || ready.iter().any(|target| target.gauge.is_some()) {
        ready.extend(pausing.into_iter().filter(|target| target.gauge.is_some()));
    }
    if !ready.is_empty() {
        return Ok(ready);
    }
    let wait = targets.iter().map(|target| cooldowns.remaining(target.id, now)).min();
    Err(Denial::BackendsThrottled { wait: wait.unwrap_or(COOLDOWN_DEFAULT) })
}

/// What an answer teaches: the pause the backend wants, if it wants one.
#[must_use]
pub fn cooldown(status: u16, header: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let asked = || {
        let number = |name: &str| header(name)?.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
        let after_ms = number("retry-after-ms").or_else(|| number("x-ms-retry-after-ms"));
        let after = after_ms.map(|ms| ms / 1000.0).or_else(|| number("retry-after"))?;
        Some(Duration::try_from_secs_f64(after).unwrap_or(COOLDOWN_MAX).min(COOLDOWN_MAX))
    };
    match status {
        429 => Some(asked().unwrap_or(COOLDOWN_DEFAULT)),
        // An overloaded server may name a time too; without one, Envoy's outlier detection is the judge.
        503 => asked(),
        _ => None,
    }
}

/// What an answer says of the room that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many tokens.
    Remaining(u64),
    /// All but so many millionths of the capacity.
    Utilization(u32),
}

/// Reads what an answer says of the room at its backend. Negative numbers mean that nothing is said.
#[must_use]
pub fn room(header: impl Fn(&str) -> Option<String>) -> Option<Room> {
    let utilization = || {
        let percent = header("azure-openai-deployment-utilization")?;
        let percent = percent.trim().strip_suffix('%')?.trim_end().parse::<f64>().ok()?;
        // More than all is as good as all.
        (percent >= 0.0).then(|| Room::Utilization((percent * 10_000.0).round().min(1e6) as u32))
    };
    let remaining = |name: &str| header(name)?.trim().parse().ok().map(Room::Remaining);
    utilization()
        .or_else(|| remaining("x-ratelimit-remaining-tokens"))
        .or_else(|| remaining("x-rate-limit-remaining-tokens"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn targets(names: &[&str]) -> Vec<Rc<Target>> {
        let target = |name: &&str| {
            let backend = Backend {
                name: (*name).into(),
                cluster: (*name).into(),
                style: Style::OpenAi,
                region: None,
                credential: None,
                gauge: None,
                counts: Counts { window: Duration::from_secs(60), is_provisioned: false },
            };
            Rc::new(Target::new(Rc::new(backend), "d".into(), None))
        };
        names.iter().map(target).collect()
    }

    fn names(order: Result<Vec<Rc<Target>>, Denial>) -> Result<Vec<String>, Denial> {
        order.map(|targets| targets.iter().map(|target| target.backend.name.to_string()).collect())
    }

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    #[test]
    fn a_target_is_left_out_until_its_pause_has_ended() {
        let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
        let order = |now| names(candidates(&targets, &Cooldowns::load(&store).unwrap(), now));
        assert_eq!(order(NOW).unwrap(), ["a", "b"]);
        Cooldowns::note(&store, &targets[0], Duration::from_millis(1500), NOW).unwrap();
        assert_eq!(order(NOW + Duration::from_millis(1499)).unwrap(), ["b"]);
        assert_eq!(order(NOW + Duration::from_millis(1500)).unwrap(), ["a", "b"]);
    }

    #[test]
    fn when_all_pause_the_shortest_wait_is_told() {
        let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
        Cooldowns::note(&store, &targets[0], Duration::from_secs(3), NOW).unwrap();
        Cooldowns::note(&store, &targets[1], Duration::from_secs(2), NOW).unwrap();
        let order = candidates(&targets, &Cooldowns::load(&store).unwrap(), NOW + Duration::from_secs(1));
        assert_eq!(order, Err(Denial::BackendsThrottled { wait: Duration::from_secs(1) }));
    }

    #[test]
    fn the_longest_pause_stands_and_ended_ones_are_forgotten() {
        let (store, targets) = (MemoryStore::default(), targets(&["a", "b"]));
        Cooldowns::note(&store, &targets[0], Duration::from_secs(3), NOW).unwrap();
        Cooldowns::note(&store, &targets[0], Duration::from_secs(1), NOW).unwrap();
        let loaded = Cooldowns::load(&store).unwrap();
        assert_eq!(loaded.remaining(targets[0].id, NOW), Duration::from_secs(3));
        Cooldowns::note(&store, &targets[1], Duration::from_secs(9), NOW + Duration::from_secs(5)).unwrap();
        assert_eq!(Cooldowns::load(&store).unwrap().pauses.len(), 1);
    }

    #[track_caller]
    fn check(status: u16, headers: &[(&str, &str)], expected: Option<Duration>) {
        let header = |name: &str| {
            headers.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(cooldown(status, header), expected, "{status} {headers:?}");
    }

    #[test]
    fn the_pause_is_what_the_answer_says_most_exactly() {
        let ms = |ms| Some(Duration::from_millis(ms));
        check(429, &[("retry-after-ms", "1250"), ("retry-after", "2")], ms(1250));
        check(429, &[("x-ms-retry-after-ms", "800"), ("retry-after", "1")], ms(800));
        check(429, &[("retry-after", "7")], ms(7000));
        check(429, &[("retry-after", "0.5")], ms(500));
        check(429, &[], Some(COOLDOWN_DEFAULT));
        check(429, &[("retry-after", "soon")], Some(COOLDOWN_DEFAULT));
        check(429, &[("retry-after", "-1")], Some(COOLDOWN_DEFAULT));
        check(429, &[("retry-after", "86400")], Some(COOLDOWN_MAX));
        check(429, &[("retry-after", "1e300")], Some(COOLDOWN_MAX));
        check(429, &[("retry-after", "nan")], Some(COOLDOWN_DEFAULT));
        check(503, &[("retry-after", "4")], ms(4000));
        check(503, &[], None);
        check(500, &[("retry-after", "4")], None);
        check(200, &[("retry-after", "4")], None);
    }

    #[test]
    fn the_room_is_what_the_answer_says() {
        #[track_caller]
        fn check(headers: &[(&str, &str)], expected: Option<Room>) {
            let header = |name: &str| {
                headers.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(room(header), expected, "{headers:?}");
        }
        let utilization = "azure-openai-deployment-utilization";
        check(
            &[(utilization, "89.3%"), ("x-ratelimit-remaining-tokens", "5")],
            Some(Room::Utilization(893_000)),
        );
        check(&[(utilization, "120 %")], Some(Room::Utilization(1_000_000)));
        check(&[(utilization, "a lot"), ("x-ratelimit-remaining-tokens", "5")], Some(Room::Remaining(5)));
        check(&[(utilization, "NaN%")], None);
        check(&[("x-rate-limit-remaining-tokens", " 7 ")], Some(Room::Remaining(7)));
        check(&[("x-ratelimit-remaining-tokens", "-1")], None);
        check(&[], None);
    }

    #[test]
    fn a_pause_may_be_waited_for_where_the_capacity_was_declared() {
        let store = MemoryStore::default();
        let gauge = Gauge {
            id: 1,
            tokens: std::num::NonZeroU32::MIN,
            window: Duration::from_secs(60),
            is_provisioned: false,
        };
        let mut targets = targets(&["a", "b"]);
        Cooldowns::note(&store, &targets[0], Duration::from_secs(3), NOW).unwrap();
        let order = |targets: &[Rc<Target>]| {
            names(candidates(targets, &Cooldowns::load(&store).unwrap(), NOW)).unwrap()
        };
        Rc::get_mut(&mut targets[1]).unwrap().gauge = Some(gauge);
        assert_eq!(order(&targets), ["b"]);
        Rc::get_mut(&mut targets[0]).unwrap().gauge = Some(gauge);
        assert_eq!(order(&targets), ["b", "a"]);
        assert_eq!(order(&targets[..1]), ["a"]);
    }
}
