use super::*;

/// The faults of a Deployment that says itself that it wants a sidecar.
fn refused(change: impl Fn(&mut Json), annotations: &[(&str, &str)]) -> Vec<String> {
    let mut web = web_with(&[annotations, &[("inject", "enabled")]].concat());
    change(&mut web["spec"]["template"]["spec"]);
    document(&web, &Settings::default()).unwrap_err().0
}

#[test]
fn what_cannot_be_done_is_refused_where_it_was_asked_for_and_skipped_elsewhere() {
    let host = |spec: &mut Json| spec["hostNetwork"] = json!(true);
    let told = refused(host, &[]);
    assert!(told[0].starts_with("spec.hostNetwork: the connections of the whole node"), "{told:?}");
    let mut web = web();
    host(&mut web["spec"]["template"]["spec"]);
    match document(&web, &Settings::default()) {
        Ok(Outcome::Skipped(why)) => assert!(why.contains("hostNetwork")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_else_in_the_pod_may_be_the_sidecars_user() {
    let of_pod = refused(|spec| spec["securityContext"] = json!({ "runAsUser": 15001 }), &[]);
    assert!(of_pod[0].starts_with("spec.securityContext.runAsUser: 15001"), "{of_pod:?}");
    let of_container =
        refused(|spec| spec["containers"][0]["securityContext"] = json!({ "runAsUser": 15001 }), &[]);
    assert!(of_container[0].starts_with("spec.containers[0].securityContext.runAsUser"), "{of_container:?}");
}

#[test]
fn a_plain_sidecar_would_keep_a_job_from_ending() {
    let told = refused(|spec| spec["restartPolicy"] = json!("Never"), &[("sidecar", "plain")]);
    assert!(told[0].contains("a plain sidecar never ends"), "{told:?}");
}

#[test]
fn names_and_ports_of_the_sidecar_are_its_own() {
    let told = refused(
        |spec| {
            spec["containers"][0]["ports"] = json!([{ "containerPort": 3000 }, { "containerPort": 15020 }]);
            spec["volumes"] = json!([{ "name": "tidegate-token", "emptyDir": {} }]);
            spec["initContainers"] = json!([{ "name": "tidegate-init" }]);
        },
        &[],
    );
    let wanted = [
        "spec.initContainers[0].name",
        "spec.containers[0].ports[1].containerPort: 15020",
        "spec.volumes[0].name",
    ];
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.starts_with(wanted), "{told}");
    }
    assert_eq!(told.len(), 3, "all at once: {told:?}");
}

#[test]
fn every_annotation_that_is_wrong_is_told() {
    let told = refused(
        |_| {},
        &[
            ("sidecar", "fast"),
            ("app-port", "http"),
            ("exclude-outbound-ports", "80,x"),
            ("exclude-outbound-cidrs", "10.0.0.0/99"),
            ("exclude-outbond-ports", "1"),
            ("interception", "ipvs"),
            ("app-protocol", "http3"),
        ],
    );
    for wanted in [
        "`fast` is none of native, plain",
        "`http`: ",
        "`x`: ",
        "`10.0.0.0/99`: ",
        "exclude-outbond-ports: no such annotation",
        "`ipvs` is none of redirect, none",
        "`http3` is none of http1, h2c",
    ] {
        assert!(told.iter().any(|fault| fault.contains(wanted)), "{wanted}: {told:#?}");
    }
    let told = refused(|_| {}, &[("app-port", "none"), ("inbound-ports", "80")]);
    assert!(told[0].contains("nothing says where the application listens"), "{told:?}");
}

#[test]
fn a_document_without_a_pod_is_told_where_one_should_be() {
    let told = document(&json!({ "kind": "Deployment", "spec": {} }), &Settings::default()).unwrap_err();
    assert_eq!(told.to_string(), "/spec/template: a Deployment has a pod there");
    let empty = json!({ "kind": "Pod", "metadata": {}, "spec": { "containers": [] } });
    assert_eq!(
        document(&empty, &Settings::default()).unwrap_err().to_string(),
        "spec.containers: a pod has one at least"
    );
}

#[test]
fn the_faults_of_a_list_name_their_items() {
    let list = json!({ "kind": "List", "items": [web(), web_with(&[("sidecar", "fast")])] });
    let told = document(&list, &Settings::default()).unwrap_err();
    assert!(told.0[0].starts_with("items[1]: metadata.annotations: tidegate.io/sidecar"), "{told}");
}
