//! What a policy kind is: a name, the targets it accepts, a spec, and how the spec becomes behaviour.
//!
//! A kind is one file in `kinds/` and one line in [`crate::kinds`]. Validation, JSON schema, admission, CLI help and
//! docs derive from the trait; nobody else knows a kind by name.

use std::fmt::Debug;
use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::balance::LoadBalancing;
use crate::call::{RetryRule, TimeoutRule};
use crate::decision::RuleRef;
use crate::health::CircuitBreaker;
use crate::health::check::HealthCheck;
use crate::mesh::MeshTls;
use crate::model::{Mode, Policy, PolicyRef, TargetKind};
use crate::pick::Cohort;
use crate::pipeline::{Filter, ServiceRef};
use crate::state::StateStore;

/// One kind of policy, as its author writes it.
pub trait PolicyKind: 'static {
    /// As in `kind:` of the document, e.g. `RateLimitPolicy`.
    const KIND: &'static str;
    /// One sentence for help and docs.
    const ABOUT: &'static str;
    /// What `targetRefs` may name.
    const TARGETS: &'static [TargetKind];
    /// The spec without `targetRefs` and `mode`, which every kind has.
    type Spec: DeserializeOwned + JsonSchema;

    /// Whether a policy with this spec has an effect without any target.
    fn stands_alone(_spec: &Value) -> bool {
        false
    }

    /// Puts what the spec names in other objects in the place of the names. A name that leads nowhere stays; what the policy
    /// does then is for [`PolicyKind::compile`] to say. Each such name is a fault of the reference and none of the policy.
    fn look_up(_spec: &mut Value, _find: FindText<'_>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Checks the spec and turns it into behaviour. Every fault is reported to `cx` with its place; the result
    /// counts only if none was.
    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled>;
}

/// The text under a key of a ConfigMap in the policy's namespace: name and key, or why there is none.
pub type FindText<'f> = &'f dyn Fn(&str, &str) -> Result<String, String>;

/// A policy that has passed validation, not yet joined to any state.
#[derive(Clone, Debug)]
pub enum Compiled {
    /// Judges requests, in the pipeline, after routing.
    Filter(Arc<dyn BindFilter>),
    /// Guards calls to a backend; one state per (policy, backend).
    CircuitBreaker(Arc<CircuitBreaker>),
    /// Chooses among the endpoints of a backend.
    LoadBalancing(Arc<LoadBalancing>),
    /// Asks a backend's endpoints how they are; one state per (policy, backend).
    HealthCheck(Arc<HealthCheck>),
    /// Picks the backend of a rule by user.
    Cohort(Arc<Cohort>),
    /// Says when calls are made again.
    Retry(Arc<RetryRule>),
    /// Says how long calls may take.
    Timeout(Arc<TimeoutRule>),
    /// Says which connections between workloads must be mTLS.
    MeshTls(Arc<MeshTls>),
}

/// Joins a compiled filter to its counters. Same policy and same rule: same counters, whatever else changed.
pub trait BindFilter: Debug + Send + Sync {
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter>;

    /// The service that the filter has asked.
    fn service(&self) -> Option<&Arc<ServiceRef>> {
        None
    }
}

/// What a kind may ask, and tell, while it compiles.
#[derive(Debug)]
pub struct CompileContext<'a> {
    policy: &'a Policy,
    reference: Arc<PolicyRef>,
    errors: Vec<FieldError>,
}

/// A fault in a spec: where (JSON pointer relative to the spec) and what, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec{pointer}: {message}")]
pub struct FieldError {
    pub pointer: String,
    pub message: String,
}

impl<'a> CompileContext<'a> {
    pub fn new(policy: &'a Policy) -> Self {
        Self { policy, reference: Arc::new(policy.reference()), errors: Vec::new() }
    }

    pub fn policy(&self) -> &Arc<PolicyRef> {
        &self.reference
    }

    pub fn has_targets(&self) -> bool {
        !self.policy.targets.is_empty()
    }

    /// Of each target.
    pub fn target_kinds(&self) -> Vec<TargetKind> {
        self.policy.targets.iter().map(|target| target.kind).collect()
    }

    pub fn mode(&self) -> Mode {
        self.policy.mode
    }

    /// The rule written at `pointer` (relative to the spec): its name and line, for decisions.
    pub fn rule(&self, name: &str, pointer: &str) -> Arc<RuleRef> {
        let source = self.policy.meta.at(self.policy.lines.line(pointer));
        Arc::new(RuleRef { name: name.into(), source })
    }

    pub fn error(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.into(), message: message.into() });
    }
}

/// A [`PolicyKind`] with its types erased: one entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct KindEntry {
    pub kind: &'static str,
    pub about: &'static str,
    pub targets: &'static [TargetKind],
    /// JSON schema of the spec without `targetRefs` and `mode`.
    pub schema: fn() -> Schema,
    /// See [`PolicyKind::stands_alone`].
    pub stands_alone: fn(&Value) -> bool,
    /// See [`PolicyKind::look_up`].
    pub look_up: fn(&mut Value, FindText<'_>) -> Vec<FieldError>,
    compile: fn(&Policy) -> Result<Compiled, Vec<FieldError>>,
}

impl KindEntry {
    pub const fn of<K: PolicyKind>() -> Self {
        Self {
            kind: K::KIND,
            about: K::ABOUT,
            targets: K::TARGETS,
            schema: schema_of::<K>,
            stands_alone: K::stands_alone,
            look_up: K::look_up,
            compile: compile::<K>,
        }
    }

    /// # Errors
    /// Every fault of the spec, with its place.
    pub fn compile(&self, policy: &Policy) -> Result<Compiled, Vec<FieldError>> {
        (self.compile)(policy)
    }
}

fn schema_of<K: PolicyKind>() -> Schema {
    crate::document::schema::generate::<K::Spec>()
}

fn compile<K: PolicyKind>(policy: &Policy) -> Result<Compiled, Vec<FieldError>> {
    if !policy.spec.is_object() {
        // A list would be read as the fields in their order.
        return Err(vec![FieldError { pointer: String::new(), message: "a mapping was expected".into() }]);
    }
    let spec = <K::Spec as serde::Deserialize>::deserialize(&policy.spec)
        .map_err(|e| vec![FieldError { pointer: String::new(), message: e.to_string() }])?;
    let mut cx = CompileContext::new(policy);
    let compiled = K::compile(spec, &mut cx);
    match compiled {
        Some(compiled) if cx.errors.is_empty() => Ok(compiled),
        _ if cx.errors.is_empty() => {
            Err(vec![FieldError { pointer: String::new(), message: String::from("not a valid policy") }])
        }
        _ => Err(cx.errors),
    }
}
