//! GRPCRoutes -> routes on `/service/method`, the path of every gRPC call.

use super::objects::Objects;
use super::parents::Child;
use super::rivals::Rivals;
use super::routes::{attach, count, is_usable, refs};
use super::rules::rules;
use super::{Condition, Resolved};
use crate::model::{PathMatch, Resource, Route, RouteKind};
use crate::objects::{GrpcMethodSpec, GrpcRoute, HttpRoute, ValueMatchType, Written, compile_pattern};

const KIND: RouteKind = RouteKind::Grpc;

pub(super) fn resolve(objects: &Objects<'_>, rivals: &Rivals, resolved: &mut Resolved) {
    for written in objects.grpc_routes.values() {
        let name = &written.meta.name;
        let http = as_http(written);
        let keep = |found| rivals.keep(KIND, name, found);
        let (mut attached, told) = attach(objects, Child::http(KIND, &http), keep);
        for condition in told {
            resolved.tell(KIND.as_str(), name, condition);
        }
        let mesh = http.spec.parent_refs.iter().all(|parent| parent.kind == "Service");
        let mut invalid = Vec::new();
        let compiled = rules(objects, (KIND, &http), mesh, &mut invalid).and_then(|mut rules| {
            for (rule, written) in rules.iter_mut().zip(&written.spec.rules) {
                for (wanted, written) in rule.matches.iter_mut().zip(&written.matches) {
                    wanted.path = path(written.method.as_ref())?;
                }
            }
            Ok(rules)
        });
        match compiled {
            Ok(rules) => {
                resolved.tell(KIND.as_str(), name, refs(&invalid));
                count(&attached, resolved);
                attached.retain(|parent| is_usable(parent, resolved));
                if !attached.is_empty() {
                    let route = Route { kind: KIND, meta: written.meta.clone(), parents: attached, rules };
                    resolved.resources.insert(Resource::Route(route));
                }
            }
            Err(message) => {
                let condition = Condition::fails("Accepted", "UnsupportedValue", message);
                resolved.tell(KIND.as_str(), name, condition);
            }
        }
    }
}

/// The same object as an HTTPRoute: pointers into it stay the same.
pub(super) fn as_http(route: &GrpcRoute) -> HttpRoute {
    Written {
        meta: route.meta.clone(),
        labels: route.labels.clone(),
        annotations: route.annotations.clone(),
        spec: route.spec.as_http(),
        lines: route.lines.clone(),
    }
}

fn path(written: Option<&GrpcMethodSpec>) -> Result<PathMatch, String> {
    let Some(GrpcMethodSpec { kind, service, method }) = written else {
        return Ok(PathMatch::Prefix("".into()));
    };
    let or_any = |name: &str| if name.is_empty() { String::from("[^/]+") } else { format!("(?:{name})") };
    Ok(match (kind, service.as_str(), method.as_str()) {
        (_, "", "") => PathMatch::Prefix("".into()),
        (ValueMatchType::RegularExpression, service, method) => {
            PathMatch::Regex(compile_pattern(&format!("/{}/{}", or_any(service), or_any(method)))?)
        }
        (ValueMatchType::Exact, "", method) => PathMatch::AnyService(method.into()),
        (ValueMatchType::Exact, service, "") => PathMatch::Prefix(format!("/{service}").into()),
        (ValueMatchType::Exact, service, method) => PathMatch::Exact(format!("/{service}/{method}").into()),
    })
}
