//! Where everything of the demo listens. The EndpointSlices in `policies/examples/demo/mesh.yaml` name the same
//! ports; a test holds the two together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The namespace of the demo's documents.
pub(crate) const NAMESPACE: &str = "demo";

/// One service of the demo with its sidecar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// The Services whose policies hold on its inbound listener.
    pub(crate) serves: &'static [&'static str],
    pub(crate) inbound: u16,
    /// Only for who calls others.
    pub(crate) outbound: Option<u16>,
    pub(crate) admin: u16,
    pub(crate) app: u16,
}

pub(crate) const CONTROL_PLANE_XDS: u16 = 19000;
pub(crate) const CONTROL_PLANE_HTTP: u16 = 19001;

pub(crate) const STOREFRONT: Workload = Workload {
    name: "storefront",
    serves: &["storefront"],
    inbound: 19100,
    outbound: Some(19101),
    admin: 19102,
    app: 19103,
};
pub(crate) const CHECKOUT_V1: Workload = Workload {
    name: "checkout-v1",
    serves: &["checkout-v1", "checkout"],
    inbound: 19110,
    outbound: None,
    admin: 19112,
    app: 19113,
};
pub(crate) const CHECKOUT_V2: Workload = Workload {
    name: "checkout-v2",
    serves: &["checkout-v2", "checkout"],
    inbound: 19120,
    outbound: None,
    admin: 19122,
    app: 19123,
};

pub(crate) const WORKLOADS: [Workload; 3] = [STOREFRONT, CHECKOUT_V1, CHECKOUT_V2];

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Every port, with what it is for.
pub(crate) fn ports() -> Vec<(u16, String)> {
    let mut ports = vec![
        (CONTROL_PLANE_XDS, String::from("control plane, gRPC to the sidecars")),
        (CONTROL_PLANE_HTTP, String::from("control plane, /status and /metrics")),
    ];
    for w in WORKLOADS {
        ports.push((w.inbound, format!("sidecar of {}, inbound", w.name)));
        if let Some(outbound) = w.outbound {
            ports.push((outbound, format!("sidecar of {}, outbound", w.name)));
        }
        ports.push((w.admin, format!("sidecar of {}, admin", w.name)));
        ports.push((w.app, format!("service {}", w.name)));
    }
    ports
}

/// Fails on the first port that something else holds, naming it.
///
/// # Errors
/// A sentence that says which port, what it is for, and what to do.
pub(crate) fn check_free(ports: &[(u16, String)]) -> anyhow::Result<()> {
    for (port, purpose) in ports {
        if let Err(error) = std::net::TcpListener::bind(loopback(*port)) {
            anyhow::bail!(
                "127.0.0.1:{port} is needed for the demo ({purpose}) but cannot be bound: {error}.\n\
                 Another `tidegate demo` may be running; otherwise `ss -ltnp 'sport = :{port}'` shows who holds it."
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_listeners_share_a_port() {
        let ports = ports();
        let distinct: HashSet<u16> = ports.iter().map(|(port, _)| *port).collect();
        assert_eq!(distinct.len(), ports.len());
    }

    #[test]
    fn a_busy_port_is_named_with_its_purpose() {
        let holder = std::net::TcpListener::bind(loopback(0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = check_free(&[(port, String::from("service x"))]).unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("service x"), "{error}");
    }
}
