//! Files of our own: a line that names the format, a checksum, and the rest. Replaced whole, by a rename; refused whole
//! when a byte is wrong.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One file in the directory of `--state-dir`.
#[derive(Clone, Debug)]
pub(super) struct OnDisk {
    pub(super) path: PathBuf,
    magic: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{0} is damaged, or of another version of Tidegate")]
    Damaged(PathBuf),
}

impl OnDisk {
    /// `magic`: ends with its line.
    pub(super) fn new(directory: &Path, name: &str, magic: &'static str) -> Self {
        Self { path: directory.join(name), magic }
    }

    /// What `decode` makes of it; `None` if there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be used.
    pub(super) fn load<T>(&self, decode: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, LoadError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LoadError::Io { path: self.path.clone(), error }),
        };
        let decoded = self.unseal(&bytes).and_then(decode);
        decoded.map(Some).ok_or_else(|| LoadError::Damaged(self.path.clone()))
    }

    /// Replaces the file; a crash at any moment leaves the old one or the new one.
    ///
    /// # Errors
    /// Of the file system; the old file is still there.
    pub(super) fn save(&self, content: &[u8]) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let next = self.path.with_extension("next");
        let mut file = File::create(&next)?;
        // What is kept here is a secret: private keys, the seed of hashes.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(self.magic.as_bytes())?;
        file.write_all(&checksum(content).to_le_bytes())?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        File::open(directory)?.sync_all()
    }

    fn unseal<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (sum, content) = bytes.strip_prefix(self.magic.as_bytes())?.split_first_chunk::<8>()?;
        (checksum(content) == u64::from_le_bytes(*sum)).then_some(content)
    }
}

/// FNV-1a: the file is guarded against accidents, not against people who can write to it.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &OnDisk) -> Result<Option<Vec<u8>>, LoadError> {
        file.load(|bytes| Some(bytes.to_vec()))
    }

    #[test]
    fn what_was_saved_is_loaded_and_nobody_elses_business() {
        let directory = tempfile::tempdir().unwrap();
        let file = OnDisk::new(&directory.path().join("not/yet/there"), "file", "magic\n");
        assert!(load(&file).unwrap().is_none());
        file.save(b"first").unwrap();
        file.save(b"second").unwrap();
        assert_eq!(load(&file).unwrap().unwrap(), b"second");
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn a_file_with_any_byte_changed_or_missing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = OnDisk::new(directory.path(), "file", "magic\n");
        file.save(b"what was saved").unwrap();
        let good = fs::read(&file.path).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x20;
            assert!(file.unseal(&bad).is_none(), "byte {index} changed");
            assert!(file.unseal(&good[..index]).is_none(), "cut at {index}");
        }
        fs::write(&file.path, &good[1..]).unwrap();
        assert!(matches!(load(&file), Err(LoadError::Damaged(_))));
    }
}
