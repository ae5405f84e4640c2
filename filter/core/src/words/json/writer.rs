//! Writes JSON to memory.
//!
//! For what is written once for each request: a derived `Serialize` becomes, in the module, a copy of all for each type that it
//! writes, tens of kilobytes of code that are cold each time.

use crate::digest::hex;

/// What has been written so far.
#[derive(Debug, Default)]
pub struct JsonWriter(Vec<u8>);

impl JsonWriter {
    /// Begins an object or a list: `{` or `[`.
    pub fn open(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// Ends it.
    pub fn close(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// The next element of a list, or member of an object, is about to come. What stands in no bracket has a comma before it.
    pub fn next(&mut self) {
        if !matches!(self.0.last(), Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    /// The name of a member, which must be one that needs no escape; its value comes next.
    pub fn member(&mut self, name: &'static str) {
        self.next();
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A member that is a list; `write` writes each element.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        elements: impl Iterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) {
        self.member(name);
        self.open(b'[');
        for element in elements {
            self.next();
            write(self, element);
        }
        self.close(b']');
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.0.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
            let (plain, escaped) = rest.split_at(at);
            self.0.extend_from_slice(plain);
            let Some((byte, behind)) = escaped.split_first() else { break };
            self.escape(*byte);
            rest = behind;
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
    }

    /// A value that is JSON already.
    pub fn json(&mut self, value: &str) {
        self.0.extend_from_slice(value.as_bytes());
    }

    /// A number.
    pub fn count(&mut self, count: u64) {
        let mut digits = [0; 20];
        let mut rest = count;
        let mut length = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            length += 1;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
    }

    /// `true`, `false` or `null`.
    pub fn flag(&mut self, flag: Option<bool>) {
        self.0.extend_from_slice(match flag {
            Some(true) => b"true",
            Some(false) => b"false",
            None => b"null",
        });
    }

    /// All of it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// All of it: text, for only text was written.
    #[must_use]
    pub fn into_text(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }

    #[cold]
    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                self.0.extend_from_slice(b"\\u00");
                self.0.extend_from_slice(hex(&[byte]).as_bytes());
                return;
            }
        };
        self.0.extend_from_slice(&[b'\\', short]);
    }
}

const fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn text(text: &str) -> String {
        let mut writer = JsonWriter::default();
        writer.text(text);
        writer.into_text()
    }

    #[test]
    fn texts_are_written_as_serde_writes_them() {
        for code in (0..=0x2100).chain([0xfffd, 0x1f600]).filter_map(char::from_u32) {
            for sample in [code.to_string(), format!("a{code}"), format!("{code}{code}b\"")] {
                assert_eq!(text(&sample), serde_json::to_string(&sample).unwrap());
            }
        }
        assert_eq!(text(""), r#""""#);
    }

    #[test]
    fn numbers_are_written_with_all_their_digits() {
        for count in [0, 1, 9, 10, 101, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut writer = JsonWriter::default();
            writer.count(count);
            assert_eq!(writer.into_text(), count.to_string());
        }
    }

    #[test]
    fn commas_stand_between_members_and_elements_only() {
        let mut writer = JsonWriter::default();
        writer.open(b'{');
        writer.list("a", [Some(true), Some(false), None].into_iter(), JsonWriter::flag);
        writer.member("b");
        writer.open(b'{');
        writer.close(b'}');
        writer.member("c");
        writer.text("[");
        writer.member("d");
        writer.count(0);
        writer.close(b'}');
        assert_eq!(writer.into_text(), r#"{"a":[true,false,null],"b":{},"c":"[","d":0}"#);

        let mut bare = JsonWriter::default();
        bare.member("a");
        bare.count(1);
        assert_eq!(bare.into_bytes(), b",\"a\":1");
    }
}
