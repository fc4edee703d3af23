use std::collections::BTreeMap;

use super::Controller;
use super::backend_tls::TlsPolicies;
use super::grants::Grants;
use crate::model::{Policy, ResourceName};
use crate::objects::{
    Backend, BackendTlsPolicy, ConfigMap, EndpointSlice, Gateway, GatewayClass, GrpcRoute, HttpRoute,
    ListenerSet, Namespace, Object, Pod, Secret, Service, StreamRoute, StreamRouteKind,
};

/// Objects by kind and name.
#[derive(Debug, Default)]
pub(super) struct Objects<'a> {
    pub(super) controller: Controller,
    pub(super) classes: BTreeMap<&'a str, &'a GatewayClass>,
    /// Ours.
    pub(super) gateways: BTreeMap<&'a ResourceName, &'a Gateway>,
    /// Those of other controllers.
    pub(super) strangers: BTreeMap<&'a ResourceName, &'a Gateway>,
    pub(super) sets: BTreeMap<&'a ResourceName, &'a ListenerSet>,
    pub(super) grants: Grants<'a>,
    pub(super) namespaces: BTreeMap<&'a str, &'a Namespace>,
    pub(super) routes: BTreeMap<&'a ResourceName, &'a HttpRoute>,
    pub(super) grpc_routes: BTreeMap<&'a ResourceName, &'a GrpcRoute>,
    pub(super) streams: BTreeMap<(StreamRouteKind, &'a ResourceName), &'a StreamRoute>,
    pub(super) services: BTreeMap<&'a ResourceName, &'a Service>,
    pub(super) pods: BTreeMap<&'a ResourceName, &'a Pod>,
    pub(super) secrets: BTreeMap<&'a ResourceName, &'a Secret>,
    pub(super) config_maps: BTreeMap<&'a ResourceName, &'a ConfigMap>,
    pub(super) tls_policies: BTreeMap<&'a ResourceName, &'a BackendTlsPolicy>,
    pub(super) backends: BTreeMap<&'a ResourceName, &'a Backend>,
    pub(super) policies: BTreeMap<(&'a str, &'a ResourceName), &'a Policy>,
    /// Which of the `tls_policies` holds where.
    pub(super) tls: TlsPolicies<'a>,
    by_service: BTreeMap<ResourceName, Vec<&'a EndpointSlice>>,
}

/// By Service, each by name.
fn by_service<'a>(
    slices: BTreeMap<&'a ResourceName, &'a EndpointSlice>,
) -> BTreeMap<ResourceName, Vec<&'a EndpointSlice>> {
    let named = slices.into_values().filter_map(|slice| {
        let name = ResourceName::new(slice.meta.name.namespace.clone(), slice.service()?);
        Some((name, slice))
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let of_one = named.chunk_by(|(a, _), (b, _)| a == b);
    of_one.map(|all| (all[0].0.clone(), all.iter().map(|(_, slice)| *slice).collect())).collect()
}

impl<'a> Objects<'a> {
    pub(super) fn collect(objects: impl IntoIterator<Item = &'a Object>, controller: &Controller) -> Self {
        let mut all = Self { controller: controller.clone(), ..Self::default() };
        // Of these there are many, mostly in order already: a map that is built of all at once takes no searching.
        let (mut services, mut slices, mut pods) = (Vec::new(), Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::GatewayClass(o) => drop(all.classes.insert(&o.meta.name.name, o)),
                Object::Gateway(o) => drop(all.gateways.insert(&o.meta.name, o)),
                Object::ListenerSet(o) => drop(all.sets.insert(&o.meta.name, o)),
                Object::HttpRoute(o) => drop(all.routes.insert(&o.meta.name, o)),
                Object::ReferenceGrant(o) => all.grants.insert(o),
                Object::Namespace(o) => drop(all.namespaces.insert(&o.meta.name.name, o)),
                Object::GrpcRoute(o) => drop(all.grpc_routes.insert(&o.meta.name, o)),
                Object::StreamRoute(o) => drop(all.streams.insert((o.spec.kind, &o.meta.name), o)),
                Object::Service(o) => services.push((&o.meta.name, &**o)),
                Object::Pod(o) => pods.push((&o.meta.name, &**o)),
                Object::Secret(o) => drop(all.secrets.insert(&o.meta.name, o)),
                Object::ConfigMap(o) => drop(all.config_maps.insert(&o.meta.name, o)),
                Object::BackendTlsPolicy(o) => drop(all.tls_policies.insert(&o.meta.name, o)),
                Object::Backend(o) => drop(all.backends.insert(&o.meta.name, o)),
                Object::Policy(o) => drop(all.policies.insert((&o.kind, &o.meta.name), o)),
                Object::EndpointSlice(o) => slices.push((&o.meta.name, &**o)),
                Object::Ignored => {}
            }
        }
        (all.services, all.pods) = (services.into_iter().collect(), pods.into_iter().collect());
        let gateways = std::mem::take(&mut all.gateways);
        (all.gateways, all.strangers) = gateways.into_iter().partition(|(_, gateway)| {
            all.controller.has_class(&gateway.spec.gateway_class_name, all.class(gateway))
        });
        all.by_service = by_service(slices.into_iter().collect());
        all.tls = TlsPolicies::find(&all);
        all
    }

    /// The GatewayClass that a Gateway names, if there is such an object.
    pub(super) fn class(&self, gateway: &Gateway) -> Option<&'a GatewayClass> {
        self.classes.get(gateway.spec.gateway_class_name.as_str()).copied()
    }

    /// The slices of a Service, by name.
    pub(super) fn slices_of(&self, service: &ResourceName) -> &[&'a EndpointSlice] {
        self.by_service.get(service).map_or(&[], Vec::as_slice)
    }

    /// The slices that name a Service, with its name.
    pub(super) fn slices(&self) -> impl Iterator<Item = (&ResourceName, &'a EndpointSlice)> {
        self.by_service.iter().flat_map(|(service, slices)| slices.iter().map(move |slice| (service, *slice)))
    }
}
