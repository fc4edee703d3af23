//! Brings the bytes of a module: from the disk, by HTTP, or out of a registry. What was fetched once is kept in the state
//! directory, so that a proxy starts with it when nobody answers.

mod oci;
mod web;

use std::io::Write as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tidegate_policy::plugin::Source;

/// Nobody has a larger plugin.
const MAX_MODULE: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) state_dir: Option<PathBuf>,
}

impl Fetch {
    /// # Errors
    /// Why there is no module, in words.
    pub(super) async fn fetch(&self, source: &Source) -> Result<Vec<u8>, String> {
        let pinned = match source {
            Source::File(path) => return read(path).await,
            Source::Http { sha256, .. } => Some(*sha256),
            Source::Oci { sha256, .. } => *sha256,
        };
        // What is known by its digest is the same wherever it is from.
        if pinned.is_some()
            && let Some(kept) = self.kept(source, pinned)
        {
            return Ok(kept);
        }
        let fetched = match source {
            Source::Http { url, .. } => web::get(url, MAX_MODULE).await,
            Source::Oci { image, credentials, .. } => oci::pull(image, credentials.as_deref()).await,
            Source::File(_) => return Err(String::from("a file is not fetched")),
        };
        match fetched.and_then(|bytes| checked(bytes, pinned)) {
            Ok(bytes) => {
                self.keep(source, &bytes);
                Ok(bytes)
            }
            Err(why) => match self.kept(source, pinned) {
                Some(kept) => {
                    tracing::warn!(why, "a plugin cannot be fetched; what was fetched last is used");
                    Ok(kept)
                }
                None => Err(why),
            },
        }
    }

    fn kept(&self, source: &Source, pinned: Option<[u8; 32]>) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.path(source)?).ok()?;
        let (digest, module) = bytes.split_at_checked(32)?;
        // A disk may be full, or fail.
        (*digest == *Sha256::digest(module)).then_some(())?;
        checked(module.to_vec(), pinned).ok()
    }

    fn keep(&self, source: &Source, bytes: &[u8]) {
        let Some(path) = self.path(source) else { return };
        let write = || -> std::io::Result<()> {
            let directory = path.parent().unwrap_or(std::path::Path::new("."));
            std::fs::create_dir_all(directory)?;
            let next = path.with_extension("next");
            let mut file = std::fs::File::create(&next)?;
            file.write_all(&Sha256::digest(bytes))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&next, &path)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %path.display(), %error, "a plugin that was fetched cannot be kept");
        }
    }

    /// By what it is fetched from.
    fn path(&self, source: &Source) -> Option<PathBuf> {
        let named = match source {
            Source::File(_) => return None,
            Source::Http { url, .. } => url.clone(),
            Source::Oci { image, .. } => {
                format!("{}/{} {}", image.registry, image.repository, image.reference)
            }
        };
        let digest: [u8; 32] = Sha256::digest(named).into();
        Some(self.state_dir.as_ref()?.join("modules").join(format!("{}.wasm", hex(&digest))))
    }
}

async fn read(path: &str) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let read = move || -> Result<Vec<u8>, String> {
        let told = |error: std::io::Error| format!("cannot read {path}: {error}");
        let size = std::fs::metadata(&path).map_err(told)?.len();
        if size > MAX_MODULE as u64 {
            return Err(format!("{path} has {size} bytes; a plugin may have {MAX_MODULE}"));
        }
        std::fs::read(&path).map_err(told)
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
}

fn checked(bytes: Vec<u8>, pinned: Option<[u8; 32]>) -> Result<Vec<u8>, String> {
    let found: [u8; 32] = Sha256::digest(&bytes).into();
    match pinned {
        Some(pinned) if pinned != found => {
            Err(format!("the module's SHA-256 is {}, and {} is written", hex(&found), hex(&pinned)))
        }
        _ => Ok(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
