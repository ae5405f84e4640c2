use super::*;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const BYTES_MAX: usize = 70_000;

/// What came of reading these bytes, cut after so many each.
fn read(from: Side, bytes: &[u8], bytes_each: usize) -> (Vec<Message>, Result<(), Breach>) {
    let (mut reader, mut messages, mut outcome) = (Reader::new(from, BYTES_MAX), Vec::new(), Ok(()));
    for piece in bytes.chunks(bytes_each.max(1)) {
        outcome = reader.push(piece, &mut messages);
    }
    (messages, outcome)
}

/// One frame by hand.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

fn said(bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let (messages, outcome) = read(Side::Server, bytes, bytes.len());
    assert_eq!(outcome, Ok(()));
    messages.into_iter().map(|message| (message.kind, message.payload)).collect()
}

#[track_caller]
fn breaks(from: Side, bytes: &[u8], expected: u16) {
    for bytes_each in [1, bytes.len()] {
        let (messages, outcome) = read(from, bytes, bytes_each);
        assert_eq!(outcome.map_err(Breach::code), Err(expected), "{}", bytes.escape_ascii());
        assert_eq!(messages, []);
    }
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // <https://www.rfc-editor.org/rfc/rfc6455#section-5.7>
    assert_eq!(said(b"\x81\x05Hello"), [(Kind::Text, b"Hello".to_vec())]);
    assert_eq!(said(b"\x01\x03Hel\x80\x02lo"), [(Kind::Text, b"Hello".to_vec())]);
    assert_eq!(said(b"\x89\x05Hello"), [(Kind::Ping, b"Hello".to_vec())]);
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let (messages, outcome) = read(Side::Client, masked, 1);
    let hello =
        Message { kind: Kind::Text, payload: b"Hello".to_vec(), frames: masked.to_vec(), mask: Some(MASK) };
    assert_eq!((messages, outcome), (vec![hello], Ok(())));
    assert_eq!(written(Kind::Text, b"Hello", Some(MASK)), masked);
    for length in [256_usize, 65_536] {
        let written = written(Kind::Binary, &vec![7; length], None);
        let expected: &[u8] = if length == 256 { b"\x82\x7e\x01\0" } else { b"\x82\x7f\0\0\0\0\0\x01\0\0" };
        assert!(written.starts_with(expected));
        assert_eq!(said(&written), [(Kind::Binary, vec![7; length])]);
    }
}

#[test]
fn a_control_frame_may_stand_within_a_message() {
    let bytes =
        [frame(0x01, b"a"), frame(0x89, b"?"), frame(0x00, b"b"), frame(0x8a, b""), frame(0x80, b"c")];
    let all = said(&bytes.concat());
    assert_eq!(all, [(Kind::Ping, b"?".to_vec()), (Kind::Pong, vec![]), (Kind::Text, b"abc".to_vec())]);
}

#[test]
fn a_message_keeps_the_bytes_that_it_came_in() {
    let parts = [frame(0x01, b"a"), frame(0x00, b""), frame(0x80, b"c")].concat();
    let (messages, _) = read(Side::Server, &[&parts[..], b"\x89\0"].concat(), 1);
    assert_eq!(messages[0].frames, parts);
    assert_eq!((messages[0].text(), messages[1].text()), (Some("ac"), None));
}

#[test]
fn a_message_of_endless_empty_frames_is_too_long() {
    let (mut reader, mut messages) = (Reader::new(Side::Server, 1000), Vec::new());
    reader.push(&frame(0x01, b"a"), &mut messages).unwrap();
    let many = frame(0x00, b"").repeat(1024);
    let outcome = (0..100).find_map(|_| reader.push(&many, &mut messages).err());
    assert_eq!(outcome, Some(Breach::TooLong));
}

#[test]
fn what_could_be_read_otherwise_is_a_breach() {
    for bytes in [
        // An extension's bits, kinds that there are not, control frames in parts or too long.
        &b"\xc1\x00"[..],
        b"\xa1\x00",
        b"\x91\x00",
        b"\x83\x00",
        b"\x8b\x00",
        b"\x09\x00",
        b"\x89\x7e\x00\x7e",
        // More of nothing, and one message within another.
        b"\x80\x01a",
        b"\x00\x01a",
        b"\x01\x01a\x81\x01b",
        b"\x01\x01a\x02\x01b",
        // Lengths that are longer than they need to be, or negative for some.
        b"\x81\x7e\x00\x7d",
        b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00",
        // A mask on the wrong side.
        b"\x81\x80\x00\x00\x00\x00",
        // Close frames with half a code, or one that nobody may send.
        b"\x88\x01\x03",
        b"\x88\x02\x03\xe7",
        b"\x88\x02\x03\xec",
        b"\x88\x02\x03\xed",
        b"\x88\x02\x03\xee",
        b"\x88\x02\x03\xf7",
        b"\x88\x02\x0b\xb7",
        b"\x88\x02\x13\x88",
    ] {
        breaks(Side::Server, bytes, 1002);
    }
    breaks(Side::Client, b"\x81\x01a", 1002);
}

#[test]
fn text_that_is_none_is_a_breach() {
    breaks(Side::Server, b"\x81\x02\xc3\x28", 1007);
    // A character may be cut by a frame's end, and must be whole at the message's.
    assert_eq!(said(b"\x01\x01\xc3\x80\x01\xa4"), [(Kind::Text, "ä".into())]);
    breaks(Side::Server, b"\x01\x01\xc3\x80\x00", 1007);
    breaks(Side::Server, b"\x88\x03\x03\xe8\xff", 1007);
    assert_eq!(said(b"\x82\x01\xff"), [(Kind::Binary, b"\xff".to_vec())]);
}

#[test]
fn a_message_too_long_is_known_by_its_head() {
    let too_long = (BYTES_MAX as u64 + 1).to_be_bytes();
    breaks(Side::Server, &[&b"\x81\x7f"[..], &too_long].concat(), 1009);
    let half = written(Kind::Text, &[b'a'; BYTES_MAX / 2 + 1], None);
    let (mut first, mut second) = (half.clone(), half);
    (first[0], second[0]) = (0x01, 0x80);
    breaks(Side::Server, &[first, second[..4].to_vec()].concat(), 1009);
}

#[test]
fn nothing_is_read_behind_a_breach_or_a_close() {
    let mut messages = Vec::new();
    let mut reader = Reader::new(Side::Server, BYTES_MAX);
    assert_eq!(reader.push(b"\x83\0\x81\x01a", &mut messages).map_err(Breach::code), Err(1002));
    assert_eq!(reader.push(b"\x81\x01a", &mut messages).map_err(Breach::code), Err(1002));
    assert_eq!((messages.len(), reader.waiting_bytes()), (0, 0));
    let mut reader = Reader::new(Side::Server, BYTES_MAX);
    let closed = [close(1000, "bye", None), b"\x83\0".to_vec()].concat();
    assert_eq!(reader.push(&closed, &mut messages), Ok(()));
    assert_eq!(reader.push(b"\x81\x01a", &mut messages), Ok(()));
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].payload, b"\x03\xe8bye");
}

#[test]
fn what_waits_is_counted() {
    let mut reader = Reader::new(Side::Server, BYTES_MAX);
    reader.push(b"\x01\x03Hel\x80\x05l", &mut Vec::new()).unwrap();
    assert_eq!(reader.waiting_bytes(), 8);
}

#[test]
fn a_reason_to_close_is_cut_between_characters() {
    let frame = close(1008, &"ä".repeat(100), None);
    assert_eq!(frame.len(), 2 + 2 + 122);
    let (messages, outcome) = read(Side::Server, &frame, 1);
    assert_eq!((messages.len(), outcome), (1, Ok(())));
}

/// Frames as they may be: most of them sound, in an order that may not be.
fn any_frame(from: Side) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let text = prop_oneof![
        6 => "[a-zä€]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..5),
        1 => (120_usize..140).prop_map(|length| vec![b'x'; length]),
        1 => prop::sample::select(vec![999_u16, 1000, 1005, 1011, 2999, 3000, 5000])
            .prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    let mask = prop_oneof![9 => Just(from == Side::Client), 1 => any::<bool>()];
    (first, text, any::<[u8; 4]>(), mask).prop_map(|(first, payload, mask, is_masked)| {
        let mut frame = written(Kind::Text, &payload, is_masked.then_some(mask));
        frame[0] = first;
        frame
    })
}

fn any_side() -> impl Strategy<Value = (Side, Vec<u8>)> {
    prop::sample::select(vec![Side::Client, Side::Server]).prop_flat_map(|side| {
        prop::collection::vec(any_frame(side), 0..8).prop_map(move |frames| (side, frames.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_frames_are_cut_does_not_matter((from, bytes) in any_side(), bytes_each in 1_usize..40) {
        prop_assert_eq!(read(from, &bytes, bytes_each), read(from, &bytes, bytes.len()));
    }

    #[test]
    fn messages_that_go_on_are_the_bytes_that_came((from, bytes) in any_side()) {
        let (messages, outcome) = read(from, &bytes, 7);
        let passed: usize = messages.iter().map(|message| message.frames.len()).sum();
        prop_assert!(passed <= bytes.len());
        if outcome.is_ok() && messages.iter().all(|message| message.kind != Kind::Close) {
            let mut reader = Reader::new(from, BYTES_MAX);
            reader.push(&bytes, &mut Vec::new()).unwrap();
            prop_assert_eq!(passed + reader.waiting_bytes(), bytes.len());
        }
    }

    #[test]
    fn what_is_written_is_read(
        kind in prop::sample::select(vec![Kind::Text, Kind::Binary, Kind::Ping, Kind::Pong]),
        text in "[a-zä]{0,60}",
        mask: [u8; 4],
    ) {
        for (from, mask) in [(Side::Client, Some(mask)), (Side::Server, None)] {
            let (messages, outcome) = read(from, &written(kind, text.as_bytes(), mask), 3);
            prop_assert_eq!(outcome, Ok(()));
            prop_assert_eq!((messages[0].kind, &*messages[0].payload), (kind, text.as_bytes()));
        }
    }
}

/// Another reader, which is not ours.
#[cfg(not(target_arch = "wasm32"))]
mod second_opinion {
    use super::*;
    use std::io::{self, Cursor, Read, Write};
    use tungstenite::error::ProtocolError;
    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tungstenite::{Error, Message as Theirs};

    /// Bytes that come, and nobody who reads what is answered.
    struct Peer(Cursor<Vec<u8>>);

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The messages, and the code of the breach that ends them.
    fn theirs(from: Side, bytes: &[u8]) -> (Vec<(Kind, Vec<u8>)>, Option<u16>) {
        let role = match from {
            Side::Client => Role::Server,
            Side::Server => Role::Client,
        };
        let config = WebSocketConfig::default().max_message_size(Some(BYTES_MAX));
        let mut socket = WebSocket::from_raw_socket(Peer(Cursor::new(bytes.to_vec())), role, Some(config));
        let mut all = Vec::new();
        loop {
            let message = match socket.read() {
                Ok(message) => message,
                Err(Error::Utf8(_)) => return (all, Some(1007)),
                Err(Error::Capacity(_)) => return (all, Some(1009)),
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (all, None),
                Err(Error::Protocol(_)) => return (all, Some(1002)),
                Err(_) => return (all, None),
            };
            all.push(match message {
                Theirs::Text(text) => (Kind::Text, text.as_bytes().to_vec()),
                Theirs::Binary(bytes) => (Kind::Binary, bytes.to_vec()),
                Theirs::Ping(bytes) => (Kind::Ping, bytes.to_vec()),
                Theirs::Pong(bytes) => (Kind::Pong, bytes.to_vec()),
                Theirs::Close(said) => {
                    let said = said.map(|said| {
                        [&u16::from(said.code).to_be_bytes()[..], said.reason.as_bytes()].concat()
                    });
                    all.push((Kind::Close, said.unwrap_or_default()));
                    return (all, None);
                }
                Theirs::Frame(_) => continue,
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

        /// What both take is the same. Ours refuses more: their reader answers a close frame whose code nobody may send, and reads
        /// on where a text is spoilt in a message that never ends.
        #[test]
        fn tungstenite_reads_the_same_messages((from, bytes) in any_side()) {
            let (ours, outcome) = read(from, &bytes, bytes.len());
            let ours: Vec<_> = ours.into_iter().map(|message| (message.kind, message.payload)).collect();
            let (theirs, breach) = theirs(from, &bytes);
            match outcome {
                // They tell a text that is none before its message ends.
                Ok(()) if breach == Some(1007) => prop_assert!(theirs.len() <= ours.len()),
                Ok(()) => prop_assert_eq!((&ours, None), (&theirs, breach)),
                Err(ours_breach) => {
                    let is_close = theirs.get(ours.len()).is_some_and(|(kind, _)| *kind == Kind::Close);
                    prop_assert!(is_close || breach.is_some(), "{ours_breach:?} is theirs not");
                    prop_assert!(theirs.starts_with(&ours) || ours.starts_with(&theirs));
                }
            }
        }
    }
}
