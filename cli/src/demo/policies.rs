//! Which policy files the demo runs on: the user's, the checkout's, or the copies in this binary.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// Where the files are when the demo is started in a clone of the repository.
pub(crate) const IN_REPOSITORY: &str = "policies/examples/demo";

/// The file that the hint names.
pub(crate) const LIMITS: &str = "limits.yaml";

const FILES: [(&str, &str); 4] = [
    ("mesh.yaml", include_str!("../../../policies/examples/demo/mesh.yaml")),
    ("canary.yaml", include_str!("../../../policies/examples/demo/canary.yaml")),
    (LIMITS, include_str!("../../../policies/examples/demo/limits.yaml")),
    ("breaker.yaml", include_str!("../../../policies/examples/demo/breaker.yaml")),
];

/// A directory of policy files; one that we wrote goes away with this value unless it is kept.
#[derive(Debug)]
pub(crate) struct PolicyDir {
    pub(crate) path: PathBuf,
    written: Option<TempDir>,
}

impl PolicyDir {
    /// `asked`, else the repository's own below `here`, else fresh copies in a temporary directory.
    ///
    /// # Errors
    /// When what was asked for is no directory, or the copies cannot be written.
    pub(crate) fn locate(asked: Option<&Path>, here: &Path) -> Result<Self> {
        if let Some(path) = asked {
            if !path.is_dir() {
                bail!("--policies {}: there is no such directory", path.display());
            }
            return Ok(Self { path: path.to_owned(), written: None });
        }
        if here.join(IN_REPOSITORY).is_dir() {
            return Ok(Self { path: PathBuf::from(IN_REPOSITORY), written: None });
        }
        let dir = tempfile::Builder::new().prefix("tidegate-demo-policies-").tempdir()?;
        for (name, text) in FILES {
            let file = dir.path().join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self { path: dir.path().to_owned(), written: Some(dir) })
    }

    /// Whether the files are copies that this run wrote.
    pub(crate) fn is_copy(&self) -> bool {
        self.written.is_some()
    }

    /// Leaves the copies where they are.
    pub(crate) fn keep(self) {
        if let Some(dir) = self.written {
            let _ = dir.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_repository_the_embedded_files_are_written_out() {
        let elsewhere = tempfile::tempdir().unwrap();
        let dir = PolicyDir::locate(None, elsewhere.path()).unwrap();
        assert!(dir.is_copy());
        for (name, text) in FILES {
            assert_eq!(fs::read_to_string(dir.path.join(name)).unwrap(), text);
        }
        let path = dir.path.clone();
        drop(dir);
        assert!(!path.exists(), "copies do not pile up");
    }

    #[test]
    fn the_repositorys_files_and_the_users_come_first() {
        let here = tempfile::tempdir().unwrap();
        fs::create_dir_all(here.path().join(IN_REPOSITORY)).unwrap();
        let found = PolicyDir::locate(None, here.path()).unwrap();
        assert_eq!(found.path, Path::new(IN_REPOSITORY));
        let asked = PolicyDir::locate(Some(here.path()), here.path()).unwrap();
        assert_eq!(asked.path, here.path());
        assert!(PolicyDir::locate(Some(Path::new("/nowhere/at/all")), here.path()).is_err());
    }
}
