//! What a policy kind is: a name, the targets it accepts, a spec, and how the spec becomes behaviour.
//!
//! A kind is one file in `kinds/` and one line in [`crate::kinds`]. Validation, JSON schema, admission, CLI help and
//! docs derive from the trait; nobody else knows a kind by name.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::balance::LoadBalancing;
use crate::call::{RetryRule, TimeoutRule};
use crate::decision::RuleRef;
use crate::expression::Expression;
use crate::health::CircuitBreaker;
use crate::health::check::HealthCheck;
use crate::kinds::authorization::Authorization;
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
    type Spec: DeserializeOwned + Serialize + JsonSchema;

    /// What holds where several of this kind are on the way of the same traffic.
    const MERGE: Merge = Merge::MostSpecific;

    /// The spec of what holds in the place of a policy of this kind that was never valid. `None`: nothing does.
    fn stand_in() -> Option<Value> {
        None
    }

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

/// See [`PolicyKind::MERGE`] (GEP-713).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The one on the most specific target, and of several there the oldest.
    MostSpecific,
    /// All of them.
    AddUp,
}

/// The text under a key of a ConfigMap in the policy's namespace: name and key, or why there is none.
pub type FindText<'f> = &'f dyn Fn(&str, &str) -> Result<String, String>;

/// A policy that has passed validation, not yet joined to any state.
#[derive(Clone, Debug)]
pub enum Compiled {
    /// Judges requests, in the pipeline, after routing.
    Filter(Arc<dyn BindFilter>),
    /// Says who may do what. Those of one target judge together.
    Authorization(Arc<Authorization>),
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

    /// The services that the filter has asked, each with the pointer of its reference.
    fn services(&self) -> Vec<(&Arc<ServiceRef>, String)> {
        Vec::new()
    }

    /// Rules that never have a say, because another one of the policy always has it before.
    fn idle(&self) -> Vec<Idle> {
        Vec::new()
    }
}

/// See [`BindFilter::idle`].
#[derive(Clone, Debug)]
pub struct Idle {
    pub rule: Arc<RuleRef>,
    /// The one that is stricter, whoever asks.
    pub because: Arc<RuleRef>,
}

/// What a policy consists of, found while it was compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Every rule that may decide something.
    pub(crate) rules: Vec<Arc<RuleRef>>,
    /// Where each is written, relative to the spec.
    pub(crate) pointers: Vec<String>,
    /// Every expression, with the place where it is written.
    pub(crate) expressions: Vec<(String, Arc<Expression>)>,
    /// The spec could not even be read: nobody has looked at what it says.
    unread: bool,
}

/// What a kind may ask, and tell, while it compiles.
#[derive(Debug)]
pub struct CompileContext<'a> {
    policy: &'a Policy,
    reference: Arc<PolicyRef>,
    errors: Vec<FieldError>,
    parts: RefCell<Parts>,
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
        Self {
            policy,
            reference: Arc::new(policy.reference()),
            errors: Vec::new(),
            parts: RefCell::default(),
        }
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
        let rule = Arc::new(RuleRef { name: name.into(), source });
        let mut parts = self.parts.borrow_mut();
        parts.rules.push(Arc::clone(&rule));
        parts.pointers.push(pointer.to_owned());
        rule
    }

    /// An expression that is written at `pointer`.
    pub(crate) fn found(&self, pointer: &str, expression: &Arc<Expression>) {
        self.parts.borrow_mut().expressions.push((pointer.to_owned(), Arc::clone(expression)));
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
    /// See [`PolicyKind::MERGE`].
    pub merge: Merge,
    /// See [`PolicyKind::stand_in`].
    pub stand_in: fn() -> Option<Value>,
    /// See [`PolicyKind::stands_alone`].
    pub stands_alone: fn(&Value) -> bool,
    /// See [`PolicyKind::look_up`].
    pub look_up: fn(&mut Value, FindText<'_>) -> Vec<FieldError>,
    /// The spec in the one form in which it would be written again: without what is said by leaving it out. `None` for one
    /// that cannot be read.
    pub(crate) plain: fn(&Value) -> Option<Value>,
    compile: fn(&Policy) -> Compilation,
}

/// What became of a policy, and what it consists of.
type Compilation = (Result<Compiled, Vec<FieldError>>, Parts);

impl KindEntry {
    pub const fn of<K: PolicyKind>() -> Self {
        Self {
            kind: K::KIND,
            about: K::ABOUT,
            targets: K::TARGETS,
            schema: schema_of::<K>,
            merge: K::MERGE,
            stand_in: K::stand_in,
            stands_alone: K::stands_alone,
            look_up: K::look_up,
            plain: plain::<K>,
            compile: compile::<K>,
        }
    }

    /// # Errors
    /// Every fault of the spec, with its place.
    pub fn compile(&self, policy: &Policy) -> Result<Compiled, Vec<FieldError>> {
        (self.compile)(policy).0
    }

    /// What is wrong with a policy.
    ///
    /// # Errors
    /// The spec cannot be read, and the rest of what may be wrong with it is not known.
    pub(crate) fn faults(&self, policy: &Policy) -> Result<Vec<FieldError>, String> {
        let (compiled, parts) = (self.compile)(policy);
        let faults = compiled.err().unwrap_or_default();
        if parts.unread { Err(faults.into_iter().map(|fault| fault.message).collect()) } else { Ok(faults) }
    }

    /// Every rule that may decide something, where it is written.
    pub fn rules(&self, policy: &Policy) -> Vec<Arc<RuleRef>> {
        (self.compile)(policy).1.rules
    }

    /// The policy, if it is valid, with what it consists of.
    pub(crate) fn take_apart(&self, policy: &Policy) -> Option<(Compiled, Parts)> {
        let (compiled, parts) = (self.compile)(policy);
        Some((compiled.ok()?, parts))
    }
}

fn plain<K: PolicyKind>(spec: &Value) -> Option<Value> {
    serde_json::to_value(<K::Spec as serde::Deserialize>::deserialize(spec).ok()?).ok()
}

fn schema_of<K: PolicyKind>() -> Schema {
    crate::document::schema::generate::<K::Spec>()
}

fn compile<K: PolicyKind>(policy: &Policy) -> Compilation {
    let whole = |message: String| {
        let unread = Parts { unread: true, ..Parts::default() };
        (Err(vec![FieldError { pointer: String::new(), message }]), unread)
    };
    if !policy.spec.is_object() {
        // A list would be read as the fields in their order.
        return whole(String::from("a mapping was expected"));
    }
    let spec = match <K::Spec as serde::Deserialize>::deserialize(&policy.spec) {
        Ok(spec) => spec,
        Err(error) => return whole(error.to_string()),
    };
    let mut cx = CompileContext::new(policy);
    let compiled = match K::compile(spec, &mut cx) {
        Some(compiled) if cx.errors.is_empty() => Ok(compiled),
        _ if cx.errors.is_empty() => return whole(String::from("not a valid policy")),
        _ => Err(cx.errors),
    };
    (compiled, cx.parts.into_inner())
}
