//! A record with every kind of value that one may have, for what must hold of all records: here and where bytes are fuzzed.

use super::{Reader, Stored, Writer};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EveryKind {
    pub(super) array: [u8; 3],
    pub(super) small: u8,
    pub(super) middle: u32,
    pub(super) large: u64,
    pub(super) signed: i64,
    pub(super) widest: i128,
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    pub(super) inner: Vec<EveryKind>,
}

impl Stored for EveryKind {
    const VERSION: u8 = 1;

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            array: from.array()?,
            small: from.u8()?,
            middle: from.u32()?,
            large: from.u64()?,
            signed: from.i64()?,
            widest: from.i128()?,
            text: from.text()?.to_owned(),
            bytes: from.bytes()?.to_vec(),
            inner: from.values()?,
        })
    }

    fn write(&self, to: &mut Writer) {
        to.array(self.array);
        to.u8(self.small);
        to.u32(self.middle);
        to.u64(self.large);
        to.i64(self.signed);
        to.i128(self.widest);
        to.text(&self.text);
        to.bytes(&self.bytes);
        to.values(&self.inner);
    }
}
