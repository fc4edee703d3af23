//! The last good configuration on disk, so that a proxy starts without a control plane.
//!
//! The file holds a delta xDS response with every resource as it came. It is refused whole when a byte of it is wrong:
//! half a configuration would be worse than none, as a missing policy looks like one that was never written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use prost::Message;
use tidegate_policy::model::ResourceType;
use tidegate_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};

use super::on_disk::{LoadError, OnDisk};

const FILE: &str = "last-good";
const MAGIC: &str = "tidegate last good configuration 1\n";

/// What is in force, as bytes. In memory only when a directory was given.
#[derive(Debug)]
pub struct LastGood {
    file: OnDisk,
    held: BTreeMap<(ResourceType, String), Stored>,
}

/// One resource as the control plane sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: String,
    pub body: Vec<u8>,
}

impl LastGood {
    /// Of `directory`, which may not exist yet; nothing is read.
    pub fn empty(directory: &Path) -> Self {
        Self { file: OnDisk::new(directory, FILE, MAGIC), held: BTreeMap::new() }
    }

    /// Reads what `directory` holds; nothing at all is fine.
    ///
    /// # Errors
    /// The file is there but cannot be used.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let mut this = Self::empty(directory);
        this.held = this.file.load(decode)?.unwrap_or_default();
        Ok(this)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &str, &Stored)> {
        self.held.iter().map(|((resource_type, name), stored)| (*resource_type, name.as_str(), stored))
    }

    pub fn insert(&mut self, resource_type: ResourceType, name: String, stored: Stored) {
        self.held.insert((resource_type, name), stored);
    }

    pub fn remove(&mut self, resource_type: ResourceType, name: &str) {
        self.held.remove(&(resource_type, name.to_owned()));
    }

    /// Replaces the file; a crash at any moment leaves the old one or the new one.
    ///
    /// # Errors
    /// Of the file system; the old file is still there.
    pub fn save(&self) -> io::Result<()> {
        self.file.save(&encode(&self.held))
    }
}

fn encode(held: &BTreeMap<(ResourceType, String), Stored>) -> Vec<u8> {
    let resource = |((resource_type, name), stored): (&(ResourceType, String), &Stored)| Resource {
        name: name.clone(),
        version: stored.version.clone(),
        resource: Some(prost_types::Any {
            type_url: resource_type.type_url().to_owned(),
            value: stored.body.clone(),
        }),
        ..Resource::default()
    };
    let resources = held.iter().map(resource).collect();
    DeltaDiscoveryResponse { resources, ..Default::default() }.encode_to_vec()
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<(ResourceType, String), Stored>> {
    let message = DeltaDiscoveryResponse::decode(bytes).ok()?;
    let entry = |resource: Resource| {
        let any = resource.resource?;
        let key = (ResourceType::from_type_url(&any.type_url)?, resource.name);
        Some((key, Stored { version: resource.version, body: any.value }))
    };
    message.resources.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sample(directory: &Path) -> LastGood {
        let mut last = LastGood::empty(directory);
        for (resource_type, name) in [(ResourceType::Route, "shop/a"), (ResourceType::Policy, "shop/a")] {
            last.insert(resource_type, name.into(), Stored { version: "1".into(), body: vec![1, 2, 3] });
        }
        last
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("not/yet/there");
        let last = sample(&nested);
        last.save().unwrap();
        let loaded = LastGood::load(&nested).unwrap();
        assert_eq!(loaded.held, last.held);
    }

    #[test]
    fn nothing_on_disk_is_an_empty_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(LastGood::load(directory.path()).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let last = sample(directory.path());
        last.save().unwrap();
        let mut bytes = fs::read(&last.file.path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&last.file.path, bytes).unwrap();
        assert!(matches!(LastGood::load(directory.path()), Err(LoadError::Damaged(_))));
    }
}
