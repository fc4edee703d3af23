//! Whom a policy has asked something: a Service or a Backend, as policies refer to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::CompileContext;
use crate::model::{BackendKind, ResourceName};
use crate::objects::TIDEGATE_GROUP;
use crate::pipeline::ServiceRef;

/// In another namespace only with a ReferenceGrant there.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendRefSpec {
    /// Default: that of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Default: Service.
    #[serde(default)]
    kind: ServiceKind,
    #[schemars(length(min = 1, max = 253))]
    name: String,
    /// Default: that of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    namespace: Option<String>,
    /// A Service needs one; a Backend has one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum ServiceKind {
    #[default]
    Service,
    Backend,
}

impl BackendRefSpec {
    /// `at`: a JSON pointer into the spec. All faults are told; `None` after those with which there is nothing to refer to.
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<ServiceRef> {
        let (kind, group) = match self.kind {
            ServiceKind::Service => (BackendKind::Service, ""),
            ServiceKind::Backend => (BackendKind::Backend, TIDEGATE_GROUP),
        };
        if self.group.as_deref().is_some_and(|written| written != group) {
            let message = format!("the group of a {:?} is `{group}`: leave it out", self.kind);
            cx.error(format!("{at}/group"), message);
        }
        if self.name.is_empty() {
            cx.error(format!("{at}/name"), format!("a {:?} has a name", self.kind));
        }
        if self.port == Some(0) {
            cx.error(format!("{at}/port"), "0 is out of range: use 1 to 65535");
        }
        if kind == BackendKind::Service && self.port.is_none() {
            cx.error(at, "a Service needs a `port`");
            return None;
        }
        let own = &cx.policy().name.namespace;
        let namespace = self.namespace.as_deref().map_or_else(|| own.clone(), Into::into);
        Some(ServiceRef { kind, object: ResourceName::new(namespace, self.name.as_str()), port: self.port })
    }
}
