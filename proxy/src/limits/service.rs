//! Limits that a rate limit service counts, asked by Envoy's protocol.
//!
//! One connection for all questions, as with the store, and the same gate before them. A question is asked once, for its answer may be lost after it was counted.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tidegate_xds::rls::{
    self, Code, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse, RateLimitServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use super::NoAnswer;
use super::counts::Counted;
use super::gate::Gate;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer is a few headers and at most a body to refuse with.
const MAX_ANSWER: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Service {
    client: RateLimitServiceClient<Channel>,
    gate: Gate,
}

/// `HOST:PORT` was expected.
#[derive(Debug, thiserror::Error)]
#[error("{address} is no address of a rate limit service: write HOST:PORT")]
pub struct InvalidAddress {
    address: String,
}

/// What is to be counted: each descriptor is a list of keys and values, counted under what the service has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub domain: String,
    pub descriptors: Vec<Vec<(String, String)>>,
    pub hits: u32,
}

/// What the service says of all descriptors together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub allowed: bool,
    pub closest: Option<Closest>,
    pub request_headers: Vec<(HeaderName, HeaderValue)>,
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// To refuse with; empty for none.
    pub body: Vec<u8>,
}

/// The limit with the least left, of those that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closest {
    pub remaining: u32,
    pub reset: Duration,
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
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
        Ok(Self {
            client: RateLimitServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER),
            gate: Gate::new(),
        })
    }

    /// # Errors
    /// If there is no answer within `timeout`, or nobody was asked.
    pub async fn ask(&self, question: Question, timeout: Duration) -> Result<Told, NoAnswer> {
        self.gate.ask(timeout, self.call(question)).await.result
    }

    pub fn counted(&self) -> Counted {
        self.gate.counted()
    }

    /// Whether nobody is asked at the moment.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    async fn call(&self, question: Question) -> Result<Told, NoAnswer> {
        let answer = self.client.clone().should_rate_limit(question.into_request()).await;
        let answer = answer.map_err(|status| {
            tracing::debug!(%status, "the rate limit service failed");
            NoAnswer::Failed
        })?;
        read(answer.into_inner())
    }
}

impl Question {
    fn into_request(self) -> RateLimitRequest {
        let entry = |(key, value)| Entry { key, value };
        let descriptor = |entries: Vec<_>| RateLimitDescriptor {
            entries: entries.into_iter().map(entry).collect(),
            hits_addend: None,
        };
        let descriptors = self.descriptors.into_iter().map(descriptor).collect();
        RateLimitRequest { domain: self.domain, descriptors, hits_addend: self.hits }
    }
}

fn read(answer: RateLimitResponse) -> Result<Told, NoAnswer> {
    let allowed = match answer.overall_code() {
        Code::Ok => true,
        Code::OverLimit => false,
        Code::Unknown => return Err(NoAnswer::Failed),
    };
    let matched = answer.statuses.iter().filter(|status| status.current_limit.is_some());
    let closest = matched.min_by_key(|status| status.limit_remaining).map(|status| Closest {
        remaining: status.limit_remaining,
        reset: status.duration_until_reset.and_then(|reset| reset.try_into().ok()).unwrap_or_default(),
    });
    Ok(Told {
        allowed,
        closest,
        request_headers: headers(answer.request_headers_to_add),
        response_headers: headers(answer.response_headers_to_add),
        body: answer.raw_body,
    })
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
