//! Access logs with a JSON object on each line.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::header::{HeaderName, USER_AGENT};
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{Field, Meaning, Names};
use super::{Answered, Header, LONGEST, Said, flat, moment, seconds};
use crate::reason::Reason;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A value, as far as a log has any use for it.
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Whole(u64),
    Number(f64),
    Nothing,
}

/// The fields of a line, into what it says.
struct Fields<'n, 'a> {
    names: &'n mut Names,
    said: &'n mut Said<'a>,
}

/// The name of the field at this place.
struct Name<'n>(&'n mut Names, usize);
struct AnyValue;

/// Whether it has the names of ours.
pub(super) fn is_ours(line: &[u8]) -> bool {
    let has = |name: &[u8]| line.windows(name.len()).any(|window| window == name);
    has(b"\"tidegate.direction\"") || has(b"\"http.request.method\"")
}

pub(super) fn read<'a>(line: &'a [u8], names: &mut Names, said: &mut Said<'a>) -> Result<(), &'static str> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object");
    }
    match std::str::from_utf8(line) {
        Ok(text) => {
            if flat::read(text, names, said).is_some() {
                return Ok(());
            }
            *said = Said::default();
            object(serde_json::Deserializer::from_str(text), Fields { names, said })
        }
        // What is not UTF-8 may be where nobody looks.
        Err(_) => object(serde_json::Deserializer::from_slice(line), Fields { names, said }),
    }
}

fn object<'a, R: serde_json::de::Read<'a>>(
    mut json: serde_json::Deserializer<R>,
    fields: Fields<'_, 'a>,
) -> Result<(), &'static str> {
    json.deserialize_map(fields).map_err(|_| "it is not valid JSON")?;
    json.end().map_err(|_| "something follows the JSON object")
}

impl<'de> Visitor<'de> for Fields<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of a log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(found) = map.next_key_seed(Name(self.names, place))? {
            place += 1;
            match self.names.at(found) {
                Meaning::Field(field) => self.said.take(*field, map.next_value_seed(AnyValue)?),
                Meaning::Header(header) => {
                    if let Value::Text(text) = map.next_value_seed(AnyValue)? {
                        self.said.headers.push((Header::Named(header.clone()), text));
                    }
                }
                Meaning::Nothing => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = usize;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<usize, E> {
        Ok(self.0.find(self.1, name))
    }
}

impl<'a> Said<'a> {
    pub(super) fn take(&mut self, field: Field, value: Value<'a>) {
        match field {
            Field::Time => self.at = self.at.or_else(|| value.moment()),
            Field::Ended => (self.at, self.ended) = (self.at.or_else(|| value.moment()), true),
            Field::Port => self.port = value.number().map(|number| number as u16).or(self.port),
            Field::Status => self.status = value.whole().or(self.status),
            Field::GrpcStatus => self.grpc_status = value.whole().or(self.grpc_status),
            Field::Millis => {
                self.duration = value.millis().or(self.duration);
            }
            Field::Seconds => self.duration = value.number().and_then(seconds).or(self.duration),
            Field::UpstreamMillis => {
                self.upstream = value.millis().or(self.upstream);
            }
            Field::UpstreamSeconds => self.upstream = value.number().and_then(seconds).or(self.upstream),
            _ => {
                if let Some(text) = value.text() {
                    self.take_text(field, text);
                }
            }
        }
    }

    fn take_text(&mut self, field: Field, text: Cow<'a, str>) {
        match field {
            // The second is what was written, where the first is `_OTHER`.
            Field::Method => self.method = Some(text),
            Field::MethodOfEnded => (self.method, self.ended) = (Some(text), true),
            Field::Target => self.target = Some(self.target.take().unwrap_or(text)),
            Field::Host => self.host = Some(self.host.take().unwrap_or(text)),
            Field::Client => self.client = Some(self.client.take().unwrap_or(text)),
            Field::Identity => self.identity = Some(text),
            Field::Direction => self.direction = Some(text),
            Field::GrpcName => self.grpc_status = code(&text),
            Field::Rpc => self.grpc = text == "grpc",
            Field::ContentType => self.grpc = text.starts_with("application/grpc"),
            Field::Scheme => self.secure = text.eq_ignore_ascii_case("https"),
            Field::Flags => self.answered = of_flags(&text),
            Field::Reason => self.answered = of_reason(&text),
            Field::UserAgent => self.headers.push((Header::Named(USER_AGENT), text)),
            Field::RequestId => self.headers.push((Header::Named(REQUEST_ID), text)),
            _ => {}
        }
    }
}

impl<'a> Value<'a> {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Whole(number) => Some(*number as f64),
            Self::Text(text) => text.parse().ok(),
            Self::Nothing => None,
        }
    }

    fn whole<N: TryFrom<u64>>(&self) -> Option<N> {
        if let Self::Whole(number) = self {
            return N::try_from(*number).ok();
        }
        let number = self.number()?;
        let whole = number as u64;
        (whole as f64 == number).then(|| N::try_from(whole).ok()).flatten()
    }

    fn millis(&self) -> Option<Duration> {
        match self {
            Self::Whole(number) => Some(Duration::from_millis(*number).min(LONGEST)),
            _ => self.number().and_then(|millis| seconds(millis / 1e3)),
        }
    }

    fn moment(&self) -> Option<super::Moment> {
        match self {
            Self::Number(number) => moment::number(*number),
            Self::Whole(number) => moment::number(*number as f64),
            Self::Text(text) => moment::rfc3339(text.as_bytes())
                .or_else(|| moment::common(text.as_bytes()))
                .or_else(|| text.parse().ok().and_then(moment::number)),
            Self::Nothing => None,
        }
    }

    /// Envoy and nginx write `-` for what is not there.
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if text != "-" => Some(text),
            _ => None,
        }
    }
}

/// Of a proxy of ours: who has answered.
fn of_reason(flag: &str) -> Answered {
    match Reason::ALL.into_iter().find(|reason| reason.flag() == flag) {
        Some(reason) if is_of_backend(reason) => Answered::Failed(reason),
        _ => Answered::Proxy,
    }
}

fn is_of_backend(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::UpstreamReset
            | Reason::UpstreamProtocol
            | Reason::UpstreamTlsFailed
            | Reason::UpstreamTlsUntrusted
            | Reason::RequestTimeout
    )
}

/// Envoy's `%RESPONSE_FLAGS%`, short or long.
fn of_flags(flags: &str) -> Answered {
    let one = |flag: &str| match flag {
        "UF" | "UpstreamConnectionFailure" => Answered::Failed(Reason::ConnectFailed),
        "UC" | "UR" | "LR" | "UpstreamConnectionTermination" | "UpstreamRemoteReset" | "LocalReset" => {
            Answered::Failed(Reason::UpstreamReset)
        }
        "UT" | "UpstreamRequestTimeout" => Answered::Failed(Reason::RequestTimeout),
        "UPE" | "UpstreamProtocolError" => Answered::Failed(Reason::UpstreamProtocol),
        // The backend has answered, and that it was asked more than once was not enough.
        "URX" | "UpstreamRetryLimitExceeded" | "" | "-" => Answered::Backend,
        _ => Answered::Proxy,
    };
    flags.split(',').map(one).find(|answered| *answered != Answered::Backend).unwrap_or_default()
}

/// A gRPC code by name (`RESOURCE_EXHAUSTED`, `ResourceExhausted`) or number.
fn code(text: &str) -> Option<u8> {
    const NAMES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalidargument",
        "deadlineexceeded",
        "notfound",
        "alreadyexists",
        "permissiondenied",
        "resourceexhausted",
        "failedprecondition",
        "aborted",
        "outofrange",
        "unimplemented",
        "internal",
        "unavailable",
        "dataloss",
        "unauthenticated",
    ];
    let plain: String = text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect();
    let named = NAMES.iter().position(|name| *name == plain || (plain == "canceled" && *name == "cancelled"));
    named.and_then(|code| u8::try_from(code).ok()).or_else(|| text.parse().ok())
}

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Value<'de>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nothing)
    }
}
