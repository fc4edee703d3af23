//! An API server that says what it is told to, one answer for each request.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_cni::kubeconfig::Access;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

pub(crate) const TOKEN: &str = "t-1";

pub(crate) struct Server {
    pub(crate) access: Access,
    seen: mpsc::UnboundedReceiver<String>,
}

pub(crate) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Only ends a test that would never end by itself.
const PATIENCE: Duration = Duration::from_secs(20);

impl Server {
    /// The next request's head, when it has come.
    pub(crate) async fn head(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("nobody asks").unwrap()
    }

    /// Whether nothing has come that was not looked at.
    pub(crate) fn is_left_alone(&mut self) -> bool {
        self.seen.try_recv().is_err()
    }

    /// Answers the first request with the first of them; the last one for ever. One that is empty is silence.
    pub(crate) async fn start(answers: Vec<String>) -> Self {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let chain = vec![CertificateDer::from(key.cert.der().to_vec())];
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, private).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (sender, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for i in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let answer = answers[i.min(answers.len() - 1)].clone();
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &answer, &sender).await;
                    }
                });
            }
        });
        let access = Access {
            server: format!("https://{at}").parse().unwrap(),
            roots: key.cert.pem().into_bytes(),
            token: TOKEN.to_owned(),
        };
        Self { access, seen }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    seen: &mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let _ = seen.send(String::from_utf8(head).unwrap());
    if answer.is_empty() {
        return std::future::pending().await;
    }
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
