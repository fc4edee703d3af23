use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tidegate_policy::model::{AppProtocol, ResourceName};
use tidegate_policy::snapshot::Local;

use super::{ExplainTo, HeaderSite, ProxyArgs, ProxyHeaders};
use crate::clock::Played;
use crate::identity::{self, IdentityConfig};
use crate::limits::store::ExactStore;
use crate::probes::Probe;
use crate::telemetry::{LogTarget, TraceSettings};

/// More are more than one process has file descriptors for.
const MAX_CONNECTIONS: usize = 1_000_000;

/// [`ProxyArgs`] after validation: what a proxy starts from. [`ProxyConfig::default`] has no listener at all.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    pub control_plane: Option<http::Uri>,
    pub node: String,
    /// What telemetry calls a proxy that serves no Service.
    pub workload: Option<String>,
    pub local: Local,
    pub inbound: Option<SocketAddr>,
    /// What the kubelet asks of the application.
    pub probes: Vec<Probe>,
    pub outbound: Option<SocketAddr>,
    /// Only what the application calls is asked for.
    pub on_demand: bool,
    /// Where connections begin with a PROXY protocol header.
    pub accept_proxy_protocol: ProxyHeaders,
    /// `None`: Gateway objects are none of this proxy's business.
    pub gateway: Option<GatewayPorts>,
    /// The one that is served; `None`: all.
    pub gateway_name: Option<ResourceName>,
    /// HTTP/3 beside each HTTPS socket of a gateway.
    pub http3: bool,
    pub admin: SocketAddr,
    /// Whether any free port will do for `admin` where its own is taken.
    pub admin_anywhere: bool,
    pub workers: usize,
    pub connect_timeout: Duration,
    /// For routes that set none; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// For a body that stands still; `None`: no limit.
    pub stall_timeout: Option<Duration>,
    /// Downstream, over all listeners.
    pub max_connections: usize,
    /// Requests at a time, and bytes of resident memory above which new ones are refused.
    pub max_requests: Option<NonZeroU32>,
    pub max_memory: Option<NonZeroU64>,
    pub drain_timeout: Duration,
    pub state_dir: Option<PathBuf>,
    /// Address of the store of exact limits.
    pub redis: Option<String>,
    pub access_log: LogTarget,
    /// `None`: as OpenTelemetry's environment variables say.
    pub traces: Option<TraceSettings>,
    /// Who is told what is decided of a request, if they ask.
    pub explain_to: Vec<ExplainTo>,
    /// Who this workload is; `None`: nobody by name.
    pub identity: Option<IdentityConfig>,
    /// A clock and a seed of somebody's own, to play a history.
    pub played: Option<Played>,
}

/// Which socket a Gateway's port becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayPorts {
    /// The port as written, plus this.
    Offset(u16),
    /// Any free port of the loopback address: several gateways on one machine, and tests.
    Ephemeral,
}

/// Flags that contradict each other, each with the fix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("--inbound needs --app ADDR: where the application listens")]
    InboundWithoutApp,
    #[error("--app needs --inbound ADDR: where the proxy accepts requests for it")]
    AppWithoutInbound,
    #[error(
        "--inbound and --app are the same address {0}: requests would go round in circles; change one of them"
    )]
    Loop(SocketAddr),
    #[error("--gateway needs --control-plane URL: Gateway objects come from there")]
    GatewayWithoutControlPlane,
    #[error("--http3 needs --gateway: HTTP/3 is served beside the HTTPS listeners of Gateways")]
    Http3WithoutGateway,
    #[error("--outbound needs --control-plane URL: the services to call come from there")]
    OutboundWithoutControlPlane,
    #[error(
        "--sidecar needs --outbound ADDR: where it accepts the calls of its workload; or --inbound and --app"
    )]
    SidecarWithoutListener,
    #[error("--accept-proxy-protocol={where_} needs {0}: that is where the header is expected", where_ = site_name(.1))]
    ProxyProtocolWithoutListener(&'static str, HeaderSite),
    #[error("--proxy-protocol-from needs --accept-proxy-protocol=WHERE: nowhere is a header expected")]
    ProxyProtocolFromWithoutSite,
    #[error("nothing to listen on: give --inbound and --app, or --outbound, or --gateway")]
    NoListener,
    #[error("--service {0}: write a name, or namespace/name")]
    Service(String),
    #[error(
        "--control-plane {0}: write a URL with a scheme and an authority, such as http://127.0.0.1:15010"
    )]
    ControlPlane(http::Uri),
    #[error("--workers 0: at least one thread must move the traffic")]
    NoWorkers,
    #[error("--max-connections {0}: write a number from 1 to {MAX_CONNECTIONS}")]
    MaxConnections(usize),
    #[error("--redis: {0}")]
    Redis(String),
    #[error("--identity-token needs --control-plane URL, or --ca URL: who signs certificates")]
    TokenWithoutControlPlane,
    #[error(
        "{0} needs --trust-root FILE: whom to believe there; a control plane keeps it as trust-bundle.pem in its --ca-dir"
    )]
    HttpsWithoutRoot(http::Uri),
    #[error("--identity-token is not sent to {0} in clear: write https:// and --trust-root FILE")]
    TokenInClear(http::Uri),
    #[error("--trust-root {0}: {1}")]
    TrustRoot(PathBuf, String),
    #[error("--connect-timeout 0: connecting takes some time; write 1s for example")]
    ConnectTimeout,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            control_plane: None,
            node: host_name(),
            workload: None,
            local: Local { namespace: "default".into(), ..Local::default() },
            inbound: None,
            probes: Vec::new(),
            outbound: None,
            on_demand: false,
            accept_proxy_protocol: ProxyHeaders::default(),
            gateway: None,
            gateway_name: None,
            http3: false,
            admin: Self::ADMIN,
            admin_anywhere: false,
            workers: default_workers(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Some(Duration::from_secs(15)),
            stall_timeout: Some(Duration::from_secs(5 * 60)),
            max_connections: 10_000,
            max_requests: None,
            max_memory: None,
            drain_timeout: Duration::from_secs(10),
            state_dir: None,
            redis: None,
            access_log: LogTarget::Stdout,
            explain_to: Vec::new(),
            identity: None,
            traces: None,
            played: None,
        }
    }
}

impl ProxyConfig {
    /// Where the admin port is unless somebody says otherwise.
    pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15020);

    /// The role that the control plane and telemetry show.
    pub fn role(&self) -> &'static str {
        if self.gateway.is_some() { "gateway" } else { "sidecar" }
    }
}

impl TryFrom<ProxyArgs> for ProxyConfig {
    type Error = ConfigError;

    fn try_from(args: ProxyArgs) -> Result<Self, ConfigError> {
        check(&args)?;
        let services =
            args.services.iter().map(|s| service(&args.namespace, s)).collect::<Result<Vec<_>, _>>()?;
        let named = args.workload.as_ref().map(|workload| format!("{workload}.{}", args.namespace));
        let apps = apps(&args);
        let namespace: Arc<str> = args.namespace.into();
        Ok(Self {
            control_plane: args.control_plane,
            node: args.node.or(named).unwrap_or_else(host_name),
            workload: args.workload,
            local: Local {
                services,
                app: args.app.map(|app| (app, args.app_protocol)),
                apps,
                pod: args.pod.map(|pod| ResourceName::new(namespace.clone(), pod)),
                namespace,
                zone: args.zone.filter(|zone| !zone.is_empty()).map(Into::into),
                ..Local::default()
            },
            inbound: args.inbound,
            probes: args.probes,
            outbound: args.outbound,
            on_demand: args.on_demand,
            accept_proxy_protocol: ProxyHeaders {
                sites: args.accept_proxy_protocol,
                from: args.proxy_protocol_from,
            },
            gateway: args.gateway.then_some(GatewayPorts::Offset(args.port_offset)),
            gateway_name: args.gateway_name,
            http3: args.http3,
            admin: args.admin.unwrap_or(Self::ADMIN),
            admin_anywhere: false,
            workers: args.workers.unwrap_or_else(default_workers),
            connect_timeout: args.connect_timeout,
            request_timeout: Some(args.request_timeout).filter(|t| !t.is_zero()),
            stall_timeout: Some(args.stall_timeout).filter(|t| !t.is_zero()),
            max_connections: args.max_connections,
            max_requests: args.max_requests,
            max_memory: args.max_memory,
            drain_timeout: args.drain_timeout,
            state_dir: args.state_dir,
            redis: args.redis,
            access_log: args.access_log,
            explain_to: args.explain_to,
            identity: identity::read(args.identity)?,
            traces: None,
            played: None,
        })
    }
}

fn check(args: &ProxyArgs) -> Result<(), ConfigError> {
    match (args.inbound, args.app) {
        (Some(_), None) => return Err(ConfigError::InboundWithoutApp),
        (None, Some(_)) => return Err(ConfigError::AppWithoutInbound),
        (Some(inbound), Some(app)) if inbound == app => return Err(ConfigError::Loop(app)),
        _ => {}
    }
    if let Some(url) = &args.control_plane
        && (url.scheme().is_none() || url.authority().is_none())
    {
        return Err(ConfigError::ControlPlane(url.clone()));
    }
    if args.control_plane.is_none() && args.gateway {
        return Err(ConfigError::GatewayWithoutControlPlane);
    }
    if args.control_plane.is_none() && args.outbound.is_some() {
        return Err(ConfigError::OutboundWithoutControlPlane);
    }
    check_proxy_headers(args)?;
    identity::check(&args.identity, args.control_plane.as_ref())?;
    if args.http3 && !args.gateway {
        return Err(ConfigError::Http3WithoutGateway);
    }
    if args.inbound.is_none() && args.outbound.is_none() && args.sidecar {
        return Err(ConfigError::SidecarWithoutListener);
    }
    if args.inbound.is_none() && args.outbound.is_none() && !args.gateway {
        return Err(ConfigError::NoListener);
    }
    if args.workers == Some(0) {
        return Err(ConfigError::NoWorkers);
    }
    if !(1..=MAX_CONNECTIONS).contains(&args.max_connections) {
        return Err(ConfigError::MaxConnections(args.max_connections));
    }
    if let Some(address) = &args.redis {
        ExactStore::new(address).map_err(|error| ConfigError::Redis(error.to_string()))?;
    }
    if args.connect_timeout.is_zero() {
        return Err(ConfigError::ConnectTimeout);
    }
    Ok(())
}

/// Beside `--app`, at the same address.
fn apps(args: &ProxyArgs) -> BTreeMap<u16, (SocketAddr, Option<AppProtocol>)> {
    let Some(app) = args.app else { return BTreeMap::new() };
    let others = args.app_ports.iter().filter(|(port, _)| *port != app.port());
    others.map(|(port, protocol)| (*port, (SocketAddr::new(app.ip(), *port), *protocol))).collect()
}

fn check_proxy_headers(args: &ProxyArgs) -> Result<(), ConfigError> {
    for site in &args.accept_proxy_protocol {
        let (there, flag) = match site {
            HeaderSite::Outbound => (args.outbound.is_some(), "--outbound ADDR"),
            HeaderSite::Inbound => (args.inbound.is_some(), "--inbound ADDR"),
            HeaderSite::Gateway => (args.gateway, "--gateway"),
        };
        if !there {
            return Err(ConfigError::ProxyProtocolWithoutListener(flag, *site));
        }
    }
    if args.accept_proxy_protocol.is_empty() && !args.proxy_protocol_from.is_empty() {
        return Err(ConfigError::ProxyProtocolFromWithoutSite);
    }
    Ok(())
}

fn site_name(site: &HeaderSite) -> String {
    site.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn service(namespace: &str, text: &str) -> Result<ResourceName, ConfigError> {
    let bad = || ConfigError::Service(text.to_owned());
    if text.contains('/') {
        text.parse().map_err(|_| bad())
    } else if text.is_empty() {
        Err(bad())
    } else {
        Ok(ResourceName::new(namespace, text))
    }
}

fn host_name() -> String {
    let from_env = std::env::var("HOSTNAME").ok();
    let from_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    from_env
        .or_else(from_kernel)
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| String::from("tidegate-proxy"))
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        proxy: ProxyArgs,
    }

    fn config(flags: &str) -> Result<ProxyConfig, ConfigError> {
        let words = std::iter::once("proxy").chain(flags.split_whitespace());
        Cli::try_parse_from(words).unwrap().proxy.try_into()
    }

    #[test]
    fn a_plain_sidecar_needs_only_two_addresses() {
        let config = config("--inbound 127.0.0.1:8080 --app 127.0.0.1:3000").unwrap();
        assert_eq!(config.local.app, Some(("127.0.0.1:3000".parse().unwrap(), AppProtocol::Http1)));
        assert_eq!(config.request_timeout, Some(Duration::from_secs(15)));
        assert!((1..=2).contains(&config.workers));
    }

    #[test]
    fn services_without_a_namespace_are_in_the_workloads_own() {
        let config = config(
            "--inbound 127.0.0.1:1 --app 127.0.0.1:2 --namespace shop --service cart --service other/pay",
        )
        .unwrap();
        let names: Vec<_> = config.local.services.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["shop/cart", "other/pay"]);
    }

    #[test]
    fn a_sidecar_is_called_by_its_workload_unless_told_otherwise() {
        let flags = "--sidecar --outbound 127.0.0.1:1 --control-plane http://127.0.0.1:2 --namespace shop --workload web";
        assert_eq!(config(flags).unwrap().node, "web.shop");
        assert_eq!(config(&format!("{flags} --node web-7")).unwrap().node, "web-7");
        assert_eq!(config(flags).unwrap().gateway, None);
    }

    #[test]
    fn an_application_may_listen_on_several_ports() {
        let flags = "--inbound 127.0.0.1:1 --app 127.0.0.1:3000 --app-port 3000,9090=h2c --app-port 9100";
        let at = |port: u16, protocol| (port, (SocketAddr::from(([127, 0, 0, 1], port)), protocol));
        let expected = [at(9090, Some(AppProtocol::H2c)), at(9100, None)];
        assert_eq!(config(flags).unwrap().local.apps, expected.into(), "its first is not among the others");
        for wrong in ["0", "x", "9090=h3"] {
            assert!(Cli::try_parse_from(["proxy", "--app", "127.0.0.1:1", "--app-port", wrong]).is_err());
        }
    }

    #[test]
    fn a_gateway_may_be_that_of_one_object() {
        let flags = "--gateway --control-plane http://127.0.0.1:2 --gateway-name web/edge";
        assert_eq!(config(flags).unwrap().gateway_name, Some(ResourceName::new("web", "edge")));
        assert!(
            Cli::try_parse_from(["proxy", "--gateway", "--gateway-name", "edge"]).is_err(),
            "which edge?"
        );
    }

    #[test]
    fn contradictions_are_refused_with_the_fix() {
        let cases = [
            ("", ConfigError::NoListener),
            ("--sidecar", ConfigError::SidecarWithoutListener),
            (
                "--accept-proxy-protocol",
                ConfigError::ProxyProtocolWithoutListener("--outbound ADDR", HeaderSite::Outbound),
            ),
            (
                "--accept-proxy-protocol=gateway",
                ConfigError::ProxyProtocolWithoutListener("--gateway", HeaderSite::Gateway),
            ),
            ("--proxy-protocol-from 10.0.0.0/8", ConfigError::ProxyProtocolFromWithoutSite),
            ("--inbound 127.0.0.1:1", ConfigError::InboundWithoutApp),
            ("--app 127.0.0.1:1", ConfigError::AppWithoutInbound),
            ("--http3", ConfigError::Http3WithoutGateway),
            ("--gateway", ConfigError::GatewayWithoutControlPlane),
            ("--outbound 127.0.0.1:1", ConfigError::OutboundWithoutControlPlane),
            ("--inbound 127.0.0.1:1 --app 127.0.0.1:2 --workers 0", ConfigError::NoWorkers),
            ("--inbound 127.0.0.1:1 --app 127.0.0.1:2 --max-connections 0", ConfigError::MaxConnections(0)),
            ("--inbound 127.0.0.1:1 --app 127.0.0.1:2 --service a/b/c", ConfigError::Service("a/b/c".into())),
            (
                "--gateway --control-plane localhost",
                ConfigError::ControlPlane(http::Uri::from_static("localhost")),
            ),
        ];
        for (flags, error) in cases {
            assert_eq!(config(flags).unwrap_err(), error, "{flags}");
            assert!(error.to_string().contains("--"), "{error}");
        }
    }

    #[test]
    fn the_address_of_a_store_is_checked_at_the_start_and_its_password_is_not_told() {
        let flags = "--inbound 127.0.0.1:1 --app 127.0.0.1:2 --redis";
        assert!(config(&format!("{flags} redis://127.0.0.1:6379/0")).is_ok());
        let error = config(&format!("{flags} http://user:secret@store:1")).unwrap_err().to_string();
        assert!(error.starts_with("--redis: http://…@store:1 is no address of a Redis"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_proxy_header_is_expected_at_outbound_unless_other_listeners_are_named() {
        let sites = |flags: &str| {
            let all = "--inbound 127.0.0.1:1 --app 127.0.0.1:2 --outbound 127.0.0.1:3 --gateway \
                       --control-plane http://127.0.0.1:4";
            config(&format!("{all} {flags}")).unwrap().accept_proxy_protocol
        };
        use HeaderSite::{Gateway, Inbound, Outbound};
        assert_eq!(sites(""), ProxyHeaders::default());
        assert_eq!(sites("--accept-proxy-protocol").sites, [Outbound]);
        assert_eq!(sites("--accept-proxy-protocol=gateway,inbound").sites, [Gateway, Inbound]);
        let from = sites("--accept-proxy-protocol --proxy-protocol-from 10.0.0.0/8,::1").from;
        assert_eq!(from.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn a_request_timeout_of_zero_is_none() {
        let config = config("--inbound 127.0.0.1:1 --app 127.0.0.1:2 --request-timeout 0").unwrap();
        assert_eq!(config.request_timeout, None);
    }
}
