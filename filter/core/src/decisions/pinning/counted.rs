//! The id of a file for batches says what all its lines come to, as it was counted when the file came.
//!
//! It reads `file-tgb_SEALSUMabc…`: the sum is not hidden, and is under the seal together with the id, by a word of its own,
//! so that no id which a client may choose can pass for one.

use super::{CODE_BYTES, Code, Opened, Pinning, SEAL_CHARS, TAG_BYTES, prefix_len};
use crate::batch::Sum;
use crate::endpoint::is_path_segment;
use crate::ids::Kind;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

/// What tells such an id from others.
pub(super) const MARK: &str = "tgb_";

/// What is hashed in front of such an id.
const WORD: &[u8] = b"b\0";

/// A sum in base64, with nothing left over.
const SUM_CHARS: usize = Sum::BYTES * 4 / 3;

impl Pinning {
    /// What the client is to see for the id of a file that was counted.
    pub(super) fn seal_counted(&self, client: &str, place: &str, text: &str, sum: &Sum) -> Option<String> {
        let (prefix, rest) = text.split_at_checked(prefix_len(Kind::Id, text))?;
        if text.len() > super::ID_BYTES_MAX || !is_path_segment(text) {
            return None;
        }
        let (key, code) = (self.keys.first()?, *self.codes.get(place)?);
        let sum = sum.to_bytes();
        let tag = key.tag_as(WORD, self.owner(client), place, &[&sum, text.as_bytes()].concat());
        let tag = tag.finalize().into_bytes();
        let tag = tag.get(..TAG_BYTES)?;
        let seal = URL_SAFE_NO_PAD.encode([tag, &key.masked(tag, code)].concat());
        Some([prefix, MARK, &seal, &URL_SAFE_NO_PAD.encode(sum), rest].concat())
    }

    /// What such an id is, behind its mark, and its sum.
    pub(super) fn of_counted(&self, client: &str, prefix: &str, sealed: &str) -> Option<(Opened, Sum)> {
        let (seal, rest) = sealed.split_at_checked(SEAL_CHARS)?;
        let (sum, rest) = rest.split_at_checked(SUM_CHARS)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok()?;
        let sum: [u8; Sum::BYTES] = URL_SAFE_NO_PAD.decode(sum).ok()?.try_into().ok()?;
        let (tag, masked) = seal.split_at_checked(TAG_BYTES)?;
        let masked: Code = <[u8; CODE_BYTES]>::try_from(masked).ok()?;
        let text = [prefix, rest].concat();
        self.keys.iter().find_map(|key| {
            let place = self.places.get(&key.masked(tag, masked))?;
            let mac = key.tag_as(WORD, self.owner(client), place, &[&sum, text.as_bytes()].concat());
            mac.verify_truncated_left(tag).ok()?;
            Some((Opened::Of(place.clone(), text.clone()), Sum::of_bytes(sum)?))
        })
    }

    /// What all lines of the file of this id come to; `None` of one that was not counted for this client.
    #[must_use]
    pub fn sum_of(&self, client: &str, id: &str) -> Option<Sum> {
        let (prefix, rest) = id.split_at_checked(prefix_len(Kind::Id, id))?;
        let sealed = rest.strip_prefix(MARK)?;
        self.of_counted(client, prefix, sealed).map(|(_, sum)| sum)
    }
}
