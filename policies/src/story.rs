//! The story of a request, as the proxy tells it, without any I/O: routing, the [`pipeline`], then attempts by [`call`]
//! until one is the answer. Only backends are played, see [`Backends`].
//!
//! A story is told in steps, for its caller has the clock: [`Teller::begin`], then [`Teller::resume`] at the time that each
//! [`Step`] names. Between them other stories go on, and what this one holds (places, permits, turns) it holds. A case tells
//! one at a time; a replay has many under way.
//!
//! [`call`]: crate::call
//! [`pipeline`]: crate::pipeline

mod attempt;
mod backends;
#[cfg(test)]
mod tests;
mod told;
mod world;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, request};
use smallvec::SmallVec;

use crate::balance::EndpointState;
use crate::call::{Allowed, RetryPermit};
use crate::jwt::Claims;
use crate::model::{AppProtocol, Peer};
use crate::overload::Ticket;
use crate::pick::PickContext;
use crate::pipeline::{
    self, ConnectionContext, Effect, Flow, Held, Performed, Progress, RequestContext, Stop,
};
use crate::snapshot::{Rule, Scope, Selected, Snapshot};
use crate::time::Timestamp;
use crate::{Decision, Reason};

use attempt::Calling;
pub use backends::{Answer, Backends, Call};
pub use told::Told;
pub use world::World;

/// The port of every sidecar.
const INBOUND: u16 = 8080;

/// Tells stories that happen at one proxy.
#[derive(Debug)]
pub struct Teller<'w> {
    pub snapshot: &'w Snapshot,
    /// Since the Unix epoch, at [`Timestamp::ZERO`].
    pub epoch: Duration,
    /// Each request comes to a sidecar over a connection of its own, which is judged too.
    pub connects: bool,
    pub rng: fastrand::Rng,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub scope: Scope,
    /// The name that the client showed when it opened its TLS connection.
    pub sni: Option<&'a str>,
    pub grpc: bool,
}

/// Where a story stands.
#[derive(Debug)]
#[must_use = "a story that nobody resumes holds what it has for ever"]
pub enum Step {
    Done,
    /// A policy holds the request back until then.
    Waits(Timestamp),
    /// It waits for its turn; see [`Ticket`]. Whoever has waited long enough says so to the ticket, then resumes.
    Turn(Ticket),
    /// The next thing happens then: the end of an attempt, or the beginning of another one.
    Until(Timestamp),
}

/// One request on its way. Its buffers are kept for the next one.
#[derive(Debug)]
pub struct Story {
    /// As the proxy has read it, then as policies have changed it: at the end, what the last attempt sent.
    pub head: Box<request::Parts>,
    pub peer: Peer,
    pub told: Told,
    grpc: bool,
    outside: bool,
    wanted: HeaderMap,
    progress: Progress,
    claims: Option<Arc<Claims>>,
    held: Vec<Box<dyn Held>>,
    /// What the filters wait for.
    waits: Option<Waits>,
    /// Up to when they have waited.
    waited: Timestamp,
    /// How long the whole request may take, and when that is over.
    allowed: Option<Allowed>,
    ends: Option<Timestamp>,
    calling: Option<Calling>,
    failed: bool,
    retry: Option<RetryPermit>,
    /// Attempts after the first.
    retries: u32,
    tried: SmallVec<[Arc<EndpointState>; 2]>,
}

#[derive(Debug)]
enum Waits {
    For(Timestamp),
    Turn(Ticket),
}

impl Story {
    /// Without a request yet.
    pub fn new(peer: Peer) -> Self {
        Self {
            head: Box::new(Request::new(()).into_parts().0),
            peer,
            told: Told::new(),
            grpc: false,
            outside: false,
            wanted: HeaderMap::new(),
            progress: Progress::default(),
            claims: None,
            held: Vec::new(),
            waits: None,
            waited: Timestamp::ZERO,
            allowed: None,
            ends: None,
            calling: None,
            failed: false,
            retry: None,
            retries: 0,
            tried: SmallVec::new(),
        }
    }

    /// Whether the last attempt failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// What the rule of a decision counts this request under, for people; `None` where it tells none apart.
    pub fn key_of(&self, decision: &Decision) -> Option<String> {
        let selected = self.told.selected.as_ref()?;
        let (rule, route) = (&decision.rule, selected.rule.route.as_deref());
        let filters = selected.target().filters.iter();
        filters.filter_map(|filter| filter.key_text(rule, (&self.head, &self.peer), route)).next()
    }

    /// Leaves the response as the client would see it: what policies want on it is there. For those who look at it.
    pub fn conclude(&mut self) {
        let Some(rule) = self.told.selected.as_ref().map(|selected| selected.rule.clone()) else { return };
        let filters = self.filters(&rule);
        pipeline::conclude(filters, self.progress, std::mem::take(&mut self.wanted), &mut self.told.response);
    }

    fn clear(&mut self, asked: &Asked<'_>) {
        self.told.clear();
        told::empty(&mut self.wanted);
        (self.grpc, self.outside) = (asked.grpc, matches!(asked.scope, Scope::Gateway(_)));
        (self.progress, self.claims, self.waits, self.ends) = (Progress::default(), None, None, None);
        (self.allowed, self.waited, self.retries) = (None, Timestamp::ZERO, 0);
        self.failed = false;
        self.release();
    }

    /// Gives back what it holds of others.
    fn release(&mut self) {
        self.held.clear();
        (self.calling, self.retry) = (None, None);
        self.tried.clear();
    }

    fn filters<'r>(&self, rule: &'r Rule) -> &'r [Arc<dyn pipeline::Filter>] {
        let target = self.told.selected.as_ref().and_then(|selected| rule.targets.get(selected.position()));
        target.map_or(&[], |target| &target.filters)
    }
}

impl Teller<'_> {
    /// Begins the story of the request that [`Story::head`] and [`Story::peer`] say.
    pub fn begin(
        &mut self,
        story: &mut Story,
        asked: &Asked<'_>,
        now: Timestamp,
        backends: &mut impl Backends,
    ) -> Step {
        story.clear(asked);
        match self.route(story, asked, now) {
            Ok(selected) => story.told.selected = Some(selected),
            Err(reason) => {
                story.told.refused(reason.into(), asked.grpc);
                return Step::Done;
            }
        }
        self.judge(story, now, None, backends)
    }

    /// Goes on with it, at the time that its last step named. A request that a policy held back may go on earlier: then the
    /// policy alone sees the later time.
    pub fn resume(&mut self, story: &mut Story, now: Timestamp, backends: &mut impl Backends) -> Step {
        let performed = match story.waits.take() {
            Some(Waits::For(until)) => {
                story.waited = until;
                Some(Performed::Waited)
            }
            Some(Waits::Turn(ticket)) => Some(Performed::Turned(ticket)),
            None => None,
        };
        if performed.is_some() {
            return self.judge(story, now, performed, backends);
        }
        let next = if story.calling.is_some() {
            let next = self.ended(story, now);
            story.calling = None;
            next
        } else {
            self.attempt(story, now, backends).map(Some).map_err(Stop::Refused)
        };
        Self::settled(story, next, now)
    }

    /// What is left to be done once nothing follows.
    fn settled(story: &mut Story, next: Result<Option<Step>, Stop>, now: Timestamp) -> Step {
        match next {
            Ok(Some(step)) => return step,
            Ok(None) => {}
            Err(Stop::Refused(reply)) => story.told.refused(reply, story.grpc),
            Err(Stop::Answered(reply)) => {
                story.told.response.status = reply.status;
                story.told.response.headers.extend(reply.headers);
            }
        }
        pipeline::answered(&mut story.held, &story.told.response, now);
        story.release();
        Step::Done
    }

    fn route(&mut self, story: &mut Story, asked: &Asked<'_>, now: Timestamp) -> Result<Selected, Reason> {
        let snapshot = self.snapshot;
        let (scope, epoch) = (asked.scope, self.epoch);
        if let (Scope::Gateway(bind), Some(name)) = (scope, asked.sni)
            && snapshot.is_misdirected(bind, name, &story.head)
        {
            return Err(Reason::Misdirected);
        }
        if let Scope::OutboundTo(address) = scope
            && !snapshot.serves(address)
        {
            return Ok(Selected::passthrough(address, AppProtocol::Http1));
        }
        let (peer, decisions) = (&story.peer, &mut story.told.decisions);
        if scope == Scope::Inbound && self.connects {
            let port = INBOUND;
            let mut cx = ConnectionContext { peer, port, server_name: None, carried: false, now, decisions };
            let gate = snapshot.gate(scope, None);
            pipeline::on_connection(&gate, &mut cx).map_err(|cut| cut.reason)?;
        }
        let mut cx = PickContext {
            head: &story.head,
            peer,
            secure: asked.sni.is_some(),
            unix: &|| epoch + now.since(Timestamp::ZERO),
            rng: &mut self.rng,
            decisions,
            response_headers: &mut story.wanted,
        };
        Selected::pick(snapshot.find(scope, &story.head)?, &mut cx)
    }

    /// Runs the filters until one waits, or stops the request, or all have let it pass.
    fn judge(
        &mut self,
        story: &mut Story,
        now: Timestamp,
        performed: Option<Performed>,
        backends: &mut impl Backends,
    ) -> Step {
        let passed = match self.filtered(story, now, performed) {
            Ok(None) => self.forward(story, now).map_err(Stop::Refused),
            Ok(Some(step)) => return step,
            Err(stop) => Err(stop),
        };
        let next = match passed {
            Ok(()) => self.attempt(story, now, backends).map(Some).map_err(Stop::Refused),
            Err(stop) => Err(stop),
        };
        Self::settled(story, next, now)
    }

    fn filtered(
        &mut self,
        story: &mut Story,
        now: Timestamp,
        performed: Option<Performed>,
    ) -> Result<Option<Step>, Stop> {
        let step = self.filtered_by(story, now, performed);
        if let (Ok(None), Some(claims), Some(selected)) = (&step, &story.claims, &mut story.told.selected) {
            selected.identified(&story.head, &story.peer, claims);
        }
        step
    }

    fn filtered_by(
        &mut self,
        story: &mut Story,
        now: Timestamp,
        mut performed: Option<Performed>,
    ) -> Result<Option<Step>, Stop> {
        let Told { selected, decisions, .. } = &mut story.told;
        let Some(selected) = selected else { return Err(Reason::Internal.into()) };
        let filters = &selected.target().filters[..];
        let (now, epoch) = (now.max(story.waited), self.epoch);
        let mut cx = RequestContext {
            head: &mut story.head,
            peer: &story.peer,
            route: selected.rule.route.as_deref(),
            now,
            unix: &|| epoch + now.since(Timestamp::ZERO),
            rng: &mut self.rng,
            decisions,
            response_headers: &mut story.wanted,
            claims: &mut story.claims,
            held: &mut story.held,
        };
        loop {
            let flow = match &performed {
                None => pipeline::on_request(filters, &mut cx, &mut story.progress)?,
                Some(performed) => pipeline::resume(filters, &mut cx, &mut story.progress, performed)?,
            };
            performed = Some(match flow {
                Flow::Done => break,
                Flow::Effect(Effect::Wait(wait)) => {
                    let until = now + wait;
                    story.waits = Some(Waits::For(until));
                    return Ok(Some(Step::Waits(until)));
                }
                Flow::Effect(Effect::Turn(ticket)) => {
                    story.waits = Some(Waits::Turn(ticket.clone()));
                    return Ok(Some(Step::Turn(ticket)));
                }
                // No issuer answers here.
                Flow::Effect(Effect::Keys(_)) => Performed::Waited,
                // Nor is there a store or a service: what needs one does as if it did not answer.
                Flow::Effect(Effect::Spend(_) | Effect::Ask(_) | Effect::Plugin(_)) => Performed::Unanswered,
            });
        }
        Ok(None)
    }
}
