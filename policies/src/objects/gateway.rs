//! Gateway API `Gateway`: where a gateway proxy listens and which routes may attach.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, LabelSelector, Object, Spec, Written};

mod address;
mod infrastructure;
mod listener;
mod protocol;
mod tls;

pub use address::{AddressKind, GatewayAddress};
pub(in crate::objects) use listener::check as check_listeners;
pub use listener::{
    AllowedRoutes, CertificateRef, FromNamespaces, ListenerSpec, ListenerTlsSpec, RouteGroupKind,
    RouteNamespaces, TlsMode,
};
pub use protocol::ListenerProtocol;
pub use tls::{
    FrontendConfig, FrontendPort, FrontendTls, FrontendValidation, FrontendValidationMode, GatewayBackendTls,
    GatewayTlsSpec, ObjectRef,
};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["defaultScope"]))]
pub struct GatewaySpec {
    /// Whose Gateway it is, see [`crate::resolve::Controller`]. That holds for files too: they may hold the Gateways of
    /// other controllers, whose ports must not be taken.
    #[schemars(length(min = 1, max = 253))]
    pub gateway_class_name: String,
    #[schemars(length(min = 1, max = 64))]
    pub listeners: Vec<ListenerSpec>,
    /// Addresses to bind; empty means all.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub addresses: Vec<GatewayAddress>,
    #[serde(default)]
    pub tls: GatewayTlsSpec,
    #[serde(default)]
    pub infrastructure: InfrastructureSpec,
    #[serde(default)]
    pub allowed_listeners: AllowedListeners,
}

/// Whose ListenerSets may add listeners (GEP-1713). By default nobody's: a listener takes a name and a port for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedListeners {
    pub namespaces: ListenerNamespaces,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerNamespaces {
    pub from: FromNamespaces,
    /// On the labels of the ListenerSet's Namespace; only with `from: Selector`.
    pub selector: Option<LabelSelector>,
}

impl Default for ListenerNamespaces {
    fn default() -> Self {
        Self { from: FromNamespaces::None, selector: None }
    }
}

/// Wishes for what an implementation creates for a Gateway. Ours creates nothing, so labels go nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InfrastructureSpec {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Settings of the implementation; ours has none.
    pub parameters_ref: Option<LocalParametersRef>,
}

/// An object of the Gateway's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct LocalParametersRef {
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl Spec for GatewaySpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        listener::check(&object.spec.listeners, faults);
        let allowed = &object.spec.allowed_listeners.namespaces;
        listener::check_namespaces(
            "/allowedListeners/namespaces",
            (allowed.from, allowed.selector.as_ref()),
            faults,
        );
        infrastructure::check(&object.spec.infrastructure, faults);
        tls::check(&object.spec.tls, faults);
        address::check(&object.spec.addresses, faults);
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::Gateway(Box::new(object))
    }
}
