//! What a pod's author says, in annotations. A word that is not known, or has the wrong form, is a fault: a misspelt
//! annotation would be silently without effect.

use std::fmt::Display;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use crate::probes;
use crate::settings::Settings;

/// `enabled` or `disabled`, as an annotation or, where the webhook shall ask, as a label; see [`crate::decide`].
pub(crate) const INJECT: &str = "tidegate.io/inject";
/// Written by us: at these ports the sidecar takes mTLS, so that callers know.
pub(crate) const MESH_PORTS: &str = "tidegate.io/mesh-ports";
/// Written by us, with the sidecar's image.
pub const INJECTED: &str = "tidegate.io/injected";
/// Written by us where a CNI plugin sets the rules, for it: which, as JSON of [`tidegate_redirect::Rules`].
pub const REDIRECT: &str = "tidegate.io/redirect";
/// Written by us: the roots that the sidecar knows the control plane by, which its own volume shows it as a file.
pub(crate) const TRUST_ROOT: &str = "tidegate.io/trust-root";

/// `native` or `plain`; default as the mesh's settings say.
const SIDECAR: &str = "tidegate.io/sidecar";
/// The ports that the application serves on, with commas between. Default: each TCP port that a container names. `none`: it
/// serves nothing. A connection that was not led to the sidecar by a redirection is for the first.
const APP_PORT: &str = "tidegate.io/app-port";
/// `http1` or `h2c`, for the first of the ports; of the others, Services tell.
const APP_PROTOCOL: &str = "tidegate.io/app-protocol";
/// The Services that it serves, whose policies hold for its inbound requests: `cart` or `shop/cart`, with commas between.
const SERVICES: &str = "tidegate.io/services";
/// Connections to these ports of the pod are led to the sidecar, with commas between. Default: the application's ports.
const INBOUND: &str = "tidegate.io/inbound-ports";
/// Connections that are not redirected.
const NOT_INBOUND: &str = "tidegate.io/exclude-inbound-ports";
const NOT_OUTBOUND: &str = "tidegate.io/exclude-outbound-ports";
const NOT_CIDRS: &str = "tidegate.io/exclude-outbound-cidrs";
/// `redirect`, or `none`: something else leads connections to the sidecar.
pub const INTERCEPTION: &str = "tidegate.io/interception";
/// The name that status and telemetry show.
const WORKLOAD: &str = "tidegate.io/workload";
/// Requests of the sidecar's container.
const CPU: &str = "tidegate.io/proxy-cpu";
const MEMORY: &str = "tidegate.io/proxy-memory";
const MEMORY_LIMIT: &str = "tidegate.io/proxy-memory-limit";

const KNOWN: [&str; 18] = [
    INJECT,
    INJECTED,
    MESH_PORTS,
    REDIRECT,
    TRUST_ROOT,
    SIDECAR,
    APP_PORT,
    APP_PROTOCOL,
    SERVICES,
    INBOUND,
    NOT_INBOUND,
    NOT_OUTBOUND,
    NOT_CIDRS,
    INTERCEPTION,
    WORKLOAD,
    CPU,
    MEMORY,
    MEMORY_LIMIT,
];
/// Written by whoever makes the pods; no word for the sidecar.
const OTHERS: [&str; 1] = ["tidegate.io/injection-checksum"];
const PREFIX: &str = "tidegate.io/";

/// What a pod has without a word of its own.
pub(crate) const DEFAULT_GRACE_SECONDS: u64 = 30;

/// What is to be added to one pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    pub(crate) native: bool,
    pub(crate) app_ports: Vec<u16>,
    pub(crate) app_protocol: Option<String>,
    pub(crate) services: Vec<String>,
    pub(crate) inbound: Vec<u16>,
    /// What the kubelet asks at ports that are led to the sidecar, as its `--probe` reads it.
    pub(crate) probes: Vec<String>,
    pub(crate) not_inbound: Vec<u16>,
    pub(crate) not_outbound: Vec<u16>,
    pub(crate) not_cidrs: Vec<IpNet>,
    pub(crate) redirects: bool,
    /// How long the pod may take to end, in seconds.
    pub(crate) grace: u64,
    pub(crate) workload: Option<String>,
    pub(crate) resources: Json,
}

/// Reads annotations, and keeps what is wrong with them.
struct Reader<'a> {
    annotations: Option<&'a Json>,
    faults: Vec<String>,
}

impl Wish {
    /// # Errors
    /// Every annotation that is wrong.
    pub(crate) fn of(pod: &Json, settings: &Settings) -> Result<Self, Vec<String>> {
        let mut reader = Reader { annotations: pod.pointer("/metadata/annotations"), faults: Vec::new() };
        reader.strangers();
        let app_ports = match reader.text(APP_PORT) {
            Some("none") => Vec::new(),
            Some(_) => reader.list(APP_PORT, "ports with commas between, or none"),
            None => named_ports(pod),
        };
        let inbound = match reader.text(INBOUND) {
            Some(_) => reader.ports(INBOUND),
            None => app_ports.clone(),
        };
        if app_ports.contains(&0) || inbound.contains(&0) {
            reader.faults.push(format!("{APP_PORT}: 0 is no port"));
        }
        if app_ports.is_empty() && !inbound.is_empty() {
            reader
                .faults
                .push(format!("{INBOUND}: nothing says where the application listens: write {APP_PORT} too"));
        }
        let native = reader.one_of(SIDECAR, &["native", "plain"]).map(|word| word == "native");
        let redirects =
            reader.one_of(INTERCEPTION, &["redirect", "none"]).is_none_or(|word| word == "redirect");
        let mut wish = Self {
            probes: Vec::new(),
            native: native.unwrap_or(settings.native_sidecar),
            app_ports,
            app_protocol: reader.one_of(APP_PROTOCOL, &["http1", "h2c"]).map(str::to_owned),
            services: reader.list(SERVICES, "names of Services"),
            inbound,
            not_inbound: reader.ports(NOT_INBOUND),
            not_outbound: [settings.excluded_outbound_ports.clone(), reader.ports(NOT_OUTBOUND)].concat(),
            not_cidrs: [
                settings.excluded_cidrs.clone(),
                reader.list(NOT_CIDRS, "networks such as 10.1.0.0/16"),
            ]
            .concat(),
            redirects,
            grace: pod
                .pointer("/spec/terminationGracePeriodSeconds")
                .and_then(Json::as_u64)
                .unwrap_or(DEFAULT_GRACE_SECONDS),
            workload: reader.text(WORKLOAD).map(str::to_owned),
            resources: reader.resources(settings),
        };
        wish.probes = probes::of(pod, &wish.led());
        if reader.faults.is_empty() { Ok(wish) } else { Err(reader.faults) }
    }
}

impl Wish {
    /// The ports at which callers come to the sidecar.
    pub(crate) fn meshed(&self) -> Vec<u16> {
        if self.redirects { self.led() } else { Vec::new() }
    }

    /// The same, whoever leads them there.
    fn led(&self) -> Vec<u16> {
        self.inbound.iter().filter(|port| !self.not_inbound.contains(port)).copied().collect()
    }
}

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.annotations?.get(name)?.as_str().map(str::trim)
    }

    fn strangers(&mut self) {
        let names =
            self.annotations.and_then(Json::as_object).into_iter().flatten().map(|(name, _)| name.as_str());
        let of_ours = names.filter(|name| name.starts_with(PREFIX));
        let unknown = of_ours.filter(|name| !KNOWN.contains(name) && !OTHERS.contains(name));
        self.faults.extend(
            unknown.map(|name| format!("{name}: no such annotation; there are {}", KNOWN.join(", "))),
        );
    }

    fn one_of(&mut self, name: &str, words: &[&str]) -> Option<&'a str> {
        let word = self.text(name)?;
        if !words.contains(&word) {
            self.faults.push(format!("{name}: `{word}` is none of {}", words.join(", ")));
        }
        Some(word)
    }

    fn ports(&mut self, name: &str) -> Vec<u16> {
        self.list(name, "ports with commas between")
    }

    fn list<T: FromStr<Err: Display>>(&mut self, name: &str, what: &str) -> Vec<T> {
        let mut found = Vec::new();
        for part in
            self.text(name).unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
        {
            match part.parse() {
                Ok(value) => found.push(value),
                Err(error) => self.faults.push(format!("{name}: `{part}`: {error} (write {what})")),
            }
        }
        found
    }

    fn resources(&self, settings: &Settings) -> Json {
        let mut resources = Json::Object(settings.resources.clone());
        for (name, group, resource) in
            [(CPU, "requests", "cpu"), (MEMORY, "requests", "memory"), (MEMORY_LIMIT, "limits", "memory")]
        {
            if let Some(quantity) = self.text(name) {
                resources[group][resource] = json!(quantity);
            }
        }
        resources
    }
}

/// In their order, each once.
fn named_ports(pod: &Json) -> Vec<u16> {
    let containers = pod.pointer("/spec/containers").and_then(Json::as_array).into_iter().flatten();
    let ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    let tcp = ports.filter(|port| port.get("protocol").is_none_or(|protocol| protocol == "TCP"));
    let mut named = Vec::new();
    for port in tcp.filter_map(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok()) {
        if !named.contains(&port) {
            named.push(port);
        }
    }
    named
}
