//! The kubelet's probes of our own application. They come from outside of the mesh, and no policy is about them: a limit that
//! counted them, or mTLS, which the kubelet does not speak, would have healthy pods taken out of service and started again.
//!
//! What is let through is what the pod itself names, from a client that shows no identity and calls itself a kubelet; anybody
//! else who asks the same is judged and answered as ever. It is a GET of exactly that target, of whose answer only the status is
//! passed on, so that nobody reads by it what policies keep from him; or gRPC's health check, whose answer is nothing but
//! health.

use std::str::FromStr;

use http::header::{CONNECTION, LOCATION, USER_AGENT};
use http::{Method, Response, request};
use http_body_util::{BodyExt as _, Limited};
use tidegate_policy::model::AppProtocol;
use tidegate_policy::snapshot::{Scope, Selected, Snapshot};

use crate::http::{ConnectionContext, ResponseBody};

/// What one probe asks of the application at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub port: u16,
    pub asks: Asks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A GET of this path, with its query.
    Get(Box<str>),
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

/// How kubelets begin their `user-agent`, by HTTP and by gRPC.
const KUBELET: &[u8] = b"kube-probe/";
/// The method of gRPC's health checking protocol.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// The kubelet itself reads no more of an answer than 10 KiB.
const MOST: usize = 64 << 10;

impl FromStr for Probe {
    type Err = String;

    /// `3000/healthz` or `9090=grpc`.
    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(['/', '=']).unwrap_or(text.len());
        let (port, rest) = text.split_at(end);
        let port = port.parse().ok().filter(|port| *port != 0);
        let asks = match rest {
            "=grpc" => Some(Asks::Grpc),
            path if path.parse::<http::uri::PathAndQuery>().is_ok_and(|read| read == path) => {
                Some(Asks::Get(path.into()))
            }
            _ => None,
        };
        let read = port.zip(asks).map(|(port, asks)| Self { port, asks });
        read.ok_or_else(|| format!("`{text}` is no probe: write 3000/healthz, or 9090=grpc"))
    }
}

impl Asks {
    fn is(&self, head: &request::Parts) -> bool {
        let agent = head.headers.get(USER_AGENT);
        if !agent.is_some_and(|agent| agent.as_bytes().starts_with(KUBELET)) {
            return false;
        }
        match self {
            Self::Get(target) => {
                head.method == Method::GET
                    && head.uri.path_and_query().is_some_and(|asked| asked == &**target)
            }
            Self::Grpc => head.method == Method::POST && head.uri.path() == HEALTH_CHECK,
        }
    }
}

/// Whether requests of this connection may be probes: then each is judged by itself, and the connection is not.
pub(crate) fn may_come(context: &ConnectionContext, snapshot: &Snapshot) -> bool {
    let port = port(context, snapshot);
    port.is_some_and(|port| context.proxy.config.probes.iter().any(|probe| probe.port == port))
}

/// Where the request goes if it is a probe, and what it asks.
pub(crate) fn of<'a>(
    context: &'a ConnectionContext,
    snapshot: &Snapshot,
    head: &request::Parts,
) -> Option<(Selected, &'a Asks)> {
    let port = port(context, snapshot)?;
    let mut probes = context.proxy.config.probes.iter().filter(|probe| probe.port == port);
    let found = probes.find(|probe| probe.asks.is(head))?;
    let (app, _) = snapshot.app(context.scope)?;
    // As the kubelet would have asked without us.
    let http2 = head.version == http::Version::HTTP_2;
    let protocol = if http2 { AppProtocol::H2c } else { AppProtocol::Http1 };
    Some((Selected::passthrough(app, protocol), &found.asks))
}

/// The application's port that the connection is for, where its client may be a kubelet.
fn port(context: &ConnectionContext, snapshot: &Snapshot) -> Option<u16> {
    let inbound = matches!(context.scope, Scope::Inbound | Scope::InboundAt(_));
    if context.proxy.config.probes.is_empty() || !inbound || context.peer.identity.is_some() {
        return None;
    }
    snapshot.app(context.scope).map(|(app, _)| app.port())
}

/// What of the answer to a probe is told.
pub(crate) async fn status_only(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    // Read to its end, so that the application sees that it was; no answer that is broken off is taken for a good one.
    let read = Limited::new(body, MOST).collect().await;
    if read.is_err_and(|error| !error.is::<http_body_util::LengthLimitError>()) {
        head.status = http::StatusCode::BAD_GATEWAY;
    }
    let kept = [LOCATION, CONNECTION].map(|name| (head.headers.remove(&name), name));
    head.headers.clear();
    head.headers.extend(kept.into_iter().filter_map(|(value, name)| Some((name, value?))));
    Response::from_parts(head, ResponseBody::head_only())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(probe: &str, method: &str, target: &str) -> bool {
        let asked =
            http::Request::builder().method(method).uri(target).header("user-agent", "kube-probe/1.36");
        let asked = asked.body(()).unwrap().into_parts().0;
        probe.parse::<Probe>().unwrap().asks.is(&asked)
    }

    #[test]
    fn a_probe_is_a_port_and_what_is_asked_there() {
        let get = |port, path: &str| Ok(Probe { port, asks: Asks::Get(path.into()) });
        assert_eq!("3000/".parse(), get(3000, "/"));
        assert_eq!("3000/healthz?deep=1,2".parse(), get(3000, "/healthz?deep=1,2"));
        assert_eq!("9090=grpc".parse(), Ok(Probe { port: 9090, asks: Asks::Grpc }));
        for bad in ["", "3000", "/healthz", "0/healthz", "70000/", "3000=h2c", "3000/a b", "3000/#x"] {
            let told = bad.parse::<Probe>().unwrap_err();
            assert!(told.contains("write 3000/healthz"), "{bad}: {told}");
        }
    }

    #[test]
    fn only_the_very_request_that_the_pod_names_is_a_probe() {
        assert!(is("3000/healthz", "GET", "/healthz"));
        assert!(is("3000/healthz", "GET", "http://pod:3000/healthz"));
        for (method, target) in [
            ("POST", "/healthz"),
            ("HEAD", "/healthz"),
            ("GET", "/healthz?all=1"),
            ("GET", "/healthz/"),
            ("GET", "/healthz/../orders"),
            ("GET", "/"),
        ] {
            assert!(!is("3000/healthz", method, target), "{method} {target}");
        }
        for agent in ["curl/8", "", "akube-probe/1.36"] {
            let asked = http::Request::builder().uri("/healthz").header("user-agent", agent);
            let asked = asked.body(()).unwrap().into_parts().0;
            assert!(!"3000/healthz".parse::<Probe>().unwrap().asks.is(&asked), "{agent}");
        }
        assert!(is("9090=grpc", "POST", HEALTH_CHECK));
        assert!(!is("9090=grpc", "POST", "/grpc.health.v1.Health/Watch"));
        assert!(!is("9090=grpc", "GET", HEALTH_CHECK));
    }
}
