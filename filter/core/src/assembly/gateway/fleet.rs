//! Where do the budgets of a fleet of Envoys stand, and how is that place asked?

use crate::capacity::shared as capacity;
use crate::fleet::Fleet;
use crate::limits::Account;
use crate::limits::leases::{Call, SCRIPT};
use crate::resp::{self, Commands, Reply};
use crate::route;
use crate::spending;
use std::fmt;
use std::time::Duration;

/// The SHA-1 of the script, by which the store knows it.
pub const SCRIPT_SHA1: &str = "485d906b12ed13881c4e26e1975673c72bb5c3c3";

/// The same of the script for pauses and orders.
pub const PAUSES_SHA1: &str = "d0cb0e2318fff7a59827e1a44297c5dffbfff5b4";

/// The same of the script for the use of capacity.
pub const CAPACITY_SHA1: &str = "00bc9c8ebf743bf639a5bbfa94868a9e4f445487";

/// The same of the script for what was spent.
pub const SPEND_SHA1: &str = "2207c27ed115918eb56e06694a6f13614e0c527d";

/// Whose keys those of the use of capacity are. An account's name has a `/`.
const CAPACITY: &str = "capacity";

/// What the names of keys begin with, if nothing else is said.
pub const PREFIX: &str = "tollgate";

/// The keys of an account: of its record, and of those who hold something of it. They share a slot of a cluster.
#[must_use]
pub fn keys_of(prefix: &str, account: &str) -> [String; 2] {
    let record = format!("{prefix}:{{{account}}}");
    [record.clone(), format!("{record}:holders")]
}

/// The key of what was spent on a day, as `2026-11-28`.
#[must_use]
pub fn spend_key(prefix: &str, day: &str) -> String {
    format!("{prefix}:spend:{day}")
}

/// A Redis that many Envoys share.
#[derive(Debug, PartialEq, Eq)]
pub struct FleetStore {
    /// Envoy's name for the way there.
    pub cluster: String,
    /// The path of the route that makes a connection of a request.
    pub path: String,
    /// How long one call may take.
    pub timeout: Duration,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// The number of its database.
    pub database: u64,
    /// Who asks; `None` is the store's default user.
    pub user: Option<Secret>,
    /// What proves it.
    pub password: Option<Secret>,
    /// How many Envoys share it at least, for while it does not tell.
    pub envoys: u64,
    /// For how many days it keeps what was spent, if it does.
    pub spend_days: Option<u64>,
}

/// What is sent and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the fleet's store cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTrouble {
    /// It did not answer, or not in time.
    Unreached,
    /// What answered does not speak its protocol, or the answer was cut off.
    Garbled,
    /// It does not take the user and the password.
    Credentials,
    /// It has no memory left.
    Full,
    /// It takes no writes: a replica, or one that cannot save.
    ReadOnly,
    /// It reads its data from the disk.
    Loading,
    /// The records in it are of another version of Tollgate.
    Version,
    /// It does not have the script.
    NoScript,
    /// It refuses for another reason.
    Refused,
}

impl StoreTrouble {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreached => "unreached",
            Self::Garbled => "garbled",
            Self::Credentials => "credentials",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Loading => "loading",
            Self::Version => "version",
            Self::NoScript => "no_script",
            Self::Refused => "refused",
        }
    }

    /// Where an operator looks first.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Unreached => "check store.redis.cluster, the listener before Redis, and Redis' address",
            Self::Garbled => {
                "check that the cluster of the listener before it leads to Redis, and whether it wants TLS"
            }
            Self::Credentials => "check store.redis.user_env and password_env, and what the user may do",
            Self::Full => "give Redis more memory; its policy must be noeviction",
            Self::ReadOnly => "check that the address is the primary's, and that it can save",
            Self::Loading => "it is starting",
            Self::Version => "use another store.redis.prefix, or the other version of Tollgate",
            Self::NoScript => "check that the user may run SCRIPT LOAD",
            Self::Refused => {
                "check what the user may do: EVALSHA and SCRIPT LOAD, on keys with store.redis.prefix"
            }
        }
    }

    /// By the code of a refusal. <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>
    pub(super) fn of(code: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" => Self::Credentials,
            "OOM" => Self::Full,
            "READONLY" | "MISCONF" | "NOREPLICAS" => Self::ReadOnly,
            "LOADING" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" => Self::Loading,
            "VERSION" => Self::Version,
            "NOSCRIPT" => Self::NoScript,
            _ => Self::Refused,
        }
    }
}

/// What is said beside the calls for budgets: the arguments of each script that is run for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Of pauses and orders.
    pub pauses: Option<String>,
    /// Of the use of capacity.
    pub capacity: Option<String>,
    /// Of what was spent.
    pub spend: Option<spending::Call>,
}

impl FleetStore {
    /// Those who share it.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        Fleet::new(&self.cluster, &self.path, self.database, &self.prefix)
    }

    /// The name by which it knows this process, which has this name among others. Of two ways that lead to the same place each has
    /// its own: what is held by one is nothing to the other.
    #[must_use]
    pub fn holder(&self, process: &str) -> String {
        format!("{process}-{}", self.fleet())
    }

    /// What this process has to tell it of what was spent.
    #[must_use]
    pub fn book(&self) -> spending::Book {
        spending::Book::new(self.fleet())
    }

    /// What is sent for these calls, and beside them; `loads` says whether the scripts come along.
    pub fn request<'c>(
        &self,
        calls: impl Iterator<Item = (&'c Account, &'c Call)>,
        beside: &Beside,
        loads: bool,
    ) -> Vec<u8> {
        let mut commands = self.opening(loads);
        for (account, call) in calls {
            let [record, holders] = keys_of(&self.prefix, account.shared_name().unwrap_or_default());
            let words = ["EVALSHA", SCRIPT_SHA1, "2", &record, &holders];
            let words: Vec<_> = words.into_iter().chain(call.arguments.split(' ')).collect();
            commands.push(&words);
        }
        if let Some(pauses) = &beside.pauses {
            let key = format!("{}:routing", self.prefix);
            let words = ["EVALSHA", PAUSES_SHA1, "1", &key];
            let words: Vec<_> = words.into_iter().chain(pauses.split_whitespace()).collect();
            commands.push(&words);
        }
        if let Some(capacity) = &beside.capacity {
            let [uses, ends] = keys_of(&self.prefix, CAPACITY);
            let words = ["EVALSHA", CAPACITY_SHA1, "2", &uses, &ends];
            let words: Vec<_> = words.into_iter().chain(capacity.split(' ')).collect();
            commands.push(&words);
        }
        if let Some(spend) = &beside.spend {
            let key = spend_key(&self.prefix, &spend.day);
            let words = ["EVALSHA", SPEND_SHA1, "1", &key];
            let words: Vec<_> = words.into_iter().chain(spend.arguments.iter().map(String::as_str)).collect();
            commands.push(&words);
        }
        // What answers this has answered everything.
        commands.push(&["QUIT"]);
        commands.bytes().to_vec()
    }

    pub(super) fn opening(&self, loads: bool) -> Commands {
        let mut commands = Commands::new();
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => commands.push(&["AUTH", &user.0, &password.0]),
            (None, Some(password)) => commands.push(&["AUTH", &password.0]),
            (_, None) => {}
        }
        if self.database > 0 {
            commands.push(&["SELECT", &self.database.to_string()]);
        }
        if loads {
            commands.push(&["SCRIPT", "LOAD", SCRIPT]);
            commands.push(&["SCRIPT", "LOAD", route::SCRIPT]);
            commands.push(&["SCRIPT", "LOAD", capacity::SCRIPT]);
            if self.spend_days.is_some() {
                commands.push(&["SCRIPT", "LOAD", spending::SCRIPT]);
            }
        }
        commands
    }

    /// What was answered to so many calls, and to what was said beside them. No budget waits for what goes wrong beside it.
    pub fn replies(
        &self,
        body: &[u8],
        calls: usize,
        beside: &Beside,
        loads: bool,
    ) -> Result<Replies, StoreTrouble> {
        let replies = resp::replies(body).ok_or(StoreTrouble::Garbled)?;
        let opening = self.opening(loads).count();
        let of_pauses = beside.pauses.as_ref().map(|_| opening + calls);
        let pauses_end = opening + calls + usize::from(of_pauses.is_some());
        let of_capacity = beside.capacity.as_ref().map(|_| pauses_end);
        let capacity_end = pauses_end + usize::from(of_capacity.is_some());
        let of_spend = beside.spend.as_ref().map(|_| capacity_end);
        let end = capacity_end + usize::from(of_spend.is_some());
        let code = replies.iter().enumerate().find_map(|(at, reply)| {
            let is_beside = [of_pauses, of_capacity, of_spend].contains(&Some(at));
            reply.error_code().filter(|code| !is_beside || *code == "NOSCRIPT" && !loads)
        });
        if let Some(code) = code {
            return Err(StoreTrouble::of(code));
        }
        let is_whole = replies.len() == end + 1 && replies.last() == Some(&Reply::Simple("OK".into()));
        if !is_whole {
            return Err(StoreTrouble::Garbled);
        }
        let numbers = replies.iter().skip(opening).take(calls).map(Reply::integers);
        let calls = numbers.collect::<Option<_>>().ok_or(StoreTrouble::Garbled)?;
        let of = |at: Option<usize>| at.and_then(|at| replies.get(at)).and_then(Reply::integers);
        Ok(Replies { calls, pauses: of(of_pauses), capacity: of(of_capacity), spend: of(of_spend) })
    }
}

/// What the store has answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Replies {
    /// The numbers of each call.
    pub calls: Vec<Vec<i64>>,
    /// Those about pauses and orders, if these were shared and that went well.
    pub pauses: Option<Vec<i64>>,
    /// Likewise those about the use of capacity.
    pub capacity: Option<Vec<i64>>,
    /// Likewise that about what was spent.
    pub spend: Option<Vec<i64>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spend::Row;
    use crate::store::{MemoryStore, Moment};
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// What becomes of this answer to one call for a budget, and to what was said beside it.
    fn replies(body: &str, loads: bool) -> Result<Replies, StoreTrouble> {
        let store = FleetStore {
            cluster: "store".to_owned(),
            path: "/redis".to_owned(),
            timeout: Duration::from_millis(250),
            prefix: PREFIX.to_owned(),
            database: 0,
            user: None,
            password: None,
            envoys: 1,
            spend_days: Some(400),
        };
        let memory = MemoryStore::default();
        let row = Row { client: "web".to_owned(), ..Row::default() };
        assert_eq!(store.book().add(&memory, &row), Ok(true));
        let spend =
            store.book().say(Moment::new(&memory, Duration::ZERO), "me", Duration::ZERO, 1).unwrap().unwrap();
        let beside =
            Beside { pauses: Some(String::new()), capacity: Some("a".to_owned()), spend: Some(spend) };
        store.replies(body.as_bytes(), 1, &beside, loads)
    }

    #[test]
    fn what_fails_beside_budgets_stops_none_of_them() {
        let (calls, pauses, capacity, spend) =
            (vec![vec![7]], Some(vec![8]), Some(vec![9, 10]), Some(vec![1]));
        let whole = "*1\r\n:7\r\n*1\r\n:8\r\n*2\r\n:9\r\n:10\r\n*1\r\n:1\r\n+OK\r\n";
        let expected = || Replies {
            calls: calls.clone(),
            pauses: pauses.clone(),
            capacity: capacity.clone(),
            spend: spend.clone(),
        };
        assert_eq!(replies(whole, false), Ok(expected()));
        let refused = |answer: &str| replies(&whole.replacen(answer, "-NOPERM no\r\n", 1), false);
        assert_eq!(refused("*1\r\n:8\r\n"), Ok(Replies { pauses: None, ..expected() }));
        assert_eq!(refused("*2\r\n:9\r\n:10\r\n"), Ok(Replies { capacity: None, ..expected() }));
        assert_eq!(refused("*1\r\n:1\r\n"), Ok(Replies { spend: None, ..expected() }));
        // A script that is not there is brought along, once; a budget that is refused is not kept.
        let unknown = whole.replacen("*1\r\n:1\r\n", "-NOSCRIPT no\r\n", 1);
        assert_eq!(replies(&unknown, false), Err(StoreTrouble::NoScript));
        assert_eq!(refused("*1\r\n:7\r\n"), Err(StoreTrouble::Refused));
        // One answer is missing.
        assert_eq!(replies(&whole.replacen("*1\r\n:1\r\n", "", 1), false), Err(StoreTrouble::Garbled));
        // What was loaded is answered before the calls.
        assert_eq!(replies(whole, true), Err(StoreTrouble::Garbled));
    }
}
