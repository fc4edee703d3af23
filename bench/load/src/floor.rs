//! The floor: a proxy of hyper's server and hyper's client, and nothing else.
//!
//! No policy, no route, no metric, no timeout, no retry. What a Tidegate proxy costs above this is what its features
//! cost; what it costs up to here is hyper and the kernel.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

#[derive(Args, Debug)]
pub(crate) struct FloorArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    /// Speak HTTP/2 upstream
    #[arg(long)]
    h2: bool,
}

struct Floor {
    upstream: SocketAddr,
    h2: bool,
    /// The one that rested longest is at the front: it is the surest to be ready.
    http1: Mutex<VecDeque<http1::SendRequest<Incoming>>>,
    http2: Mutex<Option<http2::SendRequest<Incoming>>>,
}

pub(crate) async fn run(args: FloorArgs) -> anyhow::Result<()> {
    serve(TcpListener::bind(args.listen).await?, args.upstream, args.h2).await
}

pub(crate) async fn serve(listener: TcpListener, upstream: SocketAddr, h2: bool) -> anyhow::Result<()> {
    let floor = Arc::new(Floor { upstream, h2, http1: Mutex::default(), http2: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let floor = floor.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| floor.clone().forward(request));
            // Whoever asked sees that the connection ended; there is nobody else to tell.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Floor {
    async fn forward(self: Arc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        if self.h2 { self.http2(request).await } else { self.http1(request).await }
    }

    async fn http1(&self, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let mut sender = match self.rested() {
            Some(sender) => sender,
            None => {
                let stream = self.connect().await?;
                let (mut sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                sender.ready().await?;
                sender
            }
        };
        let response = sender.send_request(request).await?;
        self.http1.lock().push_back(sender);
        Ok(response)
    }

    fn rested(&self) -> Option<http1::SendRequest<Incoming>> {
        let mut pool = self.http1.lock();
        for _ in 0..pool.len() {
            let sender = pool.pop_front()?;
            if sender.is_ready() {
                return Some(sender);
            }
            // Its last answer is still being read.
            if !sender.is_closed() {
                pool.push_back(sender);
            }
        }
        None
    }

    async fn http2(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        if request.uri().authority().is_none() {
            let uri: Uri = format!("http://{}{}", self.upstream, request.uri()).parse()?;
            *request.uri_mut() = uri;
        }
        let open = self.http2.lock().clone().filter(|sender| !sender.is_closed());
        let mut sender = match open {
            Some(sender) => sender,
            None => {
                let stream = self.connect().await?;
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                self.http2.lock().insert(sender).clone()
            }
        };
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }

    async fn connect(&self) -> anyhow::Result<TokioIo<TcpStream>> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}
