//! `tidegate install`: the Helm chart for those without Helm.
//!
//! The manifests are what `helm template` makes of the chart's defaults, as they are kept in `charts/install.yaml`; CI
//! compares the two. Here only the few words that differ between clusters are put in their place, so there is no second
//! source to drift from the first. Who needs other values needs Helm.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use anyhow::{Result, bail};
use serde_json::{Map, Value as Json, json};
use tidegate_policy::document::{self, crd};

use crate::exit::Done;
use crate::{manifests, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate install | kubectl apply --server-side -f -
      the control plane, its webhooks and every kind; again to upgrade
  tidegate install --namespace mesh --registry registry.example.com/ --tag 0.1.0
      elsewhere, with images of your own registry
  kubectl label namespace default tidegate.io/inject=enabled
      afterwards: pods that start in it have a sidecar
  tidegate install --without-crds | kubectl delete -f -
      takes it away; definitions stay, and with them your policies

The same as `helm install tidegate charts/tidegate` with its default values.";

const RENDERED: &str = include_str!("../../charts/install.yaml");
/// What it was rendered for.
const NAMESPACE: &str = "tidegate-system";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const IMAGES: [&str; 3] = ["tidegate/control-plane", "tidegate/proxy", "tidegate/cli"];

#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Where the control plane runs
    #[arg(long, value_name = "NAME", default_value = NAMESPACE)]
    namespace: String,
    /// In front of every image, with its slash: `registry.example.com/`
    #[arg(long, value_name = "PREFIX", default_value = "")]
    registry: String,
    /// Of every image
    #[arg(long, value_name = "TAG", default_value = VERSION)]
    tag: String,
    /// Leave out the definitions of tidegate.io kinds
    #[arg(long)]
    without_crds: bool,
    /// Leave out the GatewayClass, which needs the Gateway API on the cluster
    #[arg(long)]
    without_gateway_class: bool,
}

pub(crate) fn command(args: &InstallArgs) -> Result<Done> {
    say::text(&manifests::stream(&objects(args)?)?);
    Ok(Done::Well)
}

/// Everything, in the order in which it can be applied.
fn objects(args: &InstallArgs) -> Result<Vec<Json>> {
    if !is_label(&args.namespace) {
        bail!("--namespace {}: use at most 63 lower case letters, digits and `-`", args.namespace);
    }
    let mut all = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": args.namespace, "labels": { "app.kubernetes.io/managed-by": "tidegate" } },
    })];
    if !args.without_crds {
        all.extend(crd::definitions());
    }
    let mut rendered = rendered()?;
    rendered.retain(|object| !(args.without_gateway_class && object["kind"] == "GatewayClass"));
    for object in &mut rendered {
        put_in_place(object, args);
        relabel(object);
    }
    restart_on_change(&mut rendered);
    all.extend(rendered);
    Ok(all)
}

fn rendered() -> Result<Vec<Json>> {
    let read = document::plain(&"charts/install.yaml".into(), RENDERED);
    read.or_else(|faults| bail!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// In every text: the namespace as a word of its own and in names of Services, and images.
fn put_in_place(value: &mut Json, args: &InstallArgs) {
    match value {
        Json::String(text) if *text == NAMESPACE => args.namespace.clone_into(text),
        Json::String(text) => {
            *text = text.replace(&format!(".{NAMESPACE}.svc"), &format!(".{}.svc", args.namespace));
            for image in IMAGES {
                *text = text.replace(
                    &format!("{image}:{VERSION}"),
                    &format!("{}{image}:{}", args.registry, args.tag),
                );
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| put_in_place(item, args)),
        Json::Object(fields) => fields.values_mut().for_each(|field| put_in_place(field, args)),
        _ => {}
    }
}

/// Labels that would be untrue without Helm.
fn relabel(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            if let Some(labels) = fields.get_mut("labels").and_then(Json::as_object_mut) {
                without_helm(labels);
            }
            fields.values_mut().for_each(relabel);
        }
        Json::Array(items) => items.iter_mut().for_each(relabel),
        _ => {}
    }
}

fn without_helm(labels: &mut Map<String, Json>) {
    labels.remove("helm.sh/chart");
    labels.remove("app.kubernetes.io/instance");
    if let Some(manager) = labels.get_mut("app.kubernetes.io/managed-by") {
        *manager = json!("tidegate");
    }
}

/// The control plane reads its settings at its start: other settings, other pods.
fn restart_on_change(objects: &mut [Json]) {
    let settings = objects.iter().find(|object| object["metadata"]["name"] == "tidegate-injection");
    let mut hasher = DefaultHasher::new();
    settings.map(|settings| settings["data"].to_string()).hash(&mut hasher);
    let checksum = format!("{:016x}", hasher.finish());
    for object in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
        object["spec"]["template"]["metadata"]["annotations"]["tidegate.io/injection-checksum"] =
            json!(checksum);
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Install {
        #[command(flatten)]
        args: InstallArgs,
    }

    fn with(flags: &[&str]) -> Vec<Json> {
        let args = Install::try_parse_from([&["install"], flags].concat()).unwrap().args;
        objects(&args).unwrap()
    }

    fn names(objects: &[Json]) -> Vec<String> {
        let word = |value: &Json| value.as_str().unwrap().to_owned();
        objects.iter().map(|o| format!("{} {}", word(&o["kind"]), word(&o["metadata"]["name"]))).collect()
    }

    #[test]
    fn a_namespace_and_the_kinds_come_first() {
        let names = names(&with(&[]));
        assert_eq!(names[0], "Namespace tidegate-system");
        assert_eq!(names[1], "CustomResourceDefinition authorizationpolicies.tidegate.io");
        for wanted in [
            "Deployment tidegate-control-plane",
            "Service tidegate-control-plane",
            "ConfigMap tidegate-injection",
            "ValidatingWebhookConfiguration tidegate",
            "MutatingWebhookConfiguration tidegate",
            "GatewayClass tidegate",
            "PodDisruptionBudget tidegate-control-plane",
            "ClusterRole tidegate-control-plane",
        ] {
            assert!(names.contains(&wanted.to_owned()), "no {wanted}: {names:#?}");
        }
        assert!(!names.iter().any(|name| name.starts_with("Pod ")), "tests are Helm's");
    }

    #[test]
    fn everything_is_of_this_version_and_of_the_registry_that_was_asked_for() {
        let images = |objects: &[Json], prefix: &str| {
            let text = serde_json::to_string(objects).unwrap();
            IMAGES
                .iter()
                .map(|image| {
                    text.matches(&format!("\"{prefix}{image}:")).count()
                        + text.matches(&format!("\\\"{prefix}{image}:")).count()
                })
                .collect::<Vec<_>>()
        };
        let plain = with(&[]);
        assert!(images(&plain, "").iter().all(|count| *count > 0), "{:?}", images(&plain, ""));
        let other = with(&["--registry", "r.example/", "--tag", "9"]);
        assert_eq!(images(&other, "r.example/"), images(&plain, ""));
        assert_eq!(images(&other, ""), [0, 0, 0], "none is left");
        let checksum = |objects: &[Json]| {
            let deployment = objects.iter().find(|o| o["kind"] == "Deployment").unwrap();
            deployment["spec"]["template"]["metadata"]["annotations"]["tidegate.io/injection-checksum"]
                .clone()
        };
        assert_ne!(checksum(&plain), checksum(&other), "pods that read other settings are other pods");
    }

    #[test]
    fn another_namespace_is_meant_everywhere() {
        let text = serde_json::to_string(&with(&["--namespace", "mesh"])).unwrap();
        assert!(!text.contains(NAMESPACE), "{}", &text[text.find(NAMESPACE).unwrap_or(0)..][..80]);
        assert!(text.contains("tidegate-control-plane.mesh.svc:15010"));
        let args = Install::try_parse_from(["install", "--namespace", "My_Mesh"]).unwrap().args;
        assert!(objects(&args).unwrap_err().to_string().contains("lower case letters"));
    }

    #[test]
    fn nothing_says_that_helm_manages_it() {
        let text = serde_json::to_string(&with(&[])).unwrap();
        assert!(!text.contains("helm.sh") && !text.contains("\"Helm\""));
    }

    #[test]
    fn what_is_brought_by_others_may_be_left_out() {
        let names = names(&with(&["--without-crds", "--without-gateway-class"]));
        assert!(
            !names.iter().any(|name| name.starts_with("CustomResource") || name.starts_with("GatewayClass"))
        );
    }
}
