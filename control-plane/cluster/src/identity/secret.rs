//! The authority's files in a Secret that all replicas share. Whoever is first makes it; nobody writes over another's.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::{Api, Client};
use parking_lot::Mutex;
use tidegate_control_plane::identity::MaterialStore;
use tidegate_identity::Material;
use tidegate_identity::material::{CA_CERT, CA_KEY, CERT_CHAIN, NEXT_CERT, NEXT_KEY, ROOT_CERT, ROTATION};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::errors::{in_time, told};
use crate::secrets::{secret, secrets};

const FILES: [&str; 7] = [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, NEXT_CERT, NEXT_KEY, ROTATION];
/// Whoever replaces a Secret by deleting it and creating another has so many looks' time for it.
const GONE_FOR: u32 = 3;

/// See the module. Its methods wait: not for threads of the runtime.
#[derive(Debug)]
pub struct CaSecret {
    api: Api<DynamicObject>,
    name: String,
    look_every: Duration,
    runtime: Handle,
    roots: watch::Sender<Option<Arc<str>>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was there last.
    material: Option<Material>,
    read_at: Option<Instant>,
    gone_since: Option<Instant>,
}

impl CaSecret {
    /// `name` is the Secret's in `namespace`; what was read holds for `look_every`. What is published goes to `roots`.
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        look_every: Duration,
        runtime: Handle,
        roots: watch::Sender<Option<Arc<str>>>,
    ) -> Self {
        let api = secrets(client, namespace);
        Self { api, name: name.to_owned(), look_every, runtime, roots, seen: Mutex::default() }
    }

    fn get(&self) -> io::Result<Option<DynamicObject>> {
        self.runtime.block_on(in_time(self.api.get_opt(&self.name))).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &kube::Error) -> io::Error {
        io::Error::other(format!("Secret {}: {}", self.name, told(error)))
    }

    /// It was there, and is not any more. Without it the next replica that starts would make another root, which nobody
    /// in the mesh trusts: so what was in it is put back.
    fn gone(&self, seen: &mut Seen, material: &Material) -> io::Result<Material> {
        let since = *seen.gone_since.get_or_insert_with(Instant::now);
        let name = &self.name;
        if since.elapsed() < self.look_every * GONE_FOR {
            return Err(io::Error::other(format!("Secret {name} is gone; it will be put back as it was")));
        }
        self.save(material)?;
        tracing::warn!(secret = name, "the authority's Secret was gone: put back as it was");
        seen.gone_since = None;
        Ok(material.clone())
    }

    fn object(&self, material: &Material, before: Option<&DynamicObject>) -> DynamicObject {
        object(&self.name, material, before)
    }
}

pub(super) fn object(name: &str, material: &Material, before: Option<&DynamicObject>) -> DynamicObject {
    let fields = material.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    secret(name, fields, before)
}

impl MaterialStore for CaSecret {
    fn load(&self) -> io::Result<Material> {
        let mut seen = self.seen.lock();
        if let (Some(material), Some(at)) = (&seen.material, seen.read_at)
            && at.elapsed() < self.look_every
        {
            return Ok(material.clone());
        }
        let material = match (self.get()?, seen.material.clone()) {
            (Some(secret), _) => {
                seen.gone_since = None;
                material_of(&self.name, &secret)?
            }
            (None, Some(before)) => self.gone(&mut seen, &before)?,
            (None, None) => return Ok(Material::default()),
        };
        if material.is_empty() {
            return match seen.material {
                None => Ok(material),
                Some(_) => Err(io::Error::other(format!("Secret {} is empty", self.name))),
            };
        }
        seen.material = Some(material.clone());
        seen.read_at = Some(Instant::now());
        Ok(material)
    }

    /// Only over nothing.
    fn save(&self, material: &Material) -> io::Result<()> {
        let params = PostParams::default();
        let written = match self.get()? {
            None => {
                let fresh = self.object(material, None);
                self.runtime.block_on(in_time(self.api.create(&params, &fresh)))
            }
            Some(secret) if material_of(&self.name, &secret)?.is_empty() => {
                // The version that was read goes with it.
                let fresh = self.object(material, Some(&secret));
                self.runtime.block_on(in_time(self.api.replace(&self.name, &params, &fresh)))
            }
            Some(_) => return Ok(()),
        };
        match written {
            // Another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(self.failed(&error)),
            Ok(_) => Ok(()),
        }
    }

    fn publish(&self, bundle: &str) -> io::Result<()> {
        self.roots.send_if_modified(|roots| {
            let differs = roots.as_deref() != Some(bundle);
            if differs {
                *roots = Some(bundle.into());
            }
            differs
        });
        Ok(())
    }
}

/// Other fields are somebody else's.
pub(super) fn material_of(name: &str, secret: &DynamicObject) -> io::Result<Material> {
    let mut files = BTreeMap::new();
    for file in FILES {
        let Some(encoded) = secret.data["data"][file].as_str() else { continue };
        let bytes = BASE64_STANDARD.decode(encoded);
        let bytes = bytes.map_err(|error| io::Error::other(format!("Secret {name}: {file}: {error}")))?;
        files.insert(file.to_owned(), bytes);
    }
    Ok(Material(files))
}
