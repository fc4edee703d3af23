//! Puts the control plane together: source -> fold -> hub and status. The only file here that knows everyone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tidegate_policy::document::Diagnostic;
use tidegate_xds::server::grpc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admin;
use crate::grpc::{Hub, TYPES};
use crate::source::Reading;
use crate::source::file::{self, CannotOpen};
use crate::status::{Reporter, Status};
use crate::world::{Fold, World};

/// How to run a control plane from a directory of documents.
#[derive(Args, Clone, Debug)]
pub struct ControlPlaneArgs {
    /// Directory of policy documents (*.yaml, *.yml, *.json), watched for changes.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CP_POLICIES")]
    pub policies: PathBuf,
    /// Where proxies fetch their configuration (gRPC, delta xDS).
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_CP_LISTEN", default_value = "127.0.0.1:15010")]
    pub listen: SocketAddr,
    /// Where people and Prometheus ask: /status, /metrics, /ready.
    #[arg(long, value_name = "ADDR", env = "TIDEGATE_CP_ADMIN", default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Policies(#[from] CannotOpen),
    #[error("cannot listen on {address} for {purpose}: {cause}")]
    Listen { address: SocketAddr, purpose: &'static str, cause: std::io::Error },
}

impl StartError {
    /// The process's exit code: 2 where the command line is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Policies(_) => 2,
            Self::Listen { .. } => 1,
        }
    }
}

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    reporter: Arc<Reporter>,
    hub: Arc<Hub>,
    world: watch::Receiver<Arc<World>>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _guard: DropGuard,
}
