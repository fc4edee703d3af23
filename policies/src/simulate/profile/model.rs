use std::collections::BTreeMap;
use std::time::Duration;

use super::draw;
use super::spec::{BackendSpec, LatencySpec, OutageSpec};
use crate::decision::CallResult;
use crate::reason::Reason;
use crate::story::{Answer, Call};
use crate::time::Timestamp;

/// How each backend answers.
#[derive(Debug)]
pub struct Models {
    named: BTreeMap<Box<str>, Model>,
    others: Model,
}

#[derive(Clone, Debug, Default)]
struct Model {
    latency: LatencySpec,
    fails: f64,
    status: u16,
    outages: Vec<OutageSpec>,
}

/// Of the normal distribution: so many deviations above the mean lies the 99th percentile.
const P99: f64 = 2.326_347_874;

impl Models {
    pub(super) fn new(specs: &[BackendSpec]) -> Self {
        let mut named: BTreeMap<Box<str>, Model> =
            specs.iter().map(|spec| (spec.backend.as_str().into(), Model::new(spec))).collect();
        let others = named.remove("*").unwrap_or_default();
        Self { named, others }
    }

    /// What it answers to this attempt, of traffic that began then.
    pub(crate) fn answer(&self, call: &Call<'_>, began: Timestamp, rng: &mut fastrand::Rng) -> Answer {
        let model = self.named.get(&*call.backend.label).unwrap_or(&self.others);
        let since = call.now.since(began);
        let out = |outage: &OutageSpec| (outage.from.get()..outage.to.get()).contains(&since);
        if model.outages.iter().any(out) {
            return Answer { result: CallResult::Failed(Reason::ConnectFailed), latency: Duration::ZERO };
        }
        let fails = model.fails > 0.0 && rng.f64() < model.fails;
        let result = match (fails, call.grpc) {
            (false, false) => CallResult::Status(200),
            (false, true) => CallResult::Grpc(0),
            (true, false) => CallResult::Status(model.status),
            // UNAVAILABLE
            (true, true) => CallResult::Grpc(14),
        };
        Answer { result, latency: model.latency(rng) }
    }
}

impl Model {
    fn new(spec: &BackendSpec) -> Self {
        Self {
            latency: spec.latency,
            fails: spec.fail_percent / 100.0,
            status: spec.fail_status.unwrap_or(503),
            outages: spec.outages.clone(),
        }
    }

    fn latency(&self, rng: &mut fastrand::Rng) -> Duration {
        match self.latency {
            LatencySpec::Fixed { after } => after.get(),
            LatencySpec::Exponential { mean } => {
                draw::duration(draw::exponential(mean.get().as_secs_f64(), rng))
            }
            LatencySpec::Lognormal { median, p99 } => {
                let (median, p99) = (median.get().as_secs_f64(), p99.get().as_secs_f64());
                let deviation = (p99 / median).ln() / P99;
                draw::duration(median * (deviation * draw::normal(rng)).exp())
            }
        }
    }
}
