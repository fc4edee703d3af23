//! The same as [`publish`], where it is known which resources are others than before: what did not change is shared, and
//! not looked at.

use std::sync::Arc;

use tidegate_policy::document::ObjectKey;
use tidegate_policy::model::{Policy, Replaced, Resource, Resources};

use super::reach::Reach;
use super::role::ToldRoutes;
use super::views::Views;
use super::{Guests, Published, ResourceId, Role, RoleSet, encoded, origins, publish};

/// What nodes are to have of `resources`, which differ from those of `before` by `replaced`.
pub fn follow(resources: &Resources, replaced: &[Replaced], guests: Guests, before: &Published) -> Published {
    let both = |replaced: &'_ Replaced| [replaced.before.clone(), replaced.after.clone()];
    let is_route = |resource: &Resource| matches!(resource, Resource::Route(_));
    // Which policies a role is told depends on the routes that it is told.
    if before.roles.is_empty() || replaced.iter().flat_map(both).flatten().any(|one| is_route(&one)) {
        return publish(resources, guests, before);
    }
    let mut published =
        Published { guests: Arc::new(guests), views: Views::after(&before.views), ..before.clone() };
    published.only = None;
    let mut other = None;
    for role in Role::ALL {
        let told = role.told(resources);
        let changes: Vec<Replaced> = replaced.iter().filter_map(|one| part(role, one, &told)).collect();
        let Some(set) = before.of(role).follow(&changes) else {
            // What is too large is told of by a look at everything.
            return publish(resources, guests_of(published), before);
        };
        published.roles.insert(role, Arc::new(set));
        let reach = before.reach.get(&role).cloned().unwrap_or_default();
        let reach = Arc::new(reached(&reach, (role, &told), resources, (&changes, other.as_deref())));
        other = Some(reach.clone());
        published.reach.insert(role, reach);
    }
    published.follow_workloads(replaced);
    if !published.too_large.is_empty() {
        return publish(resources, guests_of(published), before);
    }
    if published.hangs_as(before) {
        let of = |one: &Resource| (one.resource_type().type_url(), one.name().into());
        let changed = replaced.iter().flat_map(|one| one.before.iter().chain(&one.after)).map(of);
        published.only = Some(Arc::new(changed.collect()));
    }
    published
}

fn guests_of(published: Published) -> Guests {
    Arc::unwrap_or_clone(published.guests)
}

/// What of it concerns a role; `None`: nothing.
fn part(role: Role, one: &Replaced, told: &ToldRoutes<'_>) -> Option<Replaced> {
    let of = |resource: &Option<Resource>| resource.as_ref().and_then(|one| role.part_of(one, told));
    let (before, after) = (of(&one.before), of(&one.after));
    (before != after).then_some(Replaced { before, after })
}

/// What hangs on what now. `other`: of another role, which calls the same.
fn reached(
    before: &Reach,
    (role, told): (Role, &ToldRoutes<'_>),
    resources: &Resources,
    (changes, other): (&[Replaced], Option<&Reach>),
) -> Reach {
    let any =
        |is: fn(&Resource) -> bool| changes.iter().any(|one| one.before.iter().chain(&one.after).any(is));
    let mut reach = before.clone();
    if any(|one| matches!(one, Resource::Backend(_))) {
        reach = reach.calling(resources, other);
    }
    if changes.iter().any(moves) {
        let policies: Vec<Policy> =
            resources.policies.values().filter_map(|policy| role.policy(policy, told)).collect();
        reach = reach.with_policies(policies.iter());
    }
    if any(|one| matches!(one, Resource::Listener(_) | Resource::StreamRoute(_))) {
        reach = reach.with_routes(&role.select(resources));
    }
    reach
}

fn moves(one: &Replaced) -> bool {
    match (&one.before, &one.after) {
        (Some(Resource::Policy(before)), Some(Resource::Policy(after))) => Reach::moves(before, after),
        (before, after) => before.iter().chain(after).any(|one| matches!(one, Resource::Policy(_))),
    }
}

impl RoleSet {
    /// `None`: one of them cannot be sent.
    fn follow(&self, changes: &[Replaced]) -> Option<Self> {
        let mut this = self.clone();
        for Replaced { before, after } in changes {
            let gone = before.as_ref().map(|one| (one.resource_type().type_url(), one.name(), origins(one)));
            let come = after.as_ref().map(|one| (encoded(one), origins(one)));
            if let Some(((type_url, name, now), _)) = &come {
                let same = this.set.get(type_url, name).is_some_and(|before| **before == *now);
                if !same {
                    this.set.insert(type_url, name.clone(), now.clone()).ok()?;
                }
            } else if let Some((type_url, name, _)) = &gone {
                this.set.remove(type_url, name);
            }
            let gone = gone.map(|(type_url, name, origins)| ((type_url, name.into()), origins));
            let come = come.map(|((type_url, name, _), origins)| ((type_url, name), origins));
            if gone != come {
                this.derive(gone, come);
            }
        }
        Some(this)
    }

    fn derive(&mut self, gone: Option<Derived>, come: Option<Derived>) {
        let derived = Arc::make_mut(&mut self.derived);
        let (gone_id, gone_of) = gone.unzip();
        for origin in gone_of.unwrap_or_default() {
            let Some(ids) = derived.get_mut(&origin) else { continue };
            ids.retain(|id| Some(id) != gone_id.as_ref());
            if ids.is_empty() {
                derived.remove(&origin);
            }
        }
        let Some((id, origins)) = come else { return };
        for origin in origins {
            let ids = derived.entry(origin).or_default();
            let at = ids.partition_point(|other| *other < id);
            ids.insert(at, id.clone());
        }
    }
}

/// A resource, and the objects that it was made from.
type Derived = (ResourceId, Vec<ObjectKey>);

impl Published {
    /// Whether every node is to have resources of the same names, by what is shared.
    fn hangs_as(&self, before: &Self) -> bool {
        let same_reach = |role: &Role| match (self.reach.get(role), before.reach.get(role)) {
            (Some(now), Some(before)) => now.is_shared_with(before),
            _ => false,
        };
        Role::ALL.iter().all(same_reach)
            && Arc::ptr_eq(&self.workloads, &before.workloads)
            && Arc::ptr_eq(&self.serving, &before.serving)
            && self.guests == before.guests
    }

    fn follow_workloads(&mut self, replaced: &[Replaced]) {
        for Replaced { before, after } in replaced {
            if let Some(resource @ Resource::Workload(workload)) = after {
                let (_, name, now) = encoded(resource);
                Arc::make_mut(&mut self.workloads).insert(name, Arc::new(now));
                Arc::make_mut(&mut self.serving).insert(workload.name.clone(), workload.services.clone());
            } else if let Some(resource @ Resource::Workload(workload)) = before {
                Arc::make_mut(&mut self.workloads).remove(&*resource.name());
                Arc::make_mut(&mut self.serving).remove(&workload.name);
            }
        }
    }
}
