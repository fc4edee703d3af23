//! Adds the sidecar to pods, by the settings in a file that is read again when it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::Value as Json;
use tidegate_inject::{Settings, review};
use tokio::sync::watch;

use super::mutate::{Mutate, Namespace, Patch, Refusal};

/// See the module.
#[derive(Debug)]
pub struct Injector {
    path: PathBuf,
    read: Mutex<Read>,
    /// What this control plane is known by, once it has a certificate.
    roots: watch::Receiver<Option<Arc<str>>>,
}

#[derive(Debug)]
struct Read {
    stamp: Option<Stamp>,
    settings: Arc<Settings>,
    /// The settings are those that hold: what is in the file now cannot be used.
    fault: Option<String>,
}

/// What a file is known to have changed by.
type Stamp = (SystemTime, u64);

impl Injector {
    /// `roots`: those of our own authority, for sidecars that come by https.
    ///
    /// # Errors
    /// The file cannot be read, or has mistakes. Once there are settings, such a file changes nothing.
    pub fn open(path: impl Into<PathBuf>, roots: watch::Receiver<Option<Arc<str>>>) -> Result<Self, String> {
        let path = path.into();
        let stamp = stamp(&path);
        let settings = read(&path)?.into();
        Ok(Self { path, read: Mutex::new(Read { stamp, settings, fault: None }), roots })
    }

    fn settings(&self) -> Arc<Settings> {
        let mut held = self.read.lock();
        let now = stamp(&self.path);
        if held.stamp != now || now.is_none() {
            let (settings, fault) = match read(&self.path) {
                Ok(settings) => (Some(Arc::new(settings)), None),
                Err(fault) => (None, Some(fault)),
            };
            if let Some(fault) = fault.as_ref().filter(|fault| held.fault.as_ref() != Some(fault)) {
                tracing::error!(fault, "pods are injected by the settings before");
            }
            held.stamp = now;
            held.fault = fault;
            if let Some(settings) = settings {
                tracing::info!("the settings of injection have changed");
                held.settings = settings;
            }
        }
        held.settings.clone()
    }
}

impl Mutate for Injector {
    fn mutate(&self, pod: &Json, namespace: &Namespace) -> Result<Option<Patch>, Refusal> {
        let mut settings = self.settings();
        if settings.has_identity() && settings.trust_root.is_none() {
            let roots = self.roots.borrow().clone();
            let Some(roots) = roots else {
                return Err(Refusal::NotNow(String::from(
                    "the control plane has no certificate yet that a sidecar would know it by; try again",
                )));
            };
            settings = Arc::new(Settings { trust_root: Some(roots.to_string()), ..(*settings).clone() });
        }
        review(pod, &namespace.labels, &settings).map_err(|refusal| Refusal::Wrong(refusal.to_string()))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<Settings, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| told(&error))?;
    serde_json::from_str(&text).map_err(|error| told(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labelled() -> Namespace {
        let labels = [(String::from("tidegate.io/inject"), String::from("enabled"))];
        Namespace { name: String::from("shop"), labels: labels.into() }
    }

    fn image(injector: &Injector) -> Result<String, Refusal> {
        let pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "app", "image": "web:1" }] } });
        let patch = injector.mutate(&pod, &labelled())?.expect("a sidecar").to_string();
        let (_, rest) = patch.split_once("\"image\":\"p:").expect("its image");
        Ok(rest.chars().take_while(char::is_ascii_digit).collect())
    }

    #[test]
    fn settings_are_read_again_when_they_change_and_a_mistake_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("injection.json");
        let (_roots, none) = watch::channel(None);
        assert!(Injector::open(&path, none.clone()).unwrap_err().contains("injection.json"));
        fs::write(&path, r#"{"proxyImage": "p:1", "initImge": "i"}"#).unwrap();
        assert!(Injector::open(&path, none.clone()).unwrap_err().contains("initImge"));
        fs::write(&path, r#"{"proxyImage": "p:1"}"#).unwrap();
        let injector = Injector::open(&path, none).unwrap();
        assert_eq!(image(&injector).unwrap(), "1");
        fs::write(&path, r#"{"proxyImage": "p:23"}"#).unwrap();
        assert_eq!(image(&injector).unwrap(), "23");
        fs::write(&path, "{").unwrap();
        assert_eq!(image(&injector).unwrap(), "23");
        fs::remove_file(&path).unwrap();
        assert_eq!(image(&injector).unwrap(), "23");
    }

    #[test]
    fn by_https_no_pod_gets_a_sidecar_that_could_not_know_the_control_plane() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("injection.json");
        fs::write(&path, r#"{"proxyImage": "p:1", "controlPlane": "https://tidegate:15010"}"#).unwrap();
        let (roots, known) = watch::channel(None);
        let injector = Injector::open(&path, known).unwrap();
        assert!(matches!(image(&injector), Err(Refusal::NotNow(_))));
        roots.send_replace(Some("PEM OF A ROOT".into()));
        assert_eq!(image(&injector).unwrap(), "1");
        let pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "app" }] } });
        let patch = injector.mutate(&pod, &labelled()).unwrap().unwrap().to_string();
        assert!(patch.contains("PEM OF A ROOT") && patch.contains("--identity-token="), "{patch}");
    }
}
