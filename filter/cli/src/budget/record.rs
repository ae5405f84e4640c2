//! What stands in the record of an account? As `account.lua` writes it.

use std::collections::BTreeMap;
use tollgate::calendar::Span;

/// The version of records that this tool reads.
const VERSION: &str = "2";

/// How a limit is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bucket that flows empty in so many microseconds.
    Bucket(u64),
    /// A window of the calendar.
    Window(Span),
    /// Requests under way.
    Places,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) used: u64,
    /// Of a bucket when so much was used, in microseconds; of a window its start, in seconds.
    pub(super) at: u64,
    /// By all Envoys together.
    pub(super) held: u64,
}

/// One Envoy that holds leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) name: String,
    /// When it called last, in microseconds.
    pub(super) seen: u64,
    /// By the ids of the limits.
    pub(super) held: BTreeMap<String, u64>,
}

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) limits: BTreeMap<String, Limit>,
    pub(super) holders: Vec<Holder>,
}

impl Record {
    /// Reads a hash and its set of holders; `None` if there is no account.
    pub(super) fn read(
        fields: &BTreeMap<String, String>,
        seen: &[(String, f64)],
    ) -> Result<Option<Self>, String> {
        let Some(version) = fields.get("v") else { return Ok(None) };
        if version != VERSION {
            return Err(format!("the record is of version {version}, and this tool knows version {VERSION}"));
        }
        let mut record = Self::default();
        let limits = fields.iter().filter_map(|(field, line)| Some((field.strip_prefix("l:")?, line)));
        for (id, line) in limits {
            let limit = Limit::read(line).ok_or_else(|| format!("limit {id} is not readable: {line:?}"))?;
            record.limits.insert(id.to_owned(), limit);
        }
        // Those that are gone have a time below zero.
        for (name, seen) in seen.iter().filter(|(_, seen)| *seen >= 0.0) {
            let line = fields.get(&format!("h:{name}")).map_or("", String::as_str);
            let words: Vec<_> = line.split(' ').skip(1).collect();
            let (entries, _) = words.as_chunks::<3>();
            let held =
                entries.iter().filter_map(|[id, held, _]| Some(((*id).to_owned(), held.parse().ok()?)));
            record.holders.push(Holder { name: name.clone(), seen: *seen as u64, held: held.collect() });
        }
        Ok(Some(record))
    }
}

impl Limit {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (kind, span) = (words.next()?, words.next()?);
        let kind = match kind {
            "b" => Kind::Bucket(span.parse().ok()?),
            "w" => Kind::Window(
                [Span::Hour, Span::Day, Span::Week, Span::Month]
                    .into_iter()
                    .find(|one| one.word() == span)?,
            ),
            "s" => Kind::Places,
            _ => return None,
        };
        let mut number = || words.next()?.parse().ok();
        let (size, used, at, _frac, held) = (number()?, number()?, number()?, number()?, number()?);
        Some(Self { kind, size, used, at, held })
    }

    /// When its window ends, in seconds; `None` for one that has none.
    pub(super) fn ends(&self) -> Option<u64> {
        match self.kind {
            Kind::Window(span) => Some(span.bounds(self.at).1),
            Kind::Bucket(_) | Kind::Places => None,
        }
    }

    /// Whether what it tells is of a window that is over.
    pub(super) fn is_over(&self, now_us: u64) -> bool {
        self.ends().is_some_and(|ends| ends <= now_us / 1_000_000)
    }

    /// What is known of it without a configuration.
    pub(super) fn word(&self) -> String {
        match self.kind {
            Kind::Bucket(1_000_000) => "per second".to_owned(),
            Kind::Bucket(60_000_000) => "per minute".to_owned(),
            Kind::Bucket(period) => format!("per {period} us"),
            Kind::Window(span) => format!("per {}", span.word()),
            Kind::Places => "concurrent".to_owned(),
        }
    }
}
