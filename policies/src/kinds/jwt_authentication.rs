//! `JwtAuthenticationPolicy`: who asks, by the token that the request carries. Checks what was written; [`filter`] decides.

mod filter;
mod keys;
mod place;
mod provider;
mod told;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check;
use crate::jwt::{Cache, KeySource};
use crate::kind::{BindFilter, CompileContext, Compiled, FieldError, FindText, PolicyKind};
use crate::model::{Mode, PolicyRef, TargetKind};
use crate::pipeline::Filter;
use crate::state::{StateKey, StateStore};
use filter::JwtFilter;
use keys::Remote;
use place::Place;
use provider::{Provider, ProviderSpec};
use told::Challenges;

#[derive(Debug)]
pub(super) struct JwtAuthenticationPolicy;

/// A request has at most one token, at one of the places where a provider has its own. Its claims are known to rate limits
/// (key type Claim) and to expressions (`jwt.claims`) from then on.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct JwtAuthenticationPolicySpec {
    /// Who issues tokens. A token is judged by the provider whose issuer it names.
    #[schemars(length(min = 1, max = 16))]
    providers: Vec<ProviderSpec>,
    /// What becomes of requests without a token. Default: Deny. One with a token that does not hold is refused anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<MissingSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum MissingSpec {
    Deny,
    /// They pass, without claims.
    Allow,
}

const MOST_PROVIDERS: usize = 16;

/// A policy that has passed validation.
#[derive(Debug)]
struct JwtAuthentication {
    policy: Arc<PolicyRef>,
    /// For what no single provider can be blamed for.
    rule: Arc<crate::decision::RuleRef>,
    providers: Arc<[Provider]>,
    places: Arc<[Place]>,
    allow_missing: bool,
    shadow: bool,
    challenges: Challenges,
    /// Of the providers as they are written: what was verified by others is not known.
    fingerprint: String,
}

impl PolicyKind for JwtAuthenticationPolicy {
    const KIND: &'static str = "JwtAuthenticationPolicy";
    const ABOUT: &'static str =
        "Lets requests pass that carry a valid JSON Web Token, and makes its claims known.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = JwtAuthenticationPolicySpec;

    /// Puts key sets of ConfigMaps in the place of their names.
    fn look_up(spec: &mut Value, find: FindText<'_>) -> Vec<FieldError> {
        keys::look_up(spec, find)
    }

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let count = spec.providers.len();
        if !(1..=MOST_PROVIDERS).contains(&count) {
            cx.error("/providers", format!("{count} providers: write 1 to {MOST_PROVIDERS}"));
        }
        check::unique(cx, "/providers", spec.providers.iter().map(|provider| Some(provider.name())));
        for (i, provider) in spec.providers.iter().enumerate() {
            if spec.providers[..i].iter().any(|before| before.issuer() == provider.issuer()) {
                let message = "another provider has the same issuer: write their audiences and keys in one";
                cx.error(format!("/providers/{i}/issuer"), message);
            }
        }
        let each = spec.providers.iter().enumerate();
        let compiled: Vec<_> =
            each.map(|(i, provider)| provider.compile(&format!("/providers/{i}"), cx)).collect();
        let providers: Arc<[Provider]> = compiled.into_iter().collect::<Option<_>>()?;
        Some(Compiled::Filter(Arc::new(JwtAuthentication {
            policy: cx.policy().clone(),
            rule: cx.rule("providers", "/providers"),
            places: Place::of_all(&providers).into(),
            providers,
            allow_missing: spec.missing == Some(MissingSpec::Allow),
            shadow: cx.mode() == Mode::Shadow,
            challenges: Challenges::new(cx.policy())?,
            fingerprint: fingerprint(&serde_json::to_vec(&spec.providers).ok()?),
        })))
    }
}

impl BindFilter for JwtAuthentication {
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter> {
        let owner = format!("{}/{}", self.policy.kind, self.policy.name);
        let remote = |provider: &Provider| {
            let Remote { at, fingerprint } = provider.remote.as_ref()?;
            let key = StateKey::new("jwks", fingerprint.as_str());
            Some(state.get_or_insert(key, || KeySource::new(at.clone())))
        };
        let remote: Box<[_]> = self.providers.iter().map(remote).collect();
        let cache = state.get_or_insert(StateKey::new(owner, self.fingerprint.as_str()), Cache::default);
        Arc::new(JwtFilter {
            policy: self.policy.clone(),
            rule: self.rule.clone(),
            providers: self.providers.clone(),
            places: self.places.clone(),
            allow_missing: self.allow_missing,
            shadow: self.shadow,
            challenges: self.challenges.clone(),
            sources: remote.iter().flatten().cloned().collect(),
            remote,
            cache,
        })
    }
}

/// The same for the same text, keys and all.
fn fingerprint(text: &[u8]) -> String {
    Cache::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
