//! The client's side of delta xDS, without I/O: what it wants, what it has, and what it must say.
//!
//! It outlives streams: after a reconnect it tells the server what it has, so that nothing unchanged is sent again.

pub mod dial;
pub mod grpc;

use std::collections::{BTreeMap, BTreeSet};

use prost_types::value::Kind;
use prost_types::{ListValue, Value};

use crate::wire::{PARTIAL, UNCERTAIN, WILDCARD, encode_rejections};
use crate::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

/// The key of a node's metadata under which it tells by which names it asks.
pub const WANTS: &str = "wants";

/// A change to one type, to be applied as a whole and then answered with [`DeltaClient::ack`].
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub type_url: &'static str,
    pub nonce: String,
    pub upserts: Vec<Upsert>,
    pub removed: Vec<String>,
    /// Whether the server has told all it has of this type for now; a large set comes in several updates.
    pub complete: bool,
    /// What no handler is asked about: resources that are not of the response's type.
    malformed: Vec<Rejection>,
}

/// A resource that is new or has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upsert {
    pub name: String,
    pub version: String,
    /// The encoded message.
    pub body: Vec<u8>,
}

/// A resource that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub name: String,
    pub reason: String,
    /// It is in force all the same, for what is wrong lies outside of it and may pass. Else its last version stays.
    pub in_force: bool,
}

/// A change of what a client wants of a type on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Subscribe {
        type_url: &'static str,
        names: Vec<String>,
    },
    Unsubscribe {
        type_url: &'static str,
        names: Vec<String>,
    },
    /// Have these sent again, to answer otherwise than the last time.
    Again {
        type_url: &'static str,
        names: Vec<String>,
    },
}

impl Rejection {
    /// Of a resource that is wrong itself: its last version stays in force.
    pub fn of_content(name: String, reason: String) -> Self {
        Self { name, reason, in_force: false }
    }
}

/// Applies updates. Called from the task that runs the stream, so it should not block for long.
pub trait ConfigHandler: Send {
    /// Applies an update and says which of its upserts were refused; everything else must be in force (or be about
    /// to be) on return. Removals cannot be refused.
    fn apply(&mut self, update: &Update) -> Vec<Rejection>;

    /// A stream was opened.
    fn connected(&mut self) {}

    /// Every type was answered once: the client has all that it asked for. Called once.
    fn synced(&mut self) {}

    /// The stream ended or could not be opened; the next attempt follows after `retry_in`.
    fn disconnected(&mut self, reason: &str, retry_in: std::time::Duration) {
        let _ = (reason, retry_in);
    }
}

/// The server broke the protocol; the stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("a response of type {0:?}, which was not asked for")]
    UnknownType(String),
    #[error("a response without a nonce")]
    MissingNonce,
}

/// What a client wants and has, across streams.
#[derive(Clone, Debug)]
pub struct DeltaClient {
    node: Node,
    /// In push order.
    types: Vec<TypeState>,
    connected: bool,
    /// The current stream's first request was made.
    node_told: bool,
}

#[derive(Clone, Debug)]
struct TypeState {
    type_url: &'static str,
    wildcard: bool,
    /// See [`DeltaClient::asking`].
    asks: bool,
    names: BTreeSet<String>,
    /// What is in force, by name.
    versions: BTreeMap<String, String>,
    /// The first request of this type was sent on the current stream.
    told: bool,
    /// A complete answer has arrived, on any stream.
    answered: bool,
}

impl DeltaClient {
    /// Wants every resource of `types`, which are type URLs in the server's push order.
    pub fn new(node: Node, types: &[&'static str]) -> Self {
        let types = types.iter().map(|type_url| TypeState::new(type_url)).collect();
        Self { node, types, connected: false, node_told: false }
    }

    /// Wants of this type only what [`subscribe`](Self::subscribe) names.
    #[must_use]
    pub fn on_demand(mut self, type_url: &str) -> Self {
        if let Some(state) = self.state(type_url) {
            state.wildcard = false;
        }
        self
    }

    /// The names of this type are questions, and those that it has are told with the node when a stream is opened: so its
    /// first answers are to all of them.
    #[must_use]
    pub fn asking(mut self, type_url: &str) -> Self {
        if let Some(state) = self.state(type_url) {
            (state.wildcard, state.asks) = (false, true);
        }
        self
    }

    /// Tells of a resource that is in force already, loaded from a snapshot on disk.
    pub fn seed(&mut self, type_url: &str, name: impl Into<String>, version: impl Into<String>) {
        if let Some(state) = self.state(type_url) {
            state.versions.insert(name.into(), version.into());
        }
    }

    /// A stream was opened: the requests that begin it, in order.
    pub fn on_connected(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.connected = true;
        self.node_told = false;
        for state in &mut self.types {
            state.told = false;
        }
        let wanted: Vec<_> = self.types.iter().filter(|s| s.is_wanted()).map(|s| s.type_url).collect();
        wanted.into_iter().filter_map(|type_url| self.first_request(type_url)).collect()
    }

    /// Wants these too. Gives the request to send, if a stream is open; else they are told when one is.
    pub fn subscribe(
        &mut self,
        type_url: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let connected = self.connected;
        let state = self.state(type_url)?;
        let new: Vec<String> = names.into_iter().filter(|name| state.names.insert(name.clone())).collect();
        if new.is_empty() {
            return None;
        }
        if !state.told {
            return connected.then(|| self.first_request(type_url)).flatten();
        }
        let type_url = state.type_url.to_owned();
        Some(DeltaDiscoveryRequest { type_url, resource_names_subscribe: new, ..Default::default() })
    }

    /// Wants these no longer, and forgets them: the server does not report them as removed.
    pub fn unsubscribe(
        &mut self,
        type_url: &str,
        names: impl IntoIterator<Item = String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let state = self.state(type_url)?;
        let dropped: Vec<String> = names.into_iter().filter(|name| state.names.remove(name)).collect();
        if !state.wildcard {
            state.versions.retain(|name, _| !dropped.contains(name));
        }
        if dropped.is_empty() || !state.told {
            return None;
        }
        let type_url = state.type_url.to_owned();
        Some(DeltaDiscoveryRequest { type_url, resource_names_unsubscribe: dropped, ..Default::default() })
    }

    /// Has resources sent again that are wanted already. `None` without a stream: the next one begins with what is in
    /// force, by version.
    fn again(&mut self, type_url: &str, names: Vec<String>) -> Option<DeltaDiscoveryRequest> {
        let state = self.state(type_url).filter(|state| state.told)?;
        let names: Vec<String> = names.into_iter().filter(|name| state.covers(name)).collect();
        let type_url = state.type_url.to_owned();
        (!names.is_empty()).then(|| DeltaDiscoveryRequest {
            type_url,
            resource_names_subscribe: names,
            ..Default::default()
        })
    }

    /// What a [`Want`] asks for: the request to send, if there is one.
    pub fn want(&mut self, want: Want) -> Option<DeltaDiscoveryRequest> {
        match want {
            Want::Subscribe { type_url, names } => self.subscribe(type_url, names),
            Want::Unsubscribe { type_url, names } => self.unsubscribe(type_url, names),
            Want::Again { type_url, names } => self.again(type_url, names),
        }
    }

    /// Takes a response.
    ///
    /// # Errors
    /// When the server broke the protocol; the stream must then be closed.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Result<Update, ProtocolError> {
        let Some(state) = self.types.iter().find(|s| s.type_url == response.type_url && s.told) else {
            return Err(ProtocolError::UnknownType(response.type_url));
        };
        if response.nonce.is_empty() {
            return Err(ProtocolError::MissingNonce);
        }
        let mut update = Update {
            type_url: state.type_url,
            nonce: response.nonce,
            upserts: Vec::with_capacity(response.resources.len()),
            removed: response.removed_resources,
            complete: response.system_version_info != PARTIAL,
            malformed: Vec::new(),
        };
        for resource in response.resources {
            // A resource may still be on its way when it was unsubscribed from.
            if !state.covers(&resource.name) {
                continue;
            }
            match resource.resource {
                Some(any) if any.type_url == state.type_url => {
                    let (name, version) = (resource.name, resource.version);
                    update.upserts.push(Upsert { name, version, body: any.value });
                }
                Some(any) => update.malformed.push(Rejection::of_content(
                    resource.name,
                    format!("is a {:?}, not a {:?}", any.type_url, state.type_url),
                )),
                None => {
                    let reason = "has no content".to_owned();
                    update.malformed.push(Rejection::of_content(resource.name, reason));
                }
            }
        }
        Ok(update)
    }

    /// Answers an update that was applied: an ACK, or a NACK that names what was refused. Rejections of anything but
    /// the update's upserts are ignored.
    pub fn ack(&mut self, update: Update, rejected: Vec<Rejection>) -> DeltaDiscoveryRequest {
        let Update { type_url, nonce, upserts, removed, complete, malformed } = update;
        let ours = rejected.into_iter().filter(|r| upserts.iter().any(|u| u.name == r.name));
        let rejected: Vec<_> = malformed.into_iter().chain(ours).collect();
        if let Some(state) = self.state(type_url) {
            for Upsert { name, version, .. } in upserts {
                let version = match rejected.iter().find(|r| r.name == name) {
                    None => version,
                    Some(Rejection { in_force: true, .. }) => UNCERTAIN.to_owned(),
                    Some(_) => continue,
                };
                if state.covers(&name) {
                    state.versions.insert(name, version);
                }
            }
            for name in &removed {
                state.versions.remove(name);
            }
            state.answered |= complete;
        }
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: nonce,
            error_detail: (!rejected.is_empty()).then(|| encode_rejections(rejected)),
            ..Default::default()
        }
    }

    /// Whether every type was answered in full at least once. A type on demand that nothing was asked of counts as
    /// answered.
    pub fn synced(&self) -> bool {
        self.types.iter().all(|state| state.answered || !state.is_wanted())
    }

    /// What is in force of one type: versions by name.
    pub fn versions(&self, type_url: &str) -> Option<&BTreeMap<String, String>> {
        self.types.iter().find(|s| s.type_url == type_url).map(|s| &s.versions)
    }

    fn state(&mut self, type_url: &str) -> Option<&mut TypeState> {
        self.types.iter_mut().find(|s| s.type_url == type_url)
    }

    fn asking_node(&self) -> Node {
        let mut node = self.node.clone();
        if let Some(asked) = self.types.iter().find(|state| state.asks) {
            let text = |name: &String| Value { kind: Some(Kind::StringValue(name.clone())) };
            let values = asked.names.iter().map(text).collect();
            let list = Value { kind: Some(Kind::ListValue(ListValue { values })) };
            node.metadata.get_or_insert_default().fields.insert(WANTS.to_owned(), list);
        }
        node
    }

    fn first_request(&mut self, type_url: &str) -> Option<DeltaDiscoveryRequest> {
        let node = (!std::mem::replace(&mut self.node_told, true)).then(|| self.asking_node());
        let state = self.state(type_url)?;
        state.told = true;
        let wildcard = state.wildcard.then(|| WILDCARD.to_owned());
        Some(DeltaDiscoveryRequest {
            node,
            type_url: state.type_url.to_owned(),
            resource_names_subscribe: wildcard.into_iter().chain(state.names.iter().cloned()).collect(),
            initial_resource_versions: state
                .versions
                .iter()
                .map(|(name, version)| (name.clone(), version.clone()))
                .collect(),
            ..Default::default()
        })
    }
}

impl TypeState {
    fn new(type_url: &'static str) -> Self {
        Self {
            type_url,
            wildcard: true,
            asks: false,
            names: BTreeSet::new(),
            versions: BTreeMap::new(),
            told: false,
            answered: false,
        }
    }

    fn is_wanted(&self) -> bool {
        self.wildcard || !self.names.is_empty()
    }

    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}
