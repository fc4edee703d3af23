//! Mirrors: which of them a request is copied to. The shell sends the copies.

use std::sync::Arc;

use super::build::Builder;
use super::rule::Side;
use super::{Rule, Selected, Target};
use crate::call::CallPlan;
use crate::health::{CapKey, Together};
use crate::model::{Mirror, RouteFilter, RouteKind, Share};

/// A mirror of a rule or a backendRef.
#[derive(Clone, Debug)]
pub struct MirrorTarget {
    /// The way to the mirror: without filters, and without breakers, which a copy must neither trip nor wait for.
    selected: Selected,
    share: Share,
}

impl Target {
    /// The mirrors that get a copy of this request.
    pub fn copies<'a>(&'a self, rng: &'a mut fastrand::Rng) -> impl Iterator<Item = &'a Selected> {
        self.mirrors.iter().filter(|mirror| mirror.share.draw(rng)).map(|mirror| &mirror.selected)
    }
}

impl Builder<'_> {
    pub(super) fn mirrors(
        &mut self,
        filters: &[RouteFilter],
        kind: RouteKind,
        side: Side<'_>,
    ) -> Vec<MirrorTarget> {
        filters.iter().filter_map(|filter| self.mirror(filter, kind, side)).collect()
    }

    fn mirror(&mut self, filter: &RouteFilter, kind: RouteKind, side: Side<'_>) -> Option<MirrorTarget> {
        let RouteFilter::Mirror(Mirror { backend, share }) = filter else { return None };
        let target = Target {
            backend: Ok(self.backends.get(backend)?.clone()),
            weight: 1,
            filters: Box::default(),
            gate: crate::snapshot::Gate::default(),
            guard: None,
            health: None,
            together: Together::default(),
            balancer: None,
            mirrors: Box::default(),
            plan: CallPlan::default(),
            tls: self.origination(backend, side),
        };
        let named = Rule { name: "mirror".into(), grpc: kind == RouteKind::Grpc, ..Rule::empty() };
        let rule = Arc::new(named.leading_to(vec![(target, Box::default())]));
        Some(MirrorTarget {
            selected: Selected { rule, target: 0, session: None, key: None, counted: CapKey::Uncounted },
            share: *share,
        })
    }
}
