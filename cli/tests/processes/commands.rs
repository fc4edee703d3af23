//! What every command promises to its caller: exit codes, errors that say what to do, and no orphans.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use super::process::{app, command, free_port};

/// Exit code and what was said on standard output and standard error.
fn outcome(args: &[&str]) -> (i32, String) {
    let output = command(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn a_wrong_flag_is_code_2_and_says_what_to_do() {
    for (args, hint) in [
        (vec![], "Usage"),
        (vec!["run"], "--policies DIR"),
        (vec!["run", "--app", "127.0.0.1:1"], "--listen"),
        (vec!["run", "--listen", "127.0.0.1:1"], "--app"),
        (vec!["run", "--policies", "/nowhere/at/all"], "/nowhere/at/all"),
        (vec!["run", "--app", "127.0.0.1:1", "--listen", "127.0.0.1:1"], "--listen and --app are the same"),
        (vec!["run", "--app", "localhost:3000", "--listen", "127.0.0.1:1"], "such as 127.0.0.1:8080"),
        (vec!["run", "--sidecar", "--policies", "."], "--outbound ADDR"),
        (vec!["run", "--sidecar", "--outbound", "127.0.0.1:1"], "--policies DIR"),
        (vec!["run", "--policies", ".", "--accept-proxy-protocol"], "--outbound ADDR"),
        (vec!["proxy"], "--inbound"),
        (vec!["demo", "--for", "5s"], "--for 20s"),
        (vec!["demo", "--for", "soon"], "soon"),
        (vec!["demo", "--policies", "/nowhere/at/all"], "no such directory"),
        (vec!["status", "--url", "https://localhost"], "plain http"),
    ] {
        let (code, text) = outcome(&args);
        assert_eq!(code, 2, "{args:?}: {text}");
        assert!(text.contains(hint), "{args:?}: {text}");
    }
}

#[test]
fn an_address_that_is_taken_names_the_flag_that_changes_it() {
    let (dir, taken) = (tempfile::tempdir().unwrap(), app().to_string());
    let policies = dir.path().to_str().unwrap();
    let (app, free) = ("127.0.0.1:1", "127.0.0.1:0");
    let run = ["run", "--policies", policies];
    for (args, flag) in [
        (vec!["--status", &taken, "--admin", free], "--status"),
        (vec!["--status", free, "--admin", &taken], "--admin"),
        (vec!["--status", free, "--admin", free, "--app", app, "--listen", &taken], "--listen"),
    ] {
        let (code, text) = outcome(&[&run[..], &args].concat());
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(&format!("cannot listen on {flag} {taken}")), "{text}");
    }
    let (code, text) = outcome(&["control-plane", "--policies", policies, "--listen", &taken]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains(&format!("cannot listen on --listen {taken}")), "{text}");
}

#[test]
fn validate_reads_standard_input() {
    let mut child = command(&["validate", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = b"apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { prots: [] }\n";
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard input:4:") && said.contains("1 file, 1 object"), "{said}");
}

#[test]
fn a_status_that_cannot_be_had_says_where_it_was_looked_for() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let (code, text) = outcome(&["status", "--url", &url]);
    assert_eq!(code, 2);
    assert!(text.contains(&url) && text.contains("is a control plane running there"), "{text}");
}

#[test]
fn validate_names_every_mistake_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    fs::write(&file, "apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { prots: [] }\n").unwrap();
    let (code, text) = outcome(&["validate", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("bad.yaml:4:") && text.contains("prots"), "{text}");
}

#[test]
fn validate_accepts_the_demos_files() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/examples/demo");
    let (code, text) = outcome(&["validate", demo]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("4 files, 12 objects, 0 errors"), "{text}");
}

#[test]
fn validate_accepts_the_gateway_of_the_readme() {
    let gateway = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/examples/gateway");
    let (code, text) = outcome(&["validate", gateway]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_process_whose_parent_is_gone_ends_by_itself() {
    let mut child = command(&["run", "--app", &app().to_string(), "--listen", "127.0.0.1:0"])
        .args(["--admin", "127.0.0.1:0"])
        .env("TIDEGATE_EXIT_ON_STDIN_CLOSE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
