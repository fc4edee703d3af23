//! What holds for every sidecar of a mesh: written by its operator, in the Helm values or a file.

use std::num::{NonZeroU32, NonZeroU64};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

/// As JSON: the ConfigMap `tidegate-injection`, and `tidegate inject --settings`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    pub proxy_image: String,
    /// Has the command `tidegate`, and iptables.
    pub init_image: String,
    pub image_pull_policy: String,
    /// Where the control plane serves xDS. By `https` a sidecar gets a certificate there, and needs `trust_root` to know it.
    pub control_plane: String,
    /// The roots that the control plane's certificate leads to, in PEM. The webhook knows them and puts them in.
    pub trust_root: Option<String>,
    /// What identities begin with, if it is not `cluster.local`.
    pub trust_domain: Option<String>,
    /// An init container with `restartPolicy: Always`, which Kubernetes has from 1.29 on; else a plain container.
    pub native_sidecar: bool,
    /// Every node has the CNI plugin `tidegate-cni`, which leads the connections of pods to their sidecars: no pod needs rights
    /// for that. Pods of a node without it do not start.
    pub cni: bool,
    /// The user that a sidecar runs as: its own connections are told by it, and not redirected.
    pub uid: NonZeroU32,
    pub ports: Ports,
    /// Where sidecars listen. `[::]` takes IPv4 too; a kernel without any IPv6 needs `0.0.0.0`.
    pub listen_address: String,
    /// Destinations that no pod's calls are redirected from.
    #[serde(rename = "excludedCIDRs")]
    pub excluded_cidrs: Vec<IpNet>,
    pub excluded_outbound_ports: Vec<u16>,
    /// How long requests in flight may take once the pod is being stopped.
    pub drain_seconds: u32,
    /// `resources` of the container, unless the pod says otherwise.
    pub resources: Map<String, Json>,
    pub token_audience: String,
    pub token_expiration_seconds: NonZeroU64,
    /// More flags of `tidegate-proxy`.
    pub extra_args: Vec<String>,
}

/// The ports that a sidecar takes of its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    pub outbound: u16,
    pub inbound: u16,
    pub admin: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, admin: 15020 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let resources =
            json!({ "requests": { "cpu": "20m", "memory": "24Mi" }, "limits": { "memory": "256Mi" } });
        Self {
            proxy_image: format!("tidegate/proxy:{version}"),
            init_image: format!("tidegate/cli:{version}"),
            image_pull_policy: String::from("IfNotPresent"),
            control_plane: String::from("http://tidegate-control-plane.tidegate-system.svc:15010"),
            trust_root: None,
            trust_domain: None,
            native_sidecar: true,
            cni: false,
            uid: NonZeroU32::new(15001).unwrap_or(NonZeroU32::MIN),
            ports: Ports::default(),
            listen_address: String::from("[::]"),
            excluded_cidrs: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            drain_seconds: 10,
            resources: resources.as_object().cloned().unwrap_or_default(),
            token_audience: String::from("tidegate"),
            token_expiration_seconds: NonZeroU64::new(3600).unwrap_or(NonZeroU64::MIN),
            extra_args: Vec::new(),
        }
    }
}

impl Settings {
    /// Whether sidecars ask the control plane for a certificate. A token goes to nobody in clear text.
    pub fn has_identity(&self) -> bool {
        self.control_plane.starts_with("https://")
    }
}
