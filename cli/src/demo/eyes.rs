//! Looks at the running mesh: the sidecars' metrics, the control plane's status, and the policy files.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_control_plane::index::Index;
use tidegate_control_plane::source::file::{Dirty, Folder};
use tidegate_control_plane::status::{ObjectStatus, Status};
use tidegate_policy::document::ObjectKey;
use tidegate_policy::objects::Object;

use super::expect;
use super::judge::Written;
use super::layout::{self, loopback};
use super::metrics::Callees;
use super::table::{Event, Tone};
use super::watch::Watch;
use crate::http_client::Client;
use crate::prometheus::Samples;

/// A sidecar that is slower than this to tell its metrics is asked again later.
const LOOK: Duration = Duration::from_secs(1);

/// The callees' own metrics change nothing but the table: every so many looks are enough.
const OWN_EVERY: u64 = 2;

#[derive(Debug)]
pub(crate) struct Eyes {
    pub(crate) watch: Watch,
    caller: Client,
    callees: Vec<(&'static str, Client, Samples)>,
    control_plane: Client,
    looks: u64,
    files: Files,
    /// Errors that have been told.
    told: HashSet<String>,
    generation: Option<u64>,
    /// A change that not every sidecar has acknowledged.
    under_way: bool,
}

/// The policy directory, read as the control plane reads it.
#[derive(Debug)]
struct Files {
    folder: Folder,
    index: Index,
    in_force: BTreeMap<ObjectKey, Arc<Object>>,
}

impl Files {
    fn open(policies: &Path) -> Self {
        let folder = Folder::new(policies.to_owned());
        let mut files = Self { folder, index: Index::default(), in_force: BTreeMap::new() };
        files.read();
        files
    }

    /// Reads everything again; what has changed, in words.
    fn read(&mut self) -> Vec<String> {
        let reading = self.folder.read(&Dirty::All);
        self.index.update(&reading);
        let now: BTreeMap<_, _> =
            self.index.in_force().filter_map(|o| Some((ObjectKey::of(o)?, o.clone()))).collect();
        let changed = now.iter().filter_map(|(key, object)| match self.in_force.get(key) {
            None => Some(format!("{key}: added")),
            Some(before) if before != object => Some(format!("{key}: changed")),
            Some(_) => None,
        });
        let removed = self.in_force.keys().filter(|key| !now.contains_key(*key));
        let changes = changed.chain(removed.map(|key| format!("{key}: removed"))).collect();
        self.in_force = now;
        changes
    }
}

impl Eyes {
    pub(crate) fn new(policies: &Path) -> Self {
        let client = |port| Client::new(loopback(port), LOOK);
        let callee = |w: layout::Workload| (w.name, client(w.admin), Samples::default());
        Self {
            watch: Watch::default(),
            caller: client(layout::STOREFRONT.admin),
            callees: [layout::CHECKOUT_V1, layout::CHECKOUT_V2].map(callee).into(),
            control_plane: client(layout::CONTROL_PLANE_HTTP),
            looks: 0,
            files: Files::open(policies),
            told: HashSet::new(),
            generation: None,
            under_way: false,
        }
    }

    /// What the policies in force promise.
    pub(crate) fn written(&self) -> Written {
        expect::written(self.files.in_force.values().map(|object| &**object))
    }

    /// Looks once. True when a change of the policies has just come into force everywhere.
    pub(crate) async fn look(&mut self, at: Duration) -> bool {
        if let Ok(text) = self.caller.get_text("/metrics").await {
            let mut callees = Callees::read(&Samples::parse(&text));
            if self.looks.is_multiple_of(OWN_EVERY) {
                self.ask_callees().await;
            }
            for (name, _, own) in &self.callees {
                callees.add_own(name, own);
            }
            self.watch.look(at, callees);
        }
        self.looks += 1;
        let Ok(text) = self.control_plane.get_text("/status").await else { return false };
        match serde_json::from_str::<Status>(&text) {
            Ok(status) => self.policies(at, &status),
            Err(error) => {
                tracing::warn!(%error, "the control plane's status cannot be read");
                false
            }
        }
    }

    async fn ask_callees(&mut self) {
        for (_, client, own) in &mut self.callees {
            if let Ok(text) = client.get_text("/metrics").await {
                *own = Samples::parse(&text);
            }
        }
    }

    fn policies(&mut self, at: Duration, status: &Status) -> bool {
        let errors = status.diagnostics.iter().filter(|d| d.is_error());
        let errors: HashSet<String> = errors.map(ToString::to_string).collect();
        for error in &errors - &self.told {
            self.watch.note(Event::new(at, Tone::Bad, format!("refused: {error}")));
        }
        if errors.is_empty() && !self.told.is_empty() {
            self.watch.note(Event::new(at, Tone::Good, "every file can be read again"));
        }
        self.told = errors;
        let first = self.generation.is_none();
        if self.generation != Some(status.generation) {
            self.generation = Some(status.generation);
            for change in self.files.read() {
                self.watch.note(Event::new(at, Tone::Plain, change));
                self.under_way = true;
            }
            if first {
                self.under_way = false;
            }
        }
        let behind = |o: &ObjectStatus| o.programmed.as_ref().is_some_and(|p| p.ready < p.of);
        if !self.under_way || status.objects.iter().any(behind) {
            return false;
        }
        self.under_way = false;
        self.watch.forget_shares();
        let text = format!("in force in all {} sidecars", status.nodes.len());
        self.watch.note(Event::new(at, Tone::Good, text));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_control_plane::status::{InForce, Programmed};

    const LIMITS: &str = include_str!("../../../policies/examples/demo/limits.yaml");

    fn status(generation: u64, ready: usize) -> Status {
        let object = ObjectStatus {
            kind: "RateLimitPolicy".into(),
            namespace: "demo".into(),
            name: "per-user".into(),
            source: "limits.yaml:9".into(),
            in_force: InForce::Current,
            conditions: Vec::new(),
            errors: Vec::new(),
            programmed: Some(Programmed { ready, of: 3, ..Programmed::default() }),
            listeners: std::collections::BTreeMap::new(),
        };
        Status { generation, objects: vec![object], ..Status::default() }
    }

    #[test]
    fn an_edit_counts_from_when_every_sidecar_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("limits.yaml");
        std::fs::write(&file, LIMITS).unwrap();
        let mut eyes = Eyes::new(dir.path());
        let at = Duration::from_secs(1);
        assert!(!eyes.policies(at, &status(1, 3)), "the policies at the start are no edit");
        assert_eq!(eyes.written().limits[0].rate, 30.0);

        std::fs::write(&file, LIMITS.replace("requests: 30", "requests: 10")).unwrap();
        assert!(!eyes.policies(at, &status(2, 2)));
        assert!(eyes.policies(at, &status(2, 3)));
        assert!(!eyes.policies(at, &status(2, 3)), "once");
        assert_eq!(eyes.written().limits[0].rate, 10.0);
    }

    #[test]
    fn a_mistake_is_told_once_and_so_is_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut eyes = Eyes::new(dir.path());
        let mut wrong = status(2, 3);
        wrong.diagnostics = serde_json::from_value(serde_json::json!([{
            "severity": "error", "file": "limits.yaml", "line": 23, "column": 7, "field": "spec",
            "message": "unknown field"
        }]))
        .unwrap();
        for status in [&status(1, 3), &wrong, &wrong, &status(3, 3), &status(3, 3)] {
            eyes.policies(Duration::ZERO, status);
        }
        let texts: Vec<_> = eyes.watch.events().into_iter().map(|event| event.text).collect();
        assert_eq!(
            texts,
            ["refused: limits.yaml:23:7: error: spec: unknown field", "every file can be read again"]
        );
    }

    #[test]
    fn a_refused_edit_promises_what_was_promised_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("limits.yaml");
        std::fs::write(&file, LIMITS).unwrap();
        let mut eyes = Eyes::new(dir.path());
        eyes.policies(Duration::ZERO, &status(1, 3));
        std::fs::write(&file, LIMITS.replace("requests: 30", "request: 10")).unwrap();
        assert!(!eyes.policies(Duration::ZERO, &status(2, 3)), "nothing in force has changed");
        assert_eq!(eyes.written().limits[0].rate, 30.0);
    }
}
