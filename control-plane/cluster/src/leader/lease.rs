//! The election's dealings with the API.

use std::time::Duration;

use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::election::{Action, Election, Record};
use crate::clock;
use crate::errors::told;

/// A request that takes longer is as good as lost.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The Lease that is stood for.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Stands for election until `shutdown`, and gives the Lease up then. The channel says whether we lead.
pub(crate) fn elect(
    client: Client,
    lease: &Lease,
    election: Election,
    (tasks, shutdown): (&mut JoinSet<()>, CancellationToken),
) -> watch::Receiver<bool> {
    let resource = ApiResource {
        group: String::from("coordination.k8s.io"),
        version: String::from("v1"),
        api_version: String::from("coordination.k8s.io/v1"),
        kind: String::from("Lease"),
        plural: String::from("leases"),
    };
    let api = Api::namespaced_with(client, &lease.namespace, &resource);
    let (leads, receiver) = watch::channel(false);
    let candidate = Candidate { api, name: lease.name.clone(), election, start: Instant::now(), leads };
    tasks.spawn(candidate.run(shutdown));
    receiver
}

struct Candidate {
    api: Api<DynamicObject>,
    name: String,
    election: Election,
    start: Instant,
    leads: watch::Sender<bool>,
}

impl Candidate {
    async fn run(mut self, shutdown: CancellationToken) {
        let stop = shutdown.clone();
        let _ = stop.run_until_cancelled(self.stand()).await;
        if self.election.leads(self.now()) {
            self.say(false);
            self.election.resign();
            // Whoever is next need not wait for the term to end. If it fails, he waits.
            let _ = timeout(TIMEOUT, self.give_up()).await;
        }
        self.say(false);
    }

    async fn stand(&mut self) {
        let mut complained = false;
        loop {
            let action = match self.attempt().await {
                Ok(action) => {
                    complained = false;
                    action
                }
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, lease = self.name, "cannot stand for election; trying again");
                    }
                    let now = self.now();
                    self.election.failed(now)
                }
            };
            let Action::Wait(until) = action else { continue };
            self.rest(until).await;
        }
    }

    /// Waits, and says in the very moment that we lead no more.
    async fn rest(&mut self, until: Duration) {
        loop {
            let now = self.now();
            self.say(self.election.leads(now));
            let end = self.election.leads_until().filter(|end| *end > now && *end < until);
            sleep_until(self.start + end.unwrap_or(until)).await;
            if end.is_none() {
                return;
            }
        }
    }

    async fn attempt(&mut self) -> Result<Action, String> {
        // A leader that is cut off must not believe in itself for as long as a request hangs.
        let read = self.guarded(self.api.get_opt(&self.name)).await?;
        let now = self.now();
        let action = self.election.read(now, read.as_ref().map(record));
        let written = match &action {
            Action::Wait(_) => return Ok(action),
            Action::Create => {
                let lease = self.lease(None, &Record::default());
                self.guarded(self.api.create(&PostParams::default(), &lease)).await?
            }
            Action::Take(over) => {
                let lease = self.lease(read.as_ref(), over);
                self.guarded(self.api.replace(&self.name, &PostParams::default(), &lease)).await?
            }
        };
        let now = self.now();
        Ok(self.election.took(now, &record(&written)))
    }

    async fn guarded<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
        let limit = tokio::time::Instant::now() + TIMEOUT;
        let end = self.election.leads_until().map(|end| self.start + end).filter(|end| *end < limit);
        tokio::pin!(request);
        if let Some(end) = end.filter(|end| *end > Instant::now()) {
            tokio::select! {
                done = &mut request => return done.map_err(|error| told(&error)),
                () = sleep_until(end) => self.say(false),
            }
        }
        match tokio::time::timeout_at(limit, request).await {
            Ok(done) => done.map_err(|error| told(&error)),
            Err(_) => Err(String::from("the API does not answer")),
        }
    }

    async fn give_up(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        if record(&lease).holder == self.election.identity() {
            lease.data["spec"]["holderIdentity"] = json!("");
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    fn lease(&self, before: Option<&DynamicObject>, over: &Record) -> DynamicObject {
        let now = clock::micro_time();
        let mut lease = before.cloned().unwrap_or_else(|| {
            let mut lease: DynamicObject = DynamicObject {
                types: None,
                metadata: kube::core::ObjectMeta::default(),
                data: json!({ "spec": {} }),
            };
            lease.metadata.name = Some(self.name.clone());
            lease
        });
        lease.types = Some(kube::core::TypeMeta {
            api_version: String::from("coordination.k8s.io/v1"),
            kind: String::from("Lease"),
        });
        // An older record of who set what is of no use, and only makes the request larger.
        lease.metadata.managed_fields = None;
        let ours = over.holder == self.election.identity();
        let spec = &mut lease.data["spec"];
        if !ours {
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(over.transitions + i64::from(before.is_some()));
        }
        spec["holderIdentity"] = json!(self.election.identity());
        spec["leaseDurationSeconds"] = json!(self.election.terms().lease.as_secs().max(1));
        spec["renewTime"] = json!(now);
        lease
    }

    fn say(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|last| std::mem::replace(last, leads) != leads);
        if changed {
            match leads {
                true => tracing::info!(identity = self.election.identity(), "leading"),
                false => tracing::info!(identity = self.election.identity(), "not leading any more"),
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn record(lease: &DynamicObject) -> Record {
    let spec = &lease.data["spec"];
    Record {
        holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        transitions: spec.get("leaseTransitions").and_then(Json::as_i64).unwrap_or_default(),
    }
}
