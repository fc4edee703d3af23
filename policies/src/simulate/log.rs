//! Access logs, line by line: ours, Envoy's as JSON, and the Common and Combined Log Format.
//!
//! Field names of JSON logs are what users make them, so the common ones are all read, whoever writes them. What a line does
//! not have gets a sensible default, and is counted; what is no line of a log at all is told from that.

mod common;
mod fields;
mod flat;
mod json;
mod moment;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use smallvec::SmallVec;

use super::request::{Logged, Request};
use crate::decision::CallResult;
use crate::model::Identity;
use crate::reason::Reason;
use crate::story::Answer;
use crate::time::Timestamp;

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ours: JSON with the names of OpenTelemetry.
    Tidegate,
    /// JSON, as Envoy writes it.
    Envoy,
    /// The Common Log Format, or the Combined one with referer and user agent.
    Combined,
}

/// What a line does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Host,
    Client,
    Status,
    Duration,
    /// It has no parts of a second.
    Fraction,
}

/// What there is on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Request,
    /// Nothing that is to be replayed: empty, or another side of a proxy.
    Other,
    Garbage(&'static str),
}

/// Reads lines, and counts what they do not say.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    /// Where a line has none.
    host: HeaderValue,
    /// `tidegate.direction` of the lines that are meant.
    direction: &'static str,
    names: fields::Names,
    missing: [u64; MISSING],
    others: u64,
    rng: fastrand::Rng,
}

/// What a line says, as it is written there.
#[derive(Debug, Default)]
struct Said<'a> {
    at: Option<Moment>,
    /// The time is that of the end.
    ended: bool,
    method: Option<Cow<'a, str>>,
    target: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    port: Option<u16>,
    client: Option<Cow<'a, str>>,
    identity: Option<Cow<'a, str>>,
    direction: Option<Cow<'a, str>>,
    headers: SmallVec<[(Header, Cow<'a, str>); 4]>,
    status: Option<u16>,
    grpc_status: Option<u8>,
    grpc: bool,
    secure: bool,
    duration: Option<Duration>,
    /// Of the backend alone.
    upstream: Option<Duration>,
    answered: Answered,
}

/// Which header it is.
#[derive(Debug)]
enum Header {
    Named(HeaderName),
    /// That which the name at this place of the line means: what is remembered is not cloned for each line.
    At(usize),
}

/// Who has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answered {
    #[default]
    Backend,
    /// Nobody: the call failed.
    Failed(Reason),
    Proxy,
}

/// Since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    nanos: u64,
    /// Parts of the second are written.
    exact: bool,
}

const MISSING: usize = 5;
/// A call of which it is not known how long it lasted.
const USUAL_LATENCY: Duration = Duration::from_millis(10);
/// No call is believed to have lasted longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// A line is no longer than this, in bytes.
pub const LONGEST_LINE: usize = 1 << 20;

impl Missing {
    pub const ALL: [Self; MISSING] = [Self::Host, Self::Client, Self::Status, Self::Duration, Self::Fraction];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Client => "client address",
            Self::Status => "status",
            Self::Duration => "duration",
            Self::Fraction => "parts of a second",
        }
    }
}

impl Format {
    /// By the first lines of a log: what most of them can be read as.
    pub fn detect(lines: &[&[u8]]) -> Option<Self> {
        let readable = |format: Self| {
            let mut reader = Reader::new(format, HeaderValue::from_static("localhost"), "", 0);
            let mut request = Request::default();
            lines.iter().filter(|line| reader.read(line, &mut request) == Line::Request).count()
        };
        let is_ours = lines.iter().any(|line| json::is_ours(line));
        let json = if is_ours { Self::Tidegate } else { Self::Envoy };
        let counts = [(json, readable(json)), (Self::Combined, readable(Self::Combined))];
        counts.into_iter().filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count).map(|(f, _)| f)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Envoy => "envoy",
            Self::Combined => "combined",
        }
    }
}

impl Reader {
    /// `host`: for lines that have none. `direction`: which lines of our own log are meant (`gateway`, `inbound`,
    /// `outbound`), empty for all.
    pub fn new(format: Format, host: HeaderValue, direction: &'static str, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            format,
            host,
            direction,
            names: fields::Names::default(),
            missing: [0; MISSING],
            others: 0,
            rng,
        }
    }

    /// The field of a JSON log that has the value of this header. Those whose names begin with `x-` are known anyway.
    pub fn header(&mut self, name: HeaderName, field: String) {
        self.names.header(field, name);
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// How many lines did not say what.
    pub fn missing(&self) -> impl Iterator<Item = (Missing, u64)> + '_ {
        Missing::ALL.into_iter().zip(self.missing).filter(|(_, count)| *count > 0)
    }

    /// How many lines are of another side of a proxy.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Reads a line into `request`.
    pub fn read(&mut self, line: &[u8], request: &mut Request) -> Line {
        if line.trim_ascii().is_empty() {
            return Line::Other;
        }
        let mut said = Said::default();
        let read = match self.format {
            Format::Tidegate | Format::Envoy => json::read(line, &mut self.names, &mut said),
            Format::Combined => common::read(line, &mut said),
        };
        if let Err(why) = read {
            return Line::Garbage(why);
        }
        if said.direction.as_deref().is_some_and(|side| !self.is_meant(side)) {
            self.others += 1;
            return Line::Other;
        }
        self.fill(&mut said, request).map_or_else(Line::Garbage, |()| Line::Request)
    }

    fn is_meant(&self, direction: &str) -> bool {
        self.direction.is_empty() || self.direction == direction
    }

    fn fill(&mut self, said: &mut Said<'_>, request: &mut Request) -> Result<(), &'static str> {
        request.clear_all_but_target_and_headers();
        let at = said.at.ok_or("it has no time, or none that can be read")?;
        let method = said.method.as_deref().unwrap_or("GET");
        request.head.method = Method::from_bytes(method.as_bytes()).map_err(|_| "it has no method")?;
        let target = said.target.as_deref().ok_or("it has no path")?;
        if !request.set_target(target) {
            return Err("its path is none that a proxy would take");
        }
        let host = self.host(said)?;
        set_headers(&mut request.head.headers, host, || {
            said.headers.iter().filter_map(|(header, value)| Some((self.names.name_of(header)?, &**value)))
        });
        request.secure = said.secure;
        if said.grpc || said.grpc_status.is_some() {
            request.set_grpc();
        }
        request.peer.identity = said.identity.as_deref().map(|id| Identity(Arc::from(id)));
        match said.client.as_deref().and_then(address) {
            Some(address) => request.peer.address = address,
            None => self.miss(Missing::Client),
        }
        self.set_answer(said, request);
        let mut nanos = at.nanos;
        if !at.exact {
            self.miss(Missing::Fraction);
            nanos = nanos.saturating_add(self.rng.u64(..1_000_000_000));
        }
        if let (true, Some(lasted)) = (said.ended, said.duration) {
            nanos = nanos.saturating_sub(u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX));
        }
        request.at = Timestamp::from_nanos(nanos);
        Ok(())
    }

    fn host(&mut self, said: &Said<'_>) -> Result<HeaderValue, &'static str> {
        let Some(host) = said.host.as_deref().filter(|host| !host.is_empty()) else {
            self.miss(Missing::Host);
            return Ok(self.host.clone());
        };
        let value = match said.port {
            Some(port) if !host.contains(':') => HeaderValue::try_from(format!("{host}:{port}")),
            _ => HeaderValue::from_str(host),
        };
        value.map_err(|_| "its host is none")
    }

    fn set_answer(&mut self, said: &Said<'_>, request: &mut Request) {
        let result = match (said.answered, said.grpc_status, said.status) {
            (Answered::Failed(reason), ..) => Some(CallResult::Failed(reason)),
            (_, Some(code), _) => Some(CallResult::Grpc(code)),
            (_, None, Some(status)) => Some(CallResult::Status(status)),
            (_, None, None) => None,
        };
        if result.is_none() {
            self.miss(Missing::Status);
        }
        let lasted = said.upstream.or(said.duration);
        if lasted.is_none() {
            self.miss(Missing::Duration);
        }
        let answer = result.filter(|_| said.answered != Answered::Proxy).map(|result| Answer {
            result,
            latency: lasted.map_or(USUAL_LATENCY, |lasted| lasted.min(LONGEST)),
        });
        request.logged = Logged { status: said.status, answer };
    }

    fn miss(&mut self, what: Missing) {
        self.missing[what as usize] += 1;
    }
}

/// Sets all headers. What is no value of a header was none in the request either.
fn set_headers<'s, I>(headers: &mut HeaderMap, host: HeaderValue, said: impl Fn() -> I)
where
    I: Iterator<Item = (&'s HeaderName, &'s str)>,
{
    let Err(host) = write_over(headers, host, said()) else { return };
    headers.clear();
    headers.insert(HOST, host);
    for (name, value) in said() {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
}

/// Lines of one log have mostly the same names in the same order: then values are all that is written, over those of an earlier
/// line, and nothing is hashed. Gives back the host where that is not so.
fn write_over<'s>(
    headers: &mut HeaderMap,
    host: HeaderValue,
    mut said: impl Iterator<Item = (&'s HeaderName, &'s str)>,
) -> Result<(), HeaderValue> {
    let mut places = headers.iter_mut();
    let Some((_, first)) = places.next().filter(|(name, _)| **name == HOST) else { return Err(host) };
    for (known, old) in places {
        match said.next().map(|(name, value)| (name == known, HeaderValue::from_str(value))) {
            Some((true, Ok(value))) => *old = value,
            _ => return Err(host),
        }
    }
    if said.next().is_some() {
        return Err(host);
    }
    *first = host;
    Ok(())
}

/// An address, with or without a port; of a list, as `x-forwarded-for` is one, the first.
fn address(text: &str) -> Option<SocketAddr> {
    let first = text.split(',').next()?.trim();
    let ip = |text: &str| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    first.parse().ok().or_else(|| ip(first)).or_else(|| ip(first.trim_matches(['[', ']'])))
}

/// A duration of so many seconds; none that is negative, or no number.
fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().map(|lasted| lasted.min(LONGEST))
}
