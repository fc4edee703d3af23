//! What the proxies said to a scripted control plane.

use std::collections::BTreeMap;

use tidegate_xds::server::grpc::StreamId;
use tidegate_xds::server::{Event, Nack, Rejected};
use tidegate_xds::{Name, ResourceSet, Version};

#[derive(Debug, Default)]
pub(super) struct Log {
    /// The streams that are open.
    streams: BTreeMap<StreamId, NodeLog>,
}

/// What one proxy has, as said on its open stream.
#[derive(Debug, Default)]
pub(super) struct NodeLog {
    node: String,
    in_force: BTreeMap<(&'static str, Name), Version>,
    refused: BTreeMap<(&'static str, Name), (Version, String)>,
}

impl Log {
    pub(super) fn note(&mut self, stream: StreamId, event: Event) {
        let node = self.streams.entry(stream).or_default();
        match event {
            Event::Connected { node: said } => node.node = said.id,
            Event::Wanted { .. } => {}
            Event::Acked { type_url, resources, removed } => node.acknowledge(type_url, resources, removed),
            Event::Nacked(Nack { type_url, rejected, acked, removed, .. }) => {
                node.acknowledge(type_url, acked, removed);
                for Rejected { name, version, reason, in_force } in rejected {
                    if in_force {
                        node.in_force.remove(&(type_url, name.clone()));
                    }
                    node.refused.insert((type_url, name), (version, reason));
                }
            }
        }
    }

    pub(super) fn disconnect(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = &NodeLog> {
        self.streams.values()
    }

    /// Whether it holds for every proxy that is connected, and at least one is.
    pub(super) fn every_node(&self, holds: impl Fn(&NodeLog) -> bool) -> bool {
        !self.streams.is_empty() && self.streams.values().all(holds)
    }
}

impl NodeLog {
    fn acknowledge(&mut self, type_url: &'static str, resources: Vec<(Name, Version)>, removed: Vec<Name>) {
        for (name, version) in resources {
            self.refused.remove(&(type_url, name.clone()));
            self.in_force.insert((type_url, name), version);
        }
        for name in removed {
            self.refused.remove(&(type_url, name.clone()));
            self.in_force.remove(&(type_url, name));
        }
    }

    pub(super) fn in_force(&self, type_url: &'static str, name: &str) -> Option<&Version> {
        self.in_force.get(&(type_url, name.into()))
    }

    pub(super) fn refusal(&self, type_url: &'static str, name: &str) -> Option<&(Version, String)> {
        self.refused.get(&(type_url, name.into()))
    }

    pub(super) fn has_settled(&self, types: &[&'static str], world: &ResourceSet) -> bool {
        let mut names = self.in_force.keys();
        types.iter().all(|type_url| {
            world.of_type(type_url).all(|(name, resource)| {
                let refused = self.refusal(type_url, name).map(|(version, _)| version);
                self.in_force(type_url, name) == Some(&resource.version) || refused == Some(&resource.version)
            })
        }) && names.all(|(type_url, name)| world.get(type_url, name).is_some())
    }
}
