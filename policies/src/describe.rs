//! Everything that is attached to one object, and what holds there: for people who own it.
//!
//! Which policies hold is asked of [`Attachments`], as a proxy does. Nothing is decided here.

mod places;
mod render;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::attach::Attachments;
use crate::model::{Mode, Policy, ResourceName, Resources, TargetKind, TargetRef};

/// What can be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    Service,
    Route,
    Gateway,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Described {
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// Where it is written.
    pub sources: Vec<String>,
    /// Policies that name it as their target.
    pub attached: Vec<Held>,
    /// Where requests meet it, and what holds there.
    pub places: Vec<PlaceSaid>,
}

/// Somewhere on the way of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlaceSaid {
    /// `at shop/edge/http, by HTTPRoute shop/web cart`.
    pub place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `shop/cart:80, weight 9`.
    pub leads_to: Vec<String>,
    pub effective: Vec<Held>,
    /// On the way too, but another one of their kind is more specific, or older.
    pub overridden: Vec<Held>,
}

/// A policy, and the target through which it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    pub kind: String,
    pub policy: String,
    pub source: String,
    /// `Enforce` or `Shadow`.
    pub mode: String,
    /// Empty where a route names the policy itself.
    pub through: Vec<String>,
}

/// There is no such object, or more than one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDescribed {
    #[error("there is no {0} {1}; there is {2}")]
    Unknown(&'static str, String, String),
    #[error("there are several of that name: write one of {0}")]
    Several(String),
    #[error("`{0}` is none of service, route, gateway")]
    Subject(String),
}

/// `name` may be `namespace/name`, or the name alone where only one object has it.
///
/// # Errors
/// It is not there, or it is not clear which is meant.
pub fn describe(resources: &Resources, subject: Subject, name: &str) -> Result<Described, NotDescribed> {
    let name = meant(&all(resources, subject), subject, name)?;
    let attachments = Attachments::new(resources.policies.values());
    let view = places::View { resources, attachments };
    let is_it = |target: &TargetRef| subject.is(target.kind) && target.object == name;
    let attached = resources.policies.values().filter_map(|policy| {
        let through: Vec<_> = policy.targets.iter().filter(|target| is_it(target)).collect();
        (!through.is_empty()).then(|| Held::of(policy, through.into_iter()))
    });
    let (sources, places) = match subject {
        Subject::Service => view.service(&name),
        Subject::Route => view.route(&name),
        Subject::Gateway => view.gateway(&name),
    };
    Ok(Described {
        kind: subject.to_string(),
        name: name.to_string(),
        sources,
        attached: attached.collect(),
        places,
    })
}

impl Held {
    fn of<'t>(policy: &Policy, through: impl Iterator<Item = &'t TargetRef>) -> Self {
        Self {
            kind: policy.kind.to_string(),
            policy: policy.meta.name.to_string(),
            source: policy.meta.source.to_string(),
            mode: if policy.mode == Mode::Shadow { "Shadow" } else { "Enforce" }.to_owned(),
            through: through.map(ToString::to_string).collect(),
        }
    }
}

impl Subject {
    fn is(self, kind: TargetKind) -> bool {
        match self {
            Self::Service => matches!(kind, TargetKind::Service | TargetKind::Backend),
            Self::Route => matches!(kind, TargetKind::HTTPRoute | TargetKind::GRPCRoute),
            Self::Gateway => kind == TargetKind::Gateway,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Route => "route",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = NotDescribed;

    fn from_str(text: &str) -> Result<Self, NotDescribed> {
        let all = [Self::Service, Self::Route, Self::Gateway];
        let found = all.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| NotDescribed::Subject(text.to_owned()))
    }
}

/// All objects of the kind, each once.
fn all(resources: &Resources, subject: Subject) -> Vec<ResourceName> {
    let mut names: Vec<_> = match subject {
        Subject::Service => resources.backends.keys().map(|name| name.object.clone()).collect(),
        Subject::Route => resources.routes.keys().map(|(_, name)| name.clone()).collect(),
        Subject::Gateway => resources.listeners.keys().map(|name| name.gateway.clone()).collect(),
    };
    names.sort();
    names.dedup();
    names
}

fn meant(all: &[ResourceName], subject: Subject, written: &str) -> Result<ResourceName, NotDescribed> {
    let list = |names: &[&ResourceName]| {
        let shown: Vec<_> = names.iter().take(20).map(ToString::to_string).collect();
        if shown.is_empty() { String::from("none") } else { shown.join(", ") }
    };
    let is_it = |name: &&ResourceName| *name.name == *written || name.to_string() == written;
    match &all.iter().filter(is_it).collect::<Vec<_>>()[..] {
        [one] => Ok((*one).clone()),
        [] => Err(NotDescribed::Unknown(
            subject.as_str(),
            written.to_owned(),
            list(&all.iter().collect::<Vec<_>>()),
        )),
        several => Err(NotDescribed::Several(list(several))),
    }
}
