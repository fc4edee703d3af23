//! Compiled modules on disk, so that a restart does not compile again.
//!
//! What is read back runs as native code: whoever can write here can do anything this process can. So only files count
//! that belong to this user and that nobody else may write, in a directory of the same kind. Names hold the module's
//! digest and everything of engine and machine that the compiled form depends on; a file appears whole or not at all,
//! and says itself what its bytes must hash to. So several proxies may share one.

use std::fs::{self, File};
use std::hash::Hash as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Module;

use crate::code::Digest;
use crate::engine::engine;

const MAGIC: &[u8; 8] = b"TGWASM1\0";
/// Magic and digest, before the compiled module.
const HEADER: usize = 8 + 32;
/// Larger files are none of ours.
const MAX_SIZE: u64 = 512 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or others may write to it.
    pub fn at(directory: &Path) -> std::io::Result<Self> {
        let refused = |why: &str| {
            let told = format!("{}: {why}", directory.display());
            std::io::Error::new(std::io::ErrorKind::PermissionDenied, told)
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if !is_ours(&fs::metadata(directory)?) {
            return Err(refused("belongs to somebody else, or others may write to it"));
        }
        Ok(Self { directory: directory.to_owned() })
    }

    /// What was put there; anything that is wrong with it counts as not there.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Module> {
        let mut file = File::open(self.path(digest)?).ok()?;
        let metadata = file.metadata().ok()?;
        if !is_ours(&metadata) || !metadata.is_file() || metadata.len() > MAX_SIZE {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        let (header, compiled) = bytes.split_at_checked(HEADER)?;
        let whole = header.starts_with(MAGIC) && header[MAGIC.len()..] == *Sha256::digest(compiled);
        if !whole {
            return None;
        }
        deserialize(compiled)
    }

    /// Best effort: without a cache it is compiled again.
    pub(crate) fn put(&self, digest: &Digest, module: &Module) {
        let written = self.write(digest, module);
        if let Err(error) = written {
            tracing::warn!(directory = %self.directory.display(), %error, "a compiled plugin cannot be kept");
        }
    }

    fn write(&self, digest: &Digest, module: &Module) -> std::io::Result<()> {
        let Some(path) = self.path(digest) else { return Ok(()) };
        let compiled = module.serialize().map_err(std::io::Error::other)?;
        // Readable and writable by this user alone.
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&compiled))?;
        file.write_all(&compiled)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, digest: &Digest) -> Option<PathBuf> {
        // The version of the engine, its settings and what this processor can do.
        let mut hasher = Hasher(Sha256::new());
        engine().ok()?.precompile_compatibility_hash().hash(&mut hasher);
        let engine: [u8; 32] = hasher.0.finalize().into();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Some(self.directory.join(format!("{}-{}.cwasm", hex(digest), hex(&engine[..8]))))
    }
}

#[expect(unsafe_code, reason = "the bytes are what this user wrote, whole; see the module's documentation")]
fn deserialize(compiled: &[u8]) -> Option<Module> {
    let engine = engine().ok()?;
    // SAFETY: the caller has checked owner, mode and digest. The engine checks that it would have written them itself.
    unsafe { Module::deserialize(engine, compiled) }.ok()
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// A hash that is the same in every process, unlike those of the standard library.
struct Hasher(Sha256);

impl std::hash::Hasher for Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Code, digest};
    use std::os::unix::fs::PermissionsExt as _;

    fn module() -> Vec<u8> {
        let text = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
            (func (export "malloc") (param i32) (result i32) i32.const 0))"#;
        wat::parse_str(text).unwrap()
    }

    fn only_file(directory: &Path) -> PathBuf {
        let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let file = files.next().unwrap();
        assert!(files.next().is_none());
        file
    }

    #[test]
    fn what_was_compiled_once_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("new")).unwrap();
        let bytes = module();
        assert!(cache.get(&digest(&bytes)).is_none());
        Code::load(&bytes, Some(&cache)).unwrap();
        assert!(cache.get(&digest(&bytes)).is_some());
        Code::load(&bytes, Some(&cache)).unwrap();
        assert!(cache.get(&[0; 32]).is_none());
    }

    #[test]
    fn what_is_cut_short_changed_or_writable_by_others_counts_as_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("new")).unwrap();
        let bytes = module();
        Code::load(&bytes, Some(&cache)).unwrap();
        let file = only_file(&directory.path().join("new"));
        let good = fs::read(&file).unwrap();
        for bad in
            [&good[..good.len() - 1], &good[..20], &[][..], b"TGWASM1\0 and nothing else but these words"]
        {
            fs::write(&file, bad).unwrap();
            assert!(cache.get(&digest(&bytes)).is_none());
        }
        let mut changed = good.clone();
        changed[HEADER + 100] ^= 1;
        fs::write(&file, changed).unwrap();
        assert!(cache.get(&digest(&bytes)).is_none());
        fs::write(&file, &good).unwrap();
        assert!(cache.get(&digest(&bytes)).is_some());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.get(&digest(&bytes)).is_none());
        // And it is made anew.
        Code::load(&bytes, Some(&cache)).unwrap();
        assert!(cache.get(&digest(&bytes)).is_some());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::at(directory.path()).is_err());
    }
}
