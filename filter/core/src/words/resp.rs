//! How is Redis asked, and what did it answer?
//!
//! Commands become bytes, and bytes replies: the protocol RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
//! What answers is another program, so nothing of its answer is trusted: a reply is whole and within the bounds, or there is
//! none. Not decided here: what is asked.

/// The most bytes of all replies together.
pub const REPLY_BYTES_MAX: usize = 4 << 20;

/// The most replies, counting those that stand within others.
pub const REPLIES_MAX: usize = 1 << 18;

/// How deep arrays may stand within each other: fields of entries of streams stand in five.
pub const DEPTH_MAX: usize = 5;

/// Commands, one after the other, as they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    bytes: Vec<u8>,
    count: usize,
}

impl Commands {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a command: its name and its arguments, which may be any bytes.
    pub fn push<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        self.header(b'*', words.len());
        for word in words {
            self.header(b'$', word.as_ref().len());
            self.bytes.extend_from_slice(word.as_ref());
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.count += 1;
    }

    /// Appends other commands.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn header(&mut self, kind: u8, number: usize) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(number.to_string().as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// What was answered to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word, such as `OK`.
    Simple(String),
    /// A refusal: its code, such as `NOSCRIPT`, and a sentence.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Nothing is there.
    Nil,
    /// Replies in their order.
    Array(Vec<Reply>),
}

impl Reply {
    /// The code of a refusal: its first word.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        match self {
            Self::Error(line) => line.split(' ').next(),
            _ => None,
        }
    }

    /// The numbers of an array that has nothing but numbers.
    #[must_use]
    pub fn integers(&self) -> Option<Vec<i64>> {
        let Self::Array(replies) = self else { return None };
        let number = |reply: &Self| if let Self::Integer(number) = reply { Some(*number) } else { None };
        replies.iter().map(number).collect()
    }
}

/// All replies; `None` unless the bytes are whole replies within the bounds, and nothing else.
#[must_use]
pub fn replies(bytes: &[u8]) -> Option<Vec<Reply>> {
    replies_within(bytes, REPLY_BYTES_MAX)
}

/// The same, of no more bytes than these.
#[must_use]
pub fn replies_within(bytes: &[u8], bytes_max: usize) -> Option<Vec<Reply>> {
    if bytes.len() > bytes_max {
        return None;
    }
    let mut from = Replies { rest: bytes, left: REPLIES_MAX };
    let mut replies = Vec::new();
    while !from.rest.is_empty() {
        replies.push(from.next(0)?);
    }
    Some(replies)
}

/// Replies that are read from the front.
struct Replies<'b> {
    rest: &'b [u8],
    /// How many more may come.
    left: usize,
}

impl<'b> Replies<'b> {
    fn next(&mut self, depth: usize) -> Option<Reply> {
        self.left = self.left.checked_sub(1)?;
        let (kind, line) = self.line()?.split_first()?;
        match *kind {
            b'+' => Some(Reply::Simple(text(line)?)),
            b'-' => Some(Reply::Error(text(line)?)),
            b':' => Some(Reply::Integer(number(line)?)),
            b'$' => self.bulk(number(line)?),
            b'*' => self.array(number(line)?, depth),
            _ => None,
        }
    }

    fn bulk(&mut self, length: i64) -> Option<Reply> {
        if length == -1 {
            return Some(Reply::Nil);
        }
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(Reply::Bulk(bytes.to_vec()))
    }

    fn array(&mut self, length: i64, depth: usize) -> Option<Reply> {
        if length == -1 {
            return Some(Reply::Nil);
        }
        let length = usize::try_from(length).ok()?;
        if depth == DEPTH_MAX || length > self.left {
            return None;
        }
        // A count alone takes no memory: the replies have to be there.
        let mut replies = Vec::new();
        for _ in 0..length {
            replies.push(self.next(depth + 1)?);
        }
        Some(Reply::Array(replies))
    }

    /// What stands before the next line's end.
    fn line(&mut self) -> Option<&'b [u8]> {
        let end = memchr::memchr(b'\r', self.rest)?;
        let (line, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(line)
    }
}

fn text(line: &[u8]) -> Option<String> {
    std::str::from_utf8(line).ok().map(str::to_owned)
}

/// Digits, with a minus before them or none.
fn number(line: &[u8]) -> Option<i64> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
