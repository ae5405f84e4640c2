//! How is the fleet's store asked whose a key is?

use super::{FleetStore, StoreTrouble};
use crate::identity::KeyHash;
use crate::resp::{self, Reply};

/// The one hash in the store that has all issued keys: their SHA-256, and what is said of each.
#[must_use]
pub fn key_table(prefix: &str) -> String {
    format!("{prefix}:keys")
}

impl FleetStore {
    /// What is sent to look these up.
    #[must_use]
    pub fn key_request(&self, keys: &[KeyHash]) -> Vec<u8> {
        let mut commands = self.opening(false);
        let words = ["HMGET".to_owned(), key_table(&self.prefix)].into_iter();
        let words: Vec<_> = words.chain(keys.iter().map(KeyHash::hex)).collect();
        commands.push(&words);
        // What answers this has answered everything.
        commands.push(&["QUIT"]);
        commands.bytes().to_vec()
    }

    /// What was answered about so many: what stands there of each, if anything does.
    pub fn key_replies(&self, body: &[u8], keys: usize) -> Result<Vec<Option<Vec<u8>>>, StoreTrouble> {
        let replies = resp::replies(body).ok_or(StoreTrouble::Garbled)?;
        if let Some(code) = replies.iter().find_map(Reply::error_code) {
            return Err(StoreTrouble::of(code));
        }
        let mut replies = replies.into_iter().skip(self.opening(false).count());
        match (replies.next(), replies.next(), replies.next()) {
            (Some(Reply::Array(entries)), Some(Reply::Simple(end)), None)
                if end == "OK" && entries.len() == keys =>
            {
                let entry = |reply| match reply {
                    Reply::Bulk(entry) => Ok(Some(entry)),
                    Reply::Nil => Ok(None),
                    _ => Err(StoreTrouble::Garbled),
                };
                entries.into_iter().map(entry).collect()
            }
            _ => Err(StoreTrouble::Garbled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn store() -> FleetStore {
        FleetStore {
            cluster: "store".to_owned(),
            path: "/redis".to_owned(),
            timeout: Duration::from_millis(250),
            prefix: "eu".to_owned(),
            database: 2,
            user: None,
            password: None,
            envoys: 1,
            spend_days: None,
        }
    }

    #[test]
    fn all_keys_of_a_call_are_asked_for_at_once() {
        let keys = [KeyHash::of(b"a"), KeyHash::of(b"b")];
        let request = String::from_utf8(store().key_request(&keys)).unwrap();
        let words: Vec<_> = request.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
        let [a, b] = keys.map(|key| key.hex());
        assert_eq!(words, ["SELECT", "2", "HMGET", "eu:keys", &a, &b, "QUIT", ""]);
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let check = |body: &str, expected| {
            assert_eq!(store().key_replies(body.as_bytes(), 2), expected, "{body:?}");
        };
        check("+OK\r\n*2\r\n$2\r\n{}\r\n$-1\r\n+OK\r\n", Ok(vec![Some(b"{}".to_vec()), None]));
        // No end, one entry too few, one that is none, one answer too many, and none at all.
        for body in [
            "+OK\r\n*2\r\n$-1\r\n$-1\r\n",
            "+OK\r\n*1\r\n$-1\r\n+OK\r\n",
            "+OK\r\n*2\r\n$-1\r\n:7\r\n+OK\r\n",
            "+OK\r\n*2\r\n$-1\r\n$-1\r\n+OK\r\n+OK\r\n",
            "",
        ] {
            check(body, Err(StoreTrouble::Garbled));
        }
        check("+OK\r\n-WRONGTYPE Operation\r\n+OK\r\n", Err(StoreTrouble::Refused));
        check("+OK\r\n-NOPERM no\r\n+OK\r\n", Err(StoreTrouble::Refused));
        check("-NOAUTH no\r\n-NOAUTH no\r\n+OK\r\n", Err(StoreTrouble::Credentials));
    }
}
