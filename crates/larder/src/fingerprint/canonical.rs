//! Canonical JSON: one text for all the ways in which equal values can be written.
//!
//! As RFC 8785 asks, there is no space between tokens, members stand in one order, and text is escaped no more than it must be.
//! Numbers go their own way, since RFC 8785 takes them all for doubles and so loses integers past 2^53:
//!
//! - what is a whole number smaller than 2^64, whether it was an integer or a floating-point number, is its digits: `1` and
//!   `1.0` are equal, negative zero is zero, and `9007199254740993` is not `9007199254740992`;
//! - every other number is the shortest digits that read back as it, and an exponent: `2.5e0`;
//! - what JSON has no word for is `NaN` (all of them are one), `Infinity` or `-Infinity`, and differs from `null`.
//!
//! The rest is what serde_json makes of serde's data model: `None` is `null`, bytes are an array, an enum is its variant's name
//! or an object of one member.

use std::fmt::{self, Display, LowerExp};
use std::io::Write;

use serde::Serialize;
use serde::ser::{self, SerializeMap, SerializeSeq};

use crate::error::{Error, ErrorKind, Result};

/// The canonical JSON of a value.
///
/// ```
/// use larder::fingerprint::canonical_json;
/// let text = canonical_json(&serde_json::json!({ "b": [1.0, -0.0, 2.5], "a": null }))?;
/// assert_eq!(text, br#"{"a":null,"b":[1,0,2.5e0]}"#);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Codec`] if the value refuses to be written, or has a map whose keys are no text, numbers or truth values.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let mut writer = Writer(Vec::new());
    match value.serialize(&mut writer) {
        Ok(()) => Ok(writer.0),
        Err(Unwritable(why)) => Err(Error::new(ErrorKind::Codec, format!("the value has no canonical JSON: {why}"))),
    }
}

struct Writer(Vec<u8>);

#[derive(Debug)]
struct Unwritable(String);

impl Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unwritable {}

impl ser::Error for Unwritable {
    fn custom<T: Display>(message: T) -> Self {
        Unwritable(message.to_string())
    }
}

type Written = std::result::Result<(), Unwritable>;

/// Past this, digits in full would be as long as the number is large.
const DIGITS_BELOW: f64 = 18_446_744_073_709_551_616.0;

impl Writer {
    fn text(&mut self, text: impl Display) -> Written {
        write!(self.0, "{text}").map_err(ser::Error::custom)
    }

    fn quoted(&mut self, text: &str) -> Written {
        serde_json::to_writer(&mut self.0, text).map_err(ser::Error::custom)
    }

    /// `shortest` is the number in its own width: the digits that read back as it depend on that.
    fn float(&mut self, number: f64, shortest: impl LowerExp) -> Written {
        if number.is_nan() {
            self.text("NaN")
        } else if number.is_infinite() {
            self.text(if number > 0.0 { "Infinity" } else { "-Infinity" })
        } else if number.fract() == 0.0 && number.abs() < DIGITS_BELOW {
            self.text(number as i128)
        } else {
            self.text(format_args!("{shortest:e}"))
        }
    }

    fn list(&mut self) -> List<'_> {
        self.0.push(b'[');
        List { writer: self, is_first: true, end: b"]" }
    }

    fn members(&mut self) -> Members<'_> {
        Members { writer: self, written: Vec::new(), begun: 0, end: b"}" }
    }

    /// `{"variant":`, which one more brace ends.
    fn begin_variant(&mut self, variant: &str) -> Written {
        self.0.push(b'{');
        self.quoted(variant)?;
        self.0.push(b':');
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),+) => {
        $(fn $method(self, number: $type) -> Written {
            self.text(number)
        })+
    };
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    );

    fn serialize_i128(self, number: i128) -> Written {
        if number.unsigned_abs() <= u64::MAX.into() { self.text(number) } else { self.text(format_args!("{number:e}")) }
    }

    fn serialize_u128(self, number: u128) -> Written {
        if number <= u64::MAX.into() { self.text(number) } else { self.text(format_args!("{number:e}")) }
    }

    fn serialize_f32(self, number: f32) -> Written {
        self.float(number.into(), number)
    }

    fn serialize_f64(self, number: f64) -> Written {
        self.float(number, number)
    }

    fn serialize_bool(self, truth: bool) -> Written {
        self.text(truth)
    }

    fn serialize_char(self, character: char) -> Written {
        self.quoted(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Written {
        self.quoted(text)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Written {
        self.collect_seq(bytes)
    }

    fn serialize_none(self) -> Written {
        self.text("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.text("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.text("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.quoted(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, variant: &'static str, value: &T) -> Written {
        self.begin_variant(variant)?;
        value.serialize(&mut *self)?;
        self.text("}")
    }

    fn serialize_seq(self, _: Option<usize>) -> std::result::Result<List<'a>, Unwritable> {
        Ok(self.list())
    }

    fn serialize_tuple(self, _: usize) -> std::result::Result<List<'a>, Unwritable> {
        Ok(self.list())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> std::result::Result<List<'a>, Unwritable> {
        Ok(self.list())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> std::result::Result<List<'a>, Unwritable> {
        self.begin_variant(variant)?;
        Ok(List { end: b"]}", ..self.list() })
    }

    fn serialize_map(self, _: Option<usize>) -> std::result::Result<Members<'a>, Unwritable> {
        Ok(self.members())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> std::result::Result<Members<'a>, Unwritable> {
        Ok(self.members())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> std::result::Result<Members<'a>, Unwritable> {
        self.begin_variant(variant)?;
        Ok(Members { end: b"}}", ..self.members() })
    }
}

/// Elements, as they come.
struct List<'a> {
    writer: &'a mut Writer,
    is_first: bool,
    end: &'static [u8],
}

impl List<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.0.push(b',');
        }
        value.serialize(&mut *self.writer)
    }

    fn finish(self) -> Written {
        self.writer.0.extend_from_slice(self.end);
        Ok(())
    }
}

/// Members, which are put into one order at the end.
struct Members<'a> {
    writer: &'a mut Writer,
    written: Vec<Vec<u8>>,
    /// Where the member begins whose key is written and whose value is not.
    begun: usize,
    end: &'static [u8],
}

impl Members<'_> {
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        let start = self.writer.0.len();
        self.begun = start;
        key.serialize(&mut *self.writer)?;
        match self.writer.0.get(start) {
            Some(b'"') => {}
            Some(b'{' | b'[') | None => return Err(ser::Error::custom("a key of a map is no text, number or truth value")),
            Some(_) => {
                self.writer.0.insert(start, b'"');
                self.writer.0.push(b'"');
            }
        }
        self.writer.0.push(b':');
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut *self.writer)?;
        self.written.push(self.writer.0.split_off(self.begun));
        Ok(())
    }

    fn finish(mut self) -> Written {
        self.written.sort_unstable();
        self.writer.0.push(b'{');
        self.writer.0.extend_from_slice(&self.written.join(&b','));
        self.writer.0.extend_from_slice(self.end);
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:path, $method:ident);+) => {
        $(impl $trait for List<'_> {
            type Ok = ();
            type Error = Unwritable;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.element(value)
            }

            fn end(self) -> Written {
                self.finish()
            }
        })+
    };
}

elements!(
    SerializeSeq, serialize_element;
    ser::SerializeTuple, serialize_element;
    ser::SerializeTupleStruct, serialize_field;
    ser::SerializeTupleVariant, serialize_field
);

macro_rules! fields {
    ($($trait:path),+) => {
        $(impl $trait for Members<'_> {
            type Ok = ();
            type Error = Unwritable;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Written {
                self.key(key)?;
                self.value(value)
            }

            fn end(self) -> Written {
                self.finish()
            }
        })+
    };
}

fields!(ser::SerializeStruct, ser::SerializeStructVariant);

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.value(value)
    }

    fn end(self) -> Written {
        self.finish()
    }
}

#[cfg(test)]
mod tests;
