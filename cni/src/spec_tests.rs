use proptest::prelude::*;

use super::*;

const PREVIOUS: &str = r#""prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/16"}]}"#;

/// A runtime's call; `changes` say what is other than usual, and without a value what is not there.
fn read(command: &str, stdin: &str, changes: &[(&str, Option<&str>)]) -> Result<Request, (Failure, String)> {
    let usual = |name: &str| match name {
        "CNI_CONTAINERID" => Some("c1"),
        "CNI_NETNS" => Some("/var/run/netns/x"),
        "CNI_IFNAME" => Some("eth0"),
        "CNI_ARGS" => Some("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u-1"),
        _ => None,
    };
    let env = |name: &str| match changes.iter().find(|(changed, _)| *changed == name) {
        Some((_, value)) => value.map(str::to_owned),
        None if name == "CNI_COMMAND" => Some(command.to_owned()),
        None => usual(name).map(str::to_owned),
    };
    Request::read(env, stdin.as_bytes())
}

fn conf(version: &str) -> String {
    format!(
        r#"{{"cniVersion":"{version}","name":"net","type":"tidegate-cni","kubeconfig":"/k","other":1,{PREVIOUS}}}"#
    )
}

fn code(result: Result<Request, (Failure, String)>) -> (Code, String, String) {
    let (failure, version) = result.unwrap_err();
    (failure.code, failure.message, version)
}

#[test]
fn a_call_of_every_version_that_runtimes_speak_is_read() {
    for version in VERSIONS {
        let request = read("ADD", &conf(version), &[]).unwrap();
        assert_eq!(request.command, Command::Add);
        let pod = request.pod.unwrap();
        assert_eq!((&*pod.namespace, &*pod.name, pod.uid.as_deref()), ("shop", "web-1", Some("u-1")));
        assert_eq!(request.netns, Some("/var/run/netns/x".into()));
        assert_eq!(request.conf.kubeconfig, Some("/k".into()));
    }
}

#[test]
fn a_version_that_nobody_knows_is_told_as_such_in_one_that_everybody_does() {
    for version in ["2.0.0", "0.2.0", "", "1.0"] {
        let (code, told, answered) = code(read("ADD", &conf(version), &[]));
        assert_eq!((code, &*answered), (Code::IncompatibleVersion, NEWEST), "{version}");
        assert!(told.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{told}");
    }
}

#[test]
fn a_command_that_a_version_does_not_have_is_refused_in_it() {
    for (command, last_without, first_with) in
        [("CHECK", "0.3.1", "0.4.0"), ("STATUS", "1.0.0", "1.1.0"), ("GC", "1.0.0", "1.1.0")]
    {
        let (code, told, answered) = code(read(command, &conf(last_without), &[]));
        assert_eq!((code, &*answered), (Code::IncompatibleVersion, last_without), "{told}");
        assert!(read(command, &conf(first_with), &[]).is_ok(), "{command} {first_with}");
    }
}

#[test]
fn what_is_missing_from_the_environment_is_named() {
    for (command, name, is_needed) in [
        ("ADD", "CNI_NETNS", true),
        ("ADD", "CNI_CONTAINERID", true),
        ("CHECK", "CNI_NETNS", true),
        ("DEL", "CNI_NETNS", false),
        ("DEL", "CNI_IFNAME", true),
        ("STATUS", "CNI_CONTAINERID", false),
        ("GC", "CNI_IFNAME", false),
    ] {
        let read = read(command, &conf("1.1.0"), &[(name, None)]);
        assert_eq!(read.is_err(), is_needed, "{command} without {name}");
        if let Err((failure, _)) = read {
            assert!(failure.code == Code::InvalidEnvironment && failure.message.contains(name), "{failure}");
        }
    }
    let (code, told, _) = code(read("MAKE", &conf("1.0.0"), &[]));
    assert!(code == Code::InvalidEnvironment && told.contains("`MAKE` is none of ADD"), "{told}");
}

#[test]
fn it_makes_no_network_itself_so_it_is_never_the_first() {
    let first = r#"{"cniVersion":"1.0.0","name":"net","type":"tidegate-cni"}"#;
    for command in ["ADD", "CHECK"] {
        let (code, told, _) = code(read(command, first, &[]));
        assert!(code == Code::InvalidConfig && told.contains("prevResult"), "{told}");
    }
    assert!(read("DEL", first, &[]).is_ok(), "the runtime may not know it any more");
}

#[test]
fn garbage_is_told_as_such() {
    for stdin in ["", "{", "[]", "null", r#"{"cniVersion":1}"#, r#"{"excludeNamespaces":"a"}"#, "\u{0}"] {
        let (code, told, _) = code(read("ADD", stdin, &[]));
        assert_eq!(code, Code::Decode, "{stdin}: {told}");
    }
}

#[test]
fn versions_are_told_to_whoever_asks() {
    for (stdin, answered) in
        [(r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), (r#"{"cniVersion":"9.9.9"}"#, NEWEST), ("", NEWEST)]
    {
        let request = read("VERSION", stdin, &[("CNI_NETNS", None), ("CNI_CONTAINERID", None)]).unwrap();
        assert_eq!(
            versions(&request.conf.cni_version),
            json!({ "cniVersion": answered, "supportedVersions": VERSIONS })
        );
    }
}

#[test]
fn names_that_would_lead_to_another_path_are_no_names() {
    for name in ["../secrets/x", "a/b", "a?b", "A", "", "-a", "a..b", "a%2fb", "a b", "a\n"] {
        let args = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
        let (code, told, _) = code(read("ADD", &conf("1.0.0"), &[("CNI_ARGS", Some(&args))]));
        assert!(code == Code::InvalidEnvironment && told.contains("K8S_POD_NAME"), "{name}: {told}");
        let ended = read("DEL", &conf("1.0.0"), &[("CNI_ARGS", Some(&args))]).unwrap();
        assert_eq!(ended.pod, None, "what never began can be ended");
    }
    let no_pod = read("ADD", &conf("1.0.0"), &[("CNI_ARGS", Some("FOO=BAR"))]).unwrap();
    assert_eq!(no_pod.pod, None, "a sandbox of another runtime's");
}

#[test]
fn an_error_has_the_form_of_the_specification() {
    let failure = Failure::new(Code::TryAgainLater, "no answer");
    assert_eq!(
        failure.to_json("1.0.0"),
        json!({ "cniVersion": "1.0.0", "code": 11, "msg": "tidegate-cni: no answer" })
    );
}

proptest! {
    #[test]
    fn whatever_is_said_is_answered(command in "[A-Z]{0,7}", stdin in any::<Vec<u8>>(), args in ".{0,40}") {
        let env = |name: &str| Some(if name == "CNI_COMMAND" { command.clone() } else { args.clone() });
        if let Err((failure, version)) = Request::read(env, &stdin) {
            prop_assert!(VERSIONS.contains(&&*version) && !failure.message.is_empty());
        }
    }
}
