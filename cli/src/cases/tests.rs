use std::fs;
use std::path::Path;

use super::*;

const SHOP: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: mesh}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, namespace: mesh, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 3000}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: shop, namespace: mesh}
spec:
  targetRefs: [{kind: Service, name: shop}]
  limits:
    - {name: ten, requests: 10, per: 1h, when: \"request.path != '/free'\"}
    - {name: gold, requests: 1, per: 1h, when: \"request.path == '/gold'\"}
";

const CASES: &str = "\
given: {files: [.], serving: [mesh/shop]}
cases:
- name: The eleventh is refused
  steps:
  - {when: GET http://shop/, times: 10, then: {status: 200}}
  - {when: GET http://shop/, then: {status: 429}}
";

fn write(folder: &Path, name: &str, text: &str) {
    fs::create_dir_all(folder.join(name).parent().expect("a folder")).expect("writable");
    fs::write(folder.join(name), text).expect("writable");
}

fn ran(folder: &Path, part: &str) -> (Vec<Outcome>, Coverage) {
    run(&files::find(&[folder.to_owned()]).expect("readable"), part)
}

fn shown(outcomes: &[Outcome], coverage: Option<&Coverage>, folder: &Path) -> String {
    report::text(outcomes, coverage, false).replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_folder_is_searched_for_cases_and_what_they_name_is_read_as_run_would_read_it() {
    let folder = tempfile::tempdir().expect("writable");
    write(folder.path(), "shop.yaml", SHOP);
    write(folder.path(), "shop.test.yaml", CASES);
    write(folder.path(), "deep/also.test.yml", &CASES.replace("[.]", "[../shop.yaml]"));
    let (outcomes, coverage) = ran(folder.path(), "");
    let want = "\
deep/also.test.yml
  ok The eleventh is refused
shop.test.yaml
  ok The eleventh is refused
1 of 2 rules have decided something
  never shop.yaml:20: RateLimitPolicy mesh/shop gold
passed: 2 of 2 cases hold
";
    assert_eq!(shown(&outcomes, Some(&coverage), folder.path()), want);
}

#[test]
fn what_does_not_hold_is_told_with_its_line_and_both_sides() {
    let folder = tempfile::tempdir().expect("writable");
    write(folder.path(), "shop.yaml", SHOP);
    write(folder.path(), "shop.test.yaml", &CASES.replace("status: 429", "status: 503"));
    let (outcomes, _) = ran(folder.path(), "");
    let want = "\
shop.test.yaml
  FAILED The eleventh is refused
    shop.test.yaml:6: status
      expected 503
      got      429
failed: 0 of 1 cases hold
";
    assert_eq!(shown(&outcomes, None, folder.path()), want);
    let junit = junit::render(&outcomes);
    assert!(junit.contains("tests=\"1\" failures=\"1\" errors=\"0\""), "{junit}");
    assert!(junit.contains("status: expected 503"), "{junit}");
    let json = report::json(&outcomes, None).expect("a value");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["files"][0]["cases"][0]["mismatches"][0]["got"], "429");
}

#[test]
fn a_file_that_is_no_cases_says_where_and_the_others_run() {
    let folder = tempfile::tempdir().expect("writable");
    write(folder.path(), "shop.yaml", SHOP);
    write(folder.path(), "a.test.yaml", "cases: [{nam: x}]\n");
    write(folder.path(), "b.test.yaml", CASES);
    let (outcomes, _) = ran(folder.path(), "");
    let text = shown(&outcomes, None, folder.path());
    assert!(text.contains(": error: cases[0].nam: unknown field (did you mean `name`?)"), "{text}");
    assert!(text.ends_with("failed: 1 of 1 cases hold; 1 files could not be run\n"), "{text}");
}

#[test]
fn cases_are_chosen_by_a_part_of_their_name() {
    let folder = tempfile::tempdir().expect("writable");
    write(folder.path(), "shop.yaml", SHOP);
    write(folder.path(), "shop.test.yaml", CASES);
    let count = |part| ran(folder.path(), part).0[0].ran.as_ref().map(Vec::len).unwrap_or_default();
    assert_eq!([count("eleventh"), count("twelfth")], [1, 0]);
}
