//! A client that speaks HTTP/3.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::poll_fn;
use h3::client::{self, SendRequest};
use h3::error::{Code, StreamError};
use h3_quinn::{BidiStream, OpenStreams, RecvStream, SendStream};
use http::Request;
use http_body_util::BodyExt as _;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint};
use rustls::ClientConfig;

use crate::body::TestBody;
use crate::client::Answer;

/// Only a test that is broken waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to a server. Closed when dropped.
pub struct Http3Client {
    quic: quinn::Connection,
    sender: SendRequest<OpenStreams, Bytes>,
    _endpoint: Endpoint,
}

/// A request that is under way.
pub type Http3Request = client::RequestStream<BidiStream<Bytes>, Bytes>;

/// For connections by [`Endpoint::connect_with`].
///
/// # Panics
/// Never: the suites are there.
pub fn quic_config(tls: Arc<ClientConfig>) -> quinn::ClientConfig {
    let tls = QuicClientConfig::try_from(tls).expect("the provider has the suite that QUIC begins with");
    quinn::ClientConfig::new(Arc::new(tls))
}

impl Http3Client {
    /// Connects to a server that is asked for by `name`.
    ///
    /// # Errors
    /// There is no connection.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn connect(
        address: SocketAddr,
        name: &str,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ConnectionError> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback has a free port");
        let connecting = endpoint.connect_with(quic_config(tls), address, name).expect("a valid name");
        let quic = tokio::time::timeout(PATIENCE, connecting).await.expect("a handshake within a minute")?;
        let (mut driver, sender) = match client::new(h3_quinn::Connection::new(quic.clone())).await {
            Ok(both) => both,
            // It was closed at once; QUIC knows why.
            Err(_) => return Err(quic.closed().await),
        };
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { quic, sender, _endpoint: endpoint })
    }

    /// The connection below.
    pub fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    /// Sends the head of a request.
    ///
    /// # Errors
    /// The connection ended first, or is about to.
    pub async fn open(&mut self, head: Request<()>) -> Result<Http3Request, StreamError> {
        self.sender.send_request(head).await
    }

    /// Sends a request and reads the whole answer, at the same time.
    ///
    /// # Errors
    /// There is no whole answer.
    ///
    /// # Panics
    /// After a minute.
    pub async fn try_call(&mut self, request: Request<TestBody>) -> Result<Answer, StreamError> {
        let (head, body) = request.into_parts();
        let (send, receive) = self.open(Request::from_parts(head, ())).await?.split();
        tokio::spawn(upload(send, body));
        read(receive).await
    }

    /// The same.
    ///
    /// # Panics
    /// Without a whole answer.
    pub async fn call(&mut self, request: Request<TestBody>) -> Answer {
        self.try_call(request).await.expect("a whole answer")
    }
}

/// Sends a body, as far as it is wanted.
async fn upload(
    mut send: client::RequestStream<SendStream<Bytes>, Bytes>,
    mut body: TestBody,
) -> Result<(), StreamError> {
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => send.send_data(data).await?,
            Err(frame) => send.send_trailers(frame.into_trailers().unwrap_or_default()).await?,
        }
    }
    send.finish().await
}

async fn read(mut receive: client::RequestStream<RecvStream, Bytes>) -> Result<Answer, StreamError> {
    let whole = async {
        let (head, ()) = receive.recv_response().await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(data) = receive.recv_data().await? {
            body.extend_from_slice(data.chunk());
        }
        let trailers = receive.recv_trailers().await?.unwrap_or_default();
        Ok(Answer { status: head.status, headers: head.headers, body: body.freeze(), trailers })
    };
    tokio::time::timeout(PATIENCE, whole).await.expect("an answer within a minute")
}

/// Takes a request back.
pub fn cancel(mut request: Http3Request) {
    request.stop_sending(Code::H3_REQUEST_CANCELLED);
    request.stop_stream(Code::H3_REQUEST_CANCELLED);
}

impl std::fmt::Debug for Http3Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http3Client").field("quic", &self.quic.stable_id()).finish_non_exhaustive()
    }
}
