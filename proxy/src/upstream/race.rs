//! Attempts at the same time: a request goes to a second endpoint when the first is slow, and the first answer wins.
//!
//! When, how often and for whom is decided in [`tidegate_policy::call::Retries`]; here they only race. The losers are dropped:
//! an HTTP/1.1 connection is closed, an HTTP/2 stream reset, and their breakers are told nothing.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::request;
use parking_lot::Mutex;
use tidegate_policy::call::{Retries, RetryPermit, Settled, has_other, retry};
use tidegate_policy::pipeline::LocalReply;
use tokio::time::{Instant, sleep_until};

use super::call::{Answered, Call, attempt};
use super::retry::{Attempts, Course, Failure, Tried, discard, ended, tell};
use crate::http::{Record, Replay, RequestBody};

/// One attempt under way.
struct Lane<'a> {
    begun: Instant,
    /// Under the caps on retries, of all but the first.
    _place: Option<RetryPermit>,
    future: Pin<Box<dyn Future<Output = Finished> + Send + 'a>>,
}

struct Finished {
    outcome: Result<Answered, Failure>,
    record: Record,
}

enum Event {
    Ended(Finished),
    HedgeDue,
    Over,
}

/// What every lane begins with.
struct Start<'s> {
    head: &'s request::Parts,
    replay: Option<Replay>,
    tried: Arc<Mutex<Tried>>,
    /// Of the latest attempt.
    number: u32,
}

impl Start<'_> {
    /// The body is still coming in: nobody else can be asked yet, but soon.
    fn awaits_body(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.is_whole() && !replay.is_complete())
    }
}

/// Calls the backend as the rule says, with hedges.
///
/// # Errors
/// What to answer in the backend's place.
pub(super) async fn run(
    mut attempts: Attempts<'_, '_>,
    mut cx: Call<'_>,
    head: Box<request::Parts>,
    body: RequestBody,
    record: &mut Record,
) -> Result<Answered, LocalReply> {
    attempts.budget.request(cx.clock.now());
    let mut retries = Retries::new(attempts.rule, &head.method);
    let replay = body.kept(attempts.rule.body_limit);
    let mut start = Start { head: &head, replay, tried: Arc::default(), number: 0 };
    let mut lanes = Vec::new();
    let mut hedge_at = begin(&mut start, (&mut lanes, None), &retries, (&attempts, &mut cx), record);
    loop {
        match event(&mut lanes, hedge_at, &mut attempts).await {
            Event::Over => {
                give_up(&cx, &mut lanes);
                let over = Err(attempts.course.timed_out());
                return attempts.settle(over, record);
            }
            Event::HedgeDue => {
                hedge_at = None;
                if start.awaits_body() {
                    let latency = cx.selected.target().plan.latency.as_deref();
                    let after = retries.hedge_after(latency, cx.clock.now());
                    hedge_at = after.map(|after| Instant::now() + after);
                } else if let Some(place) = may_hedge(&start, &mut retries, (&attempts, &cx), record) {
                    let lanes = (&mut lanes, Some(place));
                    hedge_at = begin(&mut start, lanes, &retries, (&attempts, &mut cx), record);
                }
            }
            Event::Ended(Finished { outcome, record: told }) => {
                let over = outcome.as_ref().is_err_and(|failure| failure.over);
                let end = ended(&outcome, start.replay.as_ref(), &told);
                if !over && !lanes.is_empty() && !retries.is_answer(&end) {
                    // Another may do better.
                    record.adopt(told, false);
                    outcome.into_iter().for_each(discard);
                    continue;
                }
                let last = lanes.is_empty() && !over;
                let next = if last { attempts.next(&mut retries, &mut cx, end, record) } else { None };
                let again = start.replay.as_ref().is_none_or(Replay::is_whole);
                let Some((after, place)) = next.filter(|_| again) else {
                    give_up(&cx, &mut lanes);
                    record.adopt(told, true);
                    attempts.course.number = start.number;
                    return attempts.settle(outcome, record);
                };
                record.adopt(told, false);
                outcome.into_iter().for_each(discard);
                attempts.pause(after, record).await?;
                let lanes = (&mut lanes, Some(place));
                hedge_at = begin(&mut start, lanes, &retries, (&attempts, &mut cx), record);
            }
        }
    }
}

/// Leave to make an attempt beside those under way; tells what was decided.
fn may_hedge(
    start: &Start<'_>,
    retries: &mut Retries<'_>,
    (attempts, cx): (&Attempts<'_, '_>, &Call<'_>),
    record: &mut Record,
) -> Option<RetryPermit> {
    if !has_other(cx.selected.target(), &start.tried.lock(), cx.clock.now()) {
        let settled = Settled::NoOther;
        record.decisions.extend(retries.hedge_decision(Err(settled)));
        tell(cx, settled.as_str(), record);
        return None;
    }
    let whole = start.replay.as_ref().is_none_or(Replay::is_complete);
    let moment = (cx.clock.now(), attempts.course.left(Instant::now()));
    let hedged = retries.hedge(whole, moment, attempts.budget);
    record.decisions.extend(retries.hedge_decision(hedged));
    tell(cx, hedged.map_or_else(|settled| settled.as_str(), |()| "hedged"), record);
    hedged.ok().and_then(|()| retry(cx.selected.target(), cx.selected.counted, &mut record.decisions).ok())
}

/// Begins one more attempt; when the next may be made beside it.
fn begin<'a>(
    start: &mut Start<'_>,
    (lanes, place): (&mut Vec<Lane<'a>>, Option<RetryPermit>),
    retries: &Retries<'_>,
    (attempts, cx): (&Attempts<'_, '_>, &mut Call<'a>),
    record: &Record,
) -> Option<Instant> {
    start.number += 1;
    let (number, begun) = (start.number, Instant::now());
    let again = start.replay.as_ref().map_or(Some(RequestBody::EMPTY), RequestBody::again);
    let body = again.unwrap_or(RequestBody::EMPTY);
    let (mut rng, mut record) = (cx.rng.fork(), record.beside());
    let Call { pools, clock, selected, grpc, connect_timeout, stall_timeout, from_outside, .. } = *cx;
    let (head, shared) = (Box::new(start.head.clone()), start.tried.clone());
    let (ends, allowed) = (attempts.course.ends, attempts.course.allowed.clone());
    let future = Box::pin(async move {
        let rng = &mut rng;
        // The whole call has its time watched for all of them.
        let (request_timeout, overtime) = (None, None);
        let cx = Call {
            pools,
            clock,
            rng,
            selected,
            grpc,
            connect_timeout,
            request_timeout,
            stall_timeout,
            overtime,
            from_outside,
        };
        let over = pin!(pending::<()>());
        let tried = shared.lock().clone();
        let shared = Some(shared);
        let mut course = Course { number, begun, retries: true, tried, shared, over, ends, allowed };
        let outcome = attempt(cx, head, body, &mut course, &mut record).await;
        Finished { outcome, record }
    });
    lanes.push(Lane { begun, _place: place, future });
    let latency = selected.target().plan.latency.as_deref();
    retries.hedge_after(latency, clock.now()).map(|after| begun + after)
}

/// What happens next. An attempt that has ended is no longer among the `lanes`.
async fn event(
    lanes: &mut Vec<Lane<'_>>,
    hedge_at: Option<Instant>,
    attempts: &mut Attempts<'_, '_>,
) -> Event {
    let answered = poll_fn(|cx| {
        for (i, lane) in lanes.iter_mut().enumerate() {
            if let Poll::Ready(finished) = lane.future.as_mut().poll(cx) {
                return Poll::Ready((i, finished));
            }
        }
        Poll::Pending
    });
    let due = async {
        match hedge_at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    };
    let (i, finished) = tokio::select! {
        biased;
        ended = answered => ended,
        () = attempts.course.over.as_mut() => return Event::Over,
        () = due => return Event::HedgeDue,
    };
    lanes.swap_remove(i);
    Event::Ended(finished)
}

/// Drops what has not answered. It would have taken longer than this: without it, only the fast would be known.
fn give_up(cx: &Call<'_>, lanes: &mut Vec<Lane<'_>>) {
    let latency = cx.selected.target().plan.latency.as_deref();
    for lane in lanes.drain(..) {
        let waited: Duration = lane.begun.elapsed();
        if let Some(latency) = latency {
            latency.record(waited, cx.clock.now());
        }
    }
}
