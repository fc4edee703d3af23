//! An address that stays while what is behind it comes and goes.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) struct Front {
    pub(crate) name: String,
    behind: watch::Sender<Option<SocketAddr>>,
    _accepting: JoinSet<()>,
}

impl Front {
    /// With nobody behind it.
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let behind = watch::Sender::new(None);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, behind.subscribe()));
        Self { name, behind, _accepting: accepting }
    }

    /// Breaks all connections; later ones lead there, or are closed at once.
    pub(crate) fn lead_to(&self, address: Option<SocketAddr>) {
        self.behind.send_replace(address);
    }
}

async fn accept(listener: TcpListener, behind: watch::Receiver<Option<SocketAddr>>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut behind = behind.clone();
        let Some(address) = *behind.borrow_and_update() else { continue };
        connections.spawn(async move {
            let Ok(mut server) = TcpStream::connect(address).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = behind.changed() => {}
            }
        });
    }
}
