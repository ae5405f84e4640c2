//! A call of the store's script, and its answer: values, and the words that they are on the wire.

use tollgate::calendar::Span;
use tollgate::resp::Reply;

/// How a limit is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bucket that flows empty in so many microseconds.
    Bucket(u64),
    /// A window of the calendar.
    Window(Span),
    /// Places.
    Places,
}

/// What a call says of one limit, and asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The limit.
    pub id: u64,
    /// How it is measured.
    pub kind: Kind,
    /// How much there is.
    pub size: u64,
    /// The start of the window that this is of, in seconds; else 0.
    pub window: u64,
    /// What the store holds for this holder, as far as that knows.
    pub ack: i64,
    /// What is left of it. Below 0: a debt.
    pub left: i64,
    /// What it returns.
    pub give: i64,
    /// What it needs beyond what is left.
    pub need: i64,
    /// What it would like beyond that.
    pub want: i64,
    /// Whether the limit only reports.
    pub shadow: bool,
    /// What was used, by the last answer.
    pub used_seen: i64,
}

/// One call for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who calls.
    pub holder: String,
    /// The number of the call.
    pub seq: u64,
    /// After so long without a call a holder is gone.
    pub lease_ms: u64,
    /// The last answer's `rev`; 0 if there was none.
    pub rev_seen: i64,
    /// One for each limit.
    pub asks: Vec<Ask>,
}

/// What an answer says of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What is added to what was kept.
    pub granted: i64,
    /// What of `left` is still held.
    pub kept: i64,
    /// What is used, by all; of places, those that are in use.
    pub used: i64,
    /// What is held, by all.
    pub held: i64,
    /// How long until the need fits, in microseconds.
    pub wait_us: i64,
    /// The start of the present window, in seconds; else 0.
    pub window: i64,
    /// How long until it ends, in microseconds; of a bucket, until one unit less is used; else 0.
    pub ends_us: i64,
    /// Whether holders shall return what they do not need.
    pub recall: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Grows with each change.
    pub rev: i64,
    /// The store's time, in microseconds.
    pub now_us: i64,
    /// How many holders there are.
    pub holders: i64,
    /// One for each limit.
    pub limits: Vec<Told>,
}

/// A limit's id, as the store has it.
#[must_use]
pub fn id(id: u64) -> String {
    format!("{id:016x}")
}

impl Kind {
    /// `kind` and `span` on the wire.
    #[must_use]
    pub fn words(self) -> (&'static str, String) {
        match self {
            Self::Bucket(period) => ("b", period.to_string()),
            Self::Window(span) => ("w", span.word().to_owned()),
            Self::Places => ("s", "0".to_owned()),
        }
    }
}

impl Ask {
    fn read(words: &[&str; 12]) -> Option<Self> {
        let [id, kind, size, span, window, ack, left, give, need, want, shadow, used_seen] = *words;
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
        Some(Self {
            id: u64::from_str_radix(id, 16).ok()?,
            kind,
            size: size.parse().ok()?,
            window: window.parse().ok()?,
            ack: ack.parse().ok()?,
            left: left.parse().ok()?,
            give: give.parse().ok()?,
            need: need.parse().ok()?,
            want: want.parse().ok()?,
            shadow: shadow == "1",
            used_seen: used_seen.parse().ok()?,
        })
    }
}

impl Call {
    /// Reads the arguments of the script, with a space between two; `None` if they are none.
    #[must_use]
    pub fn read(arguments: &str) -> Option<Self> {
        let mut words = arguments.split(' ');
        let holder = words.next()?.to_owned();
        let mut head = || words.next()?.parse::<u64>().ok();
        let (seq, lease_ms, rev_seen) = (head()?, head()?, head()?.try_into().ok()?);
        let rest: Vec<_> = words.collect();
        let (limits, rest) = rest.as_chunks::<12>();
        let asks = limits.iter().map(Ask::read).collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { holder, seq, lease_ms, rev_seen, asks })
    }

    /// The arguments of the script.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            self.holder.clone(),
            self.seq.to_string(),
            self.lease_ms.to_string(),
            self.rev_seen.to_string(),
        ];
        for ask in &self.asks {
            let (kind, span) = ask.kind.words();
            words.extend([id(ask.id), kind.to_owned(), ask.size.to_string(), span, ask.window.to_string()]);
            let numbers = [ask.ack, ask.left, ask.give, ask.need, ask.want, ask.shadow.into(), ask.used_seen];
            words.extend(numbers.map(|number| number.to_string()));
        }
        words
    }
}

impl Answer {
    /// Reads the script's reply; `None` if it is none.
    #[must_use]
    pub fn read(reply: &Reply) -> Option<Self> {
        let numbers = reply.integers()?;
        let (head, limits) = numbers.split_at_checked(3)?;
        let (limits, rest) = limits.as_chunks::<8>();
        let told = |one: &[i64; 8]| {
            let [granted, kept, used, held, wait_us, window, ends_us, recall] = *one;
            Told { granted, kept, used, held, wait_us, window, ends_us, recall: recall == 1 }
        };
        let answer = Self {
            rev: head[0],
            now_us: head[1],
            holders: head[2],
            limits: limits.iter().map(told).collect(),
        };
        rest.is_empty().then_some(answer)
    }

    /// The numbers that it is on the wire.
    #[must_use]
    pub fn numbers(&self) -> Vec<i64> {
        let mut numbers = vec![self.rev, self.now_us, self.holders];
        for told in &self.limits {
            numbers.extend([told.granted, told.kept, told.used, told.held, told.wait_us]);
            numbers.extend([told.window, told.ends_us, told.recall.into()]);
        }
        numbers
    }
}
