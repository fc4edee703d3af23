//! The node's network configuration, with this plugin at the end of its list, and without. Pure.
//!
//! CNI specification 1.1.0, section 1: a `.conflist` has an array `plugins`, whose members are run in their order.

use serde_json::{Value as Json, json};

/// What the plugin's binary is called; runtimes look for it in their directories of binaries.
pub const TYPE: &str = "tidegate-cni";
pub const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// On the node.
    pub kubeconfig: String,
    pub exclude_namespaces: Vec<String>,
}

impl Entry {
    fn to_json(&self) -> Json {
        json!({
            "type": TYPE,
            "kubeconfig": self.kubeconfig,
            "excludeNamespaces": self.exclude_namespaces,
        })
    }
}

/// The configuration with us as its last plugin, once; `None` if it is so already.
///
/// # Errors
/// It is no list of plugins.
pub fn with(text: &[u8], entry: &Entry) -> Result<Option<String>, String> {
    let mut whole = parsed(text)?;
    let plugins = plugins(&mut whole)?;
    let ours = entry.to_json();
    let is_last = plugins.last() == Some(&ours);
    if is_last && plugins.iter().filter(|plugin| is_ours(plugin)).count() == 1 {
        return Ok(None);
    }
    plugins.retain(|plugin| !is_ours(plugin));
    if plugins.is_empty() {
        return Err(String::from("plugins: none makes a network, which comes first"));
    }
    plugins.push(ours);
    Ok(Some(written(&whole)))
}

/// The configuration without us; `None` if we are not in it.
///
/// # Errors
/// It is no list of plugins.
pub fn without(text: &[u8]) -> Result<Option<String>, String> {
    let mut whole = parsed(text)?;
    let plugins = plugins(&mut whole)?;
    let before = plugins.len();
    plugins.retain(|plugin| !is_ours(plugin));
    Ok((plugins.len() < before).then(|| written(&whole)))
}

fn is_ours(plugin: &Json) -> bool {
    plugin["type"] == TYPE
}

fn parsed(text: &[u8]) -> Result<Json, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

fn plugins(whole: &mut Json) -> Result<&mut Vec<Json>, String> {
    let plugins = whole.get_mut("plugins").and_then(Json::as_array_mut);
    plugins.ok_or_else(|| String::from("plugins: missing: it is no list of plugins"))
}

fn written(whole: &Json) -> String {
    format!("{whole:#}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(namespaces: &[&str]) -> Entry {
        let exclude_namespaces = namespaces.iter().map(ToString::to_string).collect();
        Entry { kubeconfig: "/etc/cni/net.d/tidegate-cni.kubeconfig".into(), exclude_namespaces }
    }

    const BRIDGE: &str =
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#;

    fn types(text: &str) -> Vec<String> {
        let whole: Json = serde_json::from_str(text).unwrap();
        let plugins = whole["plugins"].as_array().unwrap().iter();
        plugins.map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn it_comes_last_and_other_settings_take_the_place_of_old_ones() {
        let once = with(BRIDGE.as_bytes(), &entry(&[])).unwrap().unwrap();
        assert_eq!(types(&once), ["bridge", "portmap", TYPE]);
        assert_eq!(with(once.as_bytes(), &entry(&[])), Ok(None));
        let changed = with(once.as_bytes(), &entry(&["kube-system"])).unwrap().unwrap();
        assert!(types(&changed) == types(&once) && changed.contains("kube-system"), "{changed}");
        let behind = r#"{"plugins":[{"type":"tidegate-cni"},{"type":"ptp"}]}"#;
        assert_eq!(types(&with(behind.as_bytes(), &entry(&[])).unwrap().unwrap()), ["ptp", TYPE]);
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        for (text, why) in [
            ("", "EOF"),
            ("[]", "plugins: missing"),
            (r#"{"type":"bridge"}"#, "plugins: missing"),
            (r#"{"plugins":{}}"#, "plugins: missing"),
            (r#"{"plugins":[]}"#, "none makes a network"),
            (r#"{"plugins":[{"type":"tidegate-cni","x":1}]}"#, "none makes a network"),
        ] {
            let told = with(text.as_bytes(), &entry(&[])).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        assert!(without(b"{").is_err());
    }

    fn configurations() -> impl Strategy<Value = Json> {
        let plugin = ("[a-z]{1,8}", any::<i64>(), ".{0,8}").prop_map(
            |(name, mtu, text)| json!({ "type": name, "mtu": mtu, "ipam": { "x": [text, null, true] } }),
        );
        (proptest::collection::vec(plugin, 1..4), "[a-z]{1,5}", any::<u32>()).prop_map(
            |(plugins, name, more)| json!({ "name": name, "plugins": plugins, "disableCheck": more }),
        )
    }

    proptest! {
        #[test]
        fn inserting_twice_is_inserting_once_and_removing_gives_back_what_was(before in configurations()) {
            let once = with(before.to_string().as_bytes(), &entry(&["a"])).unwrap().unwrap();
            prop_assert_eq!(with(once.as_bytes(), &entry(&["a"])), Ok(None));
            let after = without(once.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(&serde_json::from_str::<Json>(&after).unwrap(), &before);
            prop_assert_eq!(without(after.as_bytes()), Ok(None));
        }
    }
}
