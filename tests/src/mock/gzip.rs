//! Which requests take a compressed answer, and how it is compressed.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT_ENCODING, HeaderMap};

/// Does `accept-encoding` allow gzip?
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            matches!(name.trim(), "gzip" | "*") && weight.is_ok_and(|weight| weight > 0.0)
        })
}

/// The whole of a body.
pub(super) fn compress(body: &[u8]) -> Bytes {
    let mut encoder = Encoder::default();
    encoder.write(body);
    encoder.finish();
    encoder.take().into()
}

/// A body that is compressed event by event.
pub(super) struct Encoder(GzEncoder<Vec<u8>>);

impl Default for Encoder {
    fn default() -> Self {
        // A mock is measured by its speed.
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }
}

// Writing to memory cannot fail.
impl Encoder {
    /// The bytes are flushed: who has all that came so far can read them.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).and_then(|()| self.0.flush());
    }

    pub(super) fn finish(&mut self) {
        let _ = self.0.try_finish();
    }

    /// What has been compressed since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}
