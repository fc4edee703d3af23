//! What a measurement relies on: latency from the due time, answers that are really right, a floor that forwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use tokio::net::TcpListener;

use crate::body::{empty, full};
use crate::client::{Protocol, Sender, Target};
use crate::pace::Load;
use crate::{echo, floor};

/// Long before anything here begins, however slow the machine is.
const LONG: Duration = Duration::from_secs(30);

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn backend() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(echo::serve(listener, "app"));
    address
}

async fn through_the_floor(h2: bool) -> SocketAddr {
    let upstream = backend().await;
    let (listener, address) = listener().await;
    tokio::spawn(floor::serve(listener, upstream, h2));
    address
}

async fn connect(address: SocketAddr, protocol: Protocol) -> Sender {
    Target { address, protocol, tls: None }.connect().await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(path).header("host", "localhost").body(()).unwrap()
}

fn grpc(path: &str) -> Request<()> {
    let call = Request::post(format!("http://localhost{path}")).header("te", "trailers");
    call.header("content-type", "application/grpc").body(()).unwrap()
}

#[tokio::test]
async fn latency_counts_from_the_time_at_which_a_request_was_due() {
    let sender = connect(backend().await, Protocol::H1).await;
    let load = Arc::new(Load::new(vec![sender], get("/")).unwrap());
    // The second waits for the only connection: it too was due long ago.
    let due = Instant::now().checked_sub(LONG).unwrap();
    load.begin(due);
    load.begin(due);
    load.seen(2).await;
    let report = &load.turns.lock().report;
    assert_eq!(report.errors(), 0);
    assert!(report.least() >= LONG - Duration::from_millis(100), "{report:?}");
}

#[tokio::test]
async fn a_backend_is_as_slow_as_it_was_told() {
    let mut sender = connect(backend().await, Protocol::H1).await;
    let mut ask = async |path| sender.call(get(path).map(|()| empty())).await.unwrap();
    assert_eq!(ask("/delay/50").await, 200);
    let asked = Instant::now();
    ask("/").await;
    assert!(asked.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_of_each_request_on_it() {
    let (listener, address) = listener().await;
    let sender = connect(address, Protocol::H1).await;
    drop(listener);
    let load = Arc::new(Load::new(vec![sender], get("/")).unwrap());
    load.begin(Instant::now());
    load.seen(1).await;
    assert_eq!(load.turns.lock().report.errors(), 1);
}

#[tokio::test]
async fn a_grpc_answer_is_right_only_with_its_status() {
    let address = backend().await;
    let mut sender = connect(address, Protocol::H2).await;
    let call = grpc("/bench.Echo/Call").map(|()| full(vec![0; 5].into()));
    assert_eq!(sender.call(call).await.unwrap(), 200);
    // An answer that is no gRPC has no trailers.
    let plain = Request::get("http://localhost/").header("te", "trailers").body(empty()).unwrap();
    assert!(sender.call(plain).await.is_err());
}

#[tokio::test]
async fn the_floor_forwards_http_1_request_after_request() {
    let address = through_the_floor(false).await;
    let mut sender = connect(address, Protocol::H1).await;
    for path in ["/", "/bytes/1000000", "/"] {
        assert_eq!(sender.call(get(path).map(|()| empty())).await.unwrap(), 200);
    }
}

#[tokio::test]
async fn the_floor_forwards_grpc_with_its_trailers() {
    let mut sender = connect(through_the_floor(true).await, Protocol::H2).await;
    let call = grpc("/bench.Echo/Call").map(|()| full(vec![0; 5].into()));
    assert_eq!(sender.call(call).await.unwrap(), 200);
}
