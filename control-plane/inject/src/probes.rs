//! What the kubelet asks of a pod's own containers, as far as it is asked at a port that is led to the sidecar.

use serde_json::Value as Json;

use crate::pod::each_container;

const KINDS: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// Each once, as `tidegate-proxy --probe` reads it.
///
/// A probe by TCP needs no word: the sidecar takes the connection. One by HTTPS is none of the sidecar's business, which does
/// not see into it, and a command runs in the container itself.
pub(crate) fn of(pod: &Json, ports: &[u16]) -> Vec<String> {
    let mut found = Vec::new();
    for (_, container) in each_container(pod) {
        for probe in KINDS.iter().filter_map(|kind| container.get(kind)) {
            let told = of_http(container, probe).or_else(|| of_grpc(probe));
            if let Some((_, text)) = told.filter(|(port, text)| ports.contains(port) && !found.contains(text))
            {
                found.push(text);
            }
        }
    }
    found
}

fn of_http(container: &Json, probe: &Json) -> Option<(u16, String)> {
    let http = probe.get("httpGet")?;
    if http.get("scheme").is_some_and(|scheme| scheme != "HTTP") {
        return None;
    }
    let port = port(container, http.get("port")?)?;
    let path = http.get("path").and_then(Json::as_str).unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let target = format!("{slash}{path}");
    // Only what goes over the wire as it is written here (RFC 3986, sections 3.3 and 3.4).
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/?-._~%!$&'()*+,;=:@".contains(&b);
    target.bytes().all(plain).then(|| (port, format!("{port}{target}")))
}

fn of_grpc(probe: &Json) -> Option<(u16, String)> {
    let port = u16::try_from(probe.pointer("/grpc/port")?.as_u64()?).ok()?;
    Some((port, format!("{port}=grpc")))
}

/// By number, or by the name that the container gives it.
fn port(container: &Json, wanted: &Json) -> Option<u16> {
    let number = match wanted {
        Json::String(name) => {
            let named = |port: &&Json| port.get("name").is_some_and(|its| its == name.as_str());
            container.get("ports")?.as_array()?.iter().find(named)?.get("containerPort")?.as_u64()
        }
        number => number.as_u64(),
    };
    u16::try_from(number?).ok()
}
