use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::objects::GepDuration;

/// A file of cases.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaseFile {
    /// What the file is about.
    pub about: Option<String>,
    /// Holds for every case of the file.
    #[serde(default)]
    pub given: Given,
    #[schemars(length(min = 1))]
    pub cases: Vec<Case>,
}

/// One statement about the objects, the requests, or both.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// Where it is written that it must be so.
    pub source: Option<String>,
    /// Beside what is given for the file. An object takes the place of one of the same kind and name.
    #[serde(default)]
    pub given: Given,
    /// What is to be said about the objects.
    #[serde(default)]
    pub then: ThenObjects,
    /// In their order, on one clock and with one memory.
    #[serde(default)]
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Given {
    /// Files of objects, relative to this one.
    pub files: Vec<String>,
    /// Objects as they are written for Kubernetes.
    pub objects: Vec<Value>,
    /// Requests are sent by a workload of this namespace, through its sidecar.
    pub caller: Option<CallerSpec>,
    /// Requests arrive at a workload of these Services (`namespace/name`), through its sidecar.
    pub serving: Vec<String>,
    pub peer: Option<PeerSpec>,
    /// The zone of the proxy.
    pub zone: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallerSpec {
    pub namespace: String,
}

/// Who sends the requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerSpec {
    /// `ip:port`.
    pub address: Option<SocketAddrSpec>,
    /// A SPIFFE id, as mTLS would have verified it.
    pub identity: Option<String>,
}

/// `ip:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SocketAddrSpec(pub SocketAddr);

impl JsonSchema for SocketAddrSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SocketAddr".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^\\[?[0-9a-fA-F.:]+\\]?:[0-9]{1,5}$"})
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ThenObjects {
    /// By `Kind name`, `Kind namespace/name` or `Listener gateway/name`: the reason of each type of condition. For a
    /// listener also `attachedRoutes`.
    pub conditions: BTreeMap<String, BTreeMap<String, String>>,
    /// A part of each error that refuses an object. Without it, all objects are valid.
    pub errors: Vec<String>,
}

/// One request, or many alike.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `GET http://host[:port]/path?query`; with `GRPC` for the method, a call of `/service/method`. At a gateway the
    /// port is that of the listener.
    pub when: String,
    /// `{n}` in a value stands for the number of the request, from 0.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The name that the client showed when it opened its TLS connection.
    pub sni: Option<String>,
    /// Where the caller's connection was going, if not by its host: `ip:port`.
    pub to: Option<SocketAddrSpec>,
    /// Since the beginning of the case; as long as nothing is said, no time passes.
    pub at: Option<GepDuration>,
    /// What health checks find before the request.
    #[serde(default)]
    pub checks: Vec<FoundSpec>,
    /// The same request so many times.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 100_000))]
    pub times: u32,
    /// What backends answer, one attempt after the other; the last for all that follow. Without it: 200.
    #[serde(default)]
    pub answers: Vec<AnswerSpec>,
    /// Endpoints (`address:port`) that refuse connections.
    #[serde(default)]
    pub down: Vec<String>,
    #[serde(default)]
    pub then: Then,
}

/// What one check finds of one endpoint: failures, then passes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundSpec {
    /// Its name in the policy.
    pub check: String,
    /// `ip:port`.
    pub endpoint: String,
    #[serde(default)]
    pub fails: u32,
    #[serde(default)]
    pub passes: u32,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AnswerSpec {
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// `grpc-status`.
    pub grpc: Option<u8>,
    pub headers: BTreeMap<String, String>,
    /// No answer at all.
    pub fails: Option<FailureSpec>,
    /// How long it takes.
    pub after: Option<GepDuration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FailureSpec {
    /// The connection is refused.
    Refused,
    /// The connection ends before an answer.
    Reset,
}

/// What comes of a request. What is not written is not compared.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Then {
    /// `namespace/name` of the route.
    pub route: Option<String>,
    /// Its rule, by name or number.
    pub rule: Option<String>,
    /// The backend that is called: `name`, `name:port`, `namespace/name` or all.
    pub backend: Option<String>,
    /// Of many requests: percent by backend, or by status where none is called. Within three points; 0 and 100 exactly.
    pub shares: BTreeMap<String, f64>,
    /// The endpoint that was called last: `address:port`.
    pub endpoint: Option<String>,
    /// Of many requests: percent by the endpoint that was called last. As exact as `shares`.
    pub endpoints: BTreeMap<String, f64>,
    pub status: Option<u16>,
    /// Why the mesh answers in the backend's place, as in the access log: `no_route`.
    pub reason: Option<String>,
    /// `grpc-status`.
    pub grpc: Option<u8>,
    /// Of the response. Several fields of a name are joined with commas.
    pub headers: BTreeMap<String, String>,
    /// Headers that the response does not have.
    pub without: Vec<String>,
    pub location: Option<String>,
    /// As the backend sees it.
    pub request: Option<ThenRequest>,
    /// Backends that get a copy of the request.
    pub mirrors: Option<Vec<String>>,
    /// How often a backend was asked.
    pub attempts: Option<u32>,
    /// Every word of a policy, in order: `Kind namespace/name rule: outcome detail`. The end may be left out.
    pub decisions: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ThenRequest {
    /// With its query.
    pub path: Option<String>,
    pub host: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub without: Vec<String>,
}

const fn once() -> u32 {
    1
}
