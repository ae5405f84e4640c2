//! What a conversation holds, how much of that there may be, and how long it waits.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ROOM: usize = 1 << 20;

fn roomy() -> Rc<Gateway> {
    gateway(|config| {
        config["policies"][0]["request_bytes_max"] = json!(ROOM);
        config["clients"][0]["held_bytes_max"] = json!(ROOM);
        config["clients"][0]["limits"] = json!([]);
    })
}

/// The beginning of a message of so many bytes.
fn part(bytes: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = frames::written(Kind::Text, &vec![b'a'; bytes + 1], mask);
    frame.pop();
    frame
}

fn said(run: &mut Run, bytes: &[u8]) -> Vec<String> {
    read(Side::Client, &run.with(|socket, session, world| socket.client_says(bytes, session, world)))
}

#[test]
fn parts_of_messages_take_of_their_clients_room() {
    let gateway = roomy();
    let mut first = Run::new(&gateway);
    let mut second = Run::new(&gateway);
    assert_eq!(said(&mut first, &part(ROOM / 2, Some(MASK))), [""; 0]);
    // The other side's count, too.
    assert_eq!(second.raw(&part(ROOM / 4, None)), [""; 0]);
    assert_eq!(said(&mut second, &part(ROOM / 2, Some(MASK))), ["close 1000"]);
    assert_eq!(second.raw(b"a"), ["close 1013"]);
    // What is not held any more makes room.
    drop(first);
    let mut third = Run::new(&gateway);
    assert_eq!(said(&mut third, &part(ROOM / 2, Some(MASK))), [""; 0]);
    drop((second, third));
    assert_eq!(gateway.roster[0].held_bytes_now(), 0);
}

#[test]
fn a_message_that_has_gone_on_takes_no_room() {
    let gateway = roomy();
    let mut run = Run::new(&gateway);
    let long = json!({ "type": "input_audio_buffer.append", "audio": "A".repeat(ROOM / 2) }).to_string();
    for _ in 0..5 {
        let frame = frames::written(Kind::Text, long.as_bytes(), Some(MASK));
        let (begin, end) = frame.split_at(ROOM / 4);
        said(&mut run, begin);
        assert_eq!(said(&mut run, end), [&*long]);
        assert_eq!(gateway.roster[0].held_bytes_now(), 0);
    }
}

#[test]
fn messages_that_wait_take_room_and_are_not_too_many() {
    let gateway = gateway(|_| {});
    let mut run = Run::new(&gateway);
    run.is_late = true;
    assert_eq!(run.say(CREATE), [""; 0]);
    let asked = gateway.roster[0].held_bytes_now();
    let pong = frames::written(Kind::Pong, b"", Some(MASK));
    assert_eq!(said(&mut run, &pong.repeat(UNREAD_MAX)), [""; 0]);
    let each = size_of::<Message>() + pong.len();
    assert_eq!(gateway.roster[0].held_bytes_now(), asked + UNREAD_MAX * each);
    assert_eq!(said(&mut run, &pong), ["close 1000"]);
    assert_eq!(gateway.roster[0].held_bytes_now(), asked);
    // Nothing is read, or kept, of who is not listened to any more.
    assert_eq!(said(&mut run, &part(1000, Some(MASK))), [""; 0]);
    assert_eq!(gateway.roster[0].held_bytes_now(), asked);
}

#[test]
fn each_claim_waits_for_its_own_time() {
    let mut run = Run::new(&gateway(|config| config["clients"][0]["limits"] = json!([])));
    run.is_late = true;
    let wake = |run: &mut Run| {
        run.now += Duration::from_secs(1);
        run.with(|socket, session, world| socket.wake(session, world))
    };
    run.say(CREATE);
    run.say(CREATE);
    wake(&mut run);
    run.is_late = false;
    // The first is decided, and by the same call the second is asked for.
    let mut is_first = true;
    let moment = Moment::new(&run.store, run.now);
    let mut second = None;
    let mut reserve = |claim, since| {
        if std::mem::take(&mut is_first) {
            return Asked::Now(limits::reserve(moment, claim));
        }
        second = Some(since);
        Asked::Later(claim)
    };
    run.socket.wake(&mut run.session, &mut World { moment, reserve: &mut reserve });
    assert_eq!((run.sinces, second), (vec![None, Some(Duration::from_secs(1))], Some(None)));
}
