//! A TCP listener, one route to one server, and plugins on the way.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tidegate_policy::model::{Accepts, AppProtocol, Mode, Resource, ResourceName, TargetKind};
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::client::Client;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::super::module::plugin;
use crate::mesh::{Gateway, PORT, policy, service_at};
use crate::streams::{stream_listener, tcp_route};

/// A plugin, and how it is written of.
pub(super) struct Plug {
    file: NamedTempFile,
    name: &'static str,
    target: (TargetKind, &'static str),
    more: Value,
    mode: Mode,
}

pub(super) struct Carrying {
    pub(super) gateway: Gateway,
    pub(super) address: SocketAddr,
    log: NamedTempFile,
    files: Vec<NamedTempFile>,
}

impl Plug {
    /// On the route.
    pub(super) fn of(functions: &[String]) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&plugin(&functions.concat())).unwrap();
        file.flush().unwrap();
        Self {
            file,
            name: "policy",
            target: (TargetKind::TCPRoute, "r"),
            more: json!({}),
            mode: Mode::Enforce,
        }
    }

    pub(super) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub(super) fn at(self, kind: TargetKind, name: &'static str) -> Self {
        Self { target: (kind, name), ..self }
    }

    pub(super) fn with(self, more: Value) -> Self {
        Self { more, ..self }
    }

    pub(super) fn in_shadow(self) -> Self {
        Self { mode: Mode::Shadow, ..self }
    }

    fn written(&self) -> Resource {
        let mut spec = json!({"source": {"file": self.file.path()}});
        for (name, value) in self.more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let mut written = policy("WasmPlugin", self.target, spec);
        if let Resource::Policy(policy) = &mut written {
            (policy.meta.name, policy.mode) = (ResourceName::new("shop", self.name), self.mode);
        }
        written
    }
}

impl Carrying {
    pub(super) async fn start(server: SocketAddr, functions: &[String]) -> Self {
        Self::with(server, [Plug::of(functions)]).await
    }

    pub(super) async fn with(server: SocketAddr, plugs: impl IntoIterator<Item = Plug>) -> Self {
        let way = [stream_listener("tcp", PORT, Accepts::Tcp), tcp_route("r", "tcp", &[("cart", 1)])];
        Self::over(way, server, plugs).await
    }

    /// By a listener and a route of one's own.
    pub(super) async fn over(
        way: [Resource; 2],
        server: SocketAddr,
        plugs: impl IntoIterator<Item = Plug>,
    ) -> Self {
        let log = NamedTempFile::new().unwrap();
        let mut gateway = Gateway::with(|config| config.access_log = LogTarget::File(log.path().into()));
        let mut all = Vec::from(way);
        all.extend(service_at("cart", AppProtocol::Http1, &[server]));
        let plugs: Vec<_> = plugs.into_iter().collect();
        all.extend(plugs.iter().map(Plug::written));
        gateway.apply(all);
        let address = gateway.address().await;
        Self { gateway, address, log, files: plugs.into_iter().map(|plug| plug.file).collect() }
    }

    /// Another version of the first plugin.
    pub(super) fn rewrite(&self, functions: &[String]) {
        std::fs::write(self.files[0].path(), plugin(&functions.concat())).unwrap();
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What the access log says of the first connection that has ended.
    pub(super) async fn ended(&self) -> Value {
        let line = || std::fs::read_to_string(self.log.path()).unwrap().lines().next().map(str::to_owned);
        let waited = async {
            loop {
                if let Some(line) = line() {
                    return serde_json::from_str(&line).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.expect("a line")
    }

    /// Asks the admin port until the page says this.
    pub(super) async fn says(&self, page: &str, wanted: &str) {
        let waited = async {
            loop {
                let page = Client::http1(self.gateway.running.admin()).await.get(page).await.body;
                if String::from_utf8_lossy(&page).contains(wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.expect(wanted);
    }
}

/// All that is still to come; a reset is an error.
pub(super) async fn rest(stream: &mut TcpStream) -> io::Result<String> {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await?;
    Ok(rest)
}
