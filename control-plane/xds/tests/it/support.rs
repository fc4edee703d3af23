//! Short ways to say what the tests say often.

use std::sync::Arc;

use tidegate_xds::server::{DeltaSession, Event};
use tidegate_xds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Name, Node, ResourceSet, Version, Versioned,
};

pub(crate) const BACKEND: &str = "type.googleapis.com/test.Backend";
pub(crate) const POLICY: &str = "type.googleapis.com/test.Policy";
pub(crate) const ROUTE: &str = "type.googleapis.com/test.Route";
pub(crate) const TYPES: &[&str] = &[BACKEND, POLICY, ROUTE];

pub(crate) fn node() -> Node {
    Node { id: "checkout-1".to_owned(), ..Node::default() }
}

/// `(type, name, version)` each; the body is made of name and version.
pub(crate) fn world(resources: &[(&'static str, &str, &str)]) -> Arc<ResourceSet> {
    let mut set = ResourceSet::default();
    for (type_url, name, version) in resources {
        set.insert(type_url, *name, versioned(type_url, name, version)).unwrap();
    }
    Arc::new(set)
}

pub(crate) fn versioned(type_url: &str, name: &str, version: &str) -> Versioned {
    Versioned::new(type_url, version, body(name, version))
}

pub(crate) fn body(name: &str, version: &str) -> Vec<u8> {
    format!("{name}@{version}").into_bytes()
}

pub(crate) fn request(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: Some(node()), type_url: type_url.to_owned(), ..Default::default() }
}

pub(crate) fn subscribe(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { resource_names_subscribe: strings(names), ..request(type_url) }
}

pub(crate) fn unsubscribe(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { resource_names_unsubscribe: strings(names), ..request(type_url) }
}

pub(crate) fn having(type_url: &str, versions: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let initial_resource_versions =
        versions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    DeltaDiscoveryRequest { initial_resource_versions, ..request(type_url) }
}

pub(crate) fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

pub(crate) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

pub(crate) fn pairs(pairs: &[(&str, &str)]) -> Vec<(Name, Version)> {
    pairs.iter().map(|(n, v)| (Name::from(*n), Version::from(*v))).collect()
}

/// A session whose client has subscribed to everything and has acknowledged `world`.
pub(crate) fn settled(world: &Arc<ResourceSet>) -> DeltaSession {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(Arc::clone(world));
    for type_url in TYPES {
        session.on_request(request(type_url)).unwrap();
    }
    ack_all(&mut session);
    session
}

/// Acknowledges until nothing is left to send; what was sent, as `type +name@version -name` words per response.
pub(crate) fn ack_all(session: &mut DeltaSession) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(response) = session.next_response() {
        told.push(words(&response));
        session.on_request(ack(&response)).unwrap();
    }
    told
}

pub(crate) fn words(response: &DeltaDiscoveryResponse) -> String {
    let mut words = vec![response.type_url.rsplit('.').next().unwrap_or_default().to_owned()];
    words.extend(response.resources.iter().map(|r| format!("+{}@{}", r.name, r.version)));
    words.extend(response.removed_resources.iter().map(|name| format!("-{name}")));
    words.join(" ")
}

pub(crate) fn only(events: Vec<Event>) -> Event {
    let [event] = <[Event; 1]>::try_from(events).unwrap();
    event
}
