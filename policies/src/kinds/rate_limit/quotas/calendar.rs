//! Which hour, day, week or month it is in a time zone, and when that ends. Whoever asks says what time it is; the rules of
//! the zones are those that this program was built with.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::schema::nearest;

/// In order of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub(in crate::kinds::rate_limit) enum Every {
    Hour,
    Day,
    /// Begins on Monday, as ISO 8601 has it.
    Week,
    Month,
}

/// From one begin to the next, in seconds since the Unix epoch. The default is before any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kinds::rate_limit) struct Window {
    pub(super) start: i64,
    /// The first second after it.
    pub(super) end: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Calendar {
    every: Every,
    zone: TimeZone,
    /// As the database has it.
    name: String,
}

/// The last second of the year 9998: beyond, there are no dates, and the last window never ends.
const LAST: i64 = 253_370_764_799;

const HOUR: i64 = 3600;

impl Calendar {
    /// # Errors
    /// There is no such time zone; the name that may have been meant.
    pub(super) fn new(every: Every, zone: &str) -> Result<Self, Option<String>> {
        let zones = TimeZoneDatabase::bundled();
        let found = zones.get(zone).ok();
        let Some((zone, name)) = found.and_then(|zone| Some((zone.clone(), zone.iana_name()?.to_owned())))
        else {
            let names: Vec<_> = zones.available().map(|name| name.as_str().to_owned()).collect();
            return Err(nearest(zone, names.iter().map(String::as_str)).map(str::to_owned));
        };
        Ok(Self { every, zone, name })
    }

    /// What is counted apart: another of these begins anew.
    pub(super) fn describe(&self) -> String {
        format!("{:?}|{}", self.every, self.name)
    }

    pub(super) fn every(&self) -> Every {
        self.every
    }

    /// Whether every window of one is one of the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.every == other.every && self.name == other.name
    }

    /// The window that `wall` is in.
    pub(super) fn window(&self, wall: Duration) -> Window {
        let wall = seconds(wall).min(LAST);
        let at = Timestamp::from_second(wall).unwrap_or_default();
        match self.every {
            Every::Hour => {
                let offset = i64::from(self.zone.to_offset(at).seconds());
                let start = wall - (wall + offset).rem_euclid(HOUR);
                Window { start, end: start + HOUR }
            }
            _ => self.of_days(at.to_zoned_datetime(self.zone.clone()).date(), wall),
        }
    }

    fn of_days(&self, date: Date, wall: i64) -> Window {
        let first = self.first_day(date);
        let after = self.day_after(first);
        let window = Window { start: self.begin_of(first, wall), end: self.begin_of(after, i64::MAX) };
        if window.end > wall {
            return window;
        }
        // Just after midnight, the clock was set back to the evening before: the day that has begun goes on.
        Window { start: window.end, end: self.begin_of(self.day_after(after), i64::MAX) }
    }

    fn first_day(&self, date: Date) -> Date {
        match self.every {
            Every::Hour | Every::Day => date,
            Every::Week => {
                let days = date.weekday().to_monday_zero_offset();
                (0..days).fold(date, |date, _| date.yesterday().unwrap_or(date))
            }
            Every::Month => date.first_of_month(),
        }
    }

    /// The day after a window that begins with `first`.
    fn day_after(&self, first: Date) -> Date {
        let days = match self.every {
            Every::Hour | Every::Day => 1,
            Every::Week => 7,
            Every::Month => first.days_in_month(),
        };
        (0..days).fold(first, |date, _| date.tomorrow().unwrap_or(date))
    }

    /// The first moment of a day: not midnight in every zone on every day.
    fn begin_of(&self, date: Date, otherwise: i64) -> i64 {
        date.to_zoned_datetime(self.zone.clone()).map_or(otherwise, |begin| begin.timestamp().as_second())
    }
}

impl Window {
    pub(super) fn is_over(self, wall: Duration) -> bool {
        seconds(wall) >= self.end
    }

    /// How long until it ends.
    pub(in crate::kinds::rate_limit) fn left(self, wall: Duration) -> Duration {
        self.end().saturating_sub(wall)
    }

    /// Since the Unix epoch.
    pub(super) fn end(self) -> Duration {
        Duration::from_secs(u64::try_from(self.end).unwrap_or_default())
    }

    pub(super) fn length(self) -> Duration {
        Duration::from_secs(self.end.abs_diff(self.start))
    }
}

fn seconds(wall: Duration) -> i64 {
    i64::try_from(wall.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
