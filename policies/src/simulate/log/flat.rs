//! Lines as most loggers write them: one object of strings without escapes and plain numbers. Such a line is read in one pass without
//! a parser's generality; any other, and any that is wrong, is left to [`super::json`].

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::Said;
use super::fields::{Meaning, Names};
use super::json::Value;

/// Where a line is read.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

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
    cursor.take(b'{')?;
    let mut place = 0;
    loop {
        let found = cursor.name(names, place)?;
        place += 1;
        cursor.take(b':')?;
        let value = cursor.value()?;
        match (names.at(found), value) {
            (Meaning::Field(field), value) => said.take(*field, value),
            (Meaning::Header(header), Value::Text(text)) => said.headers.push((header.clone(), text)),
            (Meaning::Header(_) | Meaning::Nothing, _) => {}
        }
        if cursor.take(b',').is_none() {
            cursor.take(b'}')?;
            return (cursor.next().is_none() && cursor.at == line.len()).then_some(());
        }
    }
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

    /// Where [`Names`] has what the name means that stands here.
    fn name(&mut self, names: &mut Names, place: usize) -> Option<usize> {
        self.take(b'"')?;
        let rest = &self.line[self.at..];
        let expected = names.expected(place).filter(|name| {
            rest.as_bytes().get(name.len()) == Some(&b'"') && rest.as_bytes().starts_with(name.as_bytes())
        });
        if let Some(name) = expected {
            self.at += name.len() + 1;
            return Some(place);
        }
        let name = self.rest_of_string()?;
        Some(names.find(place, name))
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.next()? {
            b'"' => {
                self.at += 1;
                Some(Value::Text(Cow::Borrowed(self.rest_of_string()?)))
            }
            b'0'..=b'9' => self.number().map(Value::Number),
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
        let text = &rest[..memchr::memchr(b'"', rest.as_bytes())?];
        self.at += text.len() + 1;
        Some(text)
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
    fn number(&mut self) -> Option<f64> {
        let bytes = &self.line.as_bytes()[self.at..];
        let (whole, count) = digits(bytes);
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
        Some((whole * unit + fraction) as f64 / unit as f64)
    }
}

/// The number that the first digits are, and how many they are: no more than [`DIGITS`].
fn digits(bytes: &[u8]) -> (u64, usize) {
    let count = bytes.iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    (bytes[..count].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')), count)
}
