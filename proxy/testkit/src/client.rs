//! Clients: HTTP/1.1 and HTTP/2 over one connection each, and raw TCP for what no HTTP client would send.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::body::{TestBody, empty};

/// Only a test that is broken waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to a server. Closed when dropped.
#[derive(Debug)]
pub struct Client(Kind);

#[derive(Debug)]
enum Kind {
    Http1(http1::SendRequest<TestBody>),
    Http2(http2::SendRequest<TestBody>),
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

/// A connection on which the test writes the bytes.
#[derive(Debug)]
pub struct RawClient(TcpStream);

impl Client {
    /// # Panics
    /// When nobody listens there.
    pub async fn http1(address: SocketAddr) -> Self {
        Self::http1_after(b"", address).await
    }

    /// The same on a connection that begins with these bytes.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn http1_after(first: &[u8], address: SocketAddr) -> Self {
        let stream = connect_after(first, address).await;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.expect("a handshake sends nothing");
        tokio::spawn(connection.with_upgrades());
        Self(Kind::Http1(sender))
    }

    /// # Panics
    /// When nobody listens there.
    pub async fn http2(address: SocketAddr) -> Self {
        Self::http2_after(b"", address).await
    }

    /// The same on a connection that begins with these bytes.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn http2_after(first: &[u8], address: SocketAddr) -> Self {
        let stream = connect_after(first, address).await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("the first frames can be written");
        tokio::spawn(connection);
        Self(Kind::Http2(sender))
    }

    /// Sends a request; an HTTP/1.1 connection first finishes the last one. Requests get `host: test` unless they have
    /// one, or an absolute target.
    ///
    /// # Errors
    /// The connection ended first.
    pub async fn send(&mut self, request: Request<TestBody>) -> hyper::Result<Response<Incoming>> {
        let sent = async {
            match &mut self.0 {
                Kind::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(with_host(request)).await
                }
                Kind::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(with_authority(request)).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("no answer within a minute")
    }

    /// Sends a request without waiting for the one before, over HTTP/2: what comes back is done when the answer begins.
    ///
    /// # Panics
    /// Over HTTP/1.1.
    pub fn start(
        &mut self,
        request: Request<TestBody>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<> {
        match &mut self.0 {
            Kind::Http1(_) => panic!("HTTP/1.1 has one request at a time"),
            Kind::Http2(sender) => sender.send_request(with_authority(request)),
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// Without a whole answer.
    pub async fn call(&mut self, request: Request<TestBody>) -> Answer {
        let response = self.send(request).await.expect("an answer");
        Answer::read(response).await.expect("a whole answer")
    }

    /// # Panics
    /// Without a whole answer.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.call(Request::get(path).body(empty()).expect("a valid path")).await
    }

    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Kind::Http1(sender) => sender.is_closed(),
            Kind::Http2(sender) => sender.is_closed(),
        }
    }
}

impl Answer {
    /// # Errors
    /// The body broke off.
    pub async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("a body within a minute")?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// Why the mesh answered, if it did.
    pub fn reason(&self) -> Option<&str> {
        self.headers.get("x-tidegate-reason")?.to_str().ok()
    }
}

impl RawClient {
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        Self(connect(address).await)
    }

    /// # Panics
    /// When the other side has closed.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the other side reads");
    }

    /// Writes, unless the other side has closed; then this is `false`.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads until `end` has come, or the other side has closed.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&seen).contains(end) {
                match self.0.read_u8().await {
                    Ok(byte) => seen.push(byte),
                    Err(_) => break,
                }
            }
        };
        let timely = tokio::time::timeout(PATIENCE, read).await;
        timely.expect("bytes within a minute");
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Reads until the other side has closed.
    pub async fn read_to_end(&mut self) -> String {
        self.read_until("\u{0}never").await
    }

    /// Closes with a reset.
    pub fn reset(self) {
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.set_nodelay(true).expect("an open socket");
    stream
}

async fn connect_after(first: &[u8], address: SocketAddr) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(first).await.expect("the other side reads");
    stream
}

fn with_host(mut request: Request<TestBody>) -> Request<TestBody> {
    if request.uri().authority().is_none() && !request.headers().contains_key("host") {
        request.headers_mut().insert("host", http::HeaderValue::from_static("test"));
    }
    request
}

fn with_authority(mut request: Request<TestBody>) -> Request<TestBody> {
    if request.uri().authority().is_none() {
        let host = request.headers_mut().remove("host");
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("test");
        let uri = format!("http://{host}{}", request.uri());
        *request.uri_mut() = uri.parse().expect("a path");
    }
    request
}

impl From<TcpStream> for RawClient {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}
