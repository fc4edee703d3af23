//! What changes in effect from one set of documents to another, whatever it is that changes in their text.
//!
//! Both sides are resolved as production does it; what they lead to is written down as facts, each with its place in the
//! documents: which match of which host leads where, which policies hold on which way, what a policy says in the one form in
//! which it would be written again. Facts are compared by what they say. So comments, the order of documents, files and fields,
//! what is written although it is the default, and objects that have no effect make no difference.

mod describe;
mod facts;
mod places;
mod policies;
mod routes;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Resources, SourceRef};
use facts::{Fact, Facts};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Topic {
    Listener,
    /// A match of a rule that requests meet, and where it leads.
    Route,
    /// Which policies hold on a way that traffic takes.
    Holds,
    /// What a policy that holds anywhere says.
    Policy,
    Backend,
    Endpoints,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    Added,
    Removed,
    Changed,
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub topic: Topic,
    pub way: Way,
    /// What it is about; several where the same changes on several ways.
    pub subjects: Vec<String>,
    /// Where it was written, and is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<SourceRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<SourceRef>,
    /// What of it; of something that was added or removed, all that there is to say.
    pub details: Vec<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    pub field: String,
    /// Absent where there was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Said>,
}

/// What holds, and the line that says so.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRef>,
}

/// Where something is written is no part of what it says.
impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Said {}

/// Everything that is not as before; empty if every request is treated as before.
pub fn diff(before: &Resources, after: &Resources) -> Vec<Change> {
    let (before, after) = (Facts::of(before), Facts::of(after));
    let mut changes = Vec::new();
    for (key, fact) in &before.0 {
        match after.0.get(key) {
            None => changes.push(whole(key, Way::Removed, fact)),
            Some(now) => changes.extend(changed(key, fact, now)),
        }
    }
    let new = after.0.iter().filter(|(key, _)| !before.0.contains_key(*key));
    changes.extend(new.map(|(key, fact)| whole(key, Way::Added, fact)));
    changes.sort_by(|a, b| (a.topic, &a.subjects).cmp(&(b.topic, &b.subjects)));
    together(changes)
}

type Key = (Topic, String);

fn whole((topic, subject): &Key, way: Way, fact: &Fact) -> Change {
    let detail = |(field, said): (&String, &Said)| {
        let said = Some(said.clone());
        let (before, after) = if way == Way::Removed { (said, None) } else { (None, said) };
        Detail { field: field.clone(), before, after }
    };
    let source = fact.source.clone();
    let (before, after) = if way == Way::Removed { (source, None) } else { (None, source) };
    let details = fact.parts.iter().map(detail).collect();
    Change { topic: *topic, way, subjects: vec![subject.clone()], before, after, details }
}

fn changed((topic, subject): &Key, before: &Fact, after: &Fact) -> Option<Change> {
    let mut fields: BTreeMap<&String, (Option<&Said>, Option<&Said>)> = BTreeMap::new();
    for (field, said) in &before.parts {
        fields.entry(field).or_default().0 = Some(said);
    }
    for (field, said) in &after.parts {
        fields.entry(field).or_default().1 = Some(said);
    }
    let differ = fields.into_iter().filter(|(_, (before, after))| before != after);
    let details = differ.map(|(field, (before, after))| Detail {
        field: field.clone(),
        before: before.cloned(),
        after: after.cloned(),
    });
    let details: Vec<_> = details.collect();
    if details.is_empty() {
        return None;
    }
    let (before, after) = (before.source.clone(), after.source.clone());
    Some(Change { topic: *topic, way: Way::Changed, subjects: vec![subject.clone()], before, after, details })
}

/// The same change on several ways is one.
fn together(changes: Vec<Change>) -> Vec<Change> {
    let mut joined: Vec<Change> = Vec::new();
    let mut known = BTreeMap::<(Way, String), usize>::new();
    for change in changes {
        if change.topic != Topic::Holds {
            joined.push(change);
            continue;
        }
        let text = |said: &Option<Said>| said.as_ref().map(|said| said.text.clone());
        let details = change.details.iter().map(|one| (&one.field, text(&one.before), text(&one.after)));
        let same = format!("{:?}", details.collect::<Vec<_>>());
        match known.get(&(change.way, same.clone())) {
            Some(at) => joined[*at].subjects.extend(change.subjects),
            None => {
                known.insert((change.way, same), joined.len());
                joined.push(change);
            }
        }
    }
    joined
}
