//! The paced load: open loop, so that a slow mesh cannot slow down those who ask.
//!
//! Latency counts from the moment a request was due. What is measured here is what a client sees; it must not
//! look at any metric of the mesh.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pacer::{Mix, Pacer};
use super::service::{CALL_MICROS, CALL_STATUS, SERVED_BY};
use crate::http_client::Client;

/// Longer than any timeout inside the demo: no answer by then is a lost request.
const DEADLINE: Duration = Duration::from_secs(5);

/// More requests than this in flight are given up, so that a dead mesh cannot fill the memory.
const MAX_IN_FLIGHT: usize = 5_000;

/// What the clients have seen.
#[derive(Debug)]
pub(crate) struct Measures {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    second: Second,
    total: Totals,
}

/// What was seen since the last look: one line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    pub(crate) answered: u64,
    pub(crate) ok: u64,
    pub(crate) limited: u64,
    pub(crate) lost: u64,
    /// Microseconds, of the requests that were not limited.
    pub(crate) latency: Histogram<u32>,
}

/// What was seen since the start; differences of two tell of the time between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// In the order of [`Mix::names`].
    pub(crate) users: Vec<UserTotals>,
    /// Requests without any answer.
    pub(crate) lost: u64,
    /// Requests that were due and not sent, because this machine was too busy.
    pub(crate) given_up: u64,
    /// Calls to checkout that the mesh refused in checkout's place.
    pub(crate) refused_calls: u64,
    /// Those of them that took longer than [`AT_ONCE`].
    pub(crate) refused_slowly: u64,
    /// Calls to checkout that checkout-v2 itself failed.
    pub(crate) failed_calls: u64,
}

/// A refusal without a call to the backend is this quick even on a busy machine; one with a call that waits is not.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserTotals {
    pub(crate) sent: u64,
    pub(crate) limited: u64,
    /// Answered with anything but 429.
    pub(crate) admitted: u64,
}

impl Second {
    fn new() -> Self {
        // Ten minutes bound it; two digits are more than a table shows.
        let latency = Histogram::new_with_bounds(1, 600_000_000, 2);
        Self { answered: 0, ok: 0, limited: 0, lost: 0, latency: latency.expect("the bounds are constants") }
    }

    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        (!self.latency.is_empty()).then(|| Duration::from_micros(self.latency.value_at_quantile(q)))
    }
}

impl Totals {
    /// What came after `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut diff = self.clone();
        for (user, before) in diff.users.iter_mut().zip(&earlier.users) {
            user.sent -= before.sent;
            user.limited -= before.limited;
            user.admitted -= before.admitted;
        }
        diff.lost -= earlier.lost;
        diff.given_up -= earlier.given_up;
        diff.refused_calls -= earlier.refused_calls;
        diff.refused_slowly -= earlier.refused_slowly;
        diff.failed_calls -= earlier.failed_calls;
        diff
    }
}

impl Measures {
    fn new(users: usize) -> Self {
        let total = Totals { users: vec![UserTotals::default(); users], ..Totals::default() };
        Self { inner: Mutex::new(Inner { second: Second::new(), total }) }
    }

    /// What was seen since the last call.
    pub(crate) fn take_second(&self) -> Second {
        std::mem::replace(&mut self.inner.lock().second, Second::new())
    }

    pub(crate) fn totals(&self) -> Totals {
        self.inner.lock().total.clone()
    }

    fn sent(&self, user: usize) {
        self.inner.lock().total.users[user].sent += 1;
    }

    fn given_up(&self, total: u64) {
        self.inner.lock().total.given_up = total;
    }

    fn lost(&self) {
        let mut inner = self.inner.lock();
        inner.second.lost += 1;
        inner.total.lost += 1;
    }

    fn answered(&self, user: usize, response: &Response<Bytes>, took: Duration) {
        let mut inner = self.inner.lock();
        inner.second.answered += 1;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            inner.second.limited += 1;
            inner.total.users[user].limited += 1;
            return;
        }
        inner.total.users[user].admitted += 1;
        inner.second.ok += u64::from(response.status().is_success());
        inner.second.latency.saturating_record(took.as_micros().max(1) as u64);
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        let Some(status) = header(CALL_STATUS) else { return };
        match header(SERVED_BY) {
            Some(_) => inner.total.failed_calls += u64::from(status != "200"),
            None => {
                inner.total.refused_calls += 1;
                let took = header(CALL_MICROS).and_then(|us| us.parse().ok()).map(Duration::from_micros);
                inner.total.refused_slowly += u64::from(took.is_none_or(|took| took > AT_ONCE));
            }
        }
    }
}

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) measures: Arc<Measures>,
    pub(crate) users: Vec<String>,
    pub(crate) started: Instant,
    stop: CancellationToken,
    requests: TaskTracker,
}

impl Load {
    /// Sends `rate` requests per second to `target` until [`Load::drain`].
    pub(crate) fn start(target: SocketAddr, rate: f64) -> Self {
        let mix = Mix::for_rate(rate);
        let users = mix.names();
        let load = Self {
            measures: Arc::new(Measures::new(users.len())),
            users,
            started: Instant::now(),
            stop: CancellationToken::new(),
            requests: TaskTracker::new(),
        };
        load.requests.spawn(send_all(
            Sender {
                client: Arc::new(Client::new(target, DEADLINE)),
                users: load.users.iter().filter_map(|user| HeaderValue::from_str(user).ok()).collect(),
                measures: load.measures.clone(),
                requests: load.requests.clone(),
            },
            (Pacer::new(rate), mix),
            load.started,
            load.stop.clone(),
        ));
        load
    }

    /// Sends no more and waits for the answers that are due.
    pub(crate) async fn drain(&self) {
        self.stop.cancel();
        self.requests.close();
        self.requests.wait().await;
    }
}

struct Sender {
    client: Arc<Client>,
    users: Vec<HeaderValue>,
    measures: Arc<Measures>,
    requests: TaskTracker,
}

impl Sender {
    fn send(&self, user: usize, due: Instant) {
        let mut request = Request::new(Full::default());
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("storefront"));
        request.headers_mut().insert("x-user", self.users[user].clone());
        self.measures.sent(user);
        let (client, measures) = (self.client.clone(), self.measures.clone());
        self.requests.spawn(async move {
            match client.send(request).await {
                Ok(response) => measures.answered(user, &response, due.elapsed()),
                Err(error) => {
                    tracing::debug!("request lost: {error:#}");
                    measures.lost();
                }
            }
        });
    }
}

async fn send_all(sender: Sender, plan: (Pacer, Mix), started: Instant, stop: CancellationToken) {
    let (mut pacer, mut mix) = plan;
    let mut overflowed = 0;
    loop {
        while let Some(number) = pacer.take(started.elapsed()) {
            let user = mix.pick();
            if sender.requests.len() > MAX_IN_FLIGHT {
                overflowed += 1;
                continue;
            }
            sender.send(user, started + pacer.due(number));
        }
        sender.measures.given_up(pacer.given_up() + overflowed);
        tokio::select! {
            () = tokio::time::sleep_until(started + pacer.next_due()) => {}
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn a_limited_request_is_not_admitted_and_has_no_latency() {
        let measures = Measures::new(2);
        measures.answered(1, &answer(429, &[]), Duration::from_millis(1));
        measures.answered(1, &answer(200, &[]), Duration::from_millis(3));
        let totals = measures.totals();
        assert_eq!(totals.users[1], UserTotals { sent: 0, limited: 1, admitted: 1 });
        let second = measures.take_second();
        assert_eq!((second.answered, second.ok, second.limited), (2, 1, 1));
        assert_eq!(second.latency.len(), 1);
        assert_eq!(measures.take_second().answered, 0, "a second is told once");
    }

    #[test]
    fn the_mesh_refusing_and_the_service_failing_are_told_apart() {
        let measures = Measures::new(1);
        let quick = [(CALL_STATUS, "503"), (CALL_MICROS, "900")];
        let slow = [(CALL_STATUS, "503"), (CALL_MICROS, "900000")];
        let own = [(CALL_STATUS, "503"), (CALL_MICROS, "900"), (SERVED_BY, "checkout-v2")];
        for headers in [quick.as_slice(), &slow, &own] {
            measures.answered(0, &answer(503, headers), Duration::from_millis(1));
        }
        let totals = measures.totals();
        assert_eq!((totals.refused_calls, totals.refused_slowly, totals.failed_calls), (2, 1, 1));
        assert_eq!(totals.since(&totals).refused_calls, 0);
    }
}
