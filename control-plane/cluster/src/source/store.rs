//! What each watch has told so far, and the reading that all of it makes.
//!
//! Pure: events in, readings out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::Value as Json;
use tidegate_control_plane::source::{Reading, UnknownFolder};

use super::document::{Document, Observed, Scope, path, scope};
use super::references::Reference;
use crate::kinds::Served;

/// One watch: all objects of a kind, or the one of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    Kind(&'static str),
    Named(Reference),
}

/// Everything that is known of the cluster.
#[derive(Debug, Default)]
pub struct Store {
    listings: BTreeMap<Feed, Listing>,
    served: BTreeMap<&'static str, Served>,
}

#[derive(Debug, Default)]
struct Listing {
    /// Whether it was listed to its end at least once.
    listed: bool,
    /// Why the last request failed.
    fault: Option<String>,
    objects: BTreeMap<Scope, Document>,
    /// What a listing has brought that is not at its end: until it is, what was there before counts.
    incoming: Option<BTreeMap<Scope, Document>>,
}

/// What an event has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// A document, or whether all are known.
    pub documents: bool,
    /// A status, or something else that writers go by.
    pub observed: bool,
}

impl Feed {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kind(kind) => kind,
            Self::Named(reference) => reference.kind,
        }
    }
}

impl Store {
    /// A watch begins, whose objects count from now on.
    pub fn begin(&mut self, feed: &Feed, served: &Served) {
        self.served.insert(feed.kind(), served.clone());
        self.listings.entry(feed.clone()).or_default();
    }

    /// The watch is over and what it showed is gone.
    pub fn forget(&mut self, feed: &Feed) {
        self.listings.remove(feed);
        if matches!(feed, Feed::Kind(_)) {
            self.served.remove(feed.kind());
        }
    }

    pub fn take(&mut self, feed: &Feed, event: Event<DynamicObject>) -> Moved {
        let (Some(served), Some(listing)) = (self.served.get(feed.kind()), self.listings.get_mut(feed))
        else {
            return Moved::default();
        };
        match event {
            Event::Init => {
                listing.incoming = Some(BTreeMap::new());
                Moved::default()
            }
            Event::InitApply(object) => {
                let (scope, document) = Document::new(served, object);
                listing.incoming.get_or_insert_default().insert(scope, document);
                Moved::default()
            }
            Event::InitDone => listing.swap(),
            Event::Apply(object) => {
                let (scope, document) = Document::new(served, object);
                listing.put(scope, document)
            }
            Event::Delete(object) => {
                let gone = listing.objects.remove(&scope(&object)).is_some();
                Moved { documents: gone, observed: gone }
            }
        }
    }

    /// What a write was answered with: the watch will tell the same a little later.
    pub fn written(&mut self, kind: &str, object: DynamicObject) {
        let Some(served) = self.served.get(kind) else { return };
        let Some(listing) = self.listings.get_mut(&Feed::Kind(served.kind)) else { return };
        let (scope, document) = Document::new(served, object);
        if let Some(known) = listing.objects.get_mut(&scope) {
            known.observed = document.observed;
        }
    }

    /// Whether this is news.
    pub fn failed(&mut self, feed: &Feed, fault: String) -> bool {
        let Some(listing) = self.listings.get_mut(feed) else { return false };
        listing.fault.replace(fault).is_none()
    }

    /// Whether this is news.
    pub fn recovered(&mut self, feed: &Feed) -> bool {
        self.listings.get_mut(feed).is_some_and(|listing| listing.fault.take().is_some())
    }

    /// The watches that were never listed to their end.
    pub fn unlisted(&self) -> impl Iterator<Item = &Feed> {
        self.listings.iter().filter(|(_, listing)| !listing.listed).map(|(feed, _)| feed)
    }

    pub fn any_listed(&self) -> bool {
        self.listings.values().any(|listing| listing.listed)
    }

    pub fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.listings.keys()
    }

    /// Everything that is named by what there is.
    pub fn references(&self) -> BTreeSet<Reference> {
        let documents = self.listings.values().flat_map(|listing| listing.objects.values());
        documents.flat_map(|document| document.references.iter().cloned()).collect()
    }

    /// The whole of it. What was never listed is not known, which is not the same as not there.
    pub fn reading(&self) -> Reading {
        let documents = self.listings.values().flat_map(|listing| listing.objects.values());
        let mut files: Vec<_> = documents.map(|document| document.content.clone()).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let unknown = self.listings.iter().filter(|(_, listing)| !listing.listed);
        let unknown = unknown.map(|(feed, listing)| UnknownFolder {
            path: match feed {
                Feed::Kind(kind) => (*kind).into(),
                Feed::Named(named) => path(named.kind, &(named.namespace.clone(), named.name.clone())).into(),
            },
            reason: listing.fault.clone().unwrap_or_else(|| String::from("it is not listed yet")),
        });
        Reading { files, unknown: unknown.collect(), root_listed: true }
    }

    pub fn observed(&self, kind: &str, namespace: &str, name: &str) -> Option<(&Served, Arc<Observed>)> {
        let served = self.served.get(kind)?;
        let listing = self.listings.get(&Feed::Kind(served.kind))?;
        let document = listing.objects.get(&(namespace.to_owned(), name.to_owned()))?;
        Some((served, document.observed.clone()?))
    }

    /// Of the Services that were made for a Gateway: what is known of their addresses.
    pub fn services_of(&self, namespace: &str, gateway: &str) -> Vec<Arc<Observed>> {
        let Some(services) = self.listings.get(&Feed::Kind("Service")) else { return Vec::new() };
        let inside = services.objects.iter().filter(|((within, _), _)| within == namespace);
        let observed = inside.filter_map(|(_, document)| document.observed.clone());
        observed.filter(|observed| observed.gateway.as_deref() == Some(gateway)).collect()
    }

    /// None if there is no such namespace.
    pub fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let text = |document: &Document| document.content.body.as_ref().ok().map(|body| body.text.clone());
        let namespaces = self.listings.get(&Feed::Kind("Namespace"));
        let scope = (String::new(), name.to_owned());
        let text = namespaces.and_then(|listing| text(listing.objects.get(&scope)?));
        let object: Json = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The endpoints of a Service that are not going away; at the port called `admin`, else at `port`.
    pub fn endpoints(&self, namespace: &str, service: &str, port: u16) -> BTreeSet<SocketAddr> {
        let mut found = BTreeSet::new();
        let Some(slices) = self.listings.get(&Feed::Kind("EndpointSlice")) else { return found };
        for (_, document) in slices.objects.iter().filter(|((within, _), _)| within == namespace) {
            let Ok(body) = &document.content.body else { continue };
            let Ok(slice) = serde_json::from_str::<Json>(&body.text) else { continue };
            if slice["metadata"]["labels"]["kubernetes.io/service-name"] != *service {
                continue;
            }
            let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
            let named = list(&slice["ports"]).into_iter().find(|port| port["name"] == "admin");
            let named = named.and_then(|named| u16::try_from(named["port"].as_u64()?).ok());
            for endpoint in list(&slice["endpoints"]) {
                if endpoint["conditions"]["terminating"] == true {
                    continue;
                }
                let addresses = list(&endpoint["addresses"]).into_iter();
                let parsed = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
                found.extend(parsed.map(|ip| SocketAddr::new(ip, named.unwrap_or(port))));
            }
        }
        found
    }

    pub fn served(&self, kind: &str) -> Option<&Served> {
        self.served.get(kind)
    }
}

impl Listing {
    /// A listing has come to its end: what it did not show is gone.
    fn swap(&mut self) -> Moved {
        let incoming = self.incoming.take().unwrap_or_default();
        let first = !std::mem::replace(&mut self.listed, true);
        let moved = first || incoming != self.objects;
        self.objects = incoming;
        Moved { documents: moved, observed: moved }
    }

    fn put(&mut self, scope: Scope, document: Document) -> Moved {
        let before = self.objects.get(&scope);
        let same = |same: fn(&Document, &Document) -> bool| before.is_some_and(|b| same(b, &document));
        let documents = !same(|a, b| a.content == b.content && a.references == b.references);
        let observed = documents || !same(|a, b| a.observed == b.observed);
        self.objects.insert(scope, document);
        Moved { documents, observed }
    }
}
