//! A replay of what a real gateway has written about real load comes to what the gateway has decided. It goes by the times in
//! the log, so it does not matter how fast this machine was.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use serde_json::Value;

use super::process::{Tidegate, address, app, command, free_port, get};
use super::run::mesh;

const REQUESTS: usize = 3000;
const SENDERS: usize = 6;
/// Each user agent by itself, and all together.
const LIMITS: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: fair}
spec:
  targetRefs: [{kind: HTTPRoute, name: all}]
  limits:
  - {name: each, requests: 60, per: 1s, burst: 20, key: [{type: Header, name: user-agent}]}
  - {name: all, requests: 150, per: 1s, burst: 40}
";

#[test]
fn a_replay_of_the_log_of_a_real_run_predicts_its_refusals_within_one_percent() {
    let (dir, app) = (tempfile::tempdir().unwrap(), app());
    let (mesh_dir, log) = (dir.path().join("mesh"), dir.path().join("access.log"));
    fs::create_dir(&mesh_dir).unwrap();
    fs::write(mesh_dir.join("mesh.yaml"), mesh(free_port(), app)).unwrap();
    fs::write(mesh_dir.join("limits.yaml"), LIMITS).unwrap();
    let (policies, access_log) = (mesh_dir.to_str().unwrap(), log.to_str().unwrap());
    let any = "127.0.0.1:0";
    let mut run = Tidegate::start(&[
        "run",
        "--policies",
        policies,
        "--access-log",
        access_log,
        "--status",
        any,
        "--admin",
        any,
    ]);
    let gateway = SocketAddr::from(([127, 0, 0, 1], address(&run.hear("listen ")).port()));

    let refused = load(gateway);
    assert!((REQUESTS / 20..REQUESTS).contains(&refused), "{refused} of {REQUESTS} were refused");
    await_lines(&log);
    drop(run);

    let replay = command(&["simulate", "--policies", policies, "--traffic", access_log, "--json"]);
    let answer = { replay }.output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let told: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(told["format"], "tidegate");
    assert_eq!(told["sums"]["requests"], REQUESTS);
    assert_eq!(told["logged_statuses"]["429"], refused);
    let predicted = told["sums"]["limited"].as_u64().unwrap();
    // The log has milliseconds, and a few requests arrive within one.
    let allowance = refused as f64 / 100.0 + 5.0;
    assert!((predicted as f64 - refused as f64).abs() <= allowance, "{predicted} predicted, {refused} live");
}

/// From several senders at a time, of three kinds; how many are refused.
fn load(gateway: SocketAddr) -> usize {
    let (next, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < REQUESTS)
                {
                    let agent = format!("user-agent: agent-{}\r\n", number * number % 7 % 3);
                    if get(gateway, "/", &agent).0 == 429 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    refused.into_inner()
}

/// The log is written beside the traffic.
fn await_lines(log: &Path) {
    while fs::read_to_string(log).unwrap_or_default().lines().count() < REQUESTS {
        sleep(Duration::from_millis(20));
    }
}
