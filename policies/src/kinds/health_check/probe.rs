//! What is asked, as written.

use std::ops::RangeInclusive;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::health::check::{HttpProbe, Probe, Statuses};
use crate::kind::CompileContext;

/// Redirects are not followed, and of a body no more than 64 KiB is read.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpSpec {
    /// With the query, if there is one: `/ready`.
    #[schemars(length(min = 1, max = 1024))]
    path: String,
    /// Default: GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<MethodSpec>,
    /// The `Host`. Default: the name that is verified by TLS, else the endpoint's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    host: Option<String>,
    /// Those of a healthy endpoint: `204` or `200-299`. Default: `200-299`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    statuses: Vec<String>,
    /// Those of an endpoint that wants no more calls: the first such answer makes it unhealthy, whatever the threshold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    draining_statuses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    headers: Vec<HeaderSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum MethodSpec {
    Get,
    Head,
    Options,
    Post,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeaderSpec {
    #[schemars(length(min = 1, max = 256))]
    name: String,
    #[schemars(length(max = 4096))]
    value: String,
}

/// `grpc.health.v1.Health/Check`: only SERVING will do.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrpcSpec {
    /// Default: the empty name, which stands for the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    service: Option<String>,
}

/// That a connection can be opened.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TcpSpec {}

const LONGEST: usize = 1024;

impl HttpSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<HttpProbe> {
        let path: Option<PathAndQuery> = self.path.parse().ok();
        if !self.path.starts_with('/') || self.path.len() > LONGEST || path.is_none() {
            cx.error(format!("{at}/path"), format!("`{}` is not a path: it begins with `/`", self.path));
        }
        let host = self.host.as_deref().and_then(|host| {
            let fits = host.parse::<Authority>().is_ok() && !host.contains('@');
            if !fits {
                cx.error(
                    format!("{at}/host"),
                    format!("`{host}` is not a host: write `name` or `name:port`"),
                );
            }
            HeaderValue::try_from(host).ok()
        });
        let passing = self.statuses.iter().enumerate();
        let passing = passing.filter_map(|(i, text)| statuses(&format!("{at}/statuses/{i}"), text, cx));
        let mut passing = Statuses(passing.collect());
        if self.statuses.is_empty() {
            passing = Statuses(vec![200..=299]);
        }
        let draining = self.draining_statuses.iter().enumerate();
        let draining =
            draining.filter_map(|(i, text)| statuses(&format!("{at}/drainingStatuses/{i}"), text, cx));
        let draining = Statuses(draining.collect());
        self.overlap(at, (&passing, &draining), cx);
        let headers = self.headers.iter().enumerate();
        let headers = headers.filter_map(|(i, header)| header.compile(&format!("{at}/headers/{i}"), cx));
        let headers = headers.collect();
        let method = match self.method.unwrap_or(MethodSpec::Get) {
            MethodSpec::Get => Method::GET,
            MethodSpec::Head => Method::HEAD,
            MethodSpec::Options => Method::OPTIONS,
            MethodSpec::Post => Method::POST,
        };
        path?;
        Some(HttpProbe {
            method,
            path: self.path.as_str().into(),
            host,
            headers,
            statuses: passing,
            draining,
        })
    }

    /// A status cannot say two things.
    fn overlap(&self, at: &str, (passing, draining): (&Statuses, &Statuses), cx: &mut CompileContext<'_>) {
        for (i, range) in draining.0.iter().enumerate() {
            if let Some(both) = range.clone().find(|status| passing.contains(*status)) {
                let fault = format!("{both} is among `statuses` too: leave it out of one of them");
                cx.error(format!("{at}/drainingStatuses/{i}"), fault);
            }
        }
    }
}

impl HeaderSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<(HeaderName, HeaderValue)> {
        let name = HeaderName::try_from(&*self.name).ok();
        let Some(name) = name else {
            cx.error(format!("{at}/name"), format!("`{}` is not a header name", self.name));
            return None;
        };
        if [CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE].contains(&name) {
            let fix = if name == HOST { "write `host`" } else { "leave it out" };
            cx.error(format!("{at}/name"), format!("`{name}` is set by the proxy: {fix}"));
        }
        let value = HeaderValue::try_from(&*self.value).ok();
        if value.is_none() {
            cx.error(format!("{at}/value"), "not a header value: use visible ASCII characters and spaces");
        }
        Some((name, value?))
    }
}

impl GrpcSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Probe {
        let service: Arc<str> = self.service.as_deref().unwrap_or_default().into();
        if service.len() > LONGEST {
            cx.error(format!("{at}/service"), format!("longer than {LONGEST} bytes"));
        }
        Probe::Grpc { service }
    }
}

/// `204` or `200-299`; an answer's final status is never below 200.
fn statuses(at: &str, text: &str, cx: &mut CompileContext<'_>) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let plain = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten().filter(|status| (200..=599).contains(status))
    };
    let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
    if range.is_none() {
        let fix = "write `204` or `200-299`, from 200 to 599";
        cx.error(at, format!("`{text}` is not a status or a range: {fix}"));
    }
    range.map(|(first, last)| first..=last)
}
