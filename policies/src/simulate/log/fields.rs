//! What the fields of a JSON log are called. Names are compared without regard to case.

use std::borrow::Cow;

use http::header::HeaderName;
use rustc_hash::FxHashMap;

use super::Header;

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    /// When it ended.
    Ended,
    Method,
    /// The same, in a log that is written when requests end.
    MethodOfEnded,
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
    ("http.request.method", Field::MethodOfEnded),
    ("http.request.method_original", Field::MethodOfEnded),
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

/// What the value of a field is.
#[derive(Debug)]
pub(super) enum Meaning {
    Field(Field),
    Header(HeaderName),
    /// Nothing that anybody asks for.
    Nothing,
}

/// Fields by name. Lines of a log have mostly the same fields at the same places, written in the same way: so those of the
/// line before are tried first.
#[derive(Debug)]
pub(super) struct Names {
    /// In lower case.
    known: FxHashMap<&'static str, Field>,
    /// Those that have the value of a header.
    headers: Vec<(String, HeaderName)>,
    /// By place, at most [`PLACES`].
    last: Vec<Place>,
}

/// What stood at one place of the line before.
#[derive(Debug)]
struct Place {
    name: String,
    meaning: Meaning,
    /// All that led to the value, from where the last one ended: with the quote, if it is a string. Empty where that is
    /// not known, or longer than [`LONGEST_LEAD`].
    lead: String,
}

/// What comes after these shares the place of the last.
pub(super) const PLACES: usize = 64;
/// So that a log of blanks is not kept in memory.
const LONGEST_LEAD: usize = 256;

impl Default for Names {
    fn default() -> Self {
        Self { known: FIELDS.iter().copied().collect(), headers: Vec::new(), last: Vec::new() }
    }
}

impl Names {
    /// The field that has the value of this header.
    pub(super) fn header(&mut self, field: String, name: HeaderName) {
        self.headers.push((field, name));
        self.last.clear();
    }

    /// Looks up the name that stands at this place of a line, after those before it. Gives the place at which
    /// [`Names::at`] has what it means.
    pub(super) fn find(&mut self, place: usize, name: &str) -> usize {
        let place = place.min(PLACES - 1);
        if self.last.get(place).is_some_and(|last| last.name == name) {
            return place;
        }
        let meaning = self.meaning(name);
        match self.last.get_mut(place) {
            // Where lines differ, no memory is asked for.
            Some(last) => {
                last.name.clear();
                last.name.push_str(name);
                last.lead.clear();
                last.meaning = meaning;
            }
            None => self.last.push(Place { name: name.to_owned(), meaning, lead: String::new() }),
        }
        place
    }

    /// What led to the value at this place, on the line before.
    pub(super) fn lead(&self, place: usize) -> Option<&str> {
        self.last.get(place).map(|last| &*last.lead).filter(|lead| !lead.is_empty())
    }

    /// Remembers what led to the value at this place of [`Names::find`].
    pub(super) fn led_by(&mut self, found: usize, lead: &str) {
        if let Some(last) = self.last.get_mut(found) {
            last.lead.clear();
            last.lead.push_str(if lead.len() > LONGEST_LEAD { "" } else { lead });
        }
    }

    pub(super) fn at(&self, place: usize) -> &Meaning {
        self.last.get(place).map_or(&Meaning::Nothing, |last| &last.meaning)
    }

    /// `None`: what the place meant is not remembered any more.
    pub(super) fn name_of<'n>(&'n self, header: &'n Header) -> Option<&'n HeaderName> {
        match header {
            Header::Named(name) => Some(name),
            Header::At(place) => match self.at(*place) {
                Meaning::Header(name) => Some(name),
                Meaning::Field(_) | Meaning::Nothing => None,
            },
        }
    }

    fn meaning(&self, name: &str) -> Meaning {
        if let Some((_, header)) = self.headers.iter().find(|(field, _)| *field == name) {
            return Meaning::Header(header.clone());
        }
        let upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
        let name = if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
        if let Some(field) = self.known.get(&*name) {
            return Meaning::Field(*field);
        }
        name.starts_with("x-").then(|| name.parse().ok()).flatten().map_or(Meaning::Nothing, Meaning::Header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_a_value_is_remembered_unless_it_is_long() {
        let mut names = Names::default();
        let found = names.find(0, "path");
        names.led_by(found, "{\"path\": \"");
        assert_eq!(names.lead(0), Some("{\"path\": \""));
        names.led_by(found, &format!("{{{}\"path\": \"", " ".repeat(LONGEST_LEAD)));
        assert_eq!(names.lead(0), None);
        names.led_by(found, "{\"path\": \"");
        assert_eq!(names.find(0, "method"), 0);
        assert_eq!(names.lead(0), None, "of another name");
    }
}
