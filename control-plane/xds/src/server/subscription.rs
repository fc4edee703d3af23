//! What one stream wants of one type, what it has, and what it is owed. Knows nothing of other types or nonces.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use prost::Message;

use super::{Event, ProtocolError, Rejected, UNCERTAIN, WILDCARD};
use crate::{DeltaDiscoveryRequest, Name, Resource, ResourceSet, Version};

/// A response is cut when its resources exceed this many encoded bytes; a larger resource travels alone.
const RESPONSE_BYTES: usize = 2 << 20;

/// No stream may name or hold more resources of one type, so that a client cannot fill the server's memory.
const MAX_NAMES: usize = 100_000;

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) type_url: &'static str,
    /// A request of this type has arrived.
    active: bool,
    wildcard: bool,
    names: BTreeSet<Name>,
    /// What the client has in force.
    known: HashMap<Name, Version>,
    /// What of it the client had before this stream, with the version that the first world of this stream shows (if
    /// it shows one). Left alone while worlds are incomplete, until it is seen to change: its difference may come from
    /// what is not known.
    inherited: HashMap<Name, Option<Version>>,
    /// Versions that the client refused.
    refused: HashMap<Name, Version>,
    /// Names that must be answered whatever the client is believed to have.
    owed: BTreeSet<Name>,
    /// The client got a response of this type.
    greeted: bool,
    /// Names are questions; see [`DeltaSession::asked_by_name`](super::DeltaSession::asked_by_name).
    asked: bool,
    /// They are others than were told.
    questions_changed: bool,
    /// There may be something to send: saves the comparison of whole sets after each ACK.
    upserts_due: bool,
    removals_due: bool,
}

/// What one response carries.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) resources: Vec<Resource>,
    pub(super) upserts: Vec<(Name, Version)>,
    pub(super) removed: Vec<Name>,
    /// More of the same kind follows.
    pub(super) partial: bool,
}

impl Subscription {
    pub(super) fn new(type_url: &'static str) -> Self {
        Self {
            type_url,
            active: false,
            wildcard: false,
            names: BTreeSet::new(),
            known: HashMap::new(),
            inherited: HashMap::new(),
            refused: HashMap::new(),
            owed: BTreeSet::new(),
            greeted: false,
            asked: false,
            questions_changed: false,
            upserts_due: false,
            removals_due: false,
        }
    }

    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// All questions, if they have changed.
    pub(super) fn take_questions(&mut self) -> Option<Vec<Name>> {
        let changed = std::mem::take(&mut self.questions_changed) && self.asked;
        changed.then(|| self.names.iter().cloned().collect())
    }

    /// Applies the subscription part of a request.
    pub(super) fn update(&mut self, request: DeltaDiscoveryRequest) -> Result<Option<Event>, ProtocolError> {
        let told = request.resource_names_subscribe.len().max(request.initial_resource_versions.len());
        if told > MAX_NAMES {
            return Err(ProtocolError::TooManyNames { type_url: self.type_url, max: MAX_NAMES });
        }
        let first = !self.active;
        let changes =
            !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty();
        if first {
            self.active = true;
            // An empty first request means everything: the protocol's oldest form of a wildcard.
            self.wildcard = request.resource_names_subscribe.is_empty();
            self.known =
                request.initial_resource_versions.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
            self.inherited = self.known.keys().map(|name| (name.clone(), None)).collect();
        }
        self.unsubscribe(&request.resource_names_unsubscribe);
        self.subscribe(request.resource_names_subscribe, first);
        if self.names.len() > MAX_NAMES || self.owed.len() > MAX_NAMES {
            return Err(ProtocolError::TooManyNames { type_url: self.type_url, max: MAX_NAMES });
        }
        self.questions_changed |= changes;
        if first || changes {
            self.upserts_due = true;
            self.removals_due = true;
        }
        Ok((first && !self.known.is_empty()).then(|| self.resumed()))
    }

    /// A new world takes the place of the old one.
    pub(super) fn adopt(&mut self, old: Option<&ResourceSet>, new: &ResourceSet) {
        let map = new.map(self.type_url);
        if old.is_some_and(|old| Arc::ptr_eq(old.map(self.type_url), map)) {
            let released = !self.inherited.is_empty() && !new.is_incomplete();
            self.upserts_due |= released;
            self.removals_due |= released;
            return;
        }
        self.refused.retain(|name, version| map.get(name).is_some_and(|r| r.version == *version));
        self.upserts_due = self.active;
        self.removals_due = self.active;
    }

    /// The next upserts on the way to `world`; an empty batch when the client waits for its first answer.
    pub(super) fn take_upserts(&mut self, world: &ResourceSet) -> Option<Batch> {
        if !std::mem::take(&mut self.upserts_due) {
            return None;
        }
        self.review_inherited(world);
        if !self.greeted {
            // What a client tells of itself is its own copy of what all others have too.
            let known = std::mem::take(&mut self.known).into_iter();
            self.known = known.map(|(n, v)| world.share_name(self.type_url, n, v)).collect();
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        for (name, version, resource) in self.missing(world) {
            bytes += resource.encoded_len();
            if bytes > RESPONSE_BYTES && !batch.resources.is_empty() {
                batch.partial = true;
                break;
            }
            batch.resources.push(resource);
            batch.upserts.push((name, version));
        }
        for (name, _) in &batch.upserts {
            self.owed.remove(name);
        }
        self.upserts_due = batch.partial;
        let answers = !batch.resources.is_empty() || !self.greeted;
        self.greeted |= answers;
        answers.then_some(batch)
    }

    /// The next removals on the way to `world`.
    pub(super) fn take_removals(&mut self, world: &ResourceSet) -> Option<Batch> {
        if !std::mem::take(&mut self.removals_due) {
            return None;
        }
        let map = world.map(self.type_url);
        let stays = |name: &Name| map.contains_key(name) || self.inherited.contains_key(name);
        let gone = self.known.keys().filter(|name| !(self.covers(name) && stays(name)));
        let mut gone: BTreeSet<Name> = gone.cloned().collect();
        if !self.asked {
            gone.extend(self.owed.iter().filter(|name| !map.contains_key(&***name)).cloned());
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        for name in gone {
            bytes += name.len();
            if bytes > RESPONSE_BYTES && !batch.removed.is_empty() {
                batch.partial = true;
                break;
            }
            self.owed.remove(&name);
            batch.removed.push(name);
        }
        self.removals_due = batch.partial;
        (!batch.removed.is_empty()).then_some(batch)
    }

    pub(super) fn accepted(&mut self, upserts: &[(Name, Version)]) {
        for (name, version) in upserts {
            // The client may have lost interest while the response was on its way.
            if self.covers(name) {
                self.refused.remove(name);
                self.known.insert(name.clone(), version.clone());
            }
        }
    }

    pub(super) fn rejected(&mut self, rejected: &[Rejected]) {
        for Rejected { name, version, in_force, .. } in rejected {
            if self.covers(name) {
                self.refused.insert(name.clone(), version.clone());
                if *in_force {
                    // So that its way back to what was known before, and its removal, are told.
                    self.known.insert(name.clone(), UNCERTAIN.into());
                }
            }
        }
    }

    pub(super) fn forget_removed(&mut self, removed: &[Name]) {
        for name in removed {
            self.known.remove(name);
        }
    }

    /// Lets go of what has changed since the first world of this stream, and of everything once worlds are complete.
    fn review_inherited(&mut self, world: &ResourceSet) {
        let map = world.map(self.type_url);
        self.inherited.retain(|name, first| {
            let now = map.get(name).map(|resource| &resource.version);
            let changed = first.is_some() && first.as_ref() != now;
            *first = first.take().or_else(|| now.cloned());
            world.is_incomplete() && !changed
        });
    }

    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn resumed(&self) -> Event {
        let resources = self.known.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        Event::Acked { type_url: self.type_url, resources, removed: Vec::new() }
    }

    fn subscribe(&mut self, names: Vec<String>, first: bool) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = true;
                continue;
            }
            let name = Name::from(name);
            // A name asked for later is always answered: the client may have dropped the resource meanwhile.
            if !first || !self.known.contains_key(&name) {
                self.owed.insert(name.clone());
            }
            self.names.insert(name);
        }
    }

    fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
                self.known.retain(|name, _| self.names.contains(name));
                self.refused.retain(|name, _| self.names.contains(name));
                self.owed.retain(|name| self.names.contains(name));
            } else if self.names.remove(name.as_str()) && self.wildcard {
                // The client cannot know whether the wildcard still covers the name, so it is told.
                self.owed.insert(Name::from(name.as_str()));
            } else if !self.wildcard {
                // The client drops what it unsubscribes from by itself.
                self.known.remove(name.as_str());
                self.refused.remove(name.as_str());
                self.owed.remove(name.as_str());
            }
        }
    }

    /// What the client lacks of `world`, in the order of names.
    fn missing<'a>(&'a self, world: &'a ResourceSet) -> impl Iterator<Item = (Name, Version, Resource)> + 'a {
        let map = world.map(self.type_url);
        let all = self.wildcard.then(|| map.iter()).into_iter().flatten();
        let named = (!self.wildcard).then_some(&self.names).into_iter().flatten();
        let named = named.filter_map(|name| map.get_key_value(name));
        all.chain(named)
            .filter(|(name, resource)| {
                let version = Some(&resource.version);
                self.owed.contains(*name)
                    || (self.known.get(*name) != version
                        && self.refused.get(*name) != version
                        && !self.inherited.contains_key(*name))
            })
            .map(|(name, found)| {
                let resource = Resource {
                    version: found.version.to_string(),
                    resource: Some(found.body.clone()),
                    name: name.to_string(),
                    ..Resource::default()
                };
                (name.clone(), found.version.clone(), resource)
            })
    }
}
