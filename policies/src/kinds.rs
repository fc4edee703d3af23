//! THE REGISTRY: one module and one entry per policy kind. `check` holds the few validations that kinds share;
//! nothing else is here.

mod check;
mod circuit_breaker;
mod cohort;
mod jwt_authentication;
pub mod rate_limit;

use crate::kind::KindEntry;

pub const KINDS: &[KindEntry] = &[
    KindEntry::of::<rate_limit::RateLimitPolicy>(),
    KindEntry::of::<circuit_breaker::CircuitBreakerPolicy>(),
    KindEntry::of::<cohort::CohortPolicy>(),
    KindEntry::of::<jwt_authentication::JwtAuthenticationPolicy>(),
];

/// The entry of `kind`, if it is one of ours.
pub fn find(kind: &str) -> Option<&'static KindEntry> {
    KINDS.iter().find(|entry| entry.kind == kind)
}

#[cfg(test)]
mod tests;
