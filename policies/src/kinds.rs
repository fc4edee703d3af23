//! THE REGISTRY: one module and one entry per policy kind. `check` holds the few validations that kinds share, `key` what
//! tells requests apart, `backend_ref` whom a policy has asked, `grpc_code` the names of gRPC's errors; nothing else is here.

pub mod authorization;
mod backend_ref;
mod check;
pub mod circuit_breaker;
mod cohort;
mod fault;
mod grpc_code;
mod health_check;
mod jwt_authentication;
mod key;
mod load_balancing;
mod mesh_tls;
mod overload;
pub mod rate_limit;
mod retry;
mod timeout;
mod wasm_plugin;

use crate::kind::KindEntry;

pub const KINDS: &[KindEntry] = &[
    KindEntry::of::<rate_limit::RateLimitPolicy>(),
    KindEntry::of::<circuit_breaker::CircuitBreakerPolicy>(),
    KindEntry::of::<cohort::CohortPolicy>(),
    KindEntry::of::<load_balancing::LoadBalancingPolicy>(),
    KindEntry::of::<retry::RetryPolicy>(),
    KindEntry::of::<timeout::TimeoutPolicy>(),
    KindEntry::of::<fault::FaultPolicy>(),
    KindEntry::of::<overload::OverloadPolicy>(),
    KindEntry::of::<health_check::HealthCheckPolicy>(),
    KindEntry::of::<jwt_authentication::JwtAuthenticationPolicy>(),
    KindEntry::of::<authorization::AuthorizationPolicy>(),
    KindEntry::of::<mesh_tls::MeshTlsPolicy>(),
    KindEntry::of::<wasm_plugin::WasmPlugin>(),
];

/// The entry of `kind`, if it is one of ours.
pub fn find(kind: &str) -> Option<&'static KindEntry> {
    KINDS.iter().find(|entry| entry.kind == kind)
}

#[cfg(test)]
mod tests;
