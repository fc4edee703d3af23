//! Listeners, backends and their endpoints.

use super::Topic;
use super::describe::digest;
use super::facts::{Fact, Facts};
use crate::model::{
    Accepts, Backend, BackendTls, Certificate, Endpoint, Listener, Resources, TlsMode, Trust,
};

pub(super) fn tell(resources: &Resources, facts: &mut Facts) {
    for listener in resources.listeners.values() {
        facts.add(Topic::Listener, format!("listener {}", listener.name), of_listener(listener));
    }
    for backend in resources.backends.values() {
        facts.add(Topic::Backend, format!("backend {}", backend.name), of_backend(backend));
    }
    for endpoints in resources.endpoints.values() {
        let source = resources.backends.get(&endpoints.backend).map(|backend| backend.source.clone());
        let mut fact = Fact { source, ..Fact::default() };
        for endpoint in &endpoints.endpoints {
            let address = endpoint.address.to_string();
            // Of two with one address the first counts.
            if !fact.parts.contains_key(&address) {
                fact.say(address, of_endpoint(endpoint));
            }
        }
        facts.add(Topic::Endpoints, format!("endpoints of {}", endpoints.backend), fact);
    }
}

fn of_listener(listener: &Listener) -> Fact {
    let mut fact = Fact::at(&listener.source);
    let mut addresses: Vec<_> = listener.addresses.iter().map(ToString::to_string).collect();
    addresses.sort();
    fact.say("addresses", addresses.join(", "));
    fact.say("port", listener.port.to_string());
    fact.say("hostname", listener.hostname().to_string());
    let accepts = match &listener.accepts {
        Accepts::Http { tls: None, .. } => "HTTP",
        Accepts::Http { tls: Some(_), .. } => "HTTPS",
        Accepts::Tls { mode: TlsMode::Passthrough, .. } => "TLS, passed through",
        Accepts::Tls { mode: TlsMode::Terminate(_), .. } => "TLS, ended here",
        Accepts::Tcp => "TCP",
    };
    fact.say("protocol", accepts);
    let shown = listener.certificates().unwrap_or_default();
    fact.say("certificates", shown.iter().map(certificate).collect::<Vec<_>>().join(", "));
    if let Some(clients) = &listener.clients {
        fact.say("clients", format!("{:?}, CA {}", clients.mode, digest(&clients.bundle)));
    }
    if let Some(own) = &listener.client_certificate {
        fact.say("clientCertificate", certificate(own));
    }
    fact
}

/// Keys are shown to nobody.
fn certificate(certificate: &Certificate) -> String {
    let both = [&*certificate.chain, certificate.key.expose()].concat();
    format!("{} ({})", certificate.secret, digest(&both))
}

fn of_backend(backend: &Backend) -> Fact {
    let mut fact = Fact::at(&backend.source);
    fact.say("protocol", format!("{:?}", backend.protocol));
    fact.say("declared", format!("{:?}", backend.declared));
    if let Some(time) = backend.connect_timeout {
        fact.say("connectTimeout", format!("{time:?}"));
    }
    fact.say(
        "clusterIps",
        backend.cluster_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    if let Some(tls) = &backend.tls {
        fact.say_at("tls", of_tls(tls), tls.policy.source.clone());
    }
    if let Some(version) = backend.proxy_protocol {
        fact.say("proxyProtocol", format!("{version:?}"));
    }
    fact
}

fn of_tls(tls: &BackendTls) -> String {
    let trust = match &tls.verification.trust {
        None => String::from("nobody"),
        Some(Trust::System) => String::from("the system's authorities"),
        Some(Trust::Bundle(bundle)) => format!("CA {}", digest(bundle)),
    };
    let names = match &tls.verification.alt_names[..] {
        [] => String::new(),
        names => format!(" or {names:?}"),
    };
    format!("{} {}: {}{names}, trusts {trust}", tls.policy.kind, tls.policy.name, tls.verification.hostname)
}

fn of_endpoint(endpoint: &Endpoint) -> String {
    let mut text = format!("weight {}", endpoint.weight);
    let placement = &endpoint.placement;
    text.extend(placement.zone.as_ref().map(|zone| format!(", zone {zone}")));
    if !placement.for_zones.is_empty() {
        text += &format!(", for zones {}", placement.for_zones.join(" "));
    }
    if placement.priority > 0 {
        text += &format!(", priority {}", placement.priority);
    }
    if let Some(mesh) = &endpoint.mesh {
        text += &format!(", by mTLS {:?}", mesh.service_accounts);
    }
    text
}
