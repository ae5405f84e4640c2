//! What is in this array?
//!
//! One after the other, so that an array of a million elements takes no memory.

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Goes through the elements of an array, as they stand in the body, until one is refused. An error of nothing: it is no
/// array.
pub fn elements<'a, E>(
    array: &'a str,
    each: &mut dyn FnMut(&'a str) -> Result<(), E>,
) -> Result<(), Option<E>> {
    let mut refused = None;
    let mut json = serde_json::Deserializer::from_str(array);
    let read = json.deserialize_seq(Elements { each, refused: &mut refused });
    match refused {
        Some(error) => Err(Some(error)),
        None => read.map_err(|_| None),
    }
}

struct Elements<'e, 'a, E> {
    each: &'e mut dyn FnMut(&'a str) -> Result<(), E>,
    refused: &'e mut Option<E>,
}

impl<'a, E> Visitor<'a> for Elements<'_, 'a, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&RawValue>()? {
            if let Err(error) = (self.each)(element.get()) {
                *self.refused = Some(error);
                return Err(A::Error::custom(""));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn elements_are_told_as_they_stand_until_one_is_refused() {
        let mut found = Vec::new();
        let array = r#" [1 , "a,b", {"c": [ 2 ]}] "#;
        let all = elements::<()>(array, &mut |element| {
            found.push(element);
            Ok(())
        });
        assert_eq!((all, &found[..]), (Ok(()), &["1", "\"a,b\"", r#"{"c": [ 2 ]}"#][..]));
        let mut count = 0;
        let stopped = elements(array, &mut |element| {
            count += 1;
            if element == "1" { Ok(()) } else { Err("no") }
        });
        assert_eq!((stopped, count), (Err(Some("no")), 2));
        assert_eq!(elements::<()>("{}", &mut |_| Ok(())), Err(None));
        assert_eq!(elements::<()>("7", &mut |_| Ok(())), Err(None));
    }
}
