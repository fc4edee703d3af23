//! Why a request goes where it goes: the same evaluation as in production, told step by step.
//!
//! Nothing is decided here. Routing, policies and the call are those of [`crate::story`]; what competes and what is
//! overridden is read from the same indexes.

mod call;
mod policies;
mod question;
mod render;
mod routing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;

use crate::Timestamp;
use crate::decision::{CallResult, Said};
use crate::snapshot::Rule;
use crate::story::{Answer, Asked, Call, Step, Story, Teller, Told, World};

pub use call::{BackendSaid, CallSaid, Setting};
pub(crate) use policies::is_filter;
pub use policies::{Overridden, PolicySaid};
pub use question::{InvalidQuestion, Question, Side, peer};
pub use routing::{MatchSaid, Rival, Routing};

/// The beginning of the story: any number that is not zero, so that nothing may take it for one.
const START: Timestamp = Timestamp::from_millis(1_000_000);
/// The same on the wall: the beginning of 2026.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// Everything about one request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `GET http://shop.example.com/cart`, as it is matched.
    pub request: String,
    pub routing: Routing,
    /// In the order in which they have a word.
    pub policies: Vec<PolicySaid>,
    /// Attached on the way, but without effect.
    pub overridden: Vec<Overridden>,
    /// Absent where nothing is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<CallSaid>,
    /// All that the rule leads to.
    pub backends: Vec<BackendSaid>,
    pub status: u16,
    /// Why the mesh answers; absent where the backend does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    pub decisions: Vec<Said>,
}

/// Explains a request that comes to a proxy on which nothing else is under way, and whose backends answer 200 at once.
///
/// # Errors
/// The question makes no sense.
pub fn explain(world: &World, question: &Question, seed: u64) -> Result<Explanation, InvalidQuestion> {
    let (head, asked) = question.asked(&world.snapshot)?;
    let request = format!("{} {}://{}{}", head.method, question.scheme(), question.host(), head.uri);
    let mut story = Story::new(question.peer.clone());
    *story.head = head.clone();
    tell(world, &mut story, &asked, seed);
    let told = &story.told;
    let contest = world.snapshot.contest(asked.scope, &head);
    let rule = told.selected.as_ref().map(|selected| &selected.rule);
    let routing = Routing::of(&contest, rule, &head);
    let (policies, overridden) = match &told.selected {
        Some(selected) => policies::of(world, question, &contest, selected, &told.decisions),
        None => (Vec::new(), Vec::new()),
    };
    let target = told.selected.as_ref().map(|selected| selected.target());
    Ok(Explanation {
        request,
        routing,
        policies,
        overridden,
        call: target.map(CallSaid::of),
        backends: rule.map(|rule| backends(rule, told)).unwrap_or_default(),
        status: told.response.status.as_u16(),
        reason: told.reason.map(crate::Reason::flag),
        decisions: told.decisions.iter().map(Said::from).collect(),
    })
}

fn tell(world: &World, story: &mut Story, asked: &Asked<'_>, seed: u64) {
    let mut teller = Teller {
        snapshot: &world.snapshot,
        epoch: EPOCH - START.since(Timestamp::ZERO),
        connects: true,
        rng: fastrand::Rng::with_seed(seed),
    };
    let mut well = |call: &Call<'_>, _: &mut HeaderMap| {
        let result = if call.grpc { CallResult::Grpc(0) } else { CallResult::Status(200) };
        Answer { result, latency: Duration::ZERO }
    };
    let mut now = START;
    let mut next = teller.begin(story, asked, now, &mut well);
    loop {
        match next {
            Step::Done => break,
            Step::Waits(then) | Step::Until(then) => now = now.max(then),
            // Nobody else is under way.
            Step::Turn(ticket) => ticket.give_up(),
        }
        next = teller.resume(story, now, &mut well);
    }
    story.conclude();
}

fn backends(rule: &Rule, told: &Told) -> Vec<BackendSaid> {
    let picked = told.selected.as_ref().map(|selected| selected.position());
    let total: u64 = rule.targets.iter().map(|target| u64::from(target.weight)).sum();
    let one =
        |(at, target): (usize, &_)| BackendSaid::of(target, total, (picked == Some(at)).then_some(told));
    rule.targets.iter().enumerate().map(one).collect()
}
