//! Which requests are under way, so that none is forgotten when the VM that serves it dies?
//!
//! A trap takes a worker's VM with all that it knew; Envoy starts another, but nobody would ever write those exchanges
//! down. So each VM keeps a note of every request it has sent on, in the shared store, and a sign of life. Whoever finds
//! a VM without one for [`DEAD_AFTER`] takes over its notes, each exactly once: a note is taken by compare-and-set, and a
//! VM that was only slow finds its own note gone. One whose signs of life were never late need not look. Not decided
//! here: what is done with a note that is left behind.

use crate::codec::{self, Reader, Stored, Writer};
use crate::store::{self, Moment, Store, StoreFault, Swap};
use crate::time::nanos;
use std::cell::Cell;
use std::time::Duration;

/// A VM that has given no sign of life for so long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(10);

/// How often a VM gives a sign of life, and looks for those that do not.
pub const BEAT_EVERY: Duration = Duration::from_secs(2);

/// The most requests one VM notes at a time; those beyond go unnoted.
const NOTES_MAX: u32 = 65_536;

/// Where the VMs are listed.
const VMS: &str = "tollgate/vms";

/// What is to be known of a request when its VM is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The client's label.
    pub client: String,
    /// The model's label.
    pub model: String,
    /// The word for what was asked.
    pub operation: String,
    /// Its places in what is limited to so many at a time, in the words of whoever counts them.
    pub slots: String,
    /// Tokens that were reserved for the prompt.
    pub prompt: u64,
    /// Tokens that were reserved for what may be produced.
    pub completion: u64,
}

impl Stored for Note {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            client: from.text()?.to_owned(),
            model: from.text()?.to_owned(),
            operation: from.text()?.to_owned(),
            slots: from.text()?.to_owned(),
            prompt: from.u64()?,
            completion: from.u64()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        for text in [&self.client, &self.model, &self.operation, &self.slots] {
            to.text(text);
        }
        to.u64(self.prompt);
        to.u64(self.completion);
    }
}

/// Where a note stands. To be given back once, by [`Journal::leave`].
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    number: u32,
    /// How often the VM had been late when the note was written; `None` if somebody who took it for dead then may still be
    /// taking notes.
    sure: Option<u32>,
}

/// The notes of one VM.
#[derive(Debug)]
pub struct Journal {
    vm: u64,
    /// Slots below this have been used.
    used: u32,
    /// Of those, the ones that are free again.
    free: Vec<u32>,
    /// When it last gave a sign of life.
    beaten: Cell<Duration>,
    /// Before that it takes nobody for dead: its own clock has stepped, and the others' signs are of the old time.
    judges_from: Cell<Duration>,
    /// How often such a sign came so late that others may have taken it for dead.
    lates: Cell<u32>,
    /// Until when they may still be at it.
    in_doubt_until: Cell<Duration>,
}

/// A VM in the list: its number, how many slots it has used, and its last sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vm {
    vm: u64,
    used: u32,
    seen: u64,
}

impl Stored for Vm {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { vm: from.u64()?, used: from.u32()?, seen: from.u64()? })
    }

    fn write(&self, to: &mut Writer) {
        to.u64(self.vm);
        to.u32(self.used);
        to.u64(self.seen);
    }
}

impl Vm {
    fn is_dead(&self, now: Duration) -> bool {
        // A time from the future is of a clock that was set back.
        nanos(now).abs_diff(self.seen) > nanos(DEAD_AFTER)
    }
}

fn key(vm: u64, slot: u32) -> String {
    format!("tollgate/vm/{vm:x}/{slot}")
}

impl Journal {
    /// The journal of the VM with this number, which no other has.
    #[must_use]
    pub fn new(vm: u64) -> Self {
        let (beaten, in_doubt_until, judges_from) = (Cell::default(), Cell::default(), Cell::default());
        Self { vm, used: 0, free: Vec::new(), beaten, judges_from, lates: Cell::default(), in_doubt_until }
    }

    /// The number of the VM.
    #[must_use]
    pub const fn vm(&self) -> u64 {
        self.vm
    }

    /// Notes a request. `None` if there is no room, or the store failed: it then goes unnoted.
    pub fn enter(&mut self, moment: Moment<'_>, note: &Note) -> Result<Option<Slot>, StoreFault> {
        // Whoever was silent for long may have been taken for dead, and is then not listed any more: a note of its would
        // not be found.
        if self.is_late(moment.now) {
            self.beat(moment)?;
        }
        let number = match self.free.pop() {
            Some(slot) => slot,
            None if self.used < NOTES_MAX => {
                // The list says how far to look, so it grows before a note is written there.
                let number = self.used;
                self.used += 1;
                self.beat(moment)?;
                number
            }
            None => return Ok(None),
        };
        moment.store.put(&key(self.vm, number), &codec::encode(note))?;
        let sure = (moment.now > self.in_doubt_until.get()).then(|| self.lates.get());
        Ok(Some(Slot { number, sure }))
    }

    /// Writes a note anew. False if somebody took it before: then the request has been written down as it was noted.
    pub fn renew(&self, store: &dyn Store, slot: &Slot, note: &Note) -> Result<bool, StoreFault> {
        let key = key(self.vm, slot.number);
        let loaded = store.load(&key)?;
        if loaded.value.is_empty() {
            return Ok(false);
        }
        Ok(matches!(store.swap(&key, &codec::encode(note), loaded.version)?, Swap::Done))
    }

    /// Takes a note back. False if somebody took it before: then the request has been written down already.
    pub fn leave(&mut self, moment: Moment<'_>, slot: Slot) -> Result<bool, StoreFault> {
        let key = key(self.vm, slot.number);
        let left = if slot.sure == Some(self.lates.get()) && !self.is_late(moment.now) {
            // Nobody can have taken it.
            moment.store.put(&key, &[]).map(|()| true)
        } else {
            take(moment.store, &key).map(|note| note.is_some())
        };
        self.free.push(slot.number);
        left
    }

    /// Whether the last sign of life is so old that others may find this VM dead before the next one is written. A sign may
    /// be written at any moment until the one after it, so two that are not late must fit into [`DEAD_AFTER`]. A clock
    /// that was put back is as good as such a silence.
    fn is_late(&self, now: Duration) -> bool {
        now.abs_diff(self.beaten.get()) > DEAD_AFTER / 2
    }

    /// Gives a sign of life.
    pub fn beat(&self, moment: Moment<'_>) -> Result<(), StoreFault> {
        let own = Vm { vm: self.vm, used: self.used, seen: nanos(moment.now) };
        store::update(moment.store, VMS, |record| {
            let mut vms = codec::decode_all::<Vm>(record);
            match vms.iter_mut().find(|vm| vm.vm == own.vm) {
                Some(vm) => *vm = own,
                None => vms.push(own),
            }
            (Some(codec::encode_all(&vms)), ())
        })?;
        let before = self.beaten.get();
        // Nobody can miss a VM before it is listed.
        if !before.is_zero() {
            if self.is_late(moment.now) {
                self.lates.set(self.lates.get().wrapping_add(1));
                self.in_doubt_until.set(moment.now.saturating_add(DEAD_AFTER));
            }
            if moment.now.abs_diff(before) > DEAD_AFTER {
                self.judges_from.set(moment.now.saturating_add(DEAD_AFTER));
            }
        }
        self.beaten.set(moment.now);
        Ok(())
    }

    /// The notes that dead VMs left behind; each is answered to one caller only.
    pub fn adopt(&self, moment: Moment<'_>) -> Result<Vec<Note>, StoreFault> {
        let from = self.judges_from.get();
        if moment.now < from && from.saturating_sub(moment.now) <= DEAD_AFTER {
            return Ok(Vec::new());
        }
        let listed = codec::decode_all::<Vm>(&moment.store.load(VMS)?.value);
        let dead: Vec<_> =
            listed.into_iter().filter(|vm| vm.vm != self.vm && vm.is_dead(moment.now)).collect();
        let mut notes = Vec::new();
        for vm in &dead {
            for slot in 0..vm.used.min(NOTES_MAX) {
                notes.extend(take(moment.store, &key(vm.vm, slot))?);
            }
        }
        if !dead.is_empty() {
            store::update(moment.store, VMS, |record| {
                let mut vms = codec::decode_all::<Vm>(record);
                // One that came back to life meanwhile stays.
                vms.retain(|vm| !dead.contains(vm));
                (Some(codec::encode_all(&vms)), ())
            })?;
        }
        Ok(notes)
    }
}

/// Takes a note, if it is there and nobody else takes it now.
fn take(store: &dyn Store, key: &str) -> Result<Option<Note>, StoreFault> {
    let loaded = store.load(key)?;
    let Some(note) = codec::decode::<Note>(&loaded.value) else { return Ok(None) };
    Ok(match store.swap(key, &[], loaded.version)? {
        Swap::Done => Some(note),
        Swap::Stale => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Loaded, MemoryStore, Version};
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Duration = Duration::from_secs(1_795_000_000);

    fn note(prompt: u64) -> Note {
        Note {
            client: "web".to_owned(),
            model: "gpt-4o".to_owned(),
            operation: "other".to_owned(),
            slots: "tollgate/limits/client/web 1f00,tollgate/limits/group/sales 0".to_owned(),
            prompt,
            completion: 7,
        }
    }

    fn prompts(notes: Vec<Note>) -> Vec<u64> {
        notes.into_iter().map(|note| note.prompt).collect()
    }

    #[test]
    fn what_a_dead_vm_left_is_adopted_once() {
        let store = MemoryStore::default();
        let (mut dead, heir, other) = (Journal::new(1), Journal::new(2), Journal::new(3));
        let _ = dead.enter(Moment::new(&store, NOW), &note(10)).unwrap();
        let left = dead.enter(Moment::new(&store, NOW), &note(20)).unwrap().unwrap();
        let _ = dead.enter(Moment::new(&store, NOW), &note(30)).unwrap();
        assert_eq!(dead.leave(Moment::new(&store, NOW), left), Ok(true));
        heir.beat(Moment::new(&store, NOW)).unwrap();
        assert_eq!(heir.adopt(Moment::new(&store, NOW + DEAD_AFTER)), Ok(vec![]));
        heir.beat(Moment::new(&store, NOW + DEAD_AFTER)).unwrap();
        let later = NOW + DEAD_AFTER + Duration::from_nanos(1);
        heir.beat(Moment::new(&store, later)).unwrap();
        let found = heir.adopt(Moment::new(&store, later)).unwrap();
        assert_eq!(found[0], note(10));
        assert_eq!(prompts(found), [10, 30]);
        assert_eq!(other.adopt(Moment::new(&store, later)), Ok(vec![]));
        assert_eq!(codec::decode_all::<Vm>(&store.load(VMS).unwrap().value).len(), 1);
    }

    #[test]
    fn a_vm_that_was_only_slow_finds_its_note_gone() {
        let store = MemoryStore::default();
        let (mut slow, heir) = (Journal::new(1), Journal::new(2));
        let slot = slow.enter(Moment::new(&store, NOW), &note(10)).unwrap().unwrap();
        assert_eq!(heir.adopt(Moment::new(&store, NOW + 2 * DEAD_AFTER)).unwrap().len(), 1);
        assert_eq!(slow.leave(Moment::new(&store, NOW + 2 * DEAD_AFTER), slot), Ok(false));
        // And goes on: the next note is its own again.
        let slot = slow.enter(Moment::new(&store, NOW + 2 * DEAD_AFTER), &note(11)).unwrap().unwrap();
        assert_eq!(slow.leave(Moment::new(&store, NOW + 2 * DEAD_AFTER), slot), Ok(true));
    }

    #[test]
    fn a_note_that_is_taken_by_one_who_was_late_is_found_gone() {
        let store = MemoryStore::default();
        let mut slow = Journal::new(1);
        let first = slow.enter(Moment::new(&store, NOW), &note(10)).unwrap().unwrap();
        // It gives a sign of life again before it looks, and the one who found it dead is still at its notes.
        let back = NOW + 2 * DEAD_AFTER;
        slow.beat(Moment::new(&store, back)).unwrap();
        let second = slow.enter(Moment::new(&store, back), &note(11)).unwrap().unwrap();
        for slot in [&first, &second] {
            assert!(take(&store, &key(1, slot.number)).unwrap().is_some());
        }
        assert_eq!(slow.leave(Moment::new(&store, back), first), Ok(false));
        assert_eq!(slow.leave(Moment::new(&store, back), second), Ok(false));
    }

    #[test]
    fn a_vm_that_is_never_late_takes_its_notes_back_unread() {
        let store = Unread(MemoryStore::default());
        let mut journal = Journal::new(1);
        let slot = journal.enter(Moment::new(&store, NOW), &note(10)).unwrap().unwrap();
        journal.beat(Moment::new(&store, NOW + DEAD_AFTER / 2)).unwrap();
        assert_eq!(journal.leave(Moment::new(&store, NOW + DEAD_AFTER), slot), Ok(true));
        assert_eq!(Journal::new(2).adopt(Moment::new(&store, NOW + 3 * DEAD_AFTER)), Ok(vec![]));
    }

    /// A store whose notes that still stand are not to be read.
    struct Unread(MemoryStore);

    impl Store for Unread {
        fn load(&self, key: &str) -> Result<Loaded, StoreFault> {
            let loaded = self.0.load(key)?;
            assert!(key == VMS || loaded.value.is_empty(), "{key}");
            Ok(loaded)
        }

        fn swap(&self, key: &str, value: &[u8], version: Version) -> Result<Swap, StoreFault> {
            self.0.swap(key, value, version)
        }

        fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreFault> {
            self.0.put(key, value)
        }
    }

    #[test]
    fn a_vm_that_was_taken_for_dead_is_found_when_it_dies_later() {
        let store = MemoryStore::default();
        let (mut slow, heir) = (Journal::new(1), Journal::new(2));
        let slot = slow.enter(Moment::new(&store, NOW), &note(10)).unwrap().unwrap();
        assert_eq!(heir.adopt(Moment::new(&store, NOW + 2 * DEAD_AFTER)).unwrap().len(), 1);
        assert_eq!(slow.leave(Moment::new(&store, NOW + 2 * DEAD_AFTER), slot), Ok(false));
        // It goes on before its next sign of life is due, and dies.
        let _ = slow.enter(Moment::new(&store, NOW + 2 * DEAD_AFTER), &note(11)).unwrap();
        assert_eq!(prompts(heir.adopt(Moment::new(&store, NOW + 4 * DEAD_AFTER)).unwrap()), [11]);
    }

    #[test]
    fn a_note_is_renewed_where_it_stands_and_nowhere_else() {
        let store = MemoryStore::default();
        let (mut journal, heir) = (Journal::new(1), Journal::new(2));
        let slot = journal.enter(Moment::new(&store, NOW), &note(0)).unwrap().unwrap();
        assert_eq!(journal.renew(&store, &slot, &note(10)), Ok(true));
        assert_eq!(prompts(heir.adopt(Moment::new(&store, NOW + 2 * DEAD_AFTER)).unwrap()), [10]);
        // One that was taken does not come back.
        assert_eq!(journal.renew(&store, &slot, &note(11)), Ok(false));
        assert_eq!(heir.adopt(Moment::new(&store, NOW + 4 * DEAD_AFTER)), Ok(vec![]));
        assert_eq!(journal.leave(Moment::new(&store, NOW + 4 * DEAD_AFTER), slot), Ok(false));
    }

    #[test]
    fn a_clock_that_steps_makes_nobody_dead_and_keeps_nobody_alive() {
        let day = Duration::from_secs(86_400);
        for (before, after) in [(NOW, NOW + 3 * day), (NOW + 3 * day, NOW)] {
            let store = MemoryStore::default();
            let (mut living, mut dead, heir) = (Journal::new(1), Journal::new(2), Journal::new(3));
            for journal in [&mut living, &mut dead] {
                let _ = journal.enter(Moment::new(&store, before), &note(journal.vm())).unwrap();
            }
            heir.beat(Moment::new(&store, before)).unwrap();
            heir.beat(Moment::new(&store, after)).unwrap();
            assert_eq!(heir.adopt(Moment::new(&store, after)), Ok(vec![]));
            living.beat(Moment::new(&store, after + DEAD_AFTER / 5)).unwrap();
            let later = after + DEAD_AFTER;
            assert_eq!(prompts(heir.adopt(Moment::new(&store, later)).unwrap()), [2]);
            // The next note comes with a sign of life.
            let _ = dead.enter(Moment::new(&store, later), &note(4)).unwrap();
            assert_eq!(heir.adopt(Moment::new(&store, later)), Ok(vec![]));
        }
    }

    #[test]
    fn slots_are_used_again() {
        let store = MemoryStore::default();
        let mut journal = Journal::new(1);
        for prompt in 0..100 {
            let slot = journal.enter(Moment::new(&store, NOW), &note(prompt)).unwrap().unwrap();
            assert_eq!(journal.leave(Moment::new(&store, NOW), slot), Ok(true));
        }
        assert_eq!(journal.used, 1);
    }

    #[test]
    fn garbage_in_the_store_is_no_note() {
        let store = MemoryStore::default();
        store.put(VMS, b"garbage of some length, more than twenty bytes").unwrap();
        assert_eq!(Journal::new(1).adopt(Moment::new(&store, NOW)), Ok(vec![]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is entered is either left by its VM or adopted, never both, never neither.
        #[test]
        fn every_note_is_written_down_once(
            steps in prop::collection::vec((0..4u8, any::<bool>(), 0..6u64), 1..60),
        ) {
            let store = MemoryStore::default();
            let mut journals = [Journal::new(1), Journal::new(2)];
            let mut open: [Vec<(Slot, u64)>; 2] = [Vec::new(), Vec::new()];
            let (mut now, mut next, mut written) = (NOW, 0, Vec::new());
            for (step, which, seconds) in steps {
                now += Duration::from_secs(seconds);
                let at = usize::from(which);
                match step {
                    0 => {
                        let slot = journals[at].enter(Moment::new(&store, now), &note(next)).unwrap().unwrap();
                        open[at].push((slot, next));
                        next += 1;
                    }
                    1 => {
                        if let Some((slot, prompt)) = open[at].pop()
                            && journals[at].leave(Moment::new(&store, now), slot).unwrap()
                        {
                            written.push(prompt);
                        }
                    }
                    2 => journals[at].beat(Moment::new(&store, now)).unwrap(),
                    _ => written.extend(prompts(journals[at].adopt(Moment::new(&store, now)).unwrap())),
                }
            }
            for at in 0..2 {
                while let Some((slot, prompt)) = open[at].pop() {
                    if journals[at].leave(Moment::new(&store, now), slot).unwrap() {
                        written.push(prompt);
                    }
                }
            }
            written.sort_unstable();
            prop_assert_eq!(written, (0..next).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_law_of_stored_values_holds() {
        codec::law::holds("note", &[note(10), Note { slots: String::new(), ..note(0) }]);
        let vm = |vm, used| Vm { vm, used, seen: 1_795_000_000_000_000_000 };
        codec::law::holds("vm", &[vm(u64::MAX, 3), vm(1, 0)]);
    }
}
