//! Where in the configuration is it that something cannot be read?
//!
//! The wire types know what is wrong, and not where they stand. Here each value is read together with the way to it, and the
//! first that fails leaves its way. The crate that does this for any format made a seventh of the module.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Value};
use std::cell::OnceCell;
use std::fmt;
use std::marker::PhantomData;

/// What could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    /// The way there; empty for the whole.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) error: Error,
}

/// Reads a whole value.
pub(super) fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, Fault> {
    let failed = OnceCell::new();
    T::deserialize(Place { value, way: Way::Whole, failed: &failed })
        .map_err(|error| Fault { path: failed.into_inner().unwrap_or_default(), error })
}

/// How a value is reached.
#[derive(Clone, Copy)]
enum Way<'w> {
    Whole,
    Member(&'w Way<'w>, &'w str),
    Item(&'w Way<'w>, usize),
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Member(Way::Whole, name) => f.write_str(name),
            Self::Member(before, name) => write!(f, "{before}.{name}"),
            Self::Item(before, at) => write!(f, "{before}[{at}]"),
        }
    }
}

/// A value, and where it stands.
#[derive(Clone, Copy)]
struct Place<'de, 'w> {
    value: &'de Value,
    way: Way<'w>,
    /// The way to the first value that could not be read.
    failed: &'w OnceCell<String>,
}

impl<'de> Place<'de, '_> {
    /// Reads what stands on a way from here.
    fn read<T: DeserializeSeed<'de>>(
        &self,
        value: &'de Value,
        way: Way<'_>,
        seed: T,
    ) -> Result<T::Value, Error> {
        let failed = self.failed;
        seed.deserialize(Place { value, way, failed }).inspect_err(|_| leave(failed, way))
    }

    fn unexpected(&self) -> Unexpected<'de> {
        match self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(is_true) => Unexpected::Bool(*is_true),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Unexpected::Unsigned(number),
                (None, Some(number)) => Unexpected::Signed(number),
                (None, None) => Unexpected::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        }
    }
}

fn leave(failed: &OnceCell<String>, way: Way<'_>) {
    failed.get_or_init(|| way.to_string());
}

impl<'de> Deserializer<'de> for Place<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is_true) => visitor.visit_bool(*is_true),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => {
                let mut read = Items { place: self, items: items.iter().enumerate() };
                let whole = visitor.visit_seq(&mut read)?;
                match read.items.len() {
                    0 => Ok(whole),
                    _ => Err(Error::invalid_length(items.len(), &"fewer elements in array")),
                }
            }
            Value::Object(members) => {
                visitor.visit_map(Members { place: self, members: members.iter(), member: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(name) => visitor.visit_enum(Variant { place: self, name, content: None }),
            Value::Object(members) => {
                let mut members = members.iter();
                match (members.next(), members.next()) {
                    (Some((name, content)), None) => {
                        visitor.visit_enum(Variant { place: self, name, content: Some(content) })
                    }
                    _ => Err(Error::invalid_value(Unexpected::Map, &"map with a single key")),
                }
            }
            _ => Err(Error::invalid_type(self.unexpected(), &"string or map")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de, 'w> {
    place: Place<'de, 'w>,
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for &mut Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((at, item)) = self.items.next() else { return Ok(None) };
        self.place.read(item, Way::Item(&self.place.way, at), seed).map(Some)
    }
}

struct Members<'de, 'w> {
    place: Place<'de, 'w>,
    members: serde_json::map::Iter<'de>,
    /// Whose name has been read.
    member: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.member = Some((name, value));
        let read = seed.deserialize(BorrowedStrDeserializer::new(name));
        read.map(Some).inspect_err(|_| leave(self.place.failed, Way::Member(&self.place.way, name)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, value)) = self.member.take() else { return Err(Error::custom("value is missing")) };
        self.place.read(value, Way::Member(&self.place.way, name), seed)
    }
}

struct Variant<'de, 'w> {
    place: Place<'de, 'w>,
    name: &'de str,
    content: Option<&'de Value>,
}

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.name))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            Some(value) => {
                let way = Way::Member(&self.place.way, self.name);
                self.place.read(value, way, PhantomData::<()>)
            }
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match self.content {
            Some(value) => self.place.read(value, Way::Member(&self.place.way, self.name), seed),
            None => Err(Error::invalid_type(Unexpected::UnitVariant, &"newtype variant")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.struct_variant(&[], visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Some(value) = self.content else {
            return Err(Error::invalid_type(Unexpected::UnitVariant, &visitor));
        };
        let (way, failed) = (Way::Member(&self.place.way, self.name), self.place.failed);
        Place { value, way, failed }.deserialize_any(visitor).inspect_err(|_| leave(failed, way))
    }
}
