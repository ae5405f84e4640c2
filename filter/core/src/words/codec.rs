//! How does a value become the bytes of a record that is stored, and bytes a value again?
//!
//! The first byte of a record is the version of its shape: a record of another one is as good as none, so that an update
//! of the module never reads what it does not understand. Numbers are little-endian, of a fixed size; texts have their
//! length before them. What is cut off is not there. Not decided here: under which key a record is stored.

/// A value that is stored. A record has one of them, or one after the other.
pub trait Stored: Sized {
    /// Of the shape. Another shape is another number, that was never used before.
    const VERSION: u8;

    /// Takes one from the front; `None` where there is no whole one.
    fn read(from: &mut Reader<'_>) -> Option<Self>;

    /// Appends it.
    fn write(&self, to: &mut Writer);
}

/// The one value of a record.
#[must_use]
pub fn decode<T: Stored>(record: &[u8]) -> Option<T> {
    T::read(&mut Reader::new(record, T::VERSION)?)
}

/// All values of a record.
#[must_use]
pub fn decode_all<T: Stored>(record: &[u8]) -> Vec<T> {
    let Some(mut from) = Reader::new(record, T::VERSION) else { return Vec::new() };
    std::iter::from_fn(|| T::read(&mut from)).collect()
}

/// The record of one value.
#[must_use]
pub fn encode<T: Stored>(value: &T) -> Vec<u8> {
    encode_all(std::slice::from_ref(value))
}

/// The record of these values.
#[must_use]
pub fn encode_all<T: Stored>(values: &[T]) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(1 + size_of_val(values)));
    to.0.push(T::VERSION);
    for value in values {
        value.write(&mut to);
    }
    to.0
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    /// What stands behind the version; `None` where it is another.
    fn new(record: &'b [u8], version: u8) -> Option<Self> {
        record.split_first().filter(|(first, _)| **first == version).map(|(_, rest)| Self(rest))
    }

    /// So many bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of eight bytes, with a sign.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number of sixteen bytes, with a sign.
    pub fn i128(&mut self) -> Option<i128> {
        self.array().map(i128::from_le_bytes)
    }

    /// What [`Writer::bytes`] wrote.
    pub fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// What [`Writer::text`] wrote.
    pub fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// What [`Writer::values`] wrote.
    pub fn values<T: Stored>(&mut self) -> Option<Vec<T>> {
        // A count alone takes no memory: the values have to be there.
        let count = self.u32()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(T::read(self)?);
        }
        Some(values)
    }
}

/// Bytes that are appended to.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// These bytes, without their length: so many are read again.
    pub fn array<const N: usize>(&mut self, array: [u8; N]) {
        self.0.extend_from_slice(&array);
    }

    /// One byte.
    pub fn u8(&mut self, number: u8) {
        self.array(number.to_le_bytes());
    }

    /// A number of four bytes.
    pub fn u32(&mut self, number: u32) {
        self.array(number.to_le_bytes());
    }

    /// A number of eight bytes.
    pub fn u64(&mut self, number: u64) {
        self.array(number.to_le_bytes());
    }

    /// A number of eight bytes, with a sign.
    pub fn i64(&mut self, number: i64) {
        self.array(number.to_le_bytes());
    }

    /// A number of sixteen bytes, with a sign.
    pub fn i128(&mut self, number: i128) {
        self.array(number.to_le_bytes());
    }

    /// So many bytes as they are; what does not fit into a `u32` is cut off.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.0.extend_from_slice(bytes.get(..length as usize).unwrap_or(bytes));
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Values that stand within a value.
    pub fn values<T: Stored>(&mut self, values: &[T]) {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            value.write(self);
        }
    }
}

/// The law of every stored value, for the tests of whoever stores it.
#[cfg(test)]
pub(crate) mod law {
    use super::*;

    /// The records of the last release: a name and hexadecimal digits in each line.
    const LAST_RELEASE: &str = include_str!("codec/last-release.txt");

    /// These values come back from their record; a cut record and one of another version hold nothing that was not written;
    /// and what the last release wrote of them is read as they are, or as nothing where the version is another now.
    #[track_caller]
    pub(crate) fn holds<T: Stored + PartialEq + std::fmt::Debug>(name: &str, values: &[T]) {
        let record = encode_all(values);
        assert_eq!(decode_all::<T>(&record), values);
        for cut in 0..record.len() {
            let read = decode_all::<T>(record.get(..cut).unwrap());
            assert!(values.starts_with(&read) && read.len() < values.len(), "{name} cut at {cut}: {read:?}");
        }
        for version in (0..=u8::MAX).filter(|version| *version != T::VERSION) {
            let mut other = record.clone();
            other[0] = version;
            assert_eq!(decode_all::<T>(&other), [], "{name} of version {version}");
        }
        let last = LAST_RELEASE.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        let last = last.unwrap_or_else(|| panic!("add to last-release.txt: {name} {hex}"));
        if last.starts_with(&format!("{:02x}", T::VERSION)) {
            assert_eq!(last, hex, "{name} has another shape than in the last release, and the same version");
        }
    }
}

#[cfg(test)]
mod every_kind;

#[cfg(test)]
mod tests {
    use super::every_kind::EveryKind;
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn any_value() -> impl Strategy<Value = EveryKind> {
        let numbers = (any::<u8>(), any::<u32>(), any::<u64>(), any::<i64>(), any::<i128>());
        let leaf = (any::<[u8; 3]>(), numbers, any::<String>(), any::<Vec<u8>>()).prop_map(
            |(array, (small, middle, large, signed, widest), text, bytes)| {
                let inner = Vec::new();
                EveryKind { array, small, middle, large, signed, widest, text, bytes, inner }
            },
        );
        leaf.prop_recursive(2, 8, 3, |inner| {
            (inner.clone(), prop::collection::vec(inner, 0..3))
                .prop_map(|(value, inner)| EveryKind { inner, ..value })
        })
    }

    proptest! {
        #[test]
        fn values_come_back_from_their_record(values in prop::collection::vec(any_value(), 0..4)) {
            prop_assert_eq!(decode_all::<EveryKind>(&encode_all(&values)), values);
        }

        #[test]
        fn no_bytes_are_a_fault(mut bytes in prop::collection::vec(any::<u8>(), 0..200), is_of_version: bool) {
            if let (Some(first), true) = (bytes.first_mut(), is_of_version) {
                *first = EveryKind::VERSION;
            }
            let _ = decode_all::<EveryKind>(&bytes);
        }
    }

    #[test]
    fn a_count_without_values_takes_no_memory() {
        let mut record = encode(&EveryKind::default());
        let at = record.len() - 4;
        record[at..].fill(0xff);
        assert_eq!(decode::<EveryKind>(&record), None);
    }
}
