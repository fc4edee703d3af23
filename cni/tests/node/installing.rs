use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;
use tidegate_cni::install::{Installation, run};
use tokio::sync::{oneshot, watch};

const BRIDGE: &str =
    r#"{"cniVersion": "1.0.0", "name": "main", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;
const LIST: &str = "conf/10-main.conflist";
const PATIENCE: Duration = Duration::from_secs(20);

/// A node's directories, and a service account.
fn node() -> (TempDir, Installation) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["bin", "conf", "account"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("account/token"), "t-1\n").unwrap();
    fs::write(at("account/ca.crt"), "PEM").unwrap();
    fs::write(at("self"), "the binary").unwrap();
    let installation = Installation {
        binary: at("self"),
        bin_dir: at("bin"),
        conf_dir: at("conf"),
        node_conf_dir: "/etc/cni/net.d".into(),
        conf_name: None,
        server: "https://10.96.0.1:443".into(),
        account_dir: at("account"),
        exclude_namespaces: vec!["kube-system".into()],
    };
    (folder, installation)
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn types(path: &Path) -> Vec<String> {
    let plugins = json(path)["plugins"].as_array().unwrap().clone();
    plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn everything_is_put_in_its_place_once_and_taken_back_but_for_the_binary() {
    let (folder, node) = node();
    let at = |name: &str| folder.path().join(name);
    fs::write(at(LIST), BRIDGE).unwrap();
    fs::set_permissions(at(LIST), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(at("conf/20-other.conflist"), BRIDGE).unwrap();
    assert!(node.check().is_err());
    node.put().unwrap();
    node.check().unwrap();
    assert_eq!(types(&at(LIST)), ["bridge", "portmap", "tidegate-cni"]);
    assert_eq!(json(&at(LIST))["plugins"][2]["kubeconfig"], "/etc/cni/net.d/tidegate-cni.kubeconfig");
    assert_eq!(types(&at("conf/20-other.conflist")), ["bridge", "portmap"], "nobody reads it");
    let kubeconfig = at("conf/tidegate-cni.kubeconfig");
    assert_eq!((mode(&at("bin/tidegate-cni")), mode(&kubeconfig), mode(&at(LIST))), (0o755, 0o600, 0o640));

    let files = [at("bin/tidegate-cni"), kubeconfig.clone(), at(LIST)];
    let inodes = || files.iter().map(|file| fs::metadata(file).unwrap().ino()).collect::<Vec<_>>();
    let before = inodes();
    node.put().unwrap();
    assert_eq!(inodes(), before, "what is so already is not written again");
    let names = |folder: &str| fs::read_dir(at(folder)).unwrap().count();
    assert_eq!((names("bin"), names("conf")), (1, 3), "nothing is left beside");

    node.remove().unwrap();
    assert_eq!(json(&at(LIST)), serde_json::from_str::<Json>(BRIDGE).unwrap());
    assert!(!kubeconfig.exists() && at("bin/tidegate-cni").exists());
    node.remove().unwrap();
}

#[test]
fn a_token_that_was_renewed_and_a_newer_binary_take_the_place_of_the_old() {
    let (folder, node) = node();
    let at = |name: &str| folder.path().join(name);
    fs::write(at(LIST), BRIDGE).unwrap();
    node.put().unwrap();
    fs::write(at("account/token"), "t-2").unwrap();
    fs::write(at("self"), "the newer one").unwrap();
    node.put().unwrap();
    assert_eq!(json(&at("conf/tidegate-cni.kubeconfig"))["users"][0]["user"]["token"], "t-2");
    assert_eq!(fs::read_to_string(at("bin/tidegate-cni")).unwrap(), "the newer one");
}

#[test]
fn where_there_is_no_list_to_be_added_to_it_says_so_and_touches_nothing() {
    let (folder, node) = node();
    let told = |node: &Installation| format!("{:#}", node.put().unwrap_err());
    assert!(told(&node).contains("no network configuration yet"), "{}", told(&node));
    let alone = folder.path().join("conf/05-alone.conf");
    fs::write(&alone, r#"{"type": "bridge"}"#).unwrap();
    fs::write(folder.path().join(LIST), BRIDGE).unwrap();
    assert!(told(&node).contains("05-alone.conf: one plugin alone"), "{}", told(&node));
    let chosen = Installation { conf_name: Some("10-main.conflist".into()), ..node.clone() };
    chosen.put().unwrap();
    assert_eq!(fs::read_to_string(&alone).unwrap(), r#"{"type": "bridge"}"#);
    node.remove().unwrap();
    fs::remove_file(&alone).unwrap();
    fs::write(folder.path().join(LIST), "{").unwrap();
    assert!(told(&node).contains("10-main.conflist: EOF"), "{}", told(&node));
    fs::write(folder.path().join(LIST), " ".repeat((1 << 20) + 1)).unwrap();
    assert!(told(&node).contains("more than 1048576 bytes"), "{}", told(&node));
}

#[tokio::test]
async fn a_main_plugin_that_writes_its_configuration_anew_does_not_lose_it() {
    let (folder, node) = node();
    let list = folder.path().join(LIST);
    let passes = watch::Sender::new(0);
    let mut passed = passes.subscribe();
    let (stop, stopped) = oneshot::channel::<()>();
    // Only the directory's changes wake it.
    let hour = Duration::from_secs(3600);
    let running = tokio::spawn(async move {
        run(&node, hour, &passes, async { drop(stopped.await) }).await.unwrap();
    });
    let mut until = async |wanted: &dyn Fn() -> bool| {
        let wait = async {
            while !wanted() {
                passed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it was never put back");
    };
    let is_in = || list.exists() && types(&list).contains(&"tidegate-cni".to_owned());
    for name in ["main", "anew", "once more"] {
        let beside = folder.path().join("beside");
        fs::write(&beside, BRIDGE.replace("main", name)).unwrap();
        fs::rename(&beside, &list).unwrap();
        until(&is_in).await;
        assert_eq!(json(&list)["name"], name);
    }
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(types(&list), ["bridge", "portmap"], "it goes with its pod");
}
