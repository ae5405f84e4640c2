//! Who goes first when there is no room?
//!
//! One queue for each worker. The more important go first, among equals the clients in turn, of one client's requests whichever must
//! give up soonest. Nobody overtakes somebody of the same or a higher rank who waits for the same backend. When the queue is full the least important give up
//! their places, and of those the client that has the most of them. Between workers it is the free share which each
//! priority has to leave that keeps the order.

use super::equals::Equals;
use super::{Precedence, Priority, Seat, Yields, has_room, take, wait};
use crate::gauge::{Gauge, Gauges};
use crate::sorting;
use crate::store::{Moment, StoreFault};
use crate::tier::Lane;
use crate::tokens::Usage;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// A request for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where it may go, best first.
    pub places: Vec<Place>,
    /// Who asks.
    pub client: Rc<str>,
    /// What it may use.
    pub usage: Usage,
    /// How important it is.
    pub priority: Priority,
    /// What that means.
    pub precedence: Precedence,
}

/// One place where a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is asked of its target: by that its pauses are known.
    pub lane: Lane,
    /// Its capacity; where none was declared there is always room.
    pub gauges: Gauges,
    /// This share of it stays free while there is room at another place, in millionths.
    pub spare: u32,
}

/// What becomes of a request.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It goes to the place with this number first; to all places in their order if there is none.
    Goes {
        /// The number in [`Ask::places`].
        place: usize,
        /// What was taken there, if its capacity was declared.
        seat: Option<Seat>,
    },
    /// It is called when it is its turn.
    Waits,
    /// It is refused.
    Leaves {
        /// How long it takes until there is room, if nobody else comes.
        wait: Duration,
    },
}

/// Those who wait in this worker.
#[derive(Debug)]
pub struct Queue {
    /// In the order in which they go.
    waiting: Vec<Waiting>,
    waiting_max: usize,
    /// Those who gave up their places since the last round.
    displaced: Vec<Waiting>,
    equals: Equals,
}

#[derive(Debug)]
struct Waiting {
    id: u32,
    ask: Ask,
    deadline: Duration,
    /// Where it stands among its equals.
    stands_at: u64,
    /// The capacities, and deployments' paces, of which it lacks something: it keeps those behind it from them.
    lacks: Vec<u64>,
    /// Where it could not go because of a pause, as of then.
    shut: Vec<Lane>,
}

/// Who goes first: the lowest does.
type Rank = (Priority, u64, Duration);

impl Waiting {
    /// Looks again at what it lacks, after those before it.
    fn look(&mut self, full: &[u64], pause: &dyn Fn(Lane) -> Duration, moment: Moment<'_>) {
        self.lacks = self.ask.lacks(full, pause, moment);
        self.shut.clear();
        self.shut.extend(self.ask.shut(pause));
    }

    fn rank(&self) -> Rank {
        (self.ask.priority, self.stands_at, self.deadline)
    }

    /// What it is going to take of this capacity before somebody who wants to go to this place, if it takes it there.
    fn takes_of(&self, gauge: u64, place: &Place) -> u64 {
        let is_ahead = self.lacks.contains(&gauge)
            || self.ask.places.iter().any(|own| own.lane.target == place.lane.target);
        let found = self.ask.gauges().find(|other| is_ahead && other.id == gauge);
        found.map_or(0, |gauge| gauge.takes_max(self.ask.usage))
    }
}

impl Ask {
    pub(super) fn gauges(&self) -> impl Iterator<Item = Gauge> + '_ {
        self.places.iter().flat_map(|place| place.gauges.iter())
    }

    /// What pauses of where it may go.
    fn shut(&self, pause: &dyn Fn(Lane) -> Duration) -> impl Iterator<Item = Lane> {
        self.places.iter().map(|place| place.lane).filter(move |lane| !pause(*lane).is_zero())
    }

    fn yields(&self, headroom_min: u32) -> Yields {
        Yields { priority: self.priority, headroom_min }
    }

    /// Of what it lacks something: of what pauses nobody can go to, and what its deployments share with others is theirs meanwhile.
    fn lacks(&self, full: &[u64], pause: &dyn Fn(Lane) -> Duration, moment: Moment<'_>) -> Vec<u64> {
        let open = self.places.iter().filter(|place| pause(place.lane).is_zero());
        let mut lacks = Vec::new();
        for gauge in open.flat_map(|place| place.gauges.iter()) {
            let (amount, yields) = (gauge.takes_max(self.usage), self.yields(self.precedence.headroom_min));
            let has_room =
                !full.contains(&gauge.id) && matches!(has_room(moment, gauge, amount, yields), Ok(true));
            lacks.extend(gauge.pace_id.into_iter().chain((!has_room).then_some(gauge.id)));
        }
        lacks
    }
}

impl Default for Queue {
    fn default() -> Self {
        let equals = Equals::default();
        Self { waiting: Vec::new(), waiting_max: Self::WAITING_MAX, displaced: Vec::new(), equals }
    }
}

impl Queue {
    /// How many wait at the most where the configuration does not say.
    pub const WAITING_MAX: usize = 1000;

    /// From now on so many wait at the most. Those who wait already stay.
    pub fn set_waiting_max(&mut self, waiting_max: usize) {
        self.waiting_max = waiting_max;
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.displaced.is_empty()
    }

    /// A request has come. `pause` tells for how long a target is not to be asked.
    pub fn enter(
        &mut self,
        id: u32,
        ask: Ask,
        pause: &dyn Fn(Lane) -> Duration,
        moment: Moment<'_>,
    ) -> Result<Turn, StoreFault> {
        let deadline = moment.now.saturating_add(ask.precedence.wait_max);
        let rank = (ask.priority, self.stands_at(&ask, deadline), deadline);
        let place = self.waiting.partition_point(|other| other.rank() <= rank);
        let (ahead, _) = self.waiting.split_at_mut_checked(place).unwrap_or_default();
        let mut full: Vec<u64> = Vec::new();
        for other in &mut *ahead {
            // A pause that is over since is theirs first for whom it was.
            if other.shut.iter().any(|lane| pause(*lane).is_zero()) {
                other.look(&full, pause, moment);
            }
            full.extend(&other.lacks);
        }
        let ahead = &*ahead;
        if let Some(turn) = admit(&ask, &full, pause, moment)? {
            if !self.waiting.is_empty() {
                self.equals.note(&ask, &turn);
                self.arrange();
            }
            return Ok(turn);
        }
        let wait = promise(&ask, ahead, pause, moment)?;
        // Where nothing is given back, room comes when it is promised and not before.
        let is_sure = ask.gauges().all(|gauge| !gauge.is_provisioned);
        if (is_sure && wait > ask.precedence.wait_max) || !self.makes_place(&ask) {
            return Ok(Turn::Leaves { wait });
        }
        let mut waiting = Waiting { id, ask, deadline, stands_at: 0, lacks: Vec::new(), shut: Vec::new() };
        waiting.look(&full, pause, moment);
        self.waiting.push(waiting);
        self.arrange();
        Ok(Turn::Waits)
    }

    /// A request has come back, for the backend that it went to had no room after all. It stands where it stood; `had_turn` says whether
    /// it was its client's turn.
    pub fn come_back(
        &mut self,
        id: u32,
        ask: Ask,
        had_turn: bool,
        pause: &dyn Fn(Lane) -> Duration,
        moment: Moment<'_>,
    ) -> Result<Turn, StoreFault> {
        // It may have come back before, and been let go by Envoy, not by us.
        self.leave(id);
        if had_turn {
            self.equals.came_back(&ask);
        }
        self.enter(id, ask, pause, moment)
    }

    /// Where one stands among its equals that comes now: behind those of its client that must give up before it.
    fn stands_at(&self, ask: &Ask, deadline: Duration) -> u64 {
        let is_before = |other: &&Waiting| {
            other.ask.priority == ask.priority && other.ask.client == ask.client && other.deadline <= deadline
        };
        let mut lines = self.equals.lines();
        for before in self.waiting.iter().filter(is_before) {
            lines.join(&before.ask);
        }
        lines.join(ask)
    }

    /// Puts all in the order in which they go.
    fn arrange(&mut self) {
        let Self { waiting, equals, .. } = self;
        sorting::sort_by_key(waiting, |waiting| waiting.deadline);
        let mut lines = equals.lines();
        for Waiting { ask, stands_at, .. } in waiting.iter_mut() {
            *stands_at = lines.join(ask);
        }
        sorting::sort_by_key(waiting, Waiting::rank);
    }

    /// Whether there is a place for one that comes. Where all are taken, the last of the least important gives up its own; of
    /// equals the client that has the most places gives up its last, if it has more than the one that comes will have.
    fn makes_place(&mut self, ask: &Ask) -> bool {
        if self.waiting.len() < self.waiting_max {
            return true;
        }
        let Some(lowest) = self.waiting.last().map(|last| last.ask.priority) else { return false };
        let mut places: BTreeMap<Rc<str>, usize> = BTreeMap::new();
        for waiting in self.waiting.iter().filter(|waiting| waiting.ask.priority == lowest) {
            *places.entry(waiting.ask.client.clone()).or_default() += 1;
        }
        let will_have = match ask.priority.cmp(&lowest) {
            Ordering::Less => 0,
            Ordering::Equal => places.get(&ask.client).map_or(1, |places| places + 1),
            Ordering::Greater => return false,
        };
        let most = places.into_iter().max_by_key(|(_, places)| *places);
        let Some((client, _)) = most.filter(|(_, places)| *places > will_have) else { return false };
        // The last of its requests is one of the least important.
        if let Some(at) = self.waiting.iter().rposition(|waiting| waiting.ask.client == client) {
            self.displaced.push(self.waiting.remove(at));
        }
        true
    }

    /// Those whose waiting is over, with what becomes of them.
    pub fn round(&mut self, pause: &dyn Fn(Lane) -> Duration, moment: Moment<'_>) -> Vec<(u32, Turn)> {
        let (mut called, mut full) = (Vec::new(), Vec::new());
        for displaced in self.displaced.drain(..) {
            let wait = promise(&displaced.ask, &self.waiting, pause, moment).unwrap_or_default();
            called.push((displaced.id, Turn::Leaves { wait }));
        }
        for waiting in &mut self.waiting {
            // Nobody waits longer because the clock was set back.
            let longest = moment.now.saturating_add(waiting.ask.precedence.wait_max);
            waiting.deadline = waiting.deadline.min(longest);
        }
        self.arrange();
        let mut stay: Vec<Waiting> = Vec::with_capacity(self.waiting.len());
        for mut waiting in self.waiting.drain(..) {
            let turn = match admit(&waiting.ask, &full, pause, moment) {
                Ok(Some(turn)) => {
                    self.equals.note(&waiting.ask, &turn);
                    turn
                }
                Ok(None) if moment.now >= waiting.deadline => {
                    let wait = promise(&waiting.ask, &stay, pause, moment).unwrap_or_default();
                    Turn::Leaves { wait }
                }
                Ok(None) => {
                    // Whoever comes behind does not go there either, even if it is small enough: else the large
                    // ones would wait for ever.
                    waiting.look(&full, pause, moment);
                    full.extend(&waiting.lacks);
                    stay.push(waiting);
                    continue;
                }
                // Nobody can say whether there is room. The backend will.
                Err(_) => Turn::Goes { place: 0, seat: None },
            };
            called.push((waiting.id, turn));
        }
        self.waiting = stay;
        if self.waiting.is_empty() {
            self.equals = Equals::default();
        } else {
            self.equals.forget();
        }
        called
    }

    /// A request that is not wanted any more.
    pub fn leave(&mut self, id: u32) {
        self.waiting.retain(|waiting| waiting.id != id);
        self.displaced.retain(|displaced| displaced.id != id);
    }
}

impl Equals {
    /// Notes what becomes of a request. Who goes where all have room takes nothing of what its equals wait for.
    fn note(&mut self, ask: &Ask, turn: &Turn) {
        if let Turn::Goes { seat: Some(seat), .. } = turn {
            self.went(ask, seat.gauges());
        }
    }
}

/// Looks for a place with room: for the first that keeps its spare share free, if one has such, and else for the first.
fn admit(
    ask: &Ask,
    full: &[u64],
    pause: &dyn Fn(Lane) -> Duration,
    moment: Moment<'_>,
) -> Result<Option<Turn>, StoreFault> {
    let headroom_min = ask.precedence.headroom_min;
    if ask.places.iter().any(|place| place.spare > headroom_min) {
        let spare = |place: &Place| place.spare.max(headroom_min);
        let turn = first_with_room(ask, &spare, full, pause, moment)?;
        if turn.is_some() {
            return Ok(turn);
        }
    }
    first_with_room(ask, &|_| headroom_min, full, pause, moment)
}

fn first_with_room(
    ask: &Ask,
    headroom: &dyn Fn(&Place) -> u32,
    full: &[u64],
    pause: &dyn Fn(Lane) -> Duration,
    moment: Moment<'_>,
) -> Result<Option<Turn>, StoreFault> {
    for (at, place) in ask.places.iter().enumerate() {
        if !pause(place.lane).is_zero() {
            continue;
        }
        if place.gauges.is_empty() {
            return Ok(Some(Turn::Goes { place: at, seat: None }));
        }
        let numbers = |gauge: Gauge| [Some(gauge.id), gauge.pace_id].into_iter().flatten();
        if !place.gauges.iter().flat_map(numbers).any(|number| full.contains(&number))
            && let Ok(seat) = take(moment, place.gauges, ask.usage, ask.yields(headroom(place)))?
        {
            return Ok(Some(Turn::Goes { place: at, seat: Some(seat) }));
        }
    }
    Ok(None)
}

/// How long it takes until there is room for a request and for those ahead of it, if nobody else comes.
fn promise(
    ask: &Ask,
    ahead: &[Waiting],
    pause: &dyn Fn(Lane) -> Duration,
    moment: Moment<'_>,
) -> Result<Duration, StoreFault> {
    let mut shortest: Option<Duration> = None;
    for place in &ask.places {
        let mut longest = pause(place.lane);
        for gauge in place.gauges.iter() {
            let ahead: u64 = ahead.iter().map(|other| other.takes_of(gauge.id, place)).sum();
            let (amount, yields) = (gauge.takes_max(ask.usage), ask.yields(ask.precedence.headroom_min));
            longest = longest.max(wait(moment, gauge, amount, ahead, yields)?);
        }
        shortest = Some(shortest.map_or(longest, |shortest| shortest.min(longest)));
    }
    Ok(shortest.unwrap_or_default())
}
