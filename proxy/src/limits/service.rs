//! Limits that a rate limit service counts, asked by Envoy's protocol: one endpoint of it.
//!
//! One connection for all questions, as with the store, and the same gate before them. A question is asked once, for its
//! answer may be lost after it was counted. Who is given up gets a new connection when he is asked again: the old one may
//! lead nowhere, and pings that would tell are held against their sender by many a server.

use std::error::Error as _;
use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tidegate_policy::pipeline::{Answer, Ask, Said, ServiceLimit};
use tidegate_xds::rls::{
    self, Code, DescriptorStatus, Entry, RateLimit, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
    RateLimitServiceClient, Unit,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::NoAnswer;
use super::counts::Counted;
use super::gate::{Asked, Gate};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer is a few headers and at most a body to refuse with.
const MAX_ANSWER: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Service {
    endpoint: Endpoint,
    client: Mutex<Client>,
    gate: Gate,
}

type Client = RateLimitServiceClient<Channel>;

/// `HOST:PORT` was expected.
#[derive(Debug, thiserror::Error)]
#[error("{address} is no address of a rate limit service: write HOST:PORT")]
pub struct InvalidAddress {
    address: String,
}

impl Service {
    /// Connects when something is first asked. Within a runtime only.
    ///
    /// # Errors
    /// If `address` is not `HOST:PORT`.
    pub fn new(address: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress { address: address.to_owned() };
        let authority: http::uri::Authority = address.parse().map_err(|_| invalid())?;
        authority.port_u16().ok_or_else(invalid)?;
        let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| invalid())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        Ok(Self { client: Mutex::new(client(&endpoint)), endpoint, gate: Gate::new() })
    }

    /// # Errors
    /// If there is no answer within `timeout`, or nobody was asked.
    pub async fn ask(&self, question: &Ask, timeout: Duration) -> Result<Answer, NoAnswer> {
        let Asked { result, given_up } = self.gate.ask(timeout, self.call(question)).await;
        if given_up {
            *self.client.lock() = client(&self.endpoint);
        }
        result
    }

    pub fn counted(&self) -> Counted {
        self.gate.counted()
    }

    /// Whether nobody is asked at the moment.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    async fn call(&self, question: &Ask) -> Result<Answer, NoAnswer> {
        let mut client = self.client.lock().clone();
        let answer = client.should_rate_limit(request(question)).await;
        let answer = answer.map_err(|status| {
            tracing::debug!(%status, "the rate limit service failed");
            if was_refused(&status) { NoAnswer::Unreachable } else { NoAnswer::Failed }
        })?;
        read(answer.into_inner())
    }
}

/// Over a connection of its own, made when something is first asked.
fn client(endpoint: &Endpoint) -> Client {
    Client::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER)
}

/// Whether there was nobody to connect to, so that nothing was asked.
fn was_refused(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if error.downcast_ref().is_some_and(refused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Where limits cost differently, each descriptor says what it costs. A service that knows one number for all only is told
/// the largest, and counts no less than was spent.
fn request(question: &Ask) -> RateLimitRequest {
    let hits = || question.descriptors.iter().map(|descriptor| descriptor.hits);
    let most = hits().max().unwrap_or(1);
    let alike = hits().all(|hits| hits == most);
    let descriptors = question.descriptors.iter().map(|descriptor| {
        let entry = |(key, value): &(Arc<str>, String)| Entry { key: key.to_string(), value: value.clone() };
        RateLimitDescriptor {
            entries: descriptor.entries.iter().map(entry).collect(),
            hits_addend: (!alike).then_some(descriptor.hits.into()),
        }
    });
    let descriptors = descriptors.collect();
    RateLimitRequest { domain: question.domain.to_string(), descriptors, hits_addend: most }
}

fn read(answer: RateLimitResponse) -> Result<Answer, NoAnswer> {
    let allowed = match answer.overall_code() {
        Code::Ok => true,
        Code::OverLimit => false,
        Code::Unknown => return Err(NoAnswer::Failed),
    };
    Ok(Answer {
        allowed,
        said: answer.statuses.into_iter().map(said).collect(),
        request_headers: headers(answer.request_headers_to_add),
        response_headers: headers(answer.response_headers_to_add),
        body: answer.raw_body.into(),
    })
}

fn said(status: DescriptorStatus) -> Said {
    let allowed = status.code() != Code::OverLimit;
    let reset = status.duration_until_reset.and_then(|reset| reset.try_into().ok());
    let limit = status.current_limit.map(|limit| ServiceLimit {
        quota: quota(&limit),
        remaining: status.limit_remaining,
        reset,
    });
    Said { allowed, limit }
}

/// A month is one of 30 days here, and a year one of 365.
fn quota(limit: &RateLimit) -> Option<(NonZeroU32, Duration)> {
    const DAY: u64 = 24 * 3600;
    let seconds = match limit.unit() {
        Unit::Unknown => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3600,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    };
    Some((NonZeroU32::new(limit.requests_per_unit)?, Duration::from_secs(seconds)))
}

/// Those that can be sent: a service must not be able to break a message.
fn headers(written: Vec<rls::HeaderValue>) -> Vec<(HeaderName, HeaderValue)> {
    let header = |written: rls::HeaderValue| {
        let name = written.key.parse().ok()?;
        let value = if written.raw_value.is_empty() { written.value.into() } else { written.raw_value };
        Some((name, HeaderValue::try_from(value).ok()?))
    };
    written.into_iter().filter_map(header).collect()
}
