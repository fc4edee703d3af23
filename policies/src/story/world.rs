use std::collections::BTreeMap;

use crate::codec;
use crate::document::{ObjectKey, Parsed};
use crate::model::{ResourceType, Resources};
use crate::objects::Object;
use crate::resolve::{self, Resolved};
use crate::snapshot::{Local, Snapshot};
use crate::state::StateStore;

/// Everything that requests meet, as a proxy has it.
#[derive(Debug)]
pub struct World {
    pub snapshot: Snapshot,
    /// As it was sent, with what is to be said of each object.
    pub resolved: Resolved,
}

impl World {
    /// The way of a policy: resolved, sent over the wire, received, compiled. Of two objects of one kind and name, the later
    /// counts.
    ///
    /// # Errors
    /// What a proxy would refuse.
    pub fn build<'p>(
        parsed: impl IntoIterator<Item = &'p Parsed>,
        local: &Local,
        state: &StateStore,
    ) -> Result<Self, String> {
        Self::compile(Self::resolve(parsed), local, state)
    }

    /// The first half of it: what would be sent.
    pub fn resolve<'p>(parsed: impl IntoIterator<Item = &'p Parsed>) -> Resolved {
        let mut objects = BTreeMap::<ObjectKey, &Object>::new();
        for object in parsed.into_iter().flat_map(|parsed| &parsed.objects) {
            if let Some(key) = ObjectKey::of(object) {
                objects.insert(key, object);
            }
        }
        resolve::resolve(objects.into_values())
    }

    /// The second half of it.
    ///
    /// # Errors
    /// What a proxy would refuse.
    pub fn compile(resolved: Resolved, local: &Local, state: &StateStore) -> Result<Self, String> {
        let received = received(&resolved.resources)?;
        let (snapshot, rejected) = Snapshot::build(&received, local, state);
        if let Some(rejected) = rejected.first() {
            return Err(format!("{} was rejected: {}", rejected.name, rejected.reason));
        }
        Ok(Self { snapshot, resolved })
    }
}

/// What a proxy has of it.
fn received(sent: &Resources) -> Result<Resources, String> {
    let mut received = Resources::default();
    for resource in sent.iter() {
        let (url, name, bytes) = codec::encode(&resource);
        let kind = ResourceType::from_type_url(url).ok_or_else(|| format!("no type {url}"))?;
        let resource = codec::decode(kind, &name, &bytes).map_err(|error| format!("{name}: {error}"))?;
        received.insert(resource);
    }
    if received == *sent { Ok(received) } else { Err(String::from("the wire changed what was sent")) }
}
