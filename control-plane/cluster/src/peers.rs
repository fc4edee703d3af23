//! What the proxies of the other replicas run: who writes a status speaks for all of them.
//!
//! The leader asks every replica behind our own Service for its `/status`, once a second. One that does not answer is
//! counted as it last did for a while, and then no more.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tidegate_control_plane::status::Status;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::Plane;
use crate::source::Cluster;

const LOOK: Duration = Duration::from_secs(1);
/// Asking takes no more than a tenth of the time.
const REST: u32 = 9;
const TIMEOUT: Duration = Duration::from_secs(2);
/// A replica that restarts is silent for a moment, and its proxies go elsewhere.
const MEMORY: Duration = Duration::from_secs(5);
/// More objects than any mesh has.
const MAX_STATUS: usize = 64 << 20;
/// More replicas than anybody runs.
const MAX_PEERS: usize = 32;

/// Where we are ourselves.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) namespace: String,
    pub(crate) service: String,
    /// Where we answer; the others do at the same port, unless their EndpointSlice names another one `admin`.
    pub(crate) admin: SocketAddr,
}

/// Asks whenever `leads` says that it is us who write, until `shutdown`.
pub(crate) async fn keep(
    cluster: Cluster,
    plane: Plane,
    home: Home,
    mut leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let keeping = async {
        let mut known = BTreeMap::<SocketAddr, (Status, Instant)>::new();
        while leads.wait_for(|leads| *leads).await.is_ok() {
            let begun = Instant::now();
            let addresses = cluster.store.lock().endpoints(&home.namespace, &home.service, home.admin.port());
            known.retain(|address, (_, at)| addresses.contains(address) && at.elapsed() < MEMORY);
            for address in addresses.into_iter().take(MAX_PEERS) {
                match timeout(TIMEOUT, ask(address, home.admin.port())).await {
                    Ok(Ok(Some(status))) => drop(known.insert(address, (status, Instant::now()))),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => tracing::debug!(%address, error, "a replica does not answer"),
                    Err(_) => tracing::debug!(%address, "a replica does not answer in time"),
                }
            }
            if plane.reporter.speak_for(known.values().map(|(status, _)| status.clone()).collect()) {
                cluster.observed.send_modify(|count| *count += 1);
            }
            tokio::select! {
                () = sleep(LOOK.max(begun.elapsed() * REST)) => {}
                Ok(()) = leads.changed() => {}
            }
            if !*leads.borrow() {
                known.clear();
                plane.reporter.speak_for(Vec::new());
            }
        }
    };
    shutdown.run_until_cancelled(keeping).await;
}

/// `None` if that is ourselves.
async fn ask(address: SocketAddr, own: u16) -> Result<Option<Status>, String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
    // Whoever calls his own address calls from it.
    let here: Option<IpAddr> = stream.local_addr().ok().map(|local| local.ip());
    if here == Some(address.ip()) && address.port() == own {
        return Ok(None);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/status")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
    let body = Limited::new(answer.into_body(), MAX_STATUS).collect().await.map_err(|e| e.to_string())?;
    connection.abort();
    serde_json::from_slice(&body.to_bytes()).map(Some).map_err(|e| failed(&e))
}
