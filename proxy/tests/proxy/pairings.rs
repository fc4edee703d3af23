//! What a client speaks, and what the backend: every test of translation is made of all four.

use std::net::SocketAddr;

use tidegate_policy::model::{AppProtocol, Resource, Route};
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::client::Client;

use crate::mesh::{self, Gateway, listener, service_at, sidecar_config};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairing {
    pub(crate) http2: bool,
    pub(crate) backend: AppProtocol,
}

pub(crate) const ALL: [Pairing; 4] = [
    Pairing { http2: false, backend: AppProtocol::Http1 },
    Pairing { http2: false, backend: AppProtocol::H2c },
    Pairing { http2: true, backend: AppProtocol::Http1 },
    Pairing { http2: true, backend: AppProtocol::H2c },
];

impl Pairing {
    /// In front of an application.
    pub(crate) fn sidecar(self, app: SocketAddr) -> Running {
        Proxy::start(sidecar_config(app, self.backend)).unwrap()
    }

    /// With one route, whose backend is `v1`.
    pub(crate) async fn gateway(self, backend: SocketAddr, route: Route) -> Gateway {
        let mut gateway = Gateway::start();
        let mut all = service_at("v1", self.backend, &[backend]);
        all.extend([Resource::Listener(listener(mesh::PORT)), Resource::Route(route)]);
        gateway.apply(all);
        gateway.address().await;
        gateway
    }

    pub(crate) async fn client(self, proxy: SocketAddr) -> Client {
        if self.http2 { Client::http2(proxy).await } else { Client::http1(proxy).await }
    }
}
