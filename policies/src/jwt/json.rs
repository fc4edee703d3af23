//! JSON as it is read from tokens: bounded, and no name twice in one object. Of two `sub`s, one reader takes the first and another
//! the last, and what one has checked is not what the other uses (RFC 7519, 4; RFC 8725, 2.7).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Objects and lists in each other. Claims that people use have four.
const MOST_DEPTH: usize = 16;
/// Of all kinds, in all places together.
const MOST_VALUES: usize = 1_024;

/// `None`: not one JSON object, or beyond the bounds.
pub(super) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut left = MOST_VALUES;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { depth: MOST_DEPTH, left: &mut left }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

struct Reader<'l> {
    /// How many more levels there may be.
    depth: usize,
    /// How many more values there may be.
    left: &'l mut usize,
}

impl Reader<'_> {
    fn below<E: Error>(&mut self) -> Result<Reader<'_>, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Reader { depth, left: self.left })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.left = self.left.checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.below()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let value = object.next_value_seed(self.below()?)?;
            if values.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_read_as_it_is() {
        let text = r#"{"a": [1, -2, 3.5, true, null, {"b": "\u00e9"}], "": 18446744073709551615}"#;
        let want = json!({"a": [1, -2, 3.5, true, null, {"b": "é"}], "": 18_446_744_073_709_551_615_u64});
        assert_eq!(object(text.as_bytes()).map(Value::Object), Some(want));
    }

    #[test]
    fn what_is_no_object_or_has_a_name_twice_is_not_read() {
        for text in [
            "",
            "1",
            "[]",
            "{",
            r#"{"a":1}{}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"\u0061":2}}"#,
            "{\"a\":1e999}",
        ] {
            assert_eq!(object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_not_read() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        // The object is one of them.
        assert!(object(nested(MOST_DEPTH - 1).as_bytes()).is_some());
        assert!(object(nested(MOST_DEPTH).as_bytes()).is_none());
        assert!(object(nested(50_000).as_bytes()).is_none());
        let many = |count: usize| format!("{{\"a\":[{}]}}", vec!["1"; count].join(","));
        // The object and the list are two of them.
        assert!(object(many(MOST_VALUES - 2).as_bytes()).is_some());
        assert!(object(many(MOST_VALUES - 1).as_bytes()).is_none());
    }
}
