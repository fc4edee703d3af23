//! The authority's files in a directory, and the join tokens beside it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use tidegate_identity::material::{
    CA_CERT, CA_KEY, CERT_CHAIN, Material, NEXT_CERT, NEXT_KEY, ROOT_CERT, ROTATION,
};
use tidegate_identity::token::Authenticated;
use tidegate_identity::{Authenticate, JoinTokens, SpiffeId, TrustDomain, Unauthenticated};

use super::MaterialStore;

const FILES: [&str; 7] = [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, NEXT_CERT, NEXT_KEY, ROTATION];
/// Every root that is trusted now, for proxies to begin with.
const BUNDLE: &str = "trust-bundle.pem";

/// A directory of nobody else's.
#[derive(Clone, Debug)]
pub struct CaDirectory(PathBuf);

impl CaDirectory {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl MaterialStore for CaDirectory {
    fn load(&self) -> io::Result<Material> {
        let mut files = BTreeMap::new();
        for name in FILES {
            match fs::read(self.0.join(name)) {
                Ok(bytes) => drop(files.insert(name.to_owned(), bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Material(files))
    }

    /// Each file is replaced by rename; the rotation is written last, for it is what gives the others their meaning.
    fn save(&self, material: &Material) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let (rotation, files): (Vec<_>, Vec<_>) =
            material.0.iter().partition(|(name, _)| name.as_str() == ROTATION);
        for (name, bytes) in files.into_iter().chain(rotation) {
            replace(&self.0.join(name), bytes)?;
        }
        for name in FILES.iter().filter(|name| !material.0.contains_key(**name)) {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn publish(&self, bundle: &str) -> io::Result<()> {
        let path = self.0.join(BUNDLE);
        if fs::read(&path).is_ok_and(|known| known == bundle.as_bytes()) {
            return Ok(());
        }
        replace(&path, bundle.as_bytes())
    }
}

/// Readable by nobody else.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

/// Join tokens in a file that is read again when it has changed. A file with mistakes changes nothing.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    trust_domain: TrustDomain,
    read: Mutex<(Option<Stamp>, JoinTokens)>,
}

/// What a file is known to have changed by.
type Stamp = (SystemTime, u64);

impl TokenFile {
    /// # Errors
    /// It cannot be read, or has mistakes.
    pub(super) fn open(path: PathBuf, trust_domain: TrustDomain) -> Result<Self, String> {
        let file = Self { path, trust_domain, read: Mutex::default() };
        file.refresh()?;
        Ok(file)
    }

    fn refresh(&self) -> Result<(), String> {
        let mut read = self.read.lock();
        let metadata = fs::metadata(&self.path).map_err(|error| error.to_string())?;
        let stamp = Some((metadata.modified().map_err(|error| error.to_string())?, metadata.len()));
        if read.0 == stamp {
            return Ok(());
        }
        let text = fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        // Told once, whatever is in it.
        read.0 = stamp;
        let tokens = JoinTokens::read(&text, &self.trust_domain)
            .map_err(|bad| bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        read.1 = tokens;
        Ok(())
    }

    fn find(&self, token: &str, now: SystemTime) -> Result<SpiffeId, Unauthenticated> {
        if let Err(error) = self.refresh() {
            tracing::warn!(path = %self.path.display(), error, "join tokens cannot be read; those before hold");
        }
        self.read.lock().1.find(token, now)
    }
}

impl Authenticate for TokenFile {
    fn authenticate<'a>(&'a self, token: &'a str, now: SystemTime) -> Authenticated<'a> {
        Box::pin(std::future::ready(self.find(token, now)))
    }
}
