//! The server's side of one delta stream, without I/O: requests and worlds go in, responses and events come out.
//!
//! One response is outstanding at a time across all types, so that the client has acted on everything that a
//! response leans on before it gets that response (make before break). The way from one world to the next is a
//! pass: upserts in the order of the types, then removals in the reverse order. A world that arrives during a pass
//! waits for its end, so a resource that changes without pause cannot starve the types after it; of the worlds
//! that arrive meanwhile only the newest is used.

pub mod grpc;
mod subscription;

use std::sync::Arc;

use tidegate_proto::tidegate::v1::RejectedResource;

use crate::wire::{PARTIAL, UNCERTAIN, WILDCARD, decode_rejections};
use crate::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Name, Node, ResourceSet, Version};
use subscription::{Batch, Subscription};

/// What a stream tells the control plane.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first request told who is there.
    Connected { node: Box<Node> },
    /// The client has these in force: it accepted them, or had them when the stream began.
    Acked { type_url: &'static str, resources: Vec<(Name, Version)>, removed: Vec<Name> },
    /// The client refused part of a response, or all of it.
    Nacked(Nack),
    /// Of the type whose names are questions, these are all that the client asks now.
    Wanted { names: Vec<Name> },
}

/// A refusal. The client keeps what it had of each refused resource that is not [in force](Rejected::in_force).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    pub type_url: &'static str,
    pub rejected: Vec<Rejected>,
    /// The rest of the response, which is in force.
    pub acked: Vec<(Name, Version)>,
    /// Removals are never refused.
    pub removed: Vec<Name>,
    /// What the client said about the response as a whole.
    pub message: String,
}

/// One version of a resource that a client refused. It is not sent again on this stream until it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub name: Name,
    pub version: Version,
    pub reason: String,
    /// The client applied it all the same: what is wrong lies outside of it and may pass.
    pub in_force: bool,
}

/// The client broke the protocol; the stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("the first request of a stream must carry a node with an id")]
    MissingNode,
    #[error("no resources of type {0:?} are served here")]
    UnknownType(String),
    #[error("more than {max} names of type {type_url} on one stream")]
    TooManyNames { type_url: &'static str, max: usize },
}

/// One stream. Feed it with [`on_request`](Self::on_request) and [`on_world`](Self::on_world); after each of
/// them send what [`next_response`](Self::next_response) gives.
#[derive(Debug)]
pub struct DeltaSession {
    connected: bool,
    /// In push order.
    subscriptions: Vec<Subscription>,
    /// What the current pass leads to.
    world: Option<Arc<ResourceSet>>,
    /// The newest world, when it is not yet the pass's.
    next_world: Option<Arc<ResourceSet>>,
    outstanding: Option<Outstanding>,
    nonce: u64,
}

#[derive(Debug)]
struct Outstanding {
    nonce: String,
    type_index: usize,
    upserts: Vec<(Name, Version)>,
    removed: Vec<Name>,
}

impl DeltaSession {
    /// `types` are the served type URLs in push order: a resource leans only on resources of types before its own.
    pub fn new(types: &[&'static str]) -> Self {
        Self {
            connected: false,
            subscriptions: types.iter().map(|type_url| Subscription::new(type_url)).collect(),
            world: None,
            next_world: None,
            outstanding: None,
            nonce: 0,
        }
    }

    /// The names of this type are questions, that a world of the client's own answers: one that it does not answer yet is
    /// not answered by saying that there is nothing.
    #[must_use]
    pub fn asked_by_name(mut self, type_url: &str) -> Self {
        let asked = self.subscriptions.iter_mut().find(|subscription| subscription.type_url == type_url);
        asked.into_iter().for_each(Subscription::ask);
        self
    }

    /// Takes a request: a subscription, an ACK, a NACK, or several of them at once. An ACK or NACK of anything but
    /// the outstanding response is ignored, as the protocol demands.
    ///
    /// # Errors
    /// When the client broke the protocol; the stream must then be closed.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<Vec<Event>, ProtocolError> {
        let mut events = Vec::new();
        let Some(index) = self.subscriptions.iter().position(|s| s.type_url == request.type_url) else {
            return Err(ProtocolError::UnknownType(request.type_url));
        };
        if !self.connected {
            let node = request.node.clone().filter(|n| !n.id.is_empty()).ok_or(ProtocolError::MissingNode)?;
            self.connected = true;
            events.push(Event::Connected { node: Box::new(node) });
        }
        let answers = |o: &mut Outstanding| o.type_index == index && o.nonce == request.response_nonce;
        if let Some(answered) = self.outstanding.take_if(answers) {
            events.push(settle(&mut self.subscriptions[index], answered, &request));
        }
        let subscription = &mut self.subscriptions[index];
        events.extend(subscription.update(request)?);
        events.extend(subscription.take_questions().map(|names| Event::Wanted { names }));
        Ok(events)
    }

    /// Tells what the client is to have from now on.
    pub fn on_world(&mut self, world: Arc<ResourceSet>) {
        self.next_world = Some(world);
    }

    /// The response to send now, if there is one: none while another is outstanding, and none before the first
    /// world. Each subscribed type gets a response even if there is nothing to tell.
    pub fn next_response(&mut self) -> Option<DeltaDiscoveryResponse> {
        if self.outstanding.is_some() {
            return None;
        }
        loop {
            if let Some((type_index, batch)) = self.next_batch() {
                return Some(self.respond(type_index, batch));
            }
            let next = self.next_world.take()?;
            for subscription in &mut self.subscriptions {
                subscription.adopt(self.world.as_deref(), &next);
            }
            self.world = Some(next);
        }
    }

    fn next_batch(&mut self) -> Option<(usize, Batch)> {
        let world = self.world.as_deref()?;
        let mut subscriptions = self.subscriptions.iter_mut().enumerate();
        let upserts = subscriptions.find_map(|(i, s)| Some((i, s.take_upserts(world)?)));
        if upserts.is_some() {
            return upserts;
        }
        let mut subscriptions = self.subscriptions.iter_mut().enumerate().rev();
        subscriptions.find_map(|(i, s)| Some((i, s.take_removals(world)?)))
    }

    fn respond(&mut self, type_index: usize, batch: Batch) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let removed_resources = batch.removed.iter().map(|name| name.to_string()).collect();
        self.outstanding = Some(Outstanding {
            nonce: nonce.clone(),
            type_index,
            upserts: batch.upserts,
            removed: batch.removed,
        });
        DeltaDiscoveryResponse {
            system_version_info: if batch.partial { PARTIAL.to_owned() } else { String::new() },
            resources: batch.resources,
            type_url: self.subscriptions[type_index].type_url.to_owned(),
            nonce,
            removed_resources,
            control_plane: None,
        }
    }
}

/// Notes what the client made of a response.
fn settle(subscription: &mut Subscription, answered: Outstanding, request: &DeltaDiscoveryRequest) -> Event {
    let Outstanding { upserts, removed, .. } = answered;
    subscription.forget_removed(&removed);
    let Some(detail) = &request.error_detail else {
        subscription.accepted(&upserts);
        return Event::Acked { type_url: subscription.type_url, resources: upserts, removed };
    };
    let reasons = decode_rejections(detail);
    let named = |name: &str| reasons.iter().find(|r| r.name == name);
    let all = !upserts.iter().any(|(name, _)| named(name).is_some());
    let mut nack = Nack {
        type_url: subscription.type_url,
        rejected: Vec::new(),
        acked: Vec::new(),
        removed,
        message: detail.message.clone(),
    };
    for (name, version) in upserts {
        match (named(&name), all) {
            (Some(RejectedResource { reason, in_force, .. }), _) => {
                let (reason, in_force) = (reason.clone(), *in_force);
                nack.rejected.push(Rejected { name, version, reason, in_force });
            }
            (None, true) => {
                let reason = detail.message.clone();
                nack.rejected.push(Rejected { name, version, reason, in_force: false });
            }
            (None, false) => nack.acked.push((name, version)),
        }
    }
    subscription.accepted(&nack.acked);
    subscription.rejected(&nack.rejected);
    Event::Nacked(nack)
}
