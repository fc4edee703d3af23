//! Runs the filters of a route over one request, in the order of their phases.
//!
//! Filters are compiled and ordered when the snapshot is built; per request this is a walk over a slice.

mod cors;
mod effect;
mod headers;
mod held;
mod location;
mod ongoing;
mod redirect;
mod rewrite;
mod route_filter;
#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request, response};

use crate::decision::{Decisions, RuleRef};
use crate::jwt::{Claims, KeySource};
use crate::model::{Peer, PolicyRef};
use crate::overload::Load;
use crate::plugin::{Carried, Plugin};
use crate::reason::Reason;
use crate::time::Timestamp;

pub(crate) use cors::announced;
pub use effect::{
    Answer, Ask, AskedDescriptor, Effect, Holds, Performed, Said, ServiceLimit, ServiceRef, SharedBucket,
    Spend, Spent,
};
pub use held::{Held, answered, slowest};
pub use ongoing::{Ongoing, OpenedBy, may_go_on};
pub(crate) use route_filter::{Entry, InvalidFilter, route_filter};

/// The order of policies after routing, said once. Within a phase, the order is that of the registry, then of the
/// documents. Per attempt follow: breaker, balance, connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// First: a preflight carries no credentials and must be answered without any.
    Cors,
    /// Who is it? Before anything that depends on the answer.
    Authenticate,
    /// May they? Before a stranger can spend anybody's budget.
    Authorize,
    /// How often? Only for those who may, and before any work is done for them.
    RateLimit,
    /// How much at one time? After limits, so that who is over a budget takes nobody's place in the queue; before faults,
    /// whose delays are the service's own and take up its places.
    Overload,
    /// Injected faults count as the service's own, so they come after all refusals.
    Fault,
    /// Plugins see only traffic that is let through.
    Plugin,
    /// Last: policies before judged the request as the client sent it.
    Transform,
}

impl Phase {
    pub(crate) const FIRST: Self = Self::Cors;
}

/// One policy (or route filter) compiled for the hot path.
pub trait Filter: Debug + Send + Sync {
    fn phase(&self) -> Phase;

    /// Called with the request head before a backend is called.
    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict;

    /// Called with what came of an effect that [`Filter::on_request`] asked for.
    fn on_effect(&self, _cx: &mut RequestContext<'_>, _performed: &Performed) -> Verdict {
        Verdict::Continue
    }

    /// Whether it has a word on connections.
    fn judges_connections(&self) -> bool {
        false
    }

    /// Called when a connection has come in, before anything is called for it and before TLS.
    ///
    /// # Errors
    /// It is to be closed.
    fn on_connection(&self, _cx: &mut ConnectionContext<'_>) -> Result<(), Cut> {
        Ok(())
    }

    /// Called with what came of asking its [plugin](Filter::plugin) about a connection that is carried as a whole, when it
    /// begins and when the plugin would end it.
    ///
    /// # Errors
    /// It is to be closed.
    fn on_carried(&self, _carried: Carried, _decisions: &mut Decisions) -> Result<(), Cut> {
        Ok(())
    }

    /// Called when the configuration has changed, for what was let in before and still goes on.
    ///
    /// # Errors
    /// It is to be closed.
    fn on_change(&self, _cx: &mut Ongoing<'_>) -> Result<(), Cut> {
        Ok(())
    }

    /// Called with the head of the final response, whoever gave it, in reverse order. Only filters whose
    /// `on_request` ran are called.
    fn on_response(&self, _head: &mut response::Parts) {}

    /// Where the keys are that it judges by, if they are to be fetched.
    fn key_sources(&self) -> &[Arc<KeySource>] {
        &[]
    }

    /// The plugin that it asks.
    fn plugin(&self) -> Option<&Arc<Plugin>> {
        None
    }

    /// Where it stands among those of its phase and kind: lower is earlier for requests.
    fn order(&self) -> i32 {
        0
    }

    /// How things stand at its gate, and whose that is; `None` without one.
    fn load(&self) -> Option<(&Arc<PolicyRef>, Load)> {
        None
    }

    /// What a rule of it counts a request under, for people; `None` if the rule is another's, or tells none apart.
    fn key_text(
        &self,
        _rule: &Arc<RuleRef>,
        _asked: (&request::Parts, &Peer),
        _route: Option<&str>,
    ) -> Option<String> {
        None
    }

    /// As it holds at a gateway, where that is not the same as in the mesh.
    fn at_gateway(&self) -> Option<Arc<dyn Filter>> {
        None
    }
}

/// What a filter sees and may change.
pub struct RequestContext<'a> {
    pub head: &'a mut request::Parts,
    pub peer: &'a Peer,
    /// Name of the matched route, if any, for keys and logs.
    pub route: Option<&'a str>,
    pub now: Timestamp,
    /// Tells the time since the Unix epoch, by the clock on the wall: for what ends by the calendar. Few filters ask.
    pub unix: &'a dyn Fn() -> Duration,
    pub rng: &'a mut fastrand::Rng,
    /// Every rule that was looked at writes its decision here.
    pub decisions: &'a mut Decisions,
    /// Set on the response whoever answers it (a limit's remaining tokens, …), after every `on_response`. Each name
    /// replaces what is there; `vary` is added to it.
    pub response_headers: &'a mut HeaderMap,
    /// What a verified token says of who asks; nothing else may write it. Kept with the request, as [`Self::held`] is.
    pub claims: &'a mut Option<Arc<Claims>>,
    /// What filters keep of the request until its answer is out; dropped then, however it ends.
    pub held: &'a mut Vec<Box<dyn Held>>,
}

impl Debug for RequestContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("head", self.head)
            .field("peer", self.peer)
            .field("route", &self.route)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// What is known of a connection before anything of it is answered.
#[derive(Debug)]
pub struct ConnectionContext<'a> {
    pub peer: &'a Peer,
    /// The port that the client connected to.
    pub port: u16,
    /// What the client asked for by TLS (SNI), where that was read.
    pub server_name: Option<&'a str>,
    /// Whether it is carried as a whole: there are no requests to be judged later.
    pub carried: bool,
    pub now: Timestamp,
    /// As of a request.
    pub decisions: &'a mut Decisions,
}

/// Why a connection is closed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub reason: Reason,
    /// By a reset, which no client takes for the end of an answer; else in order.
    pub reset: bool,
}

/// A filter's word.
#[derive(Debug)]
pub enum Verdict {
    Continue,
    /// Refuse now; no later filter and no backend sees the request.
    Reply(LocalReply),
    /// Answer now, for this is what was asked for and no failure.
    Answer(DirectReply),
    /// Do this, and come back with what came of it.
    Effect(Effect),
}

/// How far the filters have got.
#[derive(Debug)]
#[must_use = "an effect that nobody performs leaves the request unjudged"]
pub enum Flow {
    /// All of them let the request pass.
    Done,
    /// One of them waits for this; go on with [`resume`].
    Effect(Effect),
}

/// Why a request went no further than a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Refused(LocalReply),
    Answered(DirectReply),
}

/// A whole answer that is no failure, without a body: a redirect, or the answer to a preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectReply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A failure that the mesh answers itself. Status, gRPC code and body follow from the reason's table row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    pub reason: Reason,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What a policy wants said in place of what the reason's row says.
    pub written: Option<Arc<WrittenReply>>,
    /// After which another try may be worth it.
    pub again: Option<Duration>,
}

/// A refusal in the words of a policy; gRPC has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenReply {
    pub status: Option<StatusCode>,
    /// With its content type.
    pub body: Option<(HeaderValue, Bytes)>,
    /// `grpc-status`.
    pub grpc: Option<u8>,
    /// No answer at all: the connection is closed, or the stream reset.
    pub reset: bool,
}

impl LocalReply {
    /// What gRPC is told: the policy's code, else that of the reason.
    pub fn grpc(&self) -> u8 {
        self.written.as_ref().and_then(|written| written.grpc).unwrap_or(self.reason.answer().grpc)
    }

    /// Whether nothing is to be answered.
    pub fn is_reset(&self) -> bool {
        self.written.as_ref().is_some_and(|written| written.reset)
    }
}

impl From<Reason> for LocalReply {
    fn from(reason: Reason) -> Self {
        Self { reason, headers: Vec::new(), written: None, again: None }
    }
}

impl From<LocalReply> for Stop {
    fn from(reply: LocalReply) -> Self {
        Self::Refused(reply)
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// How far a request got: needed to run `on_response` on exactly the filters that saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress(usize);

/// Runs the filters in order until one replies, or needs something done.
///
/// # Errors
/// The reply of the filter that stopped the request. `progress` says which filters ran, either way.
pub fn on_request(
    filters: &[Arc<dyn Filter>],
    cx: &mut RequestContext<'_>,
    progress: &mut Progress,
) -> Result<Flow, Stop> {
    for filter in filters.iter().skip(progress.0) {
        progress.0 += 1;
        match filter.on_request(cx) {
            Verdict::Continue => {}
            Verdict::Reply(reply) => return Err(Stop::Refused(reply)),
            Verdict::Answer(reply) => return Err(Stop::Answered(reply)),
            Verdict::Effect(effect) => return Ok(Flow::Effect(effect)),
        }
    }
    Ok(Flow::Done)
}

/// Asks all filters for their word on a connection, until one closes it.
///
/// # Errors
/// It is to be closed.
pub fn on_connection(gate: &[Arc<dyn Filter>], cx: &mut ConnectionContext<'_>) -> Result<(), Cut> {
    gate.iter().try_for_each(|filter| filter.on_connection(cx))
}

/// Goes on with the filter that asked for an effect, then with those after it.
///
/// # Errors
/// As [`on_request`].
pub fn resume(
    filters: &[Arc<dyn Filter>],
    cx: &mut RequestContext<'_>,
    progress: &mut Progress,
    performed: &Performed,
) -> Result<Flow, Stop> {
    cx.held.iter_mut().for_each(|held| held.on_resume());
    let asked = progress.0.checked_sub(1).and_then(|at| filters.get(at));
    match asked.map_or(Verdict::Continue, |filter| filter.on_effect(cx, performed)) {
        Verdict::Continue => on_request(filters, cx, progress),
        Verdict::Reply(reply) => Err(Stop::Refused(reply)),
        Verdict::Answer(reply) => Err(Stop::Answered(reply)),
        Verdict::Effect(effect) => Ok(Flow::Effect(effect)),
    }
}

/// Runs the response side of the filters that saw the request, last first.
pub fn on_response(filters: &[Arc<dyn Filter>], progress: Progress, head: &mut response::Parts) {
    for filter in filters.iter().take(progress.0).rev() {
        filter.on_response(head);
    }
}

/// The response side of those filters only that run after `phase`; `progress` is then without them. For what has to be done
/// between.
pub fn on_response_beyond(
    filters: &[Arc<dyn Filter>],
    progress: &mut Progress,
    phase: Phase,
    head: &mut response::Parts,
) {
    let beyond = filters.partition_point(|filter| filter.phase() <= phase).min(progress.0);
    for filter in filters[beyond..progress.0.min(filters.len())].iter().rev() {
        filter.on_response(head);
    }
    progress.0 = beyond;
}

/// The response as the policies leave it: their response side, then what they want on it whoever has answered
/// ([`RequestContext::response_headers`]), each name in place of what is there. What the backend's answer varies with, it
/// still does, and its cookies stay beside ours.
pub fn conclude(
    filters: &[Arc<dyn Filter>],
    progress: Progress,
    wanted: HeaderMap,
    head: &mut response::Parts,
) {
    on_response(filters, progress, head);
    let mut last = None;
    for (name, value) in wanted {
        match (name, &last) {
            (Some(name), _) => {
                if name == VARY || name == SET_COOKIE {
                    head.headers.append(name.clone(), value);
                } else {
                    head.headers.insert(name.clone(), value);
                }
                last = Some(name);
            }
            // Repeats the name before.
            (None, Some(name)) => drop(head.headers.append(name.clone(), value)),
            (None, None) => {}
        }
    }
}
