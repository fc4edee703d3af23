//! `MeshTlsPolicy`: which connections between workloads must be mTLS.
//!
//! This file checks what was written; [`crate::mesh`] decides, and the proxies do the handshakes.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::mesh::{Asked, MeshTls, Mtls};
use crate::model::TargetKind;

#[derive(Debug)]
pub(super) struct MeshTlsPolicy;

/// Holds where a Service is served, at its own sidecars, for each connection before anything of it is read; and at those
/// who call it, who never come without mTLS where it is asked for. A Namespace's policy is for every Service in it that
/// has none of its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MeshTlsPolicySpec {
    mtls: MtlsSpec,
    /// Ports for which it is another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    ports: Vec<PortSpec>,
}

/// Strict: connections without mTLS are reset. Permissive: proxies of the mesh come by mTLS, everybody else as he
/// likes. Disable: proxies of the mesh come without, for what cannot do with a proxy before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum MtlsSpec {
    Permissive,
    Strict,
    Disable,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PortSpec {
    /// That connections reach: of the workload, as its endpoints have it, and not of the Service.
    #[schemars(range(min = 1, max = 65535))]
    port: u16,
    mtls: MtlsSpec,
}

impl PolicyKind for MeshTlsPolicy {
    const KIND: &'static str = "MeshTlsPolicy";
    const ABOUT: &'static str = "Says which connections between workloads must be mTLS.";
    const TARGETS: &'static [TargetKind] = &[TargetKind::Service, TargetKind::Namespace];
    type Spec = MeshTlsPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let mut seen = BTreeSet::new();
        for (index, PortSpec { port, .. }) in spec.ports.iter().enumerate() {
            if *port == 0 {
                cx.error(format!("/ports/{index}/port"), "write a port from 1 to 65535");
            }
            if !seen.insert(port) {
                cx.error(format!("/ports/{index}/port"), format!("port {port} is written twice"));
            }
        }
        let usual = Asked { mtls: spec.mtls.into(), rule: cx.rule("mtls", "/mtls") };
        let of_port = |(index, PortSpec { port, mtls }): (usize, &PortSpec)| {
            let rule = cx.rule(&format!("port {port}"), &format!("/ports/{index}"));
            (*port, Asked { mtls: (*mtls).into(), rule })
        };
        let ports = spec.ports.iter().enumerate().map(of_port).collect();
        Some(Compiled::MeshTls(MeshTls { policy: cx.policy().clone(), mode: cx.mode(), usual, ports }.into()))
    }
}

impl From<MtlsSpec> for Mtls {
    fn from(spec: MtlsSpec) -> Self {
        match spec {
            MtlsSpec::Permissive => Self::Permissive,
            MtlsSpec::Strict => Self::Strict,
            MtlsSpec::Disable => Self::Disable,
        }
    }
}
