//! A small HTTP/1.1 client with keep-alive: enough for the load, the demo's services, scrapes and `tidegate status`.
//!
//! One client talks to one address. It must not retry what may have reached the server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer that this program asks for is larger; a runaway peer must not fill the memory.
const MAX_BODY: usize = 16 << 20;

/// Connections that wait for the next request; more than this are closed after use.
const MAX_IDLE: usize = 256;

#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    deadline: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// `deadline` is for a whole exchange: connect, request and complete response.
    pub(crate) fn new(address: SocketAddr, deadline: Duration) -> Self {
        Self { address, deadline, idle: Mutex::new(Vec::new()) }
    }

    /// Sends the request as it is (origin-form target, `host` included) and collects the answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        match timeout(self.deadline, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => bail!("no complete answer from {} within {:?}", self.address, self.deadline),
        }
    }

    /// A GET whose answer must be 200; the body as text.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let request =
            Request::get(path).header(header::HOST, self.address.to_string()).body(Full::default())?;
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            bail!("http://{}{path} answered {}", self.address, response.status());
        }
        String::from_utf8(response.into_body().into())
            .map_err(|_| anyhow!("http://{}{path} is not UTF-8", self.address))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        let mut request = request;
        while let Some(mut sender) = self.pooled() {
            match sender.try_send_request(request).await {
                Ok(response) => return self.collect(response, sender).await,
                // The server closed the idle connection; what comes back here was never sent.
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(refused.into_error().into()),
                },
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await?;
        self.collect(response, sender).await
    }

    fn pooled(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(sender)
    }

    async fn collect(
        &self,
        response: Response<Incoming>,
        mut sender: SendRequest<Full<Bytes>>,
    ) -> Result<Response<Bytes>> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| anyhow!(e))?.to_bytes();
        if sender.ready().await.is_ok() {
            let mut idle = self.idle.lock();
            if idle.len() < MAX_IDLE {
                idle.push(sender);
            }
        }
        Ok(Response::from_parts(head, body))
    }
}
