use std::fs;
use std::path::Path;

use super::*;
use crate::source::{FileContent, FileText, Reading};
use crate::status::Transitions;
use crate::world::Fold;

/// What is wrong in each way: invalid, leading nowhere, and a policy whose target is gone.
const WRONG: &str = "\
apiVersion: v1
kind: Service
metadata: {name: odd, namespace: wrong}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: lost, namespace: wrong, labels: {kubernetes.io/service-name: gone}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: broken, namespace: wrong}
spec: {endpoints: [{address: 127.0.0.1, port: 0}]}
---
apiVersion: tidegate.io/v1alpha1
kind: TimeoutPolicy
metadata: {name: nowhere, namespace: wrong}
spec: {request: 1s}
---
apiVersion: tidegate.io/v1alpha1
kind: TimeoutPolicy
metadata: {name: gone, namespace: wrong}
spec: {targetRefs: [{kind: Service, name: gone}], request: 1s}
";

fn world() -> Arc<World> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/examples");
    let files = fs::read_dir(examples).unwrap().map(|file| file.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let texts = yaml.map(|path| fs::read_to_string(path).unwrap()).chain([WRONG.to_owned()]);
    let files = texts
        .enumerate()
        .map(|(at, text)| FileContent { path: format!("{at}.yaml").into(), body: Ok(FileText::new(text)) });
    Fold::default()
        .apply(&Reading { files: files.collect(), root_listed: true, ..Reading::default() })
        .unwrap()
}

#[test]
fn whatever_has_a_status_is_looked_at_for_its_times() {
    let world = world();
    let shown = |status: &Status| {
        let (items, _) = manifests(&world, status, &Transitions::default(), 1);
        items.into_iter().filter(|item| item.get("status").is_some()).collect::<Vec<_>>()
    };
    let (all, some) = (report(&world, &[]), report_of(&world, &[], may_be_told));
    let shown = (shown(&all), shown(&some));
    assert_eq!(shown.0, shown.1);
    for kind in ["Gateway", "HTTPRoute", "Service", "EndpointSlice", "Backend", "TimeoutPolicy"] {
        assert!(shown.0.iter().any(|item| item["kind"] == kind), "{kind} has none");
    }
    assert!(some.objects.len() < all.objects.len(), "nothing is spared");
}
