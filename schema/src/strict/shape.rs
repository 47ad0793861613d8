//! Trees into typed values: a serde deserializer that knows where it is, and a reader that goes on after a fault.
//!
//! After a fault the value that it is about is taken out of the tree and everything is read again, until nothing new
//! is found. So one reading reports all misspelt keys and wrong types of a text, not only the first.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::misfit::{Misfit, What, short};
use super::suggest::list;
use super::tree::{Entry, Step, Tree, Value};
use crate::problem::FieldError;

/// Most faults that one reading reports: after so many, a list helps nobody.
const FAULTS_MAX: usize = 40;

/// What a tree turned out to be.
#[derive(Debug)]
pub(crate) struct Shape<T> {
    /// The value; if there are faults, what is left of it without the faulty parts, where that is possible.
    pub(crate) value: Option<T>,
    /// In the order of the text.
    pub(crate) faults: Vec<FieldError>,
    /// Whether every fault is a key that does not exist.
    pub(crate) unknown_only: bool,
}

/// Reads a tree as a type. `prefix` is where the tree stands in its document.
pub(crate) fn read<T: DeserializeOwned>(tree: &Tree, prefix: &[Step]) -> Shape<T> {
    let mut left = tree.clone();
    // Keys whose absence follows from a fault that was reported already.
    let mut explained: Vec<Vec<Step>> = Vec::new();
    let mut shape = Shape { value: None, faults: Vec::new(), unknown_only: true };
    while shape.faults.len() < FAULTS_MAX {
        let misfit = match T::deserialize(&left) {
            Ok(value) => {
                shape.value = Some(value);
                break;
            }
            Err(misfit) => misfit,
        };
        let mut path = misfit.steps.clone();
        path.reverse();
        let follows = matches!(&misfit.what, What::MissingKey(key)
            if explained.contains(&[path.as_slice(), &[Step::Key((*key).to_owned())]].concat()));
        if !follows {
            shape.unknown_only &= matches!(misfit.what, What::UnknownKey { .. });
            if let (Some(meant), Some((_, parent))) = (misfit.what.meant(), path.split_last()) {
                explained.push([parent, &[Step::Key(meant.to_owned())]].concat());
            }
            shape.faults.push(misfit.into_fault(prefix, &path, tree.place));
        }
        if !left.drop_at(&path) || path.is_empty() {
            break;
        }
        explained.push(path);
    }
    shape.faults.sort_by_key(|fault| (fault.line, fault.column));
    shape
}

impl Tree {
    /// A fault stands where its value begins; for nothing and for what is missing, the key above says more.
    fn place(&self, misfit: Misfit) -> Misfit {
        match (&self.value, &misfit.what) {
            (Value::Null, _) | (_, What::MissingKey(_)) => misfit,
            (_, _) => misfit.placed(self.place),
        }
    }
}

impl<'de> de::Deserializer<'de> for &'de Tree {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let result = match &self.value {
            Value::Null | Value::Dropped => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(text) => number(text, visitor),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries, value: None }),
        };
        result.map_err(|misfit| self.place(misfit))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::Null | Value::Dropped => visitor.visit_none(),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                visitor.visit_some(self)
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    /// Never from a list: the order of fields is nobody's business but ours.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::List(_) => {
                let words = "a block of keys and values";
                let misfit: Misfit = de::Error::invalid_type(unexpected(&self.value), &words);
                Err(self.place(misfit))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Map(_)
            | Value::Dropped => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let result = match &self.value {
            Value::Text(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            Value::Map(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant { entry }),
                _ => Err(Misfit::at(What::Said("exactly one key is expected here".to_owned()))),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Dropped => {
                let words = format!("one of {}", list(variants.iter().copied()));
                Err(de::Error::invalid_type(unexpected(&self.value), &words.as_str()))
            }
        };
        result.map_err(|misfit| self.place(misfit))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// Gives a number to its type in the narrowest form that holds it.
fn number<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, Misfit> {
    let plus = text.strip_prefix('+').unwrap_or(text);
    let radix = text.strip_prefix("0x").map(|digits| (digits, 16));
    if let Some((digits, radix)) =
        radix.or_else(|| text.strip_prefix("0o").map(|digits| (digits, 8)))
    {
        return match u64::from_str_radix(digits, radix) {
            Ok(value) => visitor.visit_u64(value),
            Err(_) => {
                Err(Misfit::at(What::Said(format!("the number {} is too large", short(text)))))
            }
        };
    }
    if let Ok(value) = plus.parse() {
        return visitor.visit_u64(value);
    }
    if let Ok(value) = plus.parse() {
        return visitor.visit_i64(value);
    }
    match plus.to_lowercase().replace(".inf", "inf").replace(".nan", "nan").parse() {
        Ok(value) => visitor.visit_f64(value),
        Err(_) => Err(Misfit::at(What::Said(format!("{} is not a number", short(text))))),
    }
}

/// The words of serde for what a tree is.
fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null | Value::Dropped => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(_) => Unexpected::Other("a number"),
        Value::Text(text) => Unexpected::Str(text),
        Value::List(_) => Unexpected::Seq,
        Value::Map(_) => Unexpected::Map,
    }
}

/// The items of a list that are still to be read.
struct Items<'t> {
    items: &'t [Tree],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        while let Some(item) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if matches!(item.value, Value::Dropped) {
                continue;
            }
            let inside = |misfit: Misfit| misfit.placed(item.place).inside(Step::Index(index));
            return seed.deserialize(item).map(Some).map_err(inside);
        }
        Ok(None)
    }
}

/// The entries of a map that are still to be read, and the value of the key that was read last.
struct Entries<'t> {
    entries: &'t [Entry],
    value: Option<&'t Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            if matches!(entry.value.value, Value::Dropped) {
                continue;
            }
            self.value = Some(entry);
            let key = BorrowedStrDeserializer::<Misfit>::new(&entry.key);
            return seed.deserialize(key).map(Some).map_err(|misfit| within(entry, misfit));
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        match self.value.take() {
            Some(entry) => {
                let value = seed.deserialize(&entry.value);
                value.map_err(|misfit| within(entry, entry.value.place(misfit)))
            }
            None => Err(Misfit::at(What::Said("a value was asked for before its key".to_owned()))),
        }
    }
}

fn within(entry: &Entry, misfit: Misfit) -> Misfit {
    misfit.placed(entry.place).inside(Step::Key(entry.key.clone()))
}

/// An enum's variant with content: a map with one key.
struct Variant<'t> {
    entry: &'t Entry,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Misfit> {
        let key = BorrowedStrDeserializer::<Misfit>::new(&self.entry.key);
        let word = seed.deserialize(key).map_err(|misfit| within(self.entry, misfit))?;
        Ok((word, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        let unit = Deserialize::deserialize(&self.entry.value);
        unit.map_err(|misfit| within(self.entry, misfit))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        seed.deserialize(&self.entry.value).map_err(|misfit| within(self.entry, misfit))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Misfit> {
        de::Deserializer::deserialize_any(&self.entry.value, visitor)
            .map_err(|misfit| within(self.entry, misfit))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        de::Deserializer::deserialize_any(&self.entry.value, visitor)
            .map_err(|misfit| within(self.entry, misfit))
    }
}
