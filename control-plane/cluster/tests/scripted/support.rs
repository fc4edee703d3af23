//! A control plane at the scripted API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::leader::Terms;
use tidegate_cluster::source::{Cluster, Timing};
use tidegate_cluster::{ClusterArgs, Options, Started, start};
use tidegate_control_plane::source::Reading;
use tidegate_control_plane::{ControlPlaneArgs, ControllerArgs, QuotaArgs};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::{Api, PATIENCE};

pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) fn hurry() -> Timing {
    Timing {
        quiet: Duration::from_millis(10),
        burst: Duration::from_millis(100),
        rediscover: Duration::from_millis(50),
        referred: Duration::from_secs(5),
        patience: Duration::from_secs(10),
        retry: (Duration::from_millis(10), Duration::from_millis(100)),
        watch_seconds: 290,
        authority: Duration::from_millis(50),
    }
}

pub(crate) fn terms() -> Terms {
    Terms {
        lease: Duration::from_millis(1500),
        deadline: Duration::from_millis(1000),
        retry: Duration::from_millis(50),
    }
}

/// What the source alone reads.
pub(crate) struct Source {
    readings: watch::Receiver<Option<Arc<Reading>>>,
    _guard: DropGuard,
}

impl Source {
    pub(crate) fn of(api: &Api, timing: Timing) -> Self {
        let stop = CancellationToken::new();
        let readings = Cluster::new(api.client(), timing).read(stop.clone());
        Self { readings, _guard: stop.drop_guard() }
    }

    /// Waits for a reading that is as wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Reading) -> bool) -> Arc<Reading> {
        let last = self.readings.clone();
        let is_wanted = |reading: &Option<Arc<Reading>>| reading.as_deref().is_some_and(&wanted);
        let done = tokio::time::timeout(PATIENCE, self.readings.wait_for(is_wanted)).await;
        done.unwrap_or_else(|_| panic!("never came; last: {:#?}", *last.borrow())).unwrap().clone().unwrap()
    }

    pub(crate) fn last(&self) -> Option<Arc<Reading>> {
        self.readings.borrow().clone()
    }
}

pub(crate) fn paths(reading: &Reading) -> Vec<&str> {
    reading.files.iter().map(|file| &*file.path).collect()
}

pub(crate) fn text(reading: &Reading, path: &str) -> Option<String> {
    let file = reading.files.iter().find(|file| &*file.path == path)?;
    Some(file.body.as_ref().ok()?.text.to_string())
}

pub(crate) fn flags() -> ClusterArgs {
    ClusterArgs {
        kubernetes: true,
        namespace: String::from("mesh"),
        service: String::from("tidegate"),
        webhook: Some(ANY),
        webhook_secret: String::from("tidegate-webhook"),
        webhook_configuration: String::from("tidegate"),
        webhook_hosts: Vec::new(),
        leader_lease: String::from("tidegate-leader"),
        identity: None,
        gateway_image: None,
        injection: None,
        ca_secret: None,
        token_audience: String::from("tidegate"),
    }
}

pub(crate) async fn plane(api: &Api, flags: &ClusterArgs) -> Started {
    plane_until(api, flags, CancellationToken::new()).await
}

pub(crate) async fn plane_until(api: &Api, flags: &ClusterArgs, shutdown: CancellationToken) -> Started {
    let args = ControlPlaneArgs {
        policies: None,
        listen: ANY,
        admin: ANY,
        classes: ControllerArgs::default(),
        status_file: None,
        quota: QuotaArgs::default(),
        identity: tidegate_control_plane::IdentityArgs::default(),
        is_first: true,
    };
    let options = Options { client: api.client(), timing: hurry(), terms: terms(), mutate: None };
    let starting = start(&args, flags, options, shutdown);
    tokio::time::timeout(PATIENCE, starting).await.expect("never started").unwrap()
}
