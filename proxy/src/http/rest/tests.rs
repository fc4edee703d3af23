use tidegate_policy::model::AppProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::config::ProxyConfig;
use crate::http::server::tests::context_with;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
/// Long enough to come to rest, and short of [`HEADER_TIMEOUT`].
const WHILE: Duration = Duration::from_secs(20);

/// A client of a proxy that knows of no route, and so answers by itself.
struct Visit {
    client: DuplexStream,
    context: Arc<ConnectionContext>,
    drain: CancellationToken,
    serving: JoinHandle<hyper::Result<()>>,
}

impl Visit {
    fn begin(config: ProxyConfig) -> Self {
        let (client, stream) = duplex(1 << 16);
        let address = "127.0.0.1:1".parse().unwrap();
        let (context, drain) = (Arc::new(context_with(address, config)), CancellationToken::new());
        let (ours, stop) = (context.clone(), drain.clone());
        let serving = tokio::spawn(async move { serve(&Builder::new(), stream, &ours, &stop).await });
        Self { client, context, drain, serving }
    }

    async fn says(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    async fn is_answered(&mut self) {
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(self.client.read_buf(&mut answer).await.unwrap(), 0, "closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    }

    /// The test and the task know of the connection; while hyper has it, so does its service.
    fn rests(&self) -> bool {
        Arc::strong_count(&self.context) == 2
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_rests_and_is_answered_when_it_asks_again() {
    let mut visit = Visit::begin(ProxyConfig::default());
    for _ in 0..3 {
        visit.says(REQUEST).await;
        visit.is_answered().await;
        assert!(!visit.rests());
        sleep(WHILE).await;
        assert!(visit.rests());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_in_pieces_is_whole_after_a_rest() {
    let mut visit = Visit::begin(ProxyConfig::default());
    let (begin, end) = REQUEST.split_at(20);
    for _ in 0..2 {
        sleep(WHILE).await;
        visit.says(begin).await;
        sleep(WHILE).await;
        visit.says(end).await;
        visit.is_answered().await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_are_all_answered_before_a_rest() {
    let mut visit = Visit::begin(ProxyConfig::default());
    sleep(WHILE).await;
    visit.says(&REQUEST.repeat(2)).await;
    let mut answers = Vec::new();
    while answers.windows(12).filter(|part| part == b"HTTP/1.1 404").count() < 2 {
        assert_ne!(visit.client.read_buf(&mut answers).await.unwrap(), 0, "closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_is_closed_after_as_long_as_any_other() {
    let mut visit = Visit::begin(ProxyConfig::default());
    visit.says(REQUEST).await;
    visit.is_answered().await;
    sleep(HEADER_TIMEOUT - REST_AFTER * 2).await;
    assert!(!visit.serving.is_finished());
    sleep(REST_AFTER * 4).await;
    assert!(visit.serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_connection_that_rests_as_any_other() {
    let mut visit = Visit::begin(ProxyConfig::default());
    visit.says(REQUEST).await;
    visit.is_answered().await;
    sleep(WHILE).await;
    assert!(visit.rests());
    visit.drain.cancel();
    visit.says(REQUEST).await;
    visit.is_answered().await;
    visit.serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_answer_does_not_rest() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = ProxyConfig { request_timeout: None, ..ProxyConfig::default() };
    config.local.app = Some((silent.local_addr().unwrap(), AppProtocol::Http1));
    let mut visit = Visit::begin(config);
    visit.says(REQUEST).await;
    let (mut asked, _) = silent.accept().await.unwrap();
    for _ in 0..5 {
        sleep(WHILE).await;
        assert!(!visit.rests() && !visit.serving.is_finished());
    }
    asked.write_all(b"HTTP/1.1 404 Late\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    visit.is_answered().await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_waited_for_as_long_as_configured_and_no_longer() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = REST_AFTER * 4 + Duration::from_millis(700);
    let mut config = ProxyConfig { request_timeout: Some(limit), ..ProxyConfig::default() };
    config.local.app = Some((silent.local_addr().unwrap(), AppProtocol::Http1));
    let mut visit = Visit::begin(config);
    for _ in 0..2 {
        let begun = Instant::now();
        visit.says(REQUEST).await;
        let asked = silent.accept().await.unwrap();
        let mut answer = [0; 12];
        visit.client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 504");
        // Timers have milliseconds.
        let late = begun.elapsed().checked_sub(limit).expect("not before its time");
        assert!(late <= Duration::from_millis(2), "{late:?}");
        let mut rest = vec![0; 4096];
        let _ = visit.client.read(&mut rest).await.unwrap();
        drop(asked);
    }
}
