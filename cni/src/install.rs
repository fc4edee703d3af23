//! Puts the plugin onto its node and keeps it there: what a pod of the DaemonSet runs.
//!
//! Everything is written beside its place and moved there, so that a runtime never reads half of it; the configuration comes
//! last, when what it names is there. A main plugin that writes its configuration anew takes us out of it, so the directory
//! is watched. At the end it is taken back in the other order, but for the binary: a runtime that remembers with which
//! plugins a pod was made calls them all when it ends, and could not end it without.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};

use crate::conflist::{self, Entry, TYPE};
use crate::kubeconfig::{self, Access};

pub const KUBECONFIG: &str = "tidegate-cni.kubeconfig";
/// What runtimes read, the first by name: libcni's list.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// What belongs where. Directories of the node are named as they are seen from here.
#[derive(Clone, Debug)]
pub struct Installation {
    /// This program.
    pub binary: PathBuf,
    pub bin_dir: PathBuf,
    pub conf_dir: PathBuf,
    /// `conf_dir` by its name on the node.
    pub node_conf_dir: PathBuf,
    /// The configuration to be added to; else the one that runtimes take.
    pub conf_name: Option<String>,
    pub server: String,
    /// Of the service account: `token` and `ca.crt`.
    pub account_dir: PathBuf,
    pub exclude_namespaces: Vec<String>,
}

impl Installation {
    /// Makes everything as it should be; what is so already is not written again.
    ///
    /// # Errors
    /// Something cannot be read or written, or there is no network configuration to be added to.
    pub fn put(&self) -> Result<()> {
        let binary = fs::read(&self.binary).with_context(|| named(&self.binary))?;
        write(&self.bin_dir.join(TYPE), &binary, 0o755)?;
        let account = |file: &str| {
            let path = self.account_dir.join(file);
            read(&path, kubeconfig::MAX_BYTES).with_context(|| named(&path))
        };
        let token = String::from_utf8(account("token")?).context("the token of the service account")?;
        let access = Access {
            server: self.server.parse().with_context(|| format!("{}: no URL", self.server))?,
            roots: account("ca.crt")?,
            token: token.trim().to_owned(),
        };
        // Whoever has the token may ask for pods.
        write(&self.conf_dir.join(KUBECONFIG), access.write().as_bytes(), 0o600)?;
        let path = self.configuration()?;
        self.edit(&path, |text| conflist::with(text, &self.entry()))
    }

    /// Takes it back: out of every configuration, then how it asked.
    ///
    /// # Errors
    /// Something cannot be read or written; everything is tried.
    pub fn remove(&self) -> Result<()> {
        let lists = configurations(&self.conf_dir)?
            .into_iter()
            .filter(|path| path.extension() != Some("conf".as_ref()));
        let edited: Vec<_> = lists.map(|path| self.edit(&path, conflist::without)).collect();
        match fs::remove_file(self.conf_dir.join(KUBECONFIG)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(KUBECONFIG),
            _ => {}
        }
        edited.into_iter().collect()
    }

    /// Whether a pod that starts now is led to its sidecar.
    ///
    /// # Errors
    /// It is not, and why.
    pub fn check(&self) -> Result<()> {
        for path in [self.bin_dir.join(TYPE), self.conf_dir.join(KUBECONFIG)] {
            fs::metadata(&path).with_context(|| named(&path))?;
        }
        let path = self.configuration()?;
        let text = read(&path, conflist::MAX_BYTES).with_context(|| named(&path))?;
        match conflist::with(&text, &self.entry()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => bail!("{}: {TYPE} is not the last of its plugins as it should be", named(&path)),
            Err(why) => bail!("{}: {why}", named(&path)),
        }
    }

    fn entry(&self) -> Entry {
        let kubeconfig = self.node_conf_dir.join(KUBECONFIG).display().to_string();
        Entry { kubeconfig, exclude_namespaces: self.exclude_namespaces.clone() }
    }

    /// Which one a runtime takes.
    fn configuration(&self) -> Result<PathBuf> {
        if let Some(name) = &self.conf_name {
            return Ok(self.conf_dir.join(name));
        }
        let first = configurations(&self.conf_dir)?.into_iter().next();
        let Some(first) = first else {
            bail!(
                "{}: no network configuration yet; is the main CNI plugin installed?",
                named(&self.conf_dir)
            );
        };
        if first.extension() == Some("conf".as_ref()) {
            bail!(
                "{}: one plugin alone, to which none can be added: the main CNI plugin must write a .conflist",
                named(&first)
            );
        }
        Ok(first)
    }

    fn edit(&self, path: &Path, edit: impl Fn(&[u8]) -> Result<Option<String>, String>) -> Result<()> {
        let text = read(path, conflist::MAX_BYTES).with_context(|| named(path))?;
        let edited = edit(&text).map_err(|why| anyhow::anyhow!("{}: {why}", named(path)))?;
        let Some(edited) = edited else { return Ok(()) };
        let mode = fs::metadata(path).with_context(|| named(path))?.permissions().mode() & 0o777;
        replace(path, edited.as_bytes(), mode, Some(&text))
    }
}

/// Keeps it in place until `stop`, then takes it back. `passes` counts how often everything was looked at, which is at
/// each change of the directory and every `every`, for the token of the service account changes too.
///
/// # Errors
/// The directory cannot be watched, or something could not be taken back.
pub async fn run(
    installation: &Installation,
    every: Duration,
    passes: &watch::Sender<u64>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        // One that waits already stands for all.
        let _ = changed.try_send(());
    })?;
    watcher
        .watch(&installation.conf_dir, RecursiveMode::NonRecursive)
        .with_context(|| named(&installation.conf_dir))?;
    let mut ticks = tokio::time::interval(every);
    let mut last = String::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {}
            _ = changes.recv() => {}
        }
        let told = match installation.put() {
            Ok(()) => String::from("pods of this node are led to their sidecars"),
            Err(error) => format!("pods of this node are NOT led to their sidecars: {error:#}"),
        };
        if told != last {
            say(&told);
            last = told;
        }
        passes.send_modify(|count| *count += 1);
    }
    drop(watcher);
    say("taking the plugin out of this node's network configuration");
    installation.remove()
}

/// For whoever reads the log of the pod.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "tidegate-cni: {line}");
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

/// In the order in which runtimes look at them.
fn configurations(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| named(folder))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_read = |path: &PathBuf| EXTENSIONS.iter().any(|wanted| path.extension() == Some(wanted.as_ref()));
    let mut found: Vec<_> = paths.filter(is_read).collect();
    found.sort();
    Ok(found)
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Only if it is not so already.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let is_so = fs::metadata(path)
        .is_ok_and(|there| there.len() == bytes.len() as u64 && there.permissions().mode() & 0o777 == mode)
        && fs::read(path).is_ok_and(|there| there == bytes);
    if is_so { Ok(()) } else { replace(path, bytes, mode, None) }
}

/// Beside its place, by a name that runtimes do not read, and moved there; but not over what is not `expected` any more.
fn replace(path: &Path, bytes: &[u8], mode: u32, expected: Option<&[u8]>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(".tidegate-").tempfile_in(folder).with_context(|| named(folder))?;
    file.write_all(bytes).with_context(|| named(path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(|| named(path))?;
    file.as_file().sync_all().with_context(|| named(path))?;
    if let Some(expected) = expected
        && fs::read(path).with_context(|| named(path))? != expected
    {
        // Its change wakes us once more.
        bail!("{}: somebody else is writing it", named(path));
    }
    file.persist(path).with_context(|| named(path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_written_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-main.conflist");
        fs::write(&path, "theirs").unwrap();
        let told = replace(&path, b"ours", 0o644, Some(b"before")).unwrap_err().to_string();
        assert!(told.contains("somebody else is writing it"), "{told}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
    }
}
