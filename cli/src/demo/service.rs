//! The three small services of the demo. They know nothing of limits, breakers or canaries: that is the point.
//!
//! `storefront` asks `http://checkout/` through its sidecar's outbound listener and hands the trace headers on,
//! which is all that a mesh asks of an application. `checkout-v2` is scheduled to be bad for a while.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http_client::Client;

/// Which version answered, as `checkout` says it and `storefront` passes it on. Without it, the mesh answered.
pub(crate) const SERVED_BY: &str = "x-demo-served-by";
/// How long `storefront`'s call to `checkout` took, in microseconds.
pub(crate) const CALL_MICROS: &str = "x-demo-call-micros";
/// What `checkout`, or the mesh in its place, answered.
pub(crate) const CALL_STATUS: &str = "x-demo-call-status";

/// What an application passes from the request it serves to the requests it makes.
const PASSED_ON: [&str; 10] = [
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-request-id",
    "x-user",
];

/// How long a healthy answer takes.
const WORK: Duration = Duration::from_millis(2);

/// How long `storefront` waits for `checkout`.
const CALL_DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct ServiceArgs {
    /// storefront, or the name of a checkout version.
    name: String,
    #[arg(long)]
    listen: SocketAddr,
    /// The sidecar's outbound listener; makes this the storefront.
    #[arg(long)]
    outbound: Option<SocketAddr>,
    /// Answer 503 in the demo's bad phase.
    #[arg(long)]
    flaky: bool,
}

/// When a flaky service answers 503, counted from its first request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadPhase {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) every: Duration,
}

/// From second 5 to second 9 of each 15.
pub(crate) const BAD_PHASE: BadPhase =
    BadPhase { from: Duration::from_secs(5), until: Duration::from_secs(9), every: Duration::from_secs(15) };

#[derive(Debug)]
enum Role {
    Storefront(Client),
    Checkout { name: HeaderValue, bad: Option<BadPhase>, since: OnceLock<Instant> },
}

impl BadPhase {
    pub(crate) fn covers(&self, elapsed: Duration) -> bool {
        let at = Duration::from_nanos((elapsed.as_nanos() % self.every.as_nanos()) as u64);
        (self.from..self.until).contains(&at)
    }

    /// Whether a bad phase begins and ends between the two moments.
    pub(crate) fn whole_between(&self, start: Duration, end: Duration) -> bool {
        let cycles = start.saturating_sub(self.from).as_nanos().div_ceil(self.every.as_nanos());
        let begins = self.every * u32::try_from(cycles).unwrap_or(u32::MAX) + self.from;
        begins >= start && begins + (self.until - self.from) <= end
    }
}

impl Role {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self {
            Self::Storefront(checkout) => sell(checkout, request.headers()).await,
            Self::Checkout { name, bad, since } => {
                let elapsed = since.get_or_init(Instant::now).elapsed();
                let mut response = match bad.is_some_and(|bad| bad.covers(elapsed)) {
                    true => reply(StatusCode::SERVICE_UNAVAILABLE, "out of order\n"),
                    false => {
                        tokio::time::sleep(WORK).await;
                        reply(StatusCode::OK, "paid\n")
                    }
                };
                response.headers_mut().insert(HeaderName::from_static(SERVED_BY), name.clone());
                response
            }
        }
    }
}

/// One page of the shop: a payment by whichever checkout the mesh picks.
async fn sell(checkout: &Client, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let mut call = Request::new(Full::default());
    *call.uri_mut() = http::Uri::from_static("/pay");
    call.headers_mut().insert(header::HOST, HeaderValue::from_static("checkout"));
    for name in PASSED_ON {
        if let Some(value) = asked.get(name) {
            call.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    let started = Instant::now();
    let answer = checkout.send(call).await;
    let took = started.elapsed();
    let mut response = match &answer {
        Ok(paid) if paid.status().is_success() => reply(StatusCode::OK, "sold\n"),
        Ok(_) => reply(StatusCode::SERVICE_UNAVAILABLE, "checkout is not available\n"),
        Err(error) => {
            tracing::warn!("call to checkout failed: {error:#}");
            reply(StatusCode::BAD_GATEWAY, "checkout cannot be reached\n")
        }
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(CALL_MICROS), HeaderValue::from(took.as_micros() as u64));
    if let Ok(paid) = answer {
        headers.insert(HeaderName::from_static(CALL_STATUS), HeaderValue::from(paid.status().as_u16()));
        if let Some(by) = paid.headers().get(SERVED_BY) {
            headers.insert(HeaderName::from_static(SERVED_BY), by.clone());
        }
    }
    response
}

fn reply(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Serves until `stop`, then finishes the requests it has.
///
/// # Errors
/// When the address cannot be bound or the name is no header value.
pub(crate) async fn run(args: ServiceArgs, stop: CancellationToken) -> Result<()> {
    let role = Arc::new(match args.outbound {
        Some(outbound) => Role::Storefront(Client::new(outbound, CALL_DEADLINE)),
        None => Role::Checkout {
            name: HeaderValue::from_str(&args.name)?,
            bad: args.flaky.then_some(BAD_PHASE),
            since: OnceLock::new(),
        },
    });
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    serve(listener, role, stop).await;
    Ok(())
}

async fn serve(listener: TcpListener, role: Arc<Role>, stop: CancellationToken) {
    let server = auto::Builder::new(TokioExecutor::new());
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stopped => break,
        };
        let role = role.clone();
        let service = service_fn(move |request| {
            let role = role.clone();
            async move { Ok::<_, Infallible>(role.answer(request).await) }
        });
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "connection");
            }
        });
    }
    let _ = tokio::time::timeout(CALL_DEADLINE, connections.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bad_phase_comes_round_with_every_cycle() {
        let bad = |seconds: f64| BAD_PHASE.covers(Duration::from_secs_f64(seconds));
        assert!(!bad(0.0) && !bad(4.9) && bad(5.0) && bad(8.9) && !bad(9.0));
        assert!(!bad(19.9) && bad(20.0) && bad(23.5) && !bad(24.0));
    }

    #[test]
    fn a_whole_bad_phase_needs_its_beginning_and_its_end() {
        let whole = |start: u64, end: u64| {
            BAD_PHASE.whole_between(Duration::from_secs(start), Duration::from_secs(end))
        };
        assert!(whole(0, 9) && whole(5, 9) && whole(6, 24) && whole(20, 24) && whole(0, 100));
        assert!(!whole(0, 8) && !whole(6, 23) && !whole(6, 10) && !whole(21, 24));
    }

    fn checkout(bad: Option<BadPhase>) -> Role {
        Role::Checkout { name: HeaderValue::from_static("checkout-v2"), bad, since: OnceLock::new() }
    }

    async fn start(role: Role, stop: &CancellationToken) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(role), stop.clone()));
        address
    }

    async fn ask(address: SocketAddr) -> Response<Bytes> {
        let request = Request::get("/").header("host", "storefront").body(Full::default()).unwrap();
        Client::new(address, CALL_DEADLINE).send(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_storefront_says_who_served_its_call() {
        let stop = CancellationToken::new();
        let checkout = start(checkout(None), &stop).await;
        let storefront = start(Role::Storefront(Client::new(checkout, CALL_DEADLINE)), &stop).await;
        let answer = ask(storefront).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[SERVED_BY], "checkout-v2");
        assert_eq!(answer.headers()[CALL_STATUS], "200");
        assert!(answer.headers().contains_key(CALL_MICROS));
        stop.cancel();
    }

    #[tokio::test]
    async fn a_bad_checkout_and_an_absent_one_are_told_apart() {
        let stop = CancellationToken::new();
        let always = BadPhase { from: Duration::ZERO, until: BAD_PHASE.every, every: BAD_PHASE.every };
        let bad = start(checkout(Some(always)), &stop).await;
        let storefront = start(Role::Storefront(Client::new(bad, CALL_DEADLINE)), &stop).await;
        let answer = ask(storefront).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[CALL_STATUS], "503");

        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = nobody.local_addr().unwrap();
        drop(nobody);
        let storefront = start(Role::Storefront(Client::new(gone, CALL_DEADLINE)), &stop).await;
        let answer = ask(storefront).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert!(!answer.headers().contains_key(CALL_STATUS));
        stop.cancel();
    }
}
