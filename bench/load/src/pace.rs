//! An open loop: requests become due at a fixed rate, whether or not the ones before were answered.
//!
//! Latency counts from the time at which a request was due. A client that waits for its answers would slow down with
//! the server that it measures, and leave out the very requests that had to wait ("coordinated omission").

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::body::{Body, EMPTY_MESSAGE, empty, full};
use crate::client::{Protocol, Sender, Target, tls};
use crate::report::Report;
use crate::ticker::Ticker;

/// Requests that are not answered this long after the last was due have failed.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct PaceArgs {
    /// Whom to ask
    address: SocketAddr,
    /// Requests per second
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// How long requests become due, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests at a time on one HTTP/2 connection
    #[arg(long, default_value_t = 16)]
    streams: usize,
    #[arg(long, value_enum, default_value_t = Protocol::H1)]
    protocol: Protocol,
    /// By TLS 1.3, trusting the certificates of this file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[arg(long, default_value = "/")]
    path: String,
    /// A header of every request; repeat for several
    #[arg(long = "header", value_name = "NAME:VALUE")]
    headers: Vec<String>,
    /// Send unary gRPC calls with an empty message
    #[arg(long)]
    grpc: bool,
}

/// Everything that a request in flight needs.
pub(crate) struct Load {
    template: Request<()>,
    pub(crate) turns: Mutex<Turns>,
    answered: Notify,
}

/// Senders that are free, or requests that wait for one: never both.
pub(crate) struct Turns {
    free: Vec<Sender>,
    due: VecDeque<Instant>,
    pub(crate) report: Report,
}

pub(crate) async fn run(args: &PaceArgs) -> anyhow::Result<()> {
    let tls = args.ca.as_deref().map(tls).transpose()?;
    let target = Target { address: args.address, protocol: args.protocol, tls };
    let load = Arc::new(Load::new(open(&target, args).await?, template(args)?)?);
    let ticker = Ticker::new()?;
    let start = Instant::now();
    let count = (f64::from(args.rate) * args.seconds).round() as u64;
    for number in 0..count {
        let due = start + Duration::from_secs_f64(number as f64 / f64::from(args.rate));
        ticker.until(due).await?;
        load.begin(due);
    }
    let elapsed = start.elapsed();
    // A run in which somebody waits for ever is reported as one with errors.
    let _ = tokio::time::timeout(PATIENCE, load.seen(count)).await;
    let report = &mut load.turns.lock().report;
    for _ in report.seen()..count {
        report.fail("no answer in time");
    }
    report.print(elapsed)
}

async fn open(target: &Target, args: &PaceArgs) -> anyhow::Result<Vec<Sender>> {
    let mut senders = Vec::new();
    for _ in 0..args.connections {
        let first = target.connect().await.context("opening the connections")?;
        // Another sender of the same connection is a stream more.
        senders.extend((1..args.streams).filter_map(|_| first.another()));
        senders.push(first);
    }
    Ok(senders)
}

fn template(args: &PaceArgs) -> anyhow::Result<Request<()>> {
    let http2 = matches!(args.protocol, Protocol::H2);
    let uri: Uri =
        if http2 { format!("http://localhost{}", args.path) } else { args.path.clone() }.parse()?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    if !http2 {
        headers.insert("host", HeaderValue::from_static("localhost"));
    }
    if args.grpc {
        // What is sent by POST is a message.
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
    }
    for header in &args.headers {
        let (name, value) = header.split_once(':').with_context(|| format!("{header:?} has no colon"))?;
        headers.insert(HeaderName::try_from(name)?, HeaderValue::from_str(value.trim())?);
    }
    if args.grpc {
        *request.method_mut() = Method::POST;
    }
    Ok(request)
}

impl Load {
    pub(crate) fn new(free: Vec<Sender>, template: Request<()>) -> anyhow::Result<Self> {
        let turns = Turns { free, due: VecDeque::new(), report: Report::new()? };
        Ok(Self { template, turns: Mutex::new(turns), answered: Notify::new() })
    }

    /// Returns when so many requests have been answered, or have failed.
    pub(crate) async fn seen(&self, count: u64) {
        while self.turns.lock().report.seen() < count {
            self.answered.notified().await;
        }
    }

    /// A request is due: it goes out at once, or as soon as a sender is free.
    pub(crate) fn begin(self: &Arc<Self>, due: Instant) {
        let mut turns = self.turns.lock();
        match turns.free.pop() {
            None => turns.due.push_back(due),
            Some(sender) => {
                drop(turns);
                tokio::spawn(self.clone().carry(sender, due));
            }
        }
    }

    /// Makes this request, and whichever waits then.
    async fn carry(self: Arc<Self>, mut sender: Sender, mut due: Instant) {
        loop {
            let answer = sender.call(self.request()).await;
            let mut turns = self.turns.lock();
            turns.report.record(due.elapsed(), answer);
            self.answered.notify_one();
            // A connection that broke is gone; the errors fail the run.
            if sender.is_closed() {
                return;
            }
            match turns.due.pop_front() {
                Some(next) => due = next,
                None => return turns.free.push(sender),
            }
        }
    }

    fn request(&self) -> Request<Body> {
        let grpc = self.template.method() == Method::POST;
        self.template.clone().map(|()| if grpc { full(Bytes::from_static(EMPTY_MESSAGE)) } else { empty() })
    }
}
