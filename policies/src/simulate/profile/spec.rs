use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::objects::GepDuration;

/// A profile of traffic.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileSpec {
    /// What it is about.
    pub about: Option<String>,
    pub duration: GepDuration,
    /// Who sends requests.
    #[schemars(length(min = 1, max = 64))]
    pub clients: Vec<ClientSpec>,
    /// How backends answer. Without it: 200 after 10ms.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub backends: Vec<BackendSpec>,
}

/// Requests of one kind.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSpec {
    /// `GET http://host/path?query`; with `GRPC` for the method, a call of `/service/method`. `{key}` in it, and in the value of
    /// a header, stands for the key of the request.
    pub request: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Requests per second.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub rate: f64,
    /// The rate from these times on, in place of `rate`; in between it goes in a line from one to the next.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub rates: Vec<RateSpec>,
    /// How far apart they are. Default: Poisson.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Comes in bursts, and not at all in between.
    pub bursts: Option<BurstSpec>,
    pub key: Option<KeySpec>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSpec {
    pub at: GepDuration,
    #[schemars(range(min = 0, max = 1_000_000))]
    pub rate: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Arrivals {
    /// Independent of each other.
    #[default]
    Poisson,
    /// Always as far apart.
    Even,
}

/// On and off, each for an exponentially distributed time.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BurstSpec {
    /// How long a burst lasts on average.
    pub on: GepDuration,
    /// How long nothing comes on average.
    pub off: GepDuration,
}

/// Whose a request is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySpec {
    /// How many there are.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub count: u32,
    /// How uneven they are: the exponent of Zipf's law, 0 for all alike. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10))]
    pub zipf: f64,
    /// A key is this and its rank, from 1. Default: `key-`.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Each key is an address of a client of its own.
    #[serde(default)]
    pub client_address: bool,
}

/// How the endpoints of a backend answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendSpec {
    /// `namespace/name:port`; `*` for all that have no entry.
    pub backend: String,
    #[serde(default)]
    pub latency: LatencySpec,
    /// How many requests fail, in percent.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub fail_percent: f64,
    /// What they are answered with then. Default: 503.
    #[schemars(range(min = 400, max = 599))]
    pub fail_status: Option<u16>,
    /// No connection is to be had from then to then.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub outages: Vec<OutageSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum LatencySpec {
    Fixed { after: GepDuration },
    Exponential { mean: GepDuration },
    Lognormal { median: GepDuration, p99: GepDuration },
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutageSpec {
    pub from: GepDuration,
    pub to: GepDuration,
}

impl Default for LatencySpec {
    fn default() -> Self {
        Self::Fixed { after: "10ms".parse().unwrap_or_default() }
    }
}

fn one() -> f64 {
    1.0
}

fn prefix() -> String {
    String::from("key-")
}

impl ProfileSpec {
    /// What the schema cannot say, each with its JSON pointer.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |at: String, what: &str| faults.push((at, what.to_owned()));
        if self.duration.get().is_zero() {
            fault(String::from("/duration"), "nothing comes in no time: write 1m");
        }
        for (i, client) in self.clients.iter().enumerate() {
            if client.rates.windows(2).any(|pair| pair[0].at.get() >= pair[1].at.get()) {
                fault(format!("/clients/{i}/rates"), "each must be later than the one before");
            }
            if client.bursts.is_some_and(|bursts| bursts.on.get().is_zero()) {
                fault(format!("/clients/{i}/bursts/on"), "a burst takes some time: write 1s");
            }
        }
        for (i, backend) in self.backends.iter().enumerate() {
            if self.backends[..i].iter().any(|other| other.backend == backend.backend) {
                fault(format!("/backends/{i}/backend"), "has an entry already");
            }
            if let LatencySpec::Lognormal { median, p99 } = backend.latency
                && (median.get().is_zero() || p99.get() < median.get())
            {
                fault(format!("/backends/{i}/latency"), "p99 is not below median, and median is not 0");
            }
            for (j, outage) in backend.outages.iter().enumerate() {
                if outage.to.get() <= outage.from.get() {
                    fault(format!("/backends/{i}/outages/{j}"), "`to` must be later than `from`");
                }
            }
        }
        faults
    }
}
