//! Times as logs write them.

use super::Moment;

const NANOS: u64 = 1_000_000_000;
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Bytes that are read from the left.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn digits(&mut self, most: usize) -> Option<(u64, u32)> {
        let count = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count).filter(|_| count > 0)?;
        self.0 = rest;
        let number = digits.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
        Some((number, u32::try_from(count).ok()?))
    }

    fn exactly(&mut self, count: u32) -> Option<u64> {
        self.digits(count as usize).filter(|(_, got)| *got == count).map(|(number, _)| number)
    }

    fn is(&mut self, wanted: &[u8]) -> bool {
        let is = self.0.first().is_some_and(|byte| wanted.contains(byte));
        if is {
            self.0 = &self.0[1..];
        }
        is
    }

    fn needs(&mut self, wanted: &[u8]) -> Option<()> {
        self.is(wanted).then_some(())
    }

    /// `.123`, in nanoseconds.
    fn fraction(&mut self) -> Option<u64> {
        if !self.is(b".,") {
            return None;
        }
        let (number, count) = self.digits(9)?;
        while self.digits(9).is_some() {}
        Some(number * 10_u64.pow(9 - count))
    }

    /// `Z`, `+01:00` or `-0700`, in seconds east of Greenwich; none is UTC.
    fn zone(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.is(b"Zz") {
            return Some(0);
        }
        let west = self.0.first() == Some(&b'-');
        self.needs(b"+-")?;
        let hours = self.exactly(2)?;
        self.is(b":");
        let minutes = self.exactly(2)?;
        let east = i64::try_from(hours * 3600 + minutes * 60).ok()?;
        Some(if west { -east } else { east })
    }

    fn time_of_day(&mut self) -> Option<u64> {
        let hour = self.exactly(2)?;
        self.needs(b":")?;
        let minute = self.exactly(2)?;
        self.needs(b":")?;
        let second = self.exactly(2)?;
        (hour < 24 && minute < 60 && second < 61).then_some(hour * 3600 + minute * 60 + second)
    }
}

/// RFC 3339, with a space for the `T` or without a zone too.
pub(super) fn rfc3339(text: &[u8]) -> Option<Moment> {
    usual(text).or_else(|| any_rfc3339(text))
}

/// `2026-03-01T10:00:00.000Z`, as most write it, in a tenth of the time.
fn usual(text: &[u8]) -> Option<Moment> {
    const DIGITS: [usize; 14] = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    let (at, rest) = text.split_first_chunk::<19>()?;
    let [b'.', decimals @ .., b'Z'] = rest else { return None };
    let digit = |byte: u8| byte.wrapping_sub(b'0');
    let is_so = [at[4], at[7], at[10], at[13], at[16]] == *b"--T::" && (1..=9).contains(&decimals.len());
    // All at once: to ask for each as it is read costs twice as much.
    if !is_so || DIGITS.iter().fold(0, |most, place| digit(at[*place]).max(most)) > 9 {
        return None;
    }
    let two = |place: usize| u64::from(digit(at[place])) * 10 + u64::from(digit(at[place + 1]));
    let (hour, minute, second) = (two(11), two(14), two(17));
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut fraction, mut unit) = (0, NANOS);
    for byte in decimals {
        unit /= 10;
        fraction += u64::from(Some(digit(*byte)).filter(|digit| *digit < 10)?) * unit;
    }
    let day = (two(0) * 100 + two(2), two(5), two(8));
    moment(day, hour * 3600 + minute * 60 + second, 0, Some(fraction))
}

fn any_rfc3339(text: &[u8]) -> Option<Moment> {
    let mut text = Text(text);
    let year = text.exactly(4)?;
    text.needs(b"-/")?;
    let month = text.exactly(2)?;
    text.needs(b"-/")?;
    let day = text.exactly(2)?;
    text.needs(b"Tt ")?;
    let second = text.time_of_day()?;
    let fraction = text.fraction();
    let zone = text.zone()?;
    text.0.is_empty().then_some(())?;
    moment((year, month, day), second, zone, fraction)
}

/// `10/Oct/2000:13:55:36 -0700`, as Apache and nginx write it.
pub(super) fn common(text: &[u8]) -> Option<Moment> {
    let mut text = Text(text);
    let day = text.exactly(2)?;
    text.needs(b"/")?;
    let (name, rest) = text.0.split_at_checked(3)?;
    let month = MONTHS.iter().position(|month| name == *month)? as u64 + 1;
    text.0 = rest;
    text.needs(b"/")?;
    let year = text.exactly(4)?;
    text.needs(b":")?;
    let second = text.time_of_day()?;
    let fraction = text.fraction();
    text.is(b" ");
    let zone = text.zone()?;
    text.0.is_empty().then_some(())?;
    moment((year, month, day), second, zone, fraction)
}

/// Since the epoch, in seconds, milli-, micro- or nanoseconds: by how many they are.
pub(super) fn number(number: f64) -> Option<Moment> {
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let scale = match number {
        n if n < 1e11 => 1e9,
        n if n < 1e14 => 1e6,
        n if n < 1e17 => 1e3,
        _ => 1.0,
    };
    let nanos = number * scale;
    // A year that no log is of.
    (nanos < 1.8e19).then_some(Moment { nanos: nanos as u64, exact: scale < 1e9 || number.fract() != 0.0 })
}

fn moment(
    (year, month, day): (u64, u64, u64),
    second: u64,
    zone: i64,
    fraction: Option<u64>,
) -> Option<Moment> {
    if !(1970..2500).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let second = i64::try_from(days(year, month, day) * 86_400 + second).ok()? - zone;
    let nanos = u64::try_from(second).ok()?.checked_mul(NANOS)?.checked_add(fraction.unwrap_or_default())?;
    Some(Moment { nanos, exact: fraction.is_some() })
}

/// Since the epoch, by the proleptic Gregorian calendar; years begin in March, so that the leap day is their last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Also of what is nearly so: each of its bytes may be another one.
        #[test]
        fn the_quick_way_reads_a_time_as_the_other_does_or_not_at_all(
            (year, month, day) in (1969_u32..2501, 0_u32..14, 0_u32..33),
            (hour, minute, second) in (0_u32..25, 0_u32..61, 0_u32..62),
            fraction in "[.,]?[0-9]{0,11}",
            zone in "Z?",
            odd in prop::option::of((0_usize..32, any::<u8>())),
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            let mut text = text.into_bytes();
            if let Some((at, byte)) = odd {
                let at = at % text.len();
                text[at] = byte;
            }
            let quick = usual(&text);
            prop_assert!(quick.is_none() || quick == any_rfc3339(&text), "{:?}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn what_most_write_is_read_the_quick_way() {
        let half_past = Some(Moment { nanos: 1_772_361_000_250_000_000, exact: true });
        assert_eq!(usual(b"2026-03-01T10:30:00.250Z"), half_past);
        assert_eq!(rfc3339(b"2026-03-01T11:30:00.250+01:00"), half_past);
    }
}
