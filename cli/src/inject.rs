//! `tidegate inject`: what the admission webhook does to a pod, done to a file.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;
use tidegate_inject::{Outcome, Settings};
use tidegate_policy::document;

use crate::exit::Done;
use crate::{manifests, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate inject -f deployment.yaml | kubectl apply -f -
      every pod in it with a sidecar; what it has is kept
  kubectl get deployment web -o yaml | tidegate inject -f - | kubectl apply -f -
      one that runs already
  tidegate inject -f deployment.yaml --settings injection.json \\
      --trust-root root-cert.pem
      with the images and defaults of your mesh: key injection.json of
      ConfigMap tidegate-injection, key root-cert.pem of Secret tidegate-ca

With \"cni\": true in the settings, pods are made for nodes that have the CNI
plugin: it sets the rules, and the pod needs no right.

In a cluster the webhook does the same: label the namespace, or the pod,
tidegate.io/inject=enabled. Annotations of a pod, all of tidegate.io/:
  sidecar: native|plain             app-port: 3000|none
  app-protocol: http1|h2c           services: cart,shop/cart
  inbound-ports: 3000,3001          exclude-inbound-ports: 9090
  exclude-outbound-ports: 5432      exclude-outbound-cidrs: 10.1.0.0/16
  interception: redirect|none       workload: NAME
  proxy-cpu, proxy-memory, proxy-memory-limit: as in resources

The node's zone is not among what a pod can tell its containers: where policies
shall know it, give the sidecar --zone by extraArgs of the settings.";

#[derive(Debug, clap::Args)]
pub(crate) struct InjectArgs {
    /// Pods, or what makes pods, as YAML or JSON; `-` is standard input
    #[arg(short, long = "file", value_name = "FILE")]
    file: PathBuf,
    /// What holds for every sidecar, as JSON
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The roots of the mesh, in PEM, for settings whose control plane is at https://: root-cert.pem of Secret tidegate-ca
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
    /// Print the changes of each document as an RFC 6902 patch instead
    #[arg(long)]
    patch: bool,
}

pub(crate) fn command(args: &InjectArgs) -> Result<Done> {
    let mut settings = match &args.settings {
        None => Settings::default(),
        Some(path) => serde_json::from_str(&read(path)?).with_context(|| path.display().to_string())?,
    };
    if let Some(path) = &args.trust_root {
        settings.trust_root = Some(read(path)?);
    }
    let name: Arc<str> = if args.file == Path::new("-") {
        "standard input".into()
    } else {
        args.file.display().to_string().into()
    };
    let documents = match document::plain(&name, &read(&args.file)?) {
        Ok(documents) => documents,
        Err(faults) => bail!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    };
    let (mut told, mut refused, mut done) = (Vec::new(), 0, Vec::new());
    for document in documents {
        let named = called(&document);
        let injected = match tidegate_inject::document(&document, &settings) {
            Ok(Outcome::Injected(injected)) => injected,
            Ok(Outcome::AlreadyThere) => {
                told.push(format!("{name}: {named} has a sidecar already"));
                document.clone()
            }
            Ok(Outcome::Skipped(why)) => {
                told.push(format!("{name}: {named} is left as it is: {why}"));
                document.clone()
            }
            Err(refusal) => {
                refused += 1;
                told.extend(refusal.0.iter().map(|fault| format!("{name}: error: {named}: {fault}")));
                continue;
            }
        };
        done.push(if args.patch { tidegate_inject::patch(&document, &injected) } else { injected });
    }
    say::news(&told);
    if refused > 0 {
        // Half of a file would be applied as if it were all.
        return Ok(Done::ChecksFailed);
    }
    say::text(&manifests::stream(&done)?);
    Ok(Done::Well)
}

fn read(path: &Path) -> Result<String> {
    if path != Path::new("-") {
        return fs::read_to_string(path).with_context(|| path.display().to_string());
    }
    let mut text = String::new();
    let limit = document::MAX_FILE_BYTES as u64;
    std::io::stdin().take(limit).read_to_string(&mut text).context("standard input")?;
    Ok(text)
}

fn called(document: &Json) -> String {
    let text = |pointer: &str| document.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    format!("{} {}", text("/kind"), text("/metadata/name")).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::redirect::RedirectArgs;

    #[derive(Debug, Parser)]
    struct Proxy {
        #[command(flatten)]
        args: tidegate_proxy::ProxyArgs,
    }

    #[derive(Debug, Parser)]
    struct Redirect {
        #[command(flatten)]
        _args: RedirectArgs,
    }

    fn pod(annotations: &Json) -> Json {
        let containers = json!([{ "name": "app", "ports": [{ "containerPort": 3000 }] }]);
        json!({ "kind": "Pod", "metadata": { "name": "web", "annotations": annotations }, "spec": { "containers": containers } })
    }

    fn args<'a>(pod: &'a Json, container: &str) -> Vec<&'a str> {
        let mut all = pod["spec"]["initContainers"].as_array().unwrap().iter();
        let found = all.find(|c| c["name"] == container).unwrap();
        found["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect()
    }

    #[test]
    fn both_containers_are_started_with_flags_that_exist() {
        let busy = json!({
            "tidegate.io/services": "cart,shop/other", "tidegate.io/app-protocol": "h2c",
            "tidegate.io/exclude-outbound-ports": "25", "tidegate.io/exclude-outbound-cidrs": "10.0.0.0/8,fd00::/8",
            "tidegate.io/inbound-ports": "3000,3001", "tidegate.io/exclude-inbound-ports": "9090",
        });
        let secured = Settings {
            control_plane: "https://cp.tidegate-system.svc:15010".into(),
            trust_root: Some("PEM".into()),
            trust_domain: Some("prod.example".into()),
            ..Settings::default()
        };
        let plain = Settings::default();
        let by_node = Settings { cni: true, ..Settings::default() };
        let none = json!({ "tidegate.io/app-port": "none" });
        for (annotations, settings) in [
            (json!({}), &plain),
            (busy.clone(), &plain),
            (none, &plain),
            (busy.clone(), &secured),
            (busy, &by_node),
        ] {
            let Ok(Outcome::Injected(pod)) = tidegate_inject::document(&pod(&annotations), settings) else {
                panic!()
            };
            let proxy =
                Proxy::try_parse_from(["tidegate-proxy"].into_iter().chain(args(&pod, "tidegate-proxy")))
                    .unwrap();
            assert!(proxy.args.sidecar);
            assert_eq!(proxy.args.identity.identity_token.is_some(), settings.has_identity());
            assert_eq!(proxy.args.identity.trust_root.is_some(), settings.has_identity());
            let init = args(&pod, if settings.cni { "tidegate-verify" } else { "tidegate-init" });
            assert_eq!(init[0], "redirect");
            Redirect::try_parse_from(init).unwrap();
        }
    }
}
