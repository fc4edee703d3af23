//! One request as one line of JSON.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::SpanContext;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tidegate_policy::{Decision, Outcome};

use crate::telemetry::exchange::{Finished, Record};
use crate::telemetry::fields::{self, Field};
use crate::telemetry::stream::StreamRecord;

struct Line<'a> {
    at: SystemTime,
    record: &'a Record,
    finished: &'a Finished,
    duration: Duration,
    context: Option<&'a SpanContext>,
}

struct StreamLine<'a> {
    at: SystemTime,
    stream: &'a StreamRecord,
    duration: Duration,
}

struct Said<'a>(&'a Decision);

struct Shown<T>(T);

/// `time`, `trace_id` and `span_id` (of the server span, else of the caller's), `request_id`, `duration_ms`, the fields of
/// the server span, `decisions`.
pub(super) fn line(
    at: SystemTime,
    record: &Record,
    finished: &Finished,
    duration: Duration,
    context: Option<&SpanContext>,
) -> Vec<u8> {
    let mut line = Vec::with_capacity(1_024);
    let value = Line { at, record, finished, duration, context };
    // Writing to memory cannot fail, and every value has a form in JSON.
    let _ = serde_json::to_writer(&mut line, &value);
    line.push(b'\n');
    line
}

/// The same of an opaque connection.
pub(super) fn stream_line(at: SystemTime, stream: &StreamRecord, duration: Duration) -> Vec<u8> {
    let mut line = Vec::with_capacity(512);
    let _ = serde_json::to_writer(&mut line, &StreamLine { at, stream, duration });
    line.push(b'\n');
    line
}

impl Serialize for StreamLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &rfc3339(self.at))?;
        map.serialize_entry("duration_ms", &millis(self.duration))?;
        let mut result = Ok(());
        self.stream.visit(&mut |name, field| {
            if result.is_ok() {
                result = map.serialize_entry(name, &field);
            }
        });
        result?;
        let decisions: Vec<Said<'_>> = self.stream.decisions.iter().map(Said).collect();
        map.serialize_entry("decisions", &decisions)?;
        map.end()
    }
}

fn millis(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1_000.0
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &rfc3339(self.at))?;
        if let Some(context) = self.context {
            map.serialize_entry("trace_id", &Shown(context.trace_id()))?;
            map.serialize_entry("span_id", &Shown(context.span_id()))?;
        }
        if let Some(id) = &self.record.id {
            map.serialize_entry("request_id", &fields::clip(&String::from_utf8_lossy(id.as_bytes())))?;
        }
        map.serialize_entry("duration_ms", &millis(self.duration))?;
        let mut result = Ok(());
        fields::visit(self.record, self.finished, &mut |name, field| {
            if result.is_ok() {
                result = map.serialize_entry(name, &field);
            }
        });
        result?;
        let decisions: Vec<Said<'_>> = self.finished.decisions.iter().map(Said).collect();
        map.serialize_entry("decisions", &decisions)?;
        map.end()
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Static(text) => serializer.serialize_str(text),
            Self::Shared(text) => serializer.serialize_str(text),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Shown(value) => serializer.collect_str(value),
            Self::Int(value) => serializer.serialize_i64(*value),
        }
    }
}

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let decision = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("policy", &decision.policy.name)?;
        map.serialize_entry("kind", &*decision.policy.kind)?;
        map.serialize_entry("rule", &*decision.rule.name)?;
        map.serialize_entry("source", &decision.rule.source)?;
        map.serialize_entry("outcome", decision.outcome.as_str())?;
        if let Outcome::Refused(reason) | Outcome::WouldRefuse(reason) = decision.outcome {
            map.serialize_entry("reason", reason.flag())?;
        }
        if let Some(detail) = &decision.detail {
            map.serialize_entry("detail", detail)?;
        }
        map.end()
    }
}

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// UTC with milliseconds. Days to dates by the proleptic Gregorian calendar, counted in eras of 400 years from
/// 1 March of year 0, so that the leap day is the last of its year.
fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        let at = |millis| rfc3339(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(at(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(at(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
