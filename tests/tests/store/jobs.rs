//! The queue's scripts of the gateway's side, in a real Redis.

use tollgate::job::{CANCEL, ENQUEUE, Id, Keys, READ, State, field};
use tollgate::resp::Reply;
use tollgate_tests::harness::{Connection, Redis};

/// A day, and an hour.
const AGE: &str = "86400000";
const KEEP: &str = "3600000";

struct Queue {
    connection: Connection,
    keys: Keys,
}

fn id(number: u8) -> Id {
    Id::new(&[number; 16])
}

impl Queue {
    fn of(redis: &Redis) -> Self {
        Self { connection: redis.connect().unwrap(), keys: Keys::new("tollgate") }
    }

    fn run(&mut self, script: &str, id: &Id, client: &str, more: &[&str]) -> Reply {
        let keys = self.keys.of_scripts(id, client);
        let words: Vec<&str> =
            ["EVAL", script, "8"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        self.connection.ask(&[&words[..], &[id.text(), client], more].concat()).unwrap()
    }

    /// Puts a job of ten bytes into the queue of a client that may have three of 25 bytes in all.
    fn enqueue(&mut self, number: u8, client: &str) -> Vec<i64> {
        let more = ["low", "3", "25", AGE, KEEP, "10", field::BODY, "0123456789", field::KIND, "job"];
        let reply = self.run(ENQUEUE, &id(number), client, &more);
        reply.integers().unwrap_or_else(|| panic!("{reply:?}"))
    }

    /// Its state, and how many wait before it.
    fn told(&mut self, script: &str, number: u8, client: &str, more: &[&str]) -> Option<(State, i64)> {
        self.told_of("job", script, number, client, more)
    }

    fn told_of(
        &mut self,
        kind: &str,
        script: &str,
        number: u8,
        client: &str,
        more: &[&str],
    ) -> Option<(State, i64)> {
        match self.run(script, &id(number), client, &[&[kind][..], more].concat()) {
            Reply::Nil => None,
            Reply::Array(replies) => match &replies[..2] {
                [Reply::Bulk(state), Reply::Integer(before)] => Some((State::of(state).unwrap(), *before)),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, number: u8, client: &str) -> Option<(State, i64)> {
        self.told(READ, number, client, &[])
    }

    fn number(&mut self, words: &[&str]) -> i64 {
        match self.connection.ask(words).unwrap() {
            Reply::Integer(number) => number,
            other => panic!("{other:?}"),
        }
    }

    /// How many entries, jobs of a client, and jobs that wait there are.
    fn lengths(&mut self, client: &str) -> [i64; 3] {
        let (stream, own, waiting) =
            (self.keys.stream(), self.keys.of_client(client), self.keys.waiting("low"));
        [self.number(&["XLEN", &stream]), self.number(&["ZCARD", &own]), self.number(&["ZCARD", &waiting])]
    }
}

#[test]
fn a_client_has_no_more_jobs_and_bytes_than_it_may() {
    let Some(redis) = Redis::or_skip("a_client_has_no_more_jobs_and_bytes_than_it_may", None, &[]) else {
        return;
    };
    let mut queue = Queue::of(&redis);
    assert_eq!(queue.enqueue(1, "a"), [1, 0]);
    assert_eq!(queue.enqueue(2, "a"), [1, 1]);
    // The third would have 30 bytes in all; the wait is that of the oldest's age.
    let full = queue.enqueue(3, "a");
    assert!(full[0] == 0 && (86_390_000..=86_400_000).contains(&full[1]), "{full:?}");
    assert_eq!(queue.lengths("a"), [2, 2, 2]);
    // What another has is none of its matter, but for its place.
    assert_eq!(queue.enqueue(4, "b"), [1, 2]);
    assert_eq!(queue.read(4, "b"), Some((State::Queued, 2)));
    // Each gives its bytes back once.
    assert_eq!(queue.told(CANCEL, 1, "a", &[KEEP]), Some((State::Queued, 0)));
    assert_eq!(queue.told(CANCEL, 1, "a", &[KEEP]), Some((State::Cancelled, 0)));
    assert_eq!((queue.lengths("a"), queue.read(4, "b")), ([2, 1, 2], Some((State::Queued, 1))));
    assert_eq!(queue.enqueue(3, "a"), [1, 2]);
    assert_eq!(queue.enqueue(5, "a")[0], 0);
    // By their number, whatever their length.
    for number in 10..13 {
        let more = ["low", "3", "25", AGE, KEEP, "1"];
        assert_eq!(queue.run(ENQUEUE, &id(number), "c", &more).integers().unwrap()[0], 1);
    }
    assert_eq!(
        queue.run(ENQUEUE, &id(13), "c", &["low", "3", "25", AGE, KEEP, "1"]).integers().unwrap()[0],
        0
    );
}

#[test]
fn nobody_else_reads_a_job_or_ends_it() {
    let Some(redis) = Redis::or_skip("nobody_else_reads_a_job_or_ends_it", None, &[]) else { return };
    let mut queue = Queue::of(&redis);
    queue.enqueue(1, "a");
    assert_eq!((queue.read(1, "b"), queue.told(CANCEL, 1, "b", &["0"])), (None, None));
    assert_eq!((queue.read(2, "a"), queue.told(CANCEL, 2, "a", &["0"])), (None, None));
    assert_eq!((queue.read(1, "a"), queue.lengths("a")), (Some((State::Queued, 0)), [1, 1, 1]));
}

#[test]
fn a_job_that_is_cancelled_leaves_nothing_that_a_worker_takes() {
    let Some(redis) = Redis::or_skip("a_job_that_is_cancelled_leaves_nothing_that_a_worker_takes", None, &[])
    else {
        return;
    };
    let mut queue = Queue::of(&redis);
    queue.enqueue(1, "a");
    queue.enqueue(2, "a");
    // One runs: its entry is a consumer's, and it waits no more.
    let (stream, job, waiting) = (queue.keys.stream(), queue.keys.job(&id(1)), queue.keys.waiting("low"));
    queue.connection.ask(&["XGROUP", "CREATE", &stream, "workers", "0"]).unwrap();
    let words = ["XREADGROUP", "GROUP", "workers", "w", "COUNT", "1", "STREAMS", &stream, ">"];
    queue.connection.ask(&words).unwrap();
    queue.connection.ask(&["HSET", &job, field::STATE, State::Running.word()]).unwrap();
    queue.connection.ask(&["ZREM", &waiting, id(1).text()]).unwrap();
    assert_eq!(queue.read(1, "a"), Some((State::Running, 0)));
    for (number, was) in [(1, State::Running), (2, State::Queued)] {
        assert_eq!(queue.told(CANCEL, number, "a", &[KEEP]), Some((was, 0)));
        assert_eq!(queue.read(number, "a"), Some((State::Cancelled, 0)));
        let job = queue.keys.job(&id(number));
        assert_eq!(queue.connection.ask(&["HGET", &job, field::BODY]).unwrap(), Reply::Nil);
        let left = queue.number(&["PTTL", &job]);
        assert!((3_590_000..=3_600_000).contains(&left), "{left}");
    }
    assert_eq!(queue.lengths("a"), [0; 3]);
    let pending = queue.connection.ask(&["XPENDING", &stream, "workers"]).unwrap();
    assert!(matches!(&pending, Reply::Array(replies) if replies[0] == Reply::Integer(0)), "{pending:?}");
    let bytes = queue.keys.bytes();
    assert_eq!(queue.number(&["HEXISTS", &bytes, "a"]), 0);
    // Deleted, it was never there.
    assert_eq!(queue.told(CANCEL, 2, "a", &[KEEP, "delete"]), Some((State::Cancelled, 0)));
    assert_eq!(queue.read(2, "a"), None);
}

#[test]
fn what_has_expired_unseen_takes_no_place() {
    let Some(redis) = Redis::or_skip("what_has_expired_unseen_takes_no_place", None, &[]) else { return };
    let mut queue = Queue::of(&redis);
    for number in 1..3 {
        queue.enqueue(number, "a");
        let (own, waiting) = (queue.keys.of_client("a"), queue.keys.waiting("low"));
        // As Redis does itself, a day and an hour later.
        let job = queue.keys.job(&id(number));
        for words in [
            &["DEL", &job][..],
            &["ZADD", &own, "1", id(number).text()],
            &["ZADD", &waiting, "1", id(number).text()],
        ] {
            queue.connection.ask(words).unwrap();
        }
    }
    assert_eq!(queue.enqueue(3, "a"), [1, 0]);
    assert_eq!((queue.read(3, "a"), queue.lengths("a")), (Some((State::Queued, 0)), [3, 1, 1]));
    let bytes = queue.keys.bytes();
    assert_eq!(queue.connection.ask(&["HGET", &bytes, "a"]).unwrap(), Reply::Bulk(b"10".to_vec()));
}

#[test]
fn the_bytes_of_what_has_expired_unseen_are_free_again() {
    let test = "the_bytes_of_what_has_expired_unseen_are_free_again";
    let Some(redis) = Redis::or_skip(test, None, &[]) else { return };
    let mut queue = Queue::of(&redis);
    queue.enqueue(1, "a");
    queue.enqueue(2, "a");
    // The first is gone, the second waits.
    let (own, job) = (queue.keys.of_client("a"), queue.keys.job(&id(1)));
    queue.connection.ask(&["DEL", &job]).unwrap();
    queue.connection.ask(&["ZADD", &own, "1", id(1).text()]).unwrap();
    assert_eq!(queue.enqueue(3, "a"), [1, 1]);
    let bytes = queue.keys.bytes();
    assert_eq!(queue.connection.ask(&["HGET", &bytes, "a"]).unwrap(), Reply::Bulk(b"20".to_vec()));
}

#[test]
fn what_a_client_takes_for_another_kind_is_left_alone() {
    let Some(redis) = Redis::or_skip("what_a_client_takes_for_another_kind_is_left_alone", None, &[]) else {
        return;
    };
    let mut queue = Queue::of(&redis);
    queue.enqueue(1, "a");
    for (script, more) in [
        (READ, &[][..]),
        (CANCEL, &[KEEP, "cancel"][..]),
        (CANCEL, &[KEEP, "end"][..]),
        (CANCEL, &[KEEP, "delete"][..]),
    ] {
        assert_eq!(queue.told_of("response", script, 1, "a", more), None);
    }
    assert_eq!((queue.read(1, "a"), queue.lengths("a")), (Some((State::Queued, 0)), [1, 1, 1]));
}

#[test]
fn a_dead_letter_that_its_client_forgets_is_none() {
    let Some(redis) = Redis::or_skip("a_dead_letter_that_its_client_forgets_is_none", None, &[]) else {
        return;
    };
    let mut queue = Queue::of(&redis);
    for (number, how, left) in [(1, "cancel", 1), (1, "end", 0), (2, "delete", 0)] {
        let (dead, job) = (queue.keys.dead(), queue.keys.job(&id(number)));
        if queue.read(number, "a").is_none() {
            queue.enqueue(number, "a");
            // As a worker buries it.
            let Reply::Bulk(entry) =
                queue.connection.ask(&["XADD", &dead, "*", "id", id(number).text()]).unwrap()
            else {
                panic!()
            };
            let entry = String::from_utf8(entry).unwrap();
            queue
                .connection
                .ask(&["HSET", &job, field::STATE, State::Failed.word(), "dead", &entry])
                .unwrap();
        }
        assert_eq!(queue.told(CANCEL, number, "a", &[KEEP, how]), Some((State::Failed, 0)), "{how}");
        assert_eq!(queue.number(&["XLEN", &dead]), left, "{how}");
    }
}

#[test]
fn a_store_that_is_full_takes_a_cancellation() {
    let test = "a_store_that_is_full_takes_a_cancellation";
    let Some(redis) = Redis::or_skip(test, None, &["--maxmemory-policy", "noeviction"]) else { return };
    let mut queue = Queue::of(&redis);
    queue.enqueue(1, "a");
    queue.connection.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(queue.told(CANCEL, 1, "a", &[KEEP, "cancel"]), Some((State::Queued, 0)));
    assert_eq!((queue.read(1, "a"), queue.lengths("a")), (Some((State::Cancelled, 0)), [0; 3]));
}

#[test]
fn a_store_that_takes_nothing_has_nothing_half_written() {
    let test = "a_store_that_takes_nothing_has_nothing_half_written";
    let Some(redis) = Redis::or_skip(test, None, &["--maxmemory-policy", "noeviction"]) else { return };
    let mut queue = Queue::of(&redis);
    queue.connection.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let more = ["low", "3", "25", AGE, KEEP, "10"];
    let reply = queue.run(ENQUEUE, &id(1), "a", &more);
    assert_eq!(reply.error_code(), Some("OOM"), "{reply:?}");
    queue.connection.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!((queue.number(&["DBSIZE"]), queue.lengths("a")), (0, [0; 3]));
}
