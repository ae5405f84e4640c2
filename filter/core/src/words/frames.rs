//! Which messages stand in these bytes of a WebSocket, and how is one written?
//!
//! Frames of RFC 6455, <https://www.rfc-editor.org/rfc/rfc6455>, however they are cut into pieces. A message comes out once it is
//! whole, with the bytes that it came in, so that one that is not changed goes on as it was. What another reader could take for
//! something else is a breach: a length that is written longer than it needs to be, an extension's bits, a mask on the wrong
//! side. Not decided here: what a message means.

/// The most bytes of a control frame's payload. <https://www.rfc-editor.org/rfc/rfc6455#section-5.5>
pub const CONTROL_BYTES_MAX: usize = 125;

/// So many bytes the heads of a message's frames may have. Frames of 1 KiB come to less in a message of 8 MiB.
const HEADS_BYTES_MAX: usize = 64 * 1024;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The lengths that say that another one follows.
const LENGTH_IN_TWO: u8 = 126;
const LENGTH_IN_EIGHT: u8 = 127;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
    /// The end of what its side says.
    Close,
    /// To be answered by a pong of the same payload.
    Ping,
    /// An answer to a ping, or a sign of life.
    Pong,
}

impl Kind {
    const fn of(opcode: u8) -> Option<Self> {
        Some(match opcode {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn opcode(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// No frame of the protocol, or one that could be read in two ways.
    Protocol(&'static str),
    /// A text that is none.
    NotText,
    /// A message that is longer than it may be.
    TooLong,
}

impl Breach {
    /// The code that the connection is closed with. <https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1>
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::NotText => 1007,
            Self::TooLong => 1009,
        }
    }

    /// What is said with it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol(reason) => reason,
            Self::NotText => "a text is not UTF-8",
            Self::TooLong => "a message is too long",
        }
    }
}

/// One message, or one control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// What it says, without masks and of all its frames.
    pub payload: Vec<u8>,
    /// All its frames as they came.
    pub frames: Vec<u8>,
    /// The mask of its first frame, if it has one.
    pub mask: Option<[u8; 4]>,
}

impl Message {
    /// What it takes of memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        size_of::<Self>().saturating_add(self.payload.len()).saturating_add(self.frames.len())
    }

    /// A text's text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok().filter(|_| self.kind == Kind::Text)
    }
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy)]
struct Head {
    is_last: bool,
    /// `None` goes on with the message that has begun.
    kind: Option<Kind>,
    mask: Option<[u8; 4]>,
    length: usize,
    /// Its own length.
    bytes: usize,
}

/// Reads what one side sends.
#[derive(Debug)]
pub struct Reader {
    from: Side,
    message_bytes_max: usize,
    /// A frame that is not whole yet.
    unread: Vec<u8>,
    /// A message whose last frame has not come.
    begun: Option<Message>,
    has_closed: bool,
    breach: Option<Breach>,
}

impl Reader {
    /// Reads what this side sends, in messages no longer than this.
    #[must_use]
    pub const fn new(from: Side, message_bytes_max: usize) -> Self {
        Self { from, message_bytes_max, unread: Vec::new(), begun: None, has_closed: false, breach: None }
    }

    /// How many bytes wait for the rest of their message.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let begun = self.begun.as_ref().map_or(0, |begun| begun.frames.len());
        self.unread.len().saturating_add(begun)
    }

    /// Takes the next bytes, and adds the messages that are whole now. After a breach nothing is read any more, nor is what comes
    /// behind a close frame: it is no part of the conversation.
    pub fn push(&mut self, bytes: &[u8], messages: &mut Vec<Message>) -> Result<(), Breach> {
        if let Some(breach) = self.breach {
            return Err(breach);
        }
        if self.has_closed {
            return Ok(());
        }
        let mut unread = std::mem::take(&mut self.unread);
        let is_kept = !unread.is_empty();
        if is_kept {
            unread.extend_from_slice(bytes);
        }
        let all = if is_kept { &*unread } else { bytes };
        let mut at = 0_usize;
        let read = loop {
            match self.frame(all.get(at..).unwrap_or_default(), messages) {
                Ok(Some(taken)) => at = at.saturating_add(taken),
                Ok(None) => break Ok(()),
                Err(breach) => break Err(breach),
            }
            if self.has_closed {
                at = all.len();
            }
        };
        self.unread = if is_kept {
            unread.drain(..at);
            unread
        } else {
            bytes.get(at..).unwrap_or_default().to_vec()
        };
        if let Err(breach) = read {
            self.breach = Some(breach);
            (self.unread, self.begun) = (Vec::new(), None);
        }
        read
    }

    /// Takes one frame off the front; `None` if it is not whole.
    fn frame(&mut self, bytes: &[u8], messages: &mut Vec<Message>) -> Result<Option<usize>, Breach> {
        let Some(head) = self.head(bytes)? else { return Ok(None) };
        let (begun, begun_frames) =
            self.begun.as_ref().map_or((0, 0), |begun| (begun.payload.len(), begun.frames.len()));
        let is_control = head.kind.is_some_and(Kind::is_control);
        let whole = head.bytes.saturating_add(head.length);
        // Frames are kept with their heads, and one with nothing in it is not free.
        let frames_max = self.message_bytes_max.saturating_add(HEADS_BYTES_MAX);
        let is_too_long = begun.saturating_add(head.length) > self.message_bytes_max
            || begun_frames.saturating_add(whole) > frames_max;
        if !is_control && is_too_long {
            return Err(Breach::TooLong);
        }
        let Some(frame) = bytes.get(..whole) else { return Ok(None) };
        let mut payload = frame.get(head.bytes..).unwrap_or_default().to_vec();
        if let Some(mask) = head.mask {
            toggle_mask(&mut payload, mask);
        }
        let message = match (head.kind, self.begun.take()) {
            (None, Some(mut begun)) => {
                begun.payload.append(&mut payload);
                begun.frames.extend_from_slice(frame);
                begun
            }
            (Some(kind), begun) => {
                // A control frame may stand between the frames of a message.
                self.begun = begun.filter(|_| kind.is_control());
                Message { kind, payload, frames: frame.to_vec(), mask: head.mask }
            }
            (None, None) => return Err(NOTHING_BEGUN),
        };
        if head.is_last {
            check(&message)?;
            self.has_closed = message.kind == Kind::Close;
            messages.push(message);
        } else {
            self.begun = Some(message);
        }
        Ok(Some(whole))
    }

    /// Reads the front of a frame, and refuses by as much of it as there is; `None` if that is not all.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, Breach> {
        let Some(first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Breach::Protocol("an extension that was not agreed on"));
        }
        let (is_last, opcode) = (first & FIN != 0, first & 0x0f);
        let kind = match opcode {
            0 => None,
            _ => Some(Kind::of(opcode).ok_or(Breach::Protocol("an unknown kind of frame"))?),
        };
        match (kind, &self.begun) {
            (Some(kind), _) if kind.is_control() && !is_last => {
                return Err(Breach::Protocol("a control frame in parts"));
            }
            (Some(kind), Some(_)) if !kind.is_control() => {
                return Err(Breach::Protocol("a message within another"));
            }
            (None, None) => return Err(NOTHING_BEGUN),
            _ => {}
        }
        let Some(second) = bytes.get(1) else { return Ok(None) };
        let is_masked = second & MASKED != 0;
        match (self.from, is_masked) {
            (Side::Client, false) => return Err(Breach::Protocol("a client's frame without a mask")),
            (Side::Server, true) => return Err(Breach::Protocol("a server's frame with a mask")),
            _ => {}
        }
        let short = second & !MASKED;
        if kind.is_some_and(Kind::is_control) && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Breach::Protocol("a control frame that is too long"));
        }
        let (length, length_end) = match short {
            LENGTH_IN_TWO => match bytes.get(2..).and_then(<[u8]>::first_chunk) {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            LENGTH_IN_EIGHT => match bytes.get(2..).and_then(<[u8]>::first_chunk) {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let least = match short {
            LENGTH_IN_TWO => u64::from(LENGTH_IN_TWO),
            LENGTH_IN_EIGHT => 1 << 16,
            _ => 0,
        };
        if length < least || length >> 63 != 0 {
            return Err(Breach::Protocol("a length that is not written in its shortest form"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // What is announced to be too long need not be waited for.
        if length > self.message_bytes_max.max(CONTROL_BYTES_MAX) {
            return Err(Breach::TooLong);
        }
        if !is_masked {
            return Ok(Some(Head { is_last, kind, mask: None, length, bytes: length_end }));
        }
        let mask = bytes.get(length_end..).and_then(<[u8]>::first_chunk).copied();
        Ok(mask.map(|mask| Head { is_last, kind, mask: Some(mask), length, bytes: length_end + 4 }))
    }
}

const NOTHING_BEGUN: Breach = Breach::Protocol("more of a message that has not begun");

/// Holds a whole message to what its kind may be.
fn check(message: &Message) -> Result<(), Breach> {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    match message.kind {
        Kind::Text if !is_text(&message.payload) => Err(Breach::NotText),
        Kind::Close => match message.payload.split_first_chunk() {
            None if message.payload.is_empty() => Ok(()),
            None => Err(Breach::Protocol("a close frame with half a code")),
            Some((code, _)) if !may_be_said(u16::from_be_bytes(*code)) => {
                Err(Breach::Protocol("a close frame with a code that nobody may send"))
            }
            Some((_, reason)) if !is_text(reason) => Err(Breach::NotText),
            Some(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether a close frame may have this code: those of the protocol that are to be sent, and those that are not its own.
/// <https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number>
const fn may_be_said(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn toggle_mask(payload: &mut [u8], mask: [u8; 4]) {
    payload.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Writes a message in one frame; a client's has a mask.
#[must_use]
pub fn written(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len().saturating_add(14));
    frame.push(FIN | kind.opcode());
    let masked = if mask.is_some() { MASKED } else { 0 };
    match payload.len() {
        short @ 0..126 => frame.push(masked | u8::try_from(short).unwrap_or_default()),
        middle @ 126..0x1_0000 => {
            frame.push(masked | LENGTH_IN_TWO);
            frame.extend_from_slice(&u16::try_from(middle).unwrap_or_default().to_be_bytes());
        }
        long => {
            frame.push(masked | LENGTH_IN_EIGHT);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let begin = frame.len();
    frame.extend_from_slice(payload);
    if let (Some(mask), Some(payload)) = (mask, frame.get_mut(begin..)) {
        toggle_mask(payload, mask);
    }
    frame
}

/// Writes a close frame; of a reason, as much as fits.
#[must_use]
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let room = CONTROL_BYTES_MAX - 2;
    let fits = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
    let reason = reason.get(..fits.unwrap_or(0)).unwrap_or_default();
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    written(Kind::Close, &payload, mask)
}

#[cfg(test)]
mod tests;
