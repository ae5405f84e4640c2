use super::*;
use proptest::prelude::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn a_command_is_its_words_with_their_lengths() {
    let mut commands = Commands::new();
    commands.push(&["AUTH", "pa ss\r\n"]);
    commands.push(&[&b"QUIT"[..]]);
    let mut all = Commands::new();
    all.append(&commands);
    assert_eq!(all.bytes(), b"*2\r\n$4\r\nAUTH\r\n$7\r\npa ss\r\n\r\n*1\r\n$4\r\nQUIT\r\n");
    assert_eq!(all.count(), 2);
}

#[track_caller]
fn check(bytes: &[u8], expected: Option<&[Reply]>) {
    assert_eq!(replies(bytes).as_deref(), expected, "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn replies_are_read_as_they_are_written() {
    use Reply::{Array, Bulk, Error, Integer, Nil, Simple};
    check(b"", Some(&[]));
    check(b"+OK\r\n", Some(&[Simple("OK".into())]));
    check(b"-NOSCRIPT No matching script.\r\n", Some(&[Error("NOSCRIPT No matching script.".into())]));
    check(b":-9007199254740993\r\n:0\r\n", Some(&[Integer(-9_007_199_254_740_993), Integer(0)]));
    check(b"$4\r\na\r\nb\r\n", Some(&[Bulk(b"a\r\nb".to_vec())]));
    check(b"$-1\r\n*-1\r\n*0\r\n", Some(&[Nil, Nil, Array(Vec::new())]));
    let array = Array(vec![Integer(1), Array(vec![Nil, Simple(String::new())])]);
    check(b"*2\r\n:1\r\n*2\r\n$-1\r\n+\r\n", Some(&[array]));
}

#[test]
fn what_is_no_whole_reply_is_none() {
    for bytes in [
        &b"+OK"[..],
        b"+OK\r",
        b"+OK\n",
        b"+O\rK\r\n",
        b"OK\r\n",
        b"\r\n",
        b":\r\n",
        b":+1\r\n",
        b":1 \r\n",
        b":9223372036854775808\r\n",
        b"$-2\r\n",
        b"$3\r\nab\r\n",
        b"$1\r\nab\r\n",
        b"*2\r\n:1\r\n",
        b"*-2\r\n",
        b"+\xff\r\n",
        b"+OK\r\n+O",
        // RESP3, which nobody asked for.
        b"_\r\n",
        b"%1\r\n+a\r\n:1\r\n",
    ] {
        check(bytes, None);
    }
}

#[test]
fn a_reply_beyond_a_bound_is_none() {
    let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
    assert!(replies(&nested(DEPTH_MAX)).is_some());
    assert_eq!(replies(&nested(DEPTH_MAX + 1)), None);
    assert_eq!(replies(&nested(100_000)), None);
    assert_eq!(replies(format!("*{}\r\n", i64::MAX).as_bytes()), None);
    assert_eq!(replies(format!("${}\r\n", i64::MAX).as_bytes()), None);
    assert_eq!(replies(&b":1\r\n".repeat(REPLIES_MAX)).map(|all| all.len()), Some(REPLIES_MAX));
    assert_eq!(replies(&b":1\r\n".repeat(REPLIES_MAX + 1)), None);
    let long = |bytes: usize| [format!("${bytes}\r\n").as_bytes(), &b"a".repeat(bytes), b"\r\n"].concat();
    assert!(replies(&long(REPLY_BYTES_MAX - 20)).is_some());
    assert_eq!(replies(&long(REPLY_BYTES_MAX)), None);
}

#[test]
fn a_refusal_has_a_code_and_an_array_its_numbers() {
    let refusal = Reply::Error("WRONGPASS invalid username-password pair".to_owned());
    assert_eq!(refusal.error_code(), Some("WRONGPASS"));
    assert_eq!(Reply::Nil.error_code(), None);
    assert_eq!(Reply::Array(vec![Reply::Integer(1), Reply::Integer(-2)]).integers(), Some(vec![1, -2]));
    assert_eq!(Reply::Array(vec![Reply::Integer(1), Reply::Nil]).integers(), None);
    assert_eq!(Reply::Integer(1).integers(), None);
}

fn write(reply: &Reply, to: &mut Vec<u8>) {
    match reply {
        Reply::Simple(line) => to.extend(format!("+{line}\r\n").bytes()),
        Reply::Error(line) => to.extend(format!("-{line}\r\n").bytes()),
        Reply::Integer(number) => to.extend(format!(":{number}\r\n").bytes()),
        Reply::Bulk(bytes) => {
            to.extend(format!("${}\r\n", bytes.len()).bytes());
            to.extend(bytes);
            to.extend(b"\r\n");
        }
        Reply::Nil => to.extend(b"$-1\r\n"),
        Reply::Array(replies) => {
            to.extend(format!("*{}\r\n", replies.len()).bytes());
            for reply in replies {
                write(reply, to);
            }
        }
    }
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        "[^\r\n]{0,9}".prop_map(Reply::Simple),
        "[A-Z]{1,9}( [^\r\n]{0,9})?".prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Reply::Bulk),
        Just(Reply::Nil),
    ];
    leaf.prop_recursive(3, 16, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Reply::Array))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replies_come_back_whole_and_cut_never_as_others(all in prop::collection::vec(any_reply(), 1..6)) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for reply in &all {
            write(reply, &mut bytes);
            ends.push(bytes.len());
        }
        prop_assert_eq!(replies(&bytes), Some(all.clone()));
        for cut in 0..bytes.len() {
            // Whole where one ends, and nothing in between.
            let expected = ends.iter().position(|end| *end == cut).map(|count| all[..count].to_vec());
            prop_assert_eq!(replies(&bytes[..cut]), expected);
        }
    }

    #[test]
    fn no_bytes_are_a_fault(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(),
        prop::sample::select(b"+-:$*\r\n0123456789".to_vec()),
    ], 0..200)) {
        let _ = replies(&bytes);
    }

    #[test]
    fn a_changed_byte_is_never_a_fault(all in prop::collection::vec(any_reply(), 1..4), at: usize, byte: u8) {
        let mut bytes = Vec::new();
        for reply in &all {
            write(reply, &mut bytes);
        }
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = replies(&bytes);
    }
}
