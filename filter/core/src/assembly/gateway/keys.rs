//! How is the fleet's store asked whose a key is?

use super::{FleetStore, StoreTrouble, client_table};
use crate::identity::issued::Wanted;
use crate::resp::{self, Reply};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// The one hash in the store that has all issued keys: their SHA-256, and what is said of each.
#[must_use]
pub fn key_table(prefix: &str) -> String {
    format!("{prefix}:keys")
}

/// What the store has of a key, and of the client that was asked for with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReply {
    /// What stands there of the key.
    pub entry: Option<Vec<u8>>,
    /// What stands there of the client.
    pub client: Option<Rc<[u8]>>,
}

/// The clients that are asked for with these keys, each once.
fn clients_of(keys: &[Wanted]) -> Vec<Rc<str>> {
    let clients: BTreeSet<_> = keys.iter().filter_map(|wanted| wanted.client.clone()).collect();
    clients.into_iter().collect()
}

impl FleetStore {
    /// What is sent to look these up.
    #[must_use]
    pub fn key_request(&self, keys: &[Wanted]) -> Vec<u8> {
        let mut commands = self.opening(false);
        let words = ["HMGET".to_owned(), key_table(&self.prefix)].into_iter();
        let words: Vec<_> = words.chain(keys.iter().map(|wanted| wanted.key.hex())).collect();
        commands.push(&words);
        let clients = clients_of(keys);
        if !clients.is_empty() {
            let words = ["HMGET".to_owned(), client_table(&self.prefix)].into_iter();
            let words: Vec<_> = words.chain(clients.iter().map(ToString::to_string)).collect();
            commands.push(&words);
        }
        // What answers this has answered everything.
        commands.push(&["QUIT"]);
        commands.bytes().to_vec()
    }

    /// What was answered about these.
    pub fn key_replies(&self, body: &[u8], keys: &[Wanted]) -> Result<Vec<KeyReply>, StoreTrouble> {
        let replies = resp::replies(body).ok_or(StoreTrouble::Garbled)?;
        if let Some(code) = replies.iter().find_map(Reply::error_code) {
            return Err(StoreTrouble::of(code));
        }
        let clients = clients_of(keys);
        let mut replies = replies.into_iter().skip(self.opening(false).count());
        let entries = values(replies.next(), keys.len())?;
        let of_clients = if clients.is_empty() { Vec::new() } else { values(replies.next(), clients.len())? };
        match (replies.next(), replies.next()) {
            (Some(Reply::Simple(end)), None) if end == "OK" => {}
            _ => return Err(StoreTrouble::Garbled),
        }
        let of_clients = of_clients.into_iter().map(|text| text.map(Rc::from));
        let by_name: HashMap<Rc<str>, Option<Rc<[u8]>>> = clients.into_iter().zip(of_clients).collect();
        let reply = |(wanted, entry): (&Wanted, _)| {
            let client = wanted.client.as_ref().and_then(|name| by_name.get(name).cloned().flatten());
            KeyReply { entry, client }
        };
        Ok(keys.iter().zip(entries).map(reply).collect())
    }
}

/// What stands at so many places of a hash.
fn values(reply: Option<Reply>, count: usize) -> Result<Vec<Option<Vec<u8>>>, StoreTrouble> {
    let Some(Reply::Array(values)) = reply else { return Err(StoreTrouble::Garbled) };
    if values.len() != count {
        return Err(StoreTrouble::Garbled);
    }
    let value = |reply| match reply {
        Reply::Bulk(value) => Ok(Some(value)),
        Reply::Nil => Ok(None),
        _ => Err(StoreTrouble::Garbled),
    };
    values.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyHash;
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

    fn wanted(clients: [Option<&str>; 2]) -> Vec<Wanted> {
        let keys = [b"a", b"b"].map(|key| KeyHash::of(key)).into_iter();
        keys.zip(clients).map(|(key, client)| Wanted { key, client: client.map(Rc::from) }).collect()
    }

    #[test]
    fn all_keys_of_a_call_are_asked_for_at_once() {
        let check = |clients: [Option<&str>; 2], of_clients: &[&str]| {
            let keys = wanted(clients);
            let request = String::from_utf8(store().key_request(&keys)).unwrap();
            let words: Vec<_> = request.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
            let hashes: Vec<_> = keys.iter().map(|wanted| wanted.key.hex()).collect();
            let expected = ["SELECT", "2", "HMGET", "eu:keys", &hashes[0], &hashes[1]];
            assert_eq!(words, [&expected, of_clients, &["QUIT", ""]].concat());
        };
        check([None, None], &[]);
        check([None, Some("team")], &["HMGET", "eu:clients", "team"]);
        // Each once.
        check([Some("team"), Some("team")], &["HMGET", "eu:clients", "team"]);
        check([Some("team"), Some("lab")], &["HMGET", "eu:clients", "lab", "team"]);
    }

    #[test]
    fn each_key_gets_what_stands_of_its_client() {
        let keys = wanted([Some("team"), None]);
        let body = b"+OK\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$1\r\nT\r\n+OK\r\n";
        let client = Some(b"T".as_slice().into());
        let expected = [
            KeyReply { entry: Some(b"a".to_vec()), client },
            KeyReply { entry: Some(b"b".to_vec()), client: None },
        ];
        assert_eq!(store().key_replies(body, &keys).unwrap(), expected);
        let body = b"+OK\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$-1\r\n+OK\r\n";
        assert_eq!(store().key_replies(body, &keys).unwrap()[0].client, None);
        // What was not answered about clients.
        let body = b"+OK\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+OK\r\n";
        assert_eq!(store().key_replies(body, &keys), Err(StoreTrouble::Garbled));
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let check = |body: &str, expected| {
            let found = store().key_replies(body.as_bytes(), &wanted([None, None]));
            let entries =
                found.map(|replies| replies.into_iter().map(|reply| reply.entry).collect::<Vec<_>>());
            assert_eq!(entries, expected, "{body:?}");
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
