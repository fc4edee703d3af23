//! One listener as written, in a Gateway or in a ListenerSet: what it accepts and which routes may attach.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ListenerProtocol;
use crate::objects::rules::{Reference, check_hostname, check_section_name};
use crate::objects::{Faults, LabelSelector, gateway_group};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSpec {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Absent: any host.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: String,
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    #[schemars(
        with = "String",
        length(min = 1, max = 255),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[a-zA-Z0-9]+|[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)$"
        )
    )]
    pub protocol: ListenerProtocol,
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
    pub tls: Option<ListenerTlsSpec>,
}

/// What a listener does with TLS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-unsupported" = ["frontendValidation", "options"]))]
pub struct ListenerTlsSpec {
    pub mode: TlsMode,
    #[schemars(length(max = 64))]
    pub certificate_refs: Vec<CertificateRef>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsMode {
    #[default]
    Terminate,
    Passthrough,
}

/// A Secret of type `kubernetes.io/tls`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRef {
    /// The empty group is the core one, of Secret.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    #[serde(default = "secret_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Absent: that of the Gateway or ListenerSet.
    pub namespace: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedRoutes {
    pub namespaces: RouteNamespaces,
    /// Empty: every kind that the listener's protocol can carry.
    #[schemars(length(max = 8))]
    pub kinds: Vec<RouteGroupKind>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteNamespaces {
    pub from: FromNamespaces,
    /// On the labels of the route's Namespace; only with `from: Selector`.
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FromNamespaces {
    All,
    Selector,
    #[default]
    Same,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteGroupKind {
    #[serde(default = "gateway_group")]
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
}

impl CertificateRef {
    pub(super) fn as_reference(&self) -> Reference<'_> {
        Reference { group: &self.group, kind: &self.kind, namespace: self.namespace.as_deref() }
    }
}

/// Checks the `listeners` of a spec.
pub(in crate::objects) fn check(listeners: &[ListenerSpec], faults: &mut Faults) {
    let mut names = HashMap::new();
    let mut places = HashMap::new();
    for (i, listener) in listeners.iter().enumerate() {
        let at = format!("/listeners/{i}");
        check_listener(&at, listener, faults);
        if let Some(first) = names.insert(&listener.name, i) {
            faults.error(format!("{at}/name"), format!("listener {first} has the same name"));
        }
        let host = listener.hostname.to_ascii_lowercase();
        if let Some(first) = places.insert((listener.port, &listener.protocol, host), &listener.name) {
            faults.error(&at, format!("listener `{first}` has the same port, protocol and hostname"));
        }
    }
}

fn check_listener(at: &str, listener: &ListenerSpec, faults: &mut Faults) {
    check_section_name(&format!("{at}/name"), &listener.name, faults);
    check_hostname(&format!("{at}/hostname"), &listener.hostname, faults);
    if !listener.protocol.is_served() {
        let protocol = &listener.protocol;
        let message = format!("no listener of protocol {protocol} is served: use HTTP, HTTPS, TLS or TCP");
        faults.warn(format!("{at}/protocol"), message);
    }
    if matches!(listener.protocol, ListenerProtocol::Tcp | ListenerProtocol::Udp)
        && !listener.hostname.is_empty()
    {
        let message = format!("protocol {} knows no names: leave `hostname` out", listener.protocol);
        faults.error(format!("{at}/hostname"), message);
    }
    check_tls(at, listener, faults);
    for (i, RouteGroupKind { group, kind }) in listener.allowed_routes.kinds.iter().enumerate() {
        let at = format!("{at}/allowedRoutes/kinds/{i}");
        Reference { group, kind, namespace: None }.check(&at, faults);
    }
    for (i, certificate) in listener.tls.iter().flat_map(|tls| &tls.certificate_refs).enumerate() {
        certificate.as_reference().check(&format!("{at}/tls/certificateRefs/{i}"), faults);
    }
    let namespaces = &listener.allowed_routes.namespaces;
    if namespaces.from == FromNamespaces::None {
        faults.error_with_help(
            format!("{at}/allowedRoutes/namespaces/from"),
            "None is for ListenerSets, in `allowedListeners`",
            "use one of All, Same, Selector",
        );
    }
    let choice = (namespaces.from, namespaces.selector.as_ref());
    check_namespaces(&format!("{at}/allowedRoutes/namespaces"), choice, faults);
}

pub(super) fn check_namespaces(
    at: &str,
    choice: (FromNamespaces, Option<&LabelSelector>),
    faults: &mut Faults,
) {
    match choice {
        (FromNamespaces::Selector, None) => faults.error(at, "`from: Selector` needs a `selector`"),
        (FromNamespaces::Selector, Some(_)) | (_, None) => {}
        (_, Some(_)) => faults.warn(format!("{at}/selector"), "without `from: Selector` it has no effect"),
    }
}

/// The rules that the CRD has in CEL.
fn check_tls(at: &str, listener: &ListenerSpec, faults: &mut Faults) {
    use ListenerProtocol::{Http, Https, Other, Tcp, Tls, Udp};
    let protocol = &listener.protocol;
    match (protocol, &listener.tls) {
        (Https, None) => {
            faults.error(at, "protocol HTTPS needs `tls` with the certificate to show");
        }
        (Tls, None) => {
            let help = "protocol TLS needs `tls`: `mode: Passthrough`, or the certificate to show";
            faults.error(at, help);
        }
        (Https, Some(tls)) if tls.mode == TlsMode::Passthrough => {
            faults.error(format!("{at}/tls/mode"), "protocol HTTPS ends TLS here: the mode is Terminate");
        }
        (Https | Tls, Some(tls)) if tls.mode == TlsMode::Terminate && tls.certificate_refs.is_empty() => {
            let message = format!("protocol {protocol} needs a certificate in `certificateRefs`");
            faults.error(format!("{at}/tls"), message);
        }
        (Http, Some(_)) => {
            faults.error(format!("{at}/tls"), "protocol HTTP has no TLS: use protocol HTTPS");
        }
        (Tcp | Udp, Some(_)) => {
            let message = format!("protocol {protocol} has no TLS: use protocol TLS");
            faults.error(format!("{at}/tls"), message);
        }
        (Http | Https | Tls | Tcp | Udp | Other(_), _) => {}
    }
}

fn secret_kind() -> String {
    String::from("Secret")
}
