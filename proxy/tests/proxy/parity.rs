//! The evaluator that cases, simulations and explanations use decides as a real proxy does: generated documents, and
//! generated requests that are sent through both, with one clock and the same numbers of chance.
//!
//! What is compared of each: route, rule, backend, endpoint, attempts, status, reason, and every decision with policy, rule, line,
//! outcome and detail.

mod documents;
mod live;
mod requests;
mod told;

use fastrand::Rng;
use tidegate_policy::Timestamp;

use documents::Documents;
use live::{Backends, Live};
use requests::{Request, requests};
use told::Evaluator;

/// What came of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    status: u16,
    reason: Option<String>,
    route: Option<String>,
    rule: Option<String>,
    backend: Option<String>,
    endpoint: Option<String>,
    attempts: u32,
    decisions: Vec<String>,
}

/// How often which things came out, so that nobody compares nothing with nothing.
#[derive(Debug, Default)]
struct Seen {
    /// One for each set in which there is any.
    differences: Vec<String>,
    requests: usize,
    routed: usize,
    refused: usize,
    retried: usize,
    decided: usize,
    kinds: std::collections::BTreeMap<String, usize>,
    statuses: std::collections::BTreeMap<u16, usize>,
}

const START: Timestamp = Timestamp::from_millis(1_000_000);

impl Seen {
    fn note(&mut self, outcome: &Outcome) {
        self.requests += 1;
        self.routed += usize::from(outcome.rule.is_some());
        self.refused += usize::from(outcome.reason.is_some());
        self.retried += usize::from(outcome.attempts > 1);
        self.decided += usize::from(!outcome.decisions.is_empty());
        *self.statuses.entry(outcome.status).or_default() += 1;
        for said in &outcome.decisions {
            let kind = said.split(' ').next().unwrap_or_default();
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
}

/// One set of documents, and so many requests through both, up to the first difference.
fn compare(set: u64, many: usize, backends: &Backends, seen: &mut Seen) {
    let mut rng = Rng::with_seed(set);
    let documents = Documents::generate(&mut rng, backends);
    let all = requests(&mut rng, &documents, many);
    let mut evaluator = Evaluator::new(&documents, backends);
    let mut live = Live::start(&documents, (&evaluator, backends), set);
    let mut now = START;
    for (number, request) in all.iter().enumerate() {
        now = now + request.after;
        live.clock.set(now);
        let id = format!("{set}-{number}");
        let (seed, peer) = live.next();
        let told = evaluator.tell(request, &id, (seed, peer), now);
        let lived = live.send(request, &id);
        if told != lived {
            let both = format!("{request:#?}\ntold:  {told:#?}\nlived: {lived:#?}");
            seen.differences.push(format!("set {set}, request {number} {both}\n{}", documents.text));
            break;
        }
        seen.note(&told);
    }
    backends.forget();
}

fn run(sets: std::ops::Range<u64>, many: usize) -> Seen {
    let (backends, mut seen) = (Backends::start(), Seen::default());
    for set in sets {
        compare(set, many, &backends, &mut seen);
    }
    let shown: Vec<_> = seen.differences.iter().take(5).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} sets differ:\n{}", seen.differences.len(), shown.join("\n=====\n"));
    seen
}

#[test]
fn the_evaluator_decides_as_a_real_proxy_does() {
    let seen = run(0..60, 60);
    assert_eq!(seen.requests, 3_600);
    // The generator may change; that there is something to compare may not.
    assert!(
        seen.routed > 1_500 && seen.refused > 300 && seen.retried > 20 && seen.decided > 1_000,
        "{seen:?}"
    );
    for kind in [
        "RateLimitPolicy",
        "AuthorizationPolicy",
        "FaultPolicy",
        "RetryPolicy",
        "CohortPolicy",
        "OverloadPolicy",
    ] {
        assert!(seen.kinds.contains_key(kind), "{kind} has never said anything: {seen:?}");
    }
}

#[test]
#[ignore = "100 000 requests take minutes; run with --ignored"]
fn of_a_hundred_thousand_requests_none_is_decided_otherwise() {
    let begun = std::time::Instant::now();
    let seen = run(1_000..1_400, 250);
    assert_eq!(seen.requests, 100_000);
    eprintln!("{:?} for {seen:#?}", begun.elapsed());
}

impl Request {
    /// As it is sent: the headers of a client.
    fn fields(&self, id: &str) -> Vec<(String, String)> {
        let own = [("x-request-id", id), ("x-tidegate-explain", "1"), ("x-answers", &self.answers)];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        own.chain(self.headers.iter().cloned()).collect()
    }
}
