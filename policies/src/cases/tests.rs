use super::*;

const FILE: &str = "
given:
  objects:
  - apiVersion: v1
    kind: Service
    metadata: {name: v1}
    spec: {ports: [{name: http, port: 8080}]}
  - apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: v1-a, labels: {kubernetes.io/service-name: v1}}
    addressType: IPv4
    ports: [{name: http, port: 9001}]
    endpoints: [{addresses: [10.1.0.1]}]
  caller: {namespace: default}
cases:
- name: it goes to v1
  steps:
  - {when: GET http://v1/x, then: {backend: v1, status: 200, attempts: 1}}
";

fn none(name: &str) -> Result<Vec<(Arc<str>, String)>, String> {
    Err(format!("no file {name}"))
}

fn mismatches(text: &str) -> Vec<String> {
    let found = run(&Arc::from("cart.yaml"), text, &none).unwrap();
    found.iter().map(ToString::to_string).collect()
}

fn faults(text: &str) -> Vec<String> {
    let found = parse(&Arc::from("cart.yaml"), text).unwrap_err();
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn a_case_that_holds_says_nothing() {
    assert_eq!(mismatches(FILE), [] as [&str; 0]);
}

#[test]
fn what_comes_out_otherwise_is_told_with_its_line_and_both_sides() {
    let text = FILE.replace("backend: v1, status: 200", "backend: v2, status: 201, location: /x");
    let want = [
        "cart.yaml:18: it goes to v1\n    backend: expected v2\n    backend: got      default/v1:8080",
        "cart.yaml:18: it goes to v1\n    status: expected 201\n    status: got      200",
        "cart.yaml:18: it goes to v1\n    location: expected /x\n    location: got      none",
    ];
    assert_eq!(mismatches(&text), want);
}

#[test]
fn an_unknown_field_or_a_wrong_value_is_an_error_with_its_line() {
    let text = FILE.replace("attempts: 1", "atempts: 1").replace("- name: it", "- nam: it");
    let want = [
        "cart.yaml:16:3: error: cases[0].name: is required",
        "cart.yaml:16:3: error: cases[0].nam: unknown field (did you mean `name`?)",
        "cart.yaml:18:62: error: cases[0].steps[0].then.atempts: unknown field (did you mean `attempts`?)",
    ];
    assert_eq!(faults(&text), want);
    assert_eq!(faults("cases: []")[0], "cart.yaml:1:8: error: cases: needs at least 1, has 0");
    assert!(faults("").len() == 1 && !faults("{").is_empty());
}

#[test]
fn objects_that_are_refused_need_to_be_expected() {
    let broken = FILE.replace("port: 8080", "port: 80800");
    let found = mismatches(&broken);
    assert!(found[0].contains("cart.yaml:7:") && found[0].contains("expected none like it"), "{found:?}");
    let expected = broken
        .replace("  steps:", "  then: {errors: ['80800']}\n  steps:")
        .replace("backend: v1, status: 200, attempts: 1", "");
    assert_eq!(mismatches(&expected), [] as [&str; 0]);
}

#[test]
fn a_request_that_is_none_and_a_file_that_is_missing_are_told() {
    let text =
        FILE.replace("GET http://v1/x", "http://v1/x").replace("  caller:", "  files: [x.yaml]\n  caller:");
    let found = mismatches(&text);
    assert!(found[0].contains("no file x.yaml"), "{found:?}");
    assert!(found[1].contains("expected a method and an URL"), "{found:?}");
}
