use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use tidegate_policy::model::{AppProtocol, ResourceName};

use super::{ExplainTo, HeaderSite, Probe, duration, proxy_headers};
use crate::identity::IdentityArgs;
use crate::telemetry::LogTarget;

/// The flags of a proxy, for `tidegate-proxy` and for whoever embeds one. Each has an environment variable.
#[derive(Clone, Debug, Args)]
pub struct ProxyArgs {
    /// Where the control plane serves xDS, e.g. `http://127.0.0.1:15010`. Without one, the proxy has no policies and
    /// only forwards `--inbound` to `--app`.
    #[arg(long, env = "TIDEGATE_CONTROL_PLANE", value_name = "URL")]
    pub control_plane: Option<http::Uri>,

    /// This proxy's name, as the control plane shows it. Defaults to `--workload` and `--namespace` as `name.namespace`,
    /// else to the host's name.
    #[arg(long, env = "TIDEGATE_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// The workload's namespace: short service names are looked up here first.
    #[arg(long, env = "TIDEGATE_NAMESPACE", value_name = "NAME", default_value = "default")]
    pub namespace: String,

    /// Where this proxy runs: policies may prefer endpoints of the same zone. In Kubernetes, that of the node
    /// (`topology.kubernetes.io/zone`).
    #[arg(long, env = "TIDEGATE_ZONE", value_name = "NAME")]
    pub zone: Option<String>,

    /// The workload beside this proxy, by the name that status and telemetry show.
    #[arg(long, env = "TIDEGATE_WORKLOAD", value_name = "NAME")]
    pub workload: Option<String>,

    /// Be the sidecar of one workload and nothing else: no listener of a Gateway is opened. Needs `--outbound`, or
    /// `--inbound` and `--app`, or both.
    #[arg(long, env = "TIDEGATE_SIDECAR", conflicts_with = "gateway")]
    pub sidecar: bool,

    /// A service that this workload serves: its policies hold for inbound requests. `name` or `namespace/name`;
    /// repeat for several.
    #[arg(long = "service", env = "TIDEGATE_SERVICE", value_name = "NAME", value_delimiter = ',')]
    pub services: Vec<String>,

    /// Accept requests for the application here; needs `--app`.
    #[arg(long, env = "TIDEGATE_INBOUND", value_name = "ADDR", value_parser = address)]
    pub inbound: Option<SocketAddr>,

    /// Where the application listens, e.g. `127.0.0.1:3000`.
    #[arg(long, env = "TIDEGATE_APP", value_name = "ADDR", value_parser = address)]
    pub app: Option<SocketAddr>,

    /// What the application speaks. gRPC requests always go out as HTTP/2.
    #[arg(
        long,
        env = "TIDEGATE_APP_PROTOCOL",
        value_name = "http1|h2c",
        default_value = "http1",
        value_parser = app_protocol
    )]
    pub app_protocol: AppProtocol,

    /// The application listens here too: connections that were meant for this port of the workload (iptables REDIRECT, or
    /// the header of `--accept-proxy-protocol=inbound`) go there, at the address of `--app`. What it speaks is `http1` or
    /// `h2c`; by default, what the Services say whose ports lead there. Repeat for several.
    #[arg(long = "app-port", env = "TIDEGATE_APP_PORT", value_name = "PORT[=http1|h2c]", value_delimiter = ',',
          value_parser = app_port, requires = "app")]
    pub app_ports: Vec<(u16, Option<AppProtocol>)>,

    /// What the kubelet asks of the application, at its port: `3000/healthz`, or `9090=grpc` for gRPC's health check. Such
    /// a request of a client without an identity, with a kubelet's `user-agent`, meets no policy; of its answer only the status is told. Repeat for several.
    #[arg(long = "probe", value_name = "PORT/PATH|PORT=grpc", requires = "app")]
    pub probes: Vec<Probe>,

    /// The pod that this proxy is in, in its namespace: the control plane tells which Services it serves, as they come and
    /// go. `--service` wins over that.
    #[arg(long, env = "TIDEGATE_POD", value_name = "NAME")]
    pub pod: Option<String>,

    /// Accept the application's own calls here. Where a call wanted to go is told by the kernel for connections that
    /// were redirected here (iptables REDIRECT, `SO_ORIGINAL_DST`), by `--accept-proxy-protocol`, else by the `Host`
    /// header.
    #[arg(long, env = "TIDEGATE_OUTBOUND", value_name = "ADDR", value_parser = address)]
    pub outbound: Option<SocketAddr>,

    /// Know only the Services that the application calls: each is asked for when it is called for the first time, by its host
    /// or its address. By default, a sidecar is told of all of them.
    #[arg(long, env = "TIDEGATE_ON_DEMAND", requires = "outbound")]
    pub on_demand: bool,

    /// Every connection to these listeners begins with a PROXY protocol header, version 1 or 2. Its source is the client,
    /// to policies, headers and telemetry; at `outbound`, which is meant where nothing is written, its destination is
    /// where the connection wanted to go. A connection without a header is closed. Whoever connects can claim any
    /// address: only for ports that nobody else can reach, or with `--proxy-protocol-from`.
    #[arg(long, env = "TIDEGATE_ACCEPT_PROXY_PROTOCOL", value_name = "WHERE", value_delimiter = ',',
          num_args = 0..=1, require_equals = true, default_missing_value = "outbound")]
    pub accept_proxy_protocol: Vec<HeaderSite>,

    /// Who may send a PROXY protocol header, as CIDRs; other connections to those listeners are closed. Defaults to
    /// anybody.
    #[arg(long, env = "TIDEGATE_PROXY_PROTOCOL_FROM", value_name = "CIDR", value_delimiter = ',',
          value_parser = proxy_headers::net)]
    pub proxy_protocol_from: Vec<IpNet>,

    /// Listen where Gateway objects say; needs `--control-plane`.
    #[arg(long, env = "TIDEGATE_GATEWAY")]
    pub gateway: bool,

    /// Serve this Gateway alone, and be told of no other's listeners. By an identity that the Gateway does not go by, none
    /// are told; see its annotation `tidegate.io/service-accounts`. Default: every Gateway that this proxy may serve.
    #[arg(long, env = "TIDEGATE_GATEWAY_NAME", value_name = "NAMESPACE/NAME", requires = "gateway")]
    pub gateway_name: Option<ResourceName>,

    /// Add this to every port of a Gateway, so that port 80 needs no privilege: 8000 makes it 8080.
    #[arg(long, env = "TIDEGATE_PORT_OFFSET", value_name = "N", default_value_t = 0)]
    pub port_offset: u16,

    /// Serve HTTP/3 as well where a Gateway has HTTPS: by UDP, on the same addresses and ports, which HTTP/1 and HTTP/2
    /// answers then tell (`alt-svc`). Needs `--gateway`.
    #[arg(long, env = "TIDEGATE_HTTP3")]
    pub http3: bool,

    /// Readiness, metrics and the configuration in force. Defaults to 127.0.0.1:15020. Each proxy of a machine needs one
    /// of its own; port 0 takes any free port, and the address is told at the start.
    #[arg(long, env = "TIDEGATE_ADMIN", value_name = "ADDR", value_parser = address)]
    pub admin: Option<SocketAddr>,

    /// Threads that move traffic. Defaults to the number of cores, but no more than 2: a sidecar shares the machine
    /// with its application and rarely needs more. Give a busy gateway all cores.
    #[arg(long, env = "TIDEGATE_WORKERS", value_name = "N")]
    pub workers: Option<usize>,

    /// How long opening a connection may take, unless the Backend says otherwise.
    #[arg(long, env = "TIDEGATE_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "1s",
          value_parser = duration::parse)]
    pub connect_timeout: Duration,

    /// How long a response head may take once the request has been sent, unless the route says otherwise; 0 for no
    /// limit. A plain request that is silent for 15 s has nearly always failed, and would hold its place for ever.
    /// gRPC calls bring their own deadlines and are exempt.
    #[arg(long, env = "TIDEGATE_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "15s",
          value_parser = duration::parse)]
    pub request_timeout: Duration,

    /// How long a body may stand still, in either direction, before its request is given up; 0 for no limit. gRPC is
    /// exempt: its streams may well be silent.
    #[arg(long, env = "TIDEGATE_STALL_TIMEOUT", value_name = "DURATION", default_value = "5m",
          value_parser = duration::parse)]
    pub stall_timeout: Duration,

    /// How many connections are accepted at a time. At the limit, those that have been without a request for longest, and
    /// for at least a second, are closed for others; where all are in use, more wait in the listen queue.
    #[arg(long, env = "TIDEGATE_MAX_CONNECTIONS", value_name = "N", default_value_t = 10_000)]
    pub max_connections: usize,

    /// How many requests may be under way at a time, over all listeners. Those beyond are refused at once. Default: no limit.
    #[arg(long, env = "TIDEGATE_MAX_REQUESTS", value_name = "N")]
    pub max_requests: Option<NonZeroU32>,

    /// While the proxy's resident memory is above this, new requests are refused: `256Mi`, `1Gi`, or a number of bytes.
    /// Default: no limit.
    #[arg(long, env = "TIDEGATE_MAX_MEMORY", value_name = "BYTES", value_parser = bytes)]
    pub max_memory: Option<NonZeroU64>,

    /// After SIGTERM, how long requests in flight may take to finish.
    #[arg(long, env = "TIDEGATE_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s",
          value_parser = duration::parse)]
    pub drain_timeout: Duration,

    /// The Redis that counts policies with `scope: Exact`, the same for all proxies. Without one, and while it does not
    /// answer, each proxy lets through by itself what those policies say. May hold a password: better in the environment. A
    /// cluster is redis-cluster://HOST:PORT,HOST:PORT: some of its nodes are enough.
    #[arg(long, env = "TIDEGATE_REDIS_URL", value_name = "redis://HOST:PORT/DB", hide_env_values = true)]
    pub redis: Option<String>,

    /// Keep the last good configuration here, and start from it when the control plane does not answer. Also what limits
    /// have counted: a proxy that starts again goes on where it was.
    #[arg(long, env = "TIDEGATE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Where the access log goes, as one JSON object per request.
    #[arg(long, env = "TIDEGATE_ACCESS_LOG", value_name = "stdout|stderr|off|PATH", default_value = "stdout",
          value_parser = log_target)]
    pub access_log: LogTarget,

    /// Who may ask with `x-tidegate-explain` what is decided of a request, and is told in the answer: `app`, whoever calls at
    /// `--outbound` from this machine; a network; a SPIFFE id, which may end with `/*`. Default: nobody.
    #[arg(long, env = "TIDEGATE_EXPLAIN_TO", value_name = "app|CIDR|SPIFFE-ID", value_delimiter = ',')]
    pub explain_to: Vec<ExplainTo>,

    #[command(flatten)]
    pub identity: IdentityArgs,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| String::from("write an IP address and a port, such as 127.0.0.1:8080"))
}

fn bytes(text: &str) -> Result<NonZeroU64, String> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("", 0)];
    let parsed = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let bytes = parsed.and_then(|(number, bits)| number.parse::<u64>().ok()?.checked_mul(1 << bits));
    bytes
        .and_then(NonZeroU64::new)
        .ok_or_else(|| String::from("write bytes, such as 256Mi, 1Gi or 268435456"))
}

fn app_port(text: &str) -> Result<(u16, Option<AppProtocol>), String> {
    let (port, protocol) =
        text.split_once('=').map_or((text, None), |(port, protocol)| (port, Some(protocol)));
    let number = port.parse().ok().filter(|port| *port != 0);
    let number = number.ok_or_else(|| format!("`{port}` is no port: write 9090, or 9090=h2c"))?;
    Ok((number, protocol.map(app_protocol).transpose()?))
}

fn app_protocol(text: &str) -> Result<AppProtocol, String> {
    match text {
        "http1" => Ok(AppProtocol::Http1),
        "h2c" => Ok(AppProtocol::H2c),
        _ => Err(String::from("expected `http1` or `h2c`")),
    }
}

fn log_target(text: &str) -> Result<LogTarget, String> {
    Ok(match text {
        "" => return Err(String::from("expected `stdout`, `stderr`, `off` or the path of a file")),
        "stdout" => LogTarget::Stdout,
        "stderr" => LogTarget::Stderr,
        "off" => LogTarget::Off,
        path => LogTarget::File(path.into()),
    })
}
