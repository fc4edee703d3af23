//! The real proxy's side: its own process parts on loopback, and backends that answer as each request asks them to.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_policy::decision::DecisionRecord;
use tidegate_policy::model::{AppProtocol, Resource};
use tidegate_proxy::config::{Applier, Change, ExplainTo, GatewayPorts};
use tidegate_proxy::telemetry::DecisionQuery;
use tidegate_proxy::{HeldClock, Played, Proxy, Running};

use super::documents::{Documents, Side};
use super::requests::Request;
use super::told::Evaluator;
use super::{Outcome, START};
use crate::mesh::{BIND, config, loopback};

/// The first of those that get copies.
pub(super) const COPIES: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// Two of each Service, for all sets; the last two get copies.
#[derive(Debug)]
pub(super) struct Backends {
    ports: Vec<u16>,
    /// How often each request has come.
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) clock: HeldClock,
    running: Running,
    _applier: Applier,
    address: SocketAddr,
    played: Played,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: BufReader<TcpStream>,
    /// Requests that it has brought.
    requests: u64,
}

/// `503,200`: that of the attempt with this number, from 0.
pub(super) fn answer_of(answers: &str, attempt: usize) -> u16 {
    let mut all = answers.split(',');
    all.clone().nth(attempt).or_else(|| all.next_back()).unwrap().parse().unwrap()
}

impl Backends {
    pub(super) fn start() -> Self {
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let start = |at| {
            let listener = TcpListener::bind(loopback(0)).unwrap();
            // A copy is no attempt.
            let asked = if at < COPIES { asked.clone() } else { Arc::default() };
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let asked = asked.clone();
                    thread::spawn(move || serve(stream, &asked));
                }
            });
            port
        };
        Self { ports: (0..COPIES + 2).map(start).collect(), asked }
    }

    pub(super) fn port(&self, at: usize) -> u16 {
        self.ports[at]
    }

    pub(super) fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

/// One connection until the proxy closes it; `None` ends it.
fn serve(stream: TcpStream, asked: &Mutex<HashMap<String, usize>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let (_, fields) = read_head(&mut stream)?;
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let attempt = {
            let mut asked = asked.lock().unwrap();
            let count = asked.entry(field("x-request-id")?).or_default();
            *count += 1;
            *count - 1
        };
        let status = answer_of(&field("x-answers")?, attempt);
        write!(stream.get_mut(), "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// First line, and fields in lower case.
fn read_head(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<(String, String)>)> {
    let mut line = String::new();
    let mut next = |stream: &mut BufReader<TcpStream>| {
        line.clear();
        let read = stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(stream)?;
    let mut fields = Vec::new();
    loop {
        let line = next(stream)?;
        let Some((name, value)) = line.split_once(':') else { return Some((first, fields)) };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

impl Live {
    pub(super) fn start(
        documents: &Documents,
        (evaluator, backends): (&Evaluator, &Backends),
        seed: u64,
    ) -> Self {
        let clock = HeldClock::at(START);
        let played = Played { clock, seed };
        let mut config = config();
        config.workers = 1;
        config.played = Some(played);
        config.local.namespace = "shop".into();
        config.explain_to = vec!["127.0.0.1".parse::<ExplainTo>().unwrap()];
        match documents.side {
            Side::Gateway => config.gateway = Some(GatewayPorts::Ephemeral),
            Side::Outbound => config.outbound = Some(loopback(0)),
            Side::Inbound => {
                config.inbound = Some(loopback(0));
                config.local.app = Some((loopback(backends.port(0)), AppProtocol::Http1));
                config.local.services = vec!["shop/cart".parse().unwrap()];
            }
        }
        let running = Proxy::start(config).unwrap();
        let mut applier = Applier::new(running.state().clone());
        let upserts: Vec<Resource> = evaluator.world.resolved.resources.iter().collect();
        assert_eq!(applier.apply(Change { upserts, removed: Vec::new() }), [], "{}", documents.text);
        let begun = Instant::now();
        let address = loop {
            let found = match documents.side {
                Side::Gateway => running.gateway(BIND),
                Side::Outbound => running.outbound(),
                Side::Inbound => running.inbound(),
            };
            match found {
                Some(address) => break address,
                None => thread::yield_now(),
            }
            assert!(begun.elapsed() < PATIENCE, "it never listens");
        };
        Self { clock, running, _applier: applier, address, played, connection: None }
    }

    /// Of the next request: its numbers of chance, and whose it is.
    pub(super) fn next(&mut self) -> (u64, SocketAddr) {
        let address = self.address;
        let connection = self.connection.get_or_insert_with(|| Connection::open(address));
        let peer = connection.stream.get_ref().local_addr().unwrap();
        (self.played.seed_of(connection.requests), peer)
    }

    /// Sends what [`Live::next`] was asked for, and waits until all is known of it.
    pub(super) fn send(&mut self, request: &Request, id: &str) -> Outcome {
        let mut connection = self.connection.take().expect("the next request has a connection");
        let (status, last) = connection.exchange(request, id);
        self.connection = (!last).then_some(connection);
        let record = self.record(id);
        assert_eq!(record.status, status, "the client was sent what is recorded");
        Outcome {
            status,
            reason: record.reason,
            route: record.route,
            rule: record.rule,
            backend: record.backend,
            endpoint: record.endpoint,
            attempts: record.attempts,
            decisions: record.decisions.iter().map(ToString::to_string).collect(),
        }
    }

    fn record(&self, id: &str) -> DecisionRecord {
        let query = DecisionQuery { limit: 1, ..DecisionQuery::of_id(id) };
        let begun = Instant::now();
        loop {
            if let Some(record) = self.running.state().telemetry.decisions(&query).pop() {
                return record;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is recorded of {id}");
            thread::yield_now();
        }
    }
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream), requests: 0 }
    }

    /// The status, and whether the connection ends with it.
    fn exchange(&mut self, request: &Request, id: &str) -> (u16, bool) {
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.target, request.host);
        for (name, value) in request.fields(id) {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
        self.requests += 1;
        let (first, fields) = read_head(&mut self.stream).unwrap_or_else(|| panic!("no answer to {text}"));
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let length: u64 = field("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = Vec::new();
        self.stream.by_ref().take(length).read_to_end(&mut body).unwrap();
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        (status, field("connection") == Some("close"))
    }
}
