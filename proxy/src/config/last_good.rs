//! The last good configuration on disk, so that a proxy starts without a control plane.
//!
//! The file is a line that names its format, a checksum, and a delta xDS response that holds every resource as it
//! came. It is replaced whole, by a rename, and refused whole when a byte of it is wrong: half a configuration would be
//! worse than none, as a missing policy looks like one that was never written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use tidegate_policy::model::ResourceType;
use tidegate_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};

const FILE: &str = "last-good";
const MAGIC: &[u8] = b"tidegate last good configuration 1\n";

/// What is in force, as bytes. In memory only when a directory was given.
#[derive(Debug)]
pub struct LastGood {
    path: PathBuf,
    held: BTreeMap<(ResourceType, String), Stored>,
}

/// One resource as the control plane sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: String,
    pub body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{0} is damaged, or of another version of Tidegate")]
    Damaged(PathBuf),
}

impl LastGood {
    /// Of `directory`, which may not exist yet; nothing is read.
    pub fn empty(directory: &Path) -> Self {
        Self { path: directory.join(FILE), held: BTreeMap::new() }
    }

    /// Reads what `directory` holds; nothing at all is fine.
    ///
    /// # Errors
    /// The file is there but cannot be used.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let mut this = Self::empty(directory);
        let bytes = match fs::read(&this.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(this),
            Err(error) => return Err(LoadError::Io { path: this.path, error }),
        };
        match decode(&bytes) {
            Some(held) => this.held = held,
            None => return Err(LoadError::Damaged(this.path)),
        }
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
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let next = self.path.with_extension("next");
        let mut file = File::create(&next)?;
        // It holds the private keys of HTTPS listeners.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&encode(&self.held))?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        File::open(directory)?.sync_all()
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
    let message = DeltaDiscoveryResponse { resources, ..Default::default() }.encode_to_vec();
    [MAGIC, &checksum(&message).to_le_bytes(), &message].concat()
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<(ResourceType, String), Stored>> {
    let (sum, message) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    if checksum(message) != u64::from_le_bytes(*sum) {
        return None;
    }
    let message = DeltaDiscoveryResponse::decode(message).ok()?;
    let entry = |resource: Resource| {
        let any = resource.resource?;
        let key = (ResourceType::from_type_url(&any.type_url)?, resource.name);
        Some((key, Stored { version: resource.version, body: any.value }))
    };
    message.resources.into_iter().map(entry).collect()
}

/// FNV-1a: the file is guarded against accidents, not against people who can write to it.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mode = fs::metadata(&last.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "keys are nobody else's business");
    }

    #[test]
    fn nothing_on_disk_is_an_empty_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(LastGood::load(directory.path()).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_file_with_any_byte_changed_or_missing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let last = sample(directory.path());
        let good = encode(&last.held);
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x20;
            assert!(decode(&bad).is_none(), "byte {index} changed");
            assert!(decode(&good[..index]).is_none(), "cut at {index}");
        }
        fs::write(&last.path, &good[1..]).unwrap();
        assert!(matches!(LastGood::load(directory.path()), Err(LoadError::Damaged(_))));
    }
}
