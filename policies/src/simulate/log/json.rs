//! Access logs with a JSON object on each line. Names are compared without regard to case.

use std::borrow::Cow;
use std::fmt;

use http::header::{HeaderName, USER_AGENT};
use rustc_hash::FxHashMap;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Answered, Said, moment, seconds};
use crate::reason::Reason;

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    /// When it ended.
    Ended,
    Method,
    Target,
    Host,
    Port,
    Client,
    Identity,
    Direction,
    Status,
    GrpcStatus,
    /// By its name.
    GrpcName,
    Rpc,
    ContentType,
    Scheme,
    Millis,
    Seconds,
    UpstreamMillis,
    UpstreamSeconds,
    Flags,
    Reason,
    UserAgent,
    RequestId,
}

/// Ours first, then what Envoy's users mostly write, then nginx's.
const FIELDS: &[(&str, Field)] = &[
    ("time", Field::Time),
    ("http.request.method", Field::Method),
    ("http.request.method_original", Field::Method),
    ("url.path", Field::Target),
    ("url.scheme", Field::Scheme),
    ("server.address", Field::Host),
    ("server.port", Field::Port),
    ("client.address", Field::Client),
    ("http.response.status_code", Field::Status),
    ("rpc.response.status_code", Field::GrpcName),
    ("rpc.system.name", Field::Rpc),
    ("duration_ms", Field::Millis),
    ("user_agent.original", Field::UserAgent),
    ("tidegate.peer", Field::Identity),
    ("tidegate.direction", Field::Direction),
    ("tidegate.reason", Field::Reason),
    ("request_id", Field::RequestId),
    ("start_time", Field::Time),
    ("@timestamp", Field::Time),
    ("timestamp", Field::Time),
    ("method", Field::Method),
    (":method", Field::Method),
    ("path", Field::Target),
    (":path", Field::Target),
    ("original_path", Field::Target),
    ("authority", Field::Host),
    (":authority", Field::Host),
    ("host", Field::Host),
    ("scheme", Field::Scheme),
    (":scheme", Field::Scheme),
    ("response_code", Field::Status),
    ("status", Field::Status),
    ("status_code", Field::Status),
    ("grpc_status", Field::GrpcName),
    ("grpc_status_number", Field::GrpcStatus),
    ("content_type", Field::ContentType),
    ("duration", Field::Millis),
    ("upstream_service_time", Field::UpstreamMillis),
    ("x-envoy-upstream-service-time", Field::UpstreamMillis),
    ("response_flags", Field::Flags),
    ("downstream_remote_address", Field::Client),
    ("downstream_remote_address_without_port", Field::Client),
    ("downstream_direct_remote_address", Field::Client),
    ("x_forwarded_for", Field::Client),
    ("x-forwarded-for", Field::Client),
    ("client_ip", Field::Client),
    ("downstream_peer_uri_san", Field::Identity),
    ("user_agent", Field::UserAgent),
    ("user-agent", Field::UserAgent),
    ("x-request-id", Field::RequestId),
    ("time_iso8601", Field::Ended),
    ("time_local", Field::Ended),
    ("msec", Field::Ended),
    ("request_method", Field::Method),
    ("request_uri", Field::Target),
    ("uri", Field::Target),
    ("http_host", Field::Host),
    ("remote_addr", Field::Client),
    ("request_time", Field::Seconds),
    ("upstream_response_time", Field::UpstreamSeconds),
    ("http_user_agent", Field::UserAgent),
];

/// A value, as far as a log has any use for it.
enum Value<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Nothing,
}

/// Fields by name, in lower case.
#[derive(Debug)]
pub(super) struct Names {
    known: FxHashMap<&'static str, Field>,
    /// Those that have the value of a header.
    pub(super) headers: Vec<(String, HeaderName)>,
}

struct Fields<'n>(&'n Names);
struct AnyValue;

impl Default for Names {
    fn default() -> Self {
        Self { known: FIELDS.iter().copied().collect(), headers: Vec::new() }
    }
}

impl Names {
    fn find(&self, name: &str) -> Option<Field> {
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.known.get(name).copied();
        }
        self.known.get(&*name.to_ascii_lowercase()).copied()
    }
}

/// Whether it has the names of ours.
pub(super) fn is_ours(line: &[u8]) -> bool {
    let has = |name: &[u8]| line.windows(name.len()).any(|window| window == name);
    has(b"\"tidegate.direction\"") || has(b"\"http.request.method\"")
}

pub(super) fn read<'a>(line: &'a [u8], names: &Names) -> Result<Said<'a>, &'static str> {
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object");
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let said = json.deserialize_map(Fields(names)).map_err(|_| "it is not valid JSON")?;
    json.end().map_err(|_| "something follows the JSON object")?;
    Ok(said)
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Said<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of a log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said<'de>, A::Error> {
        let mut said = Said::default();
        while let Some(name) = map.next_key_seed(AnyValue)? {
            let Value::Text(name) = name else { continue };
            if let Some((_, header)) = self.0.headers.iter().find(|(field, _)| **field == *name) {
                if let Value::Text(text) = map.next_value_seed(AnyValue)? {
                    said.headers.push((header.clone(), text));
                }
            } else if let Some(field) = self.0.find(&name) {
                let value = map.next_value_seed(AnyValue)?;
                said.take(field, value);
                if field == Field::Method && name.starts_with("http.") {
                    said.ended = true;
                }
            } else if name.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("x-")) {
                if let (Value::Text(text), Ok(header)) = (map.next_value_seed(AnyValue)?, name.parse()) {
                    said.headers.push((header, text));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(said)
    }
}

impl<'a> Said<'a> {
    fn take(&mut self, field: Field, value: Value<'a>) {
        match field {
            Field::Time => self.at = self.at.or_else(|| value.moment()),
            Field::Ended => (self.at, self.ended) = (self.at.or_else(|| value.moment()), true),
            Field::Port => self.port = value.number().map(|number| number as u16).or(self.port),
            Field::Status => self.status = value.whole().or(self.status),
            Field::GrpcStatus => self.grpc_status = value.whole().or(self.grpc_status),
            Field::Millis => {
                self.duration = value.number().and_then(|ms| seconds(ms / 1e3)).or(self.duration);
            }
            Field::Seconds => self.duration = value.number().and_then(seconds).or(self.duration),
            Field::UpstreamMillis => {
                self.upstream = value.number().and_then(|ms| seconds(ms / 1e3)).or(self.upstream);
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
            Field::UserAgent => self.headers.push((USER_AGENT, text)),
            Field::RequestId => self.headers.push((HeaderName::from_static("x-request-id"), text)),
            _ => {}
        }
    }
}

impl<'a> Value<'a> {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Nothing => None,
        }
    }

    fn whole<N: TryFrom<u64>>(&self) -> Option<N> {
        let number = self.number().filter(|number| *number >= 0.0 && number.fract() == 0.0)?;
        N::try_from(number as u64).ok()
    }

    fn moment(&self) -> Option<super::Moment> {
        match self {
            Self::Number(number) => moment::number(*number),
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

impl<'de> serde::de::DeserializeSeed<'de> for AnyValue {
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
        Ok(Value::Number(number as f64))
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
