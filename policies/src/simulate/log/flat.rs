//! Lines as most loggers write them: one object of strings without escapes and plain numbers. Such a line is read in one pass without
//! a parser's generality; any other, and any that is wrong, is left to [`super::json`].

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::fields::{Meaning, Names, PLACES};
use super::json::Value;
use super::{Header, Said};

/// Where a line is read.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

/// So many times eight bytes of a string are looked at before it counts as a long one.
const NEAR: usize = 4;
/// Digits of a number that a double has room for, whatever they are.
const DIGITS: usize = 15;

/// Reads all of the line. `None`: it is not of this kind, and `said` has something of it.
pub(super) fn read<'a>(line: &'a str, names: &mut Names, said: &mut Said<'a>) -> Option<()> {
    // No escapes, and nothing that a string must not have: then each string ends at the next quote.
    let dubious = |dubious: bool, byte: &u8| dubious | (*byte < b' ') | (*byte == b'\\');
    if line.as_bytes().iter().fold(false, dubious) {
        return None;
    }
    let mut cursor = Cursor { line, at: 0 };
    for place in 0.. {
        let Some((found, value)) = cursor.field(names, place)? else { break };
        match (names.at(found), value) {
            (Meaning::Field(field), value) => said.take(*field, value),
            // The last place is soon that of another name.
            (Meaning::Header(_), Value::Text(text)) if found + 1 < PLACES => {
                said.headers.push((Header::At(found), text));
            }
            (Meaning::Header(name), Value::Text(text)) => {
                said.headers.push((Header::Named(name.clone()), text));
            }
            (Meaning::Header(_) | Meaning::Nothing, _) => {}
        }
    }
    cursor.next().is_none().then_some(())
}

impl<'a> Cursor<'a> {
    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        let bytes = self.line.as_bytes();
        while bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then(|| self.at += 1)
    }

    /// The next field: where [`Names`] has what its name means, and its value. `Some(None)`: there is none, and the object has
    /// ended.
    fn field(&mut self, names: &mut Names, place: usize) -> Option<Option<(usize, Value<'a>)>> {
        let rest = self.line.get(self.at..)?;
        if let Some(lead) = names.lead(place).filter(|lead| rest.as_bytes().starts_with(lead.as_bytes())) {
            self.at += lead.len();
            let is_text = lead.ends_with('"');
            return Some(Some((place, if is_text { self.text()? } else { self.value()? })));
        }
        let from = self.at;
        if self.take(if place == 0 { b'{' } else { b',' }).is_none() {
            return self.take(b'}').map(|()| None);
        }
        self.take(b'"')?;
        let found = names.find(place, self.rest_of_string()?);
        self.take(b':')?;
        let is_text = self.take(b'"').is_some();
        names.led_by(found, self.line.get(from..self.at)?);
        Some(Some((found, if is_text { self.text()? } else { self.value()? })))
    }

    fn text(&mut self) -> Option<Value<'a>> {
        self.rest_of_string().map(|text| Value::Text(Cow::Borrowed(text)))
    }

    /// One that is no string.
    fn value(&mut self) -> Option<Value<'a>> {
        match self.next()? {
            b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'[' | b'{' => self.nested(),
            _ => None,
        }
    }

    /// Up to the next quote.
    fn rest_of_string(&mut self) -> Option<&'a str> {
        let rest = self.line.get(self.at..)?;
        let end = quote(rest.as_bytes())?;
        self.at += end + 1;
        rest.get(..end)
    }

    fn word(&mut self, word: &str) -> Option<Value<'a>> {
        let is = self.line.as_bytes()[self.at..].starts_with(word.as_bytes());
        is.then(|| {
            self.at += word.len();
            Value::Nothing
        })
    }

    /// A list or an object, in which nobody looks.
    fn nested(&mut self) -> Option<Value<'a>> {
        let mut values = serde_json::Deserializer::from_str(&self.line[self.at..]).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(Value::Nothing)
    }

    /// Digits, and perhaps more of them after a point; so few that their quotient is the nearest double.
    fn number(&mut self) -> Option<Value<'a>> {
        let bytes = self.line.as_bytes().get(self.at..)?;
        let (whole, count) = digits(bytes);
        if let (1.., Some(b',' | b' ' | b'}')) = (count, bytes.get(count))
            && (bytes[0] != b'0' || count == 1)
        {
            self.at += count;
            return Some(Value::Whole(whole));
        }
        let (mut length, mut fraction, mut decimals) = (count, 0, 0);
        if bytes.get(count) == Some(&b'.') {
            (fraction, decimals) = digits(&bytes[count + 1..]);
            length += 1 + decimals;
        }
        let has_zeros = count > 1 && bytes[0] == b'0';
        let is_cut = length == count + 1;
        let goes_on = bytes.get(length).is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E'));
        if has_zeros || is_cut || goes_on || count + decimals > DIGITS {
            return None;
        }
        self.at += length;
        let unit = 10_u64.pow(u32::try_from(decimals).ok()?);
        Some(Value::Number((whole * unit + fraction) as f64 / unit as f64))
    }
}

/// The number that the first digits are, and how many they are: no more than [`DIGITS`].
fn digits(bytes: &[u8]) -> (u64, usize) {
    let (mut number, mut count) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = bytes.get(count).filter(|_| count < DIGITS) {
        number = number * 10 + u64::from(digit - b'0');
        count += 1;
    }
    (number, count)
}

/// Where the first quote is. Most values are a few bytes long: eight bytes at a time are looked at until it is worth while to
/// search for it in many.
fn quote(bytes: &[u8]) -> Option<usize> {
    for word in 0..NEAR {
        let Some(chunk) = bytes.get(8 * word..).and_then(<[u8]>::first_chunk) else { break };
        if let Some(at) = quote_in(*chunk) {
            return Some(8 * word + at);
        }
    }
    memchr::memchr(b'"', bytes)
}

/// The first byte that is a quote has become zero, and borrows from its highest bit; those before have not.
fn quote_in(chunk: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let zeroed = u64::from_le_bytes(chunk) ^ (ONES * b'"' as u64);
    let found = zeroed.wrapping_sub(ONES) & !zeroed & (ONES << 7);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_quote_is_found_wherever_it_is(text in "[!-#\\x{80}-\\x{a3}]{0,40}") {
            prop_assert_eq!(quote(text.as_bytes()), text.find('"'));
        }
    }
}
