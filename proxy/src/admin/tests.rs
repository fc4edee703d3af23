use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{AdminServer, AdminSource, to_yaml};
use crate::telemetry::{LogTarget, Scrape, Telemetry, TelemetryConfig};

#[derive(Default)]
struct Source {
    waiting_for: Mutex<Option<String>>,
    /// Its readiness has been.
    asked: Notify,
    broken: bool,
}

impl AdminSource for Source {
    fn ready(&self) -> Result<(), String> {
        self.asked.notify_one();
        self.waiting_for.lock().clone().map_or(Ok(()), Err)
    }

    fn config_yaml(&self) -> Result<String, String> {
        if self.broken {
            Err(String::from("no form"))
        } else {
            to_yaml(&serde_json::json!({"routes": ["a"]}))
        }
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!({"node": "n1"})
    }

    fn scrape(&self) -> Scrape {
        Scrape { config_age: Some(Duration::from_secs(7)), ..Scrape::default() }
    }
}

/// Says that it has begun, then waits for the test before each scrape.
struct Slow {
    begun: tokio::sync::mpsc::UnboundedSender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl AdminSource for Slow {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn config_yaml(&self) -> Result<String, String> {
        Ok(String::new())
    }

    fn status(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn scrape(&self) -> Scrape {
        self.begun.send(()).unwrap();
        // An error means that the test has let everyone go.
        let _ = self.go_on.lock().recv();
        Scrape::default()
    }
}

fn start(source: impl AdminSource) -> AdminServer {
    let config = TelemetryConfig { access_log: LogTarget::Off, ..TelemetryConfig::default() };
    let (telemetry, _) = Telemetry::start(config, &Handle::current());
    AdminServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), source, telemetry, &Handle::current()).unwrap()
}

/// Status line with headers, and body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn readiness_follows_the_source_and_says_why_not_in_one_line() {
    let source = Arc::new(Source::default());
    let admin = start(source.clone());
    let (head, body) = ask(admin.address(), "GET", "/ready").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ready\n");
    *source.waiting_for.lock() = Some(String::from("waits for the first\nconfiguration"));
    let (head, body) = ask(admin.address(), "GET", "/ready").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, "waits for the first configuration\n");
    assert!(ask(admin.address(), "GET", "/live").await.0.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn who_waits_for_readiness_is_told_as_soon_as_it_is_there() {
    let source = Arc::new(Source::default());
    *source.waiting_for.lock() = Some(String::from("waits"));
    let admin = start(source.clone());
    let (head, body) = ask(admin.address(), "GET", "/ready?wait=0").await;
    assert!(head.starts_with("http/1.1 503") && body == "waits\n", "{head}{body}");
    source.asked.notified().await;
    let address = admin.address();
    let asking = tokio::spawn(async move { ask(address, "GET", "/ready?wait=10").await });
    source.asked.notified().await;
    *source.waiting_for.lock() = None;
    assert_eq!(asking.await.unwrap().1, "ready\n");
}

#[tokio::test]
async fn each_page_has_its_form() {
    let admin = start(Source::default());
    let (head, body) = ask(admin.address(), "GET", "/metrics").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("tidegate_config_age_seconds 7.0\n") && body.ends_with("# EOF\n"), "{body}");
    let (head, body) = ask(admin.address(), "GET", "/config").await;
    assert!(head.contains("content-type: application/yaml"), "{head}");
    assert_eq!(body, "routes:\n- a\n");
    let (head, body) = ask(admin.address(), "GET", "/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["node"], "n1");
}

#[tokio::test]
async fn the_index_and_a_wrong_path_list_the_pages() {
    let admin = start(Source::default());
    let (head, index) = ask(admin.address(), "GET", "/").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (head, missing) = ask(admin.address(), "GET", "/config_dump?x=1").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    for path in ["/ready", "/live", "/metrics", "/config", "/status"] {
        assert!(index.contains(path) && missing.contains(path), "{path}");
    }
}

#[tokio::test]
async fn nothing_is_changed_through_this_port() {
    let admin = start(Source::default());
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let (head, _) = ask(admin.address(), method, "/config").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    }
    let (head, body) = ask(admin.address(), "HEAD", "/config").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 12"), "{head}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn what_cannot_be_shown_says_so() {
    let admin = start(Source { broken: true, ..Source::default() });
    let (head, body) = ask(admin.address(), "GET", "/config").await;
    assert!(head.starts_with("http/1.1 500"), "{head}");
    assert_eq!(body, "no form\n");
}

#[tokio::test]
async fn what_is_not_http_ends_its_own_connection_only() {
    let admin = start(Source::default());
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    stream.write_all(b"\x16\x03\x01 not http\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(ask(admin.address(), "GET", "/live").await.0.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn a_third_scrape_at_a_time_is_told_to_come_back() {
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, gate) = mpsc::channel();
    let admin = start(Slow { begun, go_on: Mutex::new(gate) });
    let address = admin.address();
    let slow: Vec<_> = (0..2).map(|_| tokio::spawn(ask(address, "GET", "/metrics"))).collect();
    for _ in 0..2 {
        begins.recv().await.unwrap();
    }
    let (head, _) = ask(address, "GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after: 1"), "{head}");
    assert!(ask(address, "GET", "/ready").await.0.starts_with("http/1.1 200"), "probes are never refused");
    drop(go_on);
    for scrape in slow {
        assert!(scrape.await.unwrap().0.starts_with("http/1.1 200"));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let admin = start(Source::default());
    let config = TelemetryConfig { access_log: LogTarget::Off, ..TelemetryConfig::default() };
    let (telemetry, _) = Telemetry::start(config, &Handle::current());
    let second = AdminServer::start(admin.address(), Source::default(), telemetry, &Handle::current());
    assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
