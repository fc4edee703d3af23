//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date in any of the three forms that a recipient must read
//! (section 5.6.7).
//!
//! A date is as good as the clocks of both sides: what it makes of a wait is bounded by whoever asks.

use std::time::Duration;

use http::HeaderValue;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// How long to wait; nothing where that is no number and no date. `unix`: the time since the Unix epoch by the clock on the
/// wall, asked for with a date only.
pub(crate) fn wait(value: &HeaderValue, unix: &dyn Fn() -> Duration) -> Option<Duration> {
    if let Some(seconds) = number(value) {
        return Some(Duration::from_secs(seconds));
    }
    let text = value.to_str().ok()?.trim();
    let now = unix();
    Some(date(text, now)?.saturating_sub(now))
}

/// Digits only; too many of them are as many as there can be.
pub(crate) fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes().trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n: u64, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// An HTTP-date, as the time since the Unix epoch; what lies before that counts as the epoch.
pub(crate) fn date(text: &str, now: Duration) -> Option<Duration> {
    let (day, rest) = match text.split_once(", ") {
        Some(parts) => parts,
        None => return asctime(text),
    };
    let rest = rest.strip_suffix(" GMT")?;
    match DAYS.iter().find(|name| name.starts_with(day))?.len() == day.len() {
        true => rfc850(rest, now),
        false if day.len() == 3 => fixed(rest),
        false => None,
    }
}

/// `06 Nov 1994 08:49:37`
fn fixed(text: &str) -> Option<Duration> {
    let [day, month, year, time] = words(text)?;
    moment(digits(year, 4)?, month, digits(day, 2)?, time)
}

/// `06-Nov-94 08:49:37`. A year that is more than 50 years ahead is the latest one in the past with these digits.
fn rfc850(text: &str, now: Duration) -> Option<Duration> {
    let [date, time] = words(text)?;
    let (day, rest) = date.split_once('-')?;
    let (month, year) = rest.split_once('-')?;
    let (day, year) = (digits(day, 2)?, digits(year, 2)?);
    let this = jiff::Timestamp::from_second(i64::try_from(now.as_secs()).ok()?).ok()?;
    let this = Offset::UTC.to_datetime(this).year();
    let year = this - this.rem_euclid(100) + year;
    // The digits are of this century, of the next, or of the one before: the latest that is not too far ahead.
    let ahead = Duration::from_secs(50 * 31_556_952);
    let candidates = [year + 100, year, year - 100].into_iter();
    candidates.filter_map(|year| moment(year, month, day, time)).find(|at| *at <= now.saturating_add(ahead))
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(text: &str) -> Option<Duration> {
    let (name, rest) = text.split_at_checked(3)?;
    DAYS.iter().find(|day| day.starts_with(name))?;
    let (month, rest) = rest.strip_prefix(' ')?.split_at_checked(3)?;
    let (day, rest) = rest.strip_prefix(' ')?.split_at_checked(2)?;
    let day = match day.strip_prefix(' ') {
        Some(day) => digits(day, 1)?,
        None => digits(day, 2)?,
    };
    let [time, year] = words(rest.strip_prefix(' ')?)?;
    moment(digits(year, 4)?, month, day, time)
}

fn moment(year: i16, month: &str, day: i16, time: &str) -> Option<Duration> {
    let month = i8::try_from(MONTHS.iter().position(|name| *name == month)? + 1).ok()?;
    let mut parts = time.split(':').map(|part| i8::try_from(digits(part, 2)?).ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || second > 60 {
        return None;
    }
    // A leap second is as the one before it.
    let at = DateTime::new(year, month, i8::try_from(day).ok()?, hour, minute, second.min(59), 0).ok()?;
    let seconds = Offset::UTC.to_timestamp(at).ok()?.as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split(' ').collect::<Vec<_>>().try_into().ok()
}

fn digits(text: &str, count: usize) -> Option<i16> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-28.
    const NOW: Duration = Duration::from_secs(1_795_824_000);

    fn at(text: &str) -> Option<u64> {
        date(text, NOW).map(|at| at.as_secs())
    }

    fn waits(value: &str) -> Option<Duration> {
        wait(&HeaderValue::from_str(value).unwrap(), &|| NOW)
    }

    #[test]
    fn all_three_forms_of_a_date_are_read() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(at(text), Some(784_111_777), "{text}");
        }
        assert_eq!(at("Tue, 29 Feb 2028 00:00:00 GMT"), Some(1_835_395_200));
        assert_eq!(at("Sat, 31 Dec 2016 23:59:60 GMT"), at("Sat, 31 Dec 2016 23:59:59 GMT"));
        assert_eq!(at("Wed, 31 Dec 1969 23:59:59 GMT"), Some(0), "before the epoch");
    }

    #[test]
    fn two_digits_of_a_year_are_never_more_than_fifty_years_ahead() {
        let year = |digits: &str| {
            (at(&format!("Monday, 11-Jan-{digits} 00:00:00 GMT")).unwrap() / 31_556_952) + 1970
        };
        assert_eq!(
            [year("26"), year("27"), year("76"), year("77"), year("99")],
            [2026, 2027, 2076, 1977, 1999]
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "soon",
            "Sun",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sund, 06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:1 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "2026-11-28T00:00:00Z",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn a_wait_is_what_lies_between_the_date_and_now() {
        assert_eq!(waits("7"), Some(Duration::from_secs(7)));
        assert_eq!(waits(" Sat, 28 Nov 2026 00:02:00 GMT "), Some(Duration::from_secs(120)));
        assert_eq!(waits("Fri, 27 Nov 2026 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(waits("99999999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(waits("-1"), None);
    }

    #[test]
    fn seconds_need_no_clock() {
        let asked = |value| wait(&HeaderValue::from_static(value), &|| panic!("nobody asks"));
        assert_eq!(asked("2"), Some(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn what_the_standard_writer_of_dates_writes_is_read(seconds in 0_u64..253_402_300_800) {
            let at = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
            let at = Offset::UTC.to_datetime(at);
            let name = &DAYS[usize::try_from(at.weekday().to_monday_zero_offset()).unwrap()][..3];
            let month = MONTHS[usize::try_from(at.month() - 1).unwrap()];
            let (day, year, time) = (at.day(), at.year(), at.time());
            let time = format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
            let fixed = format!("{name}, {day:02} {month} {year:04} {time} GMT");
            prop_assert_eq!(date(&fixed, NOW), Some(Duration::from_secs(seconds)));
            let old = format!("{name} {month} {day:2} {time} {year:04}");
            prop_assert_eq!(date(&old, NOW), Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,40}", now in 0_u64..u64::MAX / 4) {
            let _ = date(&text, Duration::from_secs(now));
        }
    }
}
