use tidegate_control_plane::source::{FileContent, FileText, Reading};
use tidegate_policy::resolve::Controller;

use super::{render, resources};

const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: limits}
spec:
  targetRefs: [{kind: Service, name: web}]
  limits:
  - {name: all, requests: 5, per: 1s}
";

fn side(path: &str, text: &str) -> Result<tidegate_policy::model::Resources, Vec<String>> {
    let files = vec![FileContent { path: path.into(), body: Ok(FileText::new(text)) }];
    resources(&Reading { files, unknown: Vec::new(), root_listed: true }, &Controller::default())
}

fn changes(after: &str) -> Vec<tidegate_policy::diff::Change> {
    tidegate_policy::diff::diff(&side("a/mesh.yaml", MESH).unwrap(), &side("b/mesh.yaml", after).unwrap())
}

#[test]
fn a_change_is_told_with_both_values_and_both_lines() {
    let text = render::text(&changes(&MESH.replace("requests: 5", "requests: 9")), false);
    let expected = "\
What policies say
  ~ RateLimitPolicy default/limits  (a/mesh.yaml:6 -> b/mesh.yaml:6)
      spec.limits[all].requests: 5 -> 9  (a/mesh.yaml:12 -> b/mesh.yaml:12)
0 added, 0 removed, 1 changed
";
    assert_eq!(text, expected);
}

#[test]
fn a_comment_and_another_file_are_no_change() {
    let moved = format!("# moved\n{MESH}");
    assert_eq!(render::text(&changes(&moved), false), "No change in effect.\n");
    let json: serde_json::Value = serde_json::from_str(&render::json(&changes(&moved)).unwrap()).unwrap();
    assert_eq!(json, serde_json::json!({ "added": 0, "removed": 0, "changed": 0, "changes": [] }));
}

#[test]
fn a_policy_that_is_gone_is_told_where_it_held() {
    let (service, _) = MESH.split_once("---").unwrap();
    let text = render::text(&changes(service), false);
    assert!(text.contains("RateLimitPolicy: default/limits -> nothing  (a/mesh.yaml:6)"), "{text}");
    assert!(text.contains("  - RateLimitPolicy default/limits  (a/mesh.yaml:6)\n"), "{text}");
}

#[test]
fn documents_that_are_not_valid_are_told_and_not_compared() {
    let wrong = side("b/mesh.yaml", &MESH.replace("requests: 5", "requests: many")).unwrap_err();
    assert!(wrong[0].starts_with("b/mesh.yaml:12:"), "{wrong:?}");
}
