//! What is added to a pod.

use std::num::NonZeroU16;

use serde_json::{Value as Json, json};
use tidegate_redirect::{Inbound, Rules};

use crate::settings::Settings;
use crate::wish::{TRUST_ROOT, Wish};
use crate::{INIT_CONTAINER, PROXY_CONTAINER, VERIFY_CONTAINER};

pub(crate) const TOKEN_VOLUME: &str = "tidegate-token";
pub(crate) const STATE_VOLUME: &str = "tidegate-state";
const STATE_DIR: &str = "/var/lib/tidegate";
const TOKEN_DIR: &str = "/var/run/secrets/tidegate";
/// In [`TOKEN_DIR`].
const TOKEN: &str = "token";
const ROOT: &str = "root-cert.pem";

/// The user of our images.
const NOBODY: u32 = 65532;
/// Between SIGTERM's time and the drain of a plain sidecar, so that the application's last calls still find it.
const PRE_STOP_SECONDS: u64 = 5;

/// Where images have it.
const PROGRAM: &str = "/tidegate-proxy";

/// What of the pod's connections is led to the sidecar.
pub(crate) fn rules(wish: &Wish, settings: &Settings) -> Rules {
    let ports = |ports: &[u16]| ports.iter().copied().filter_map(NonZeroU16::new).collect::<Vec<_>>();
    let serves = !wish.app_ports.is_empty() && !wish.inbound.is_empty();
    let inbound = NonZeroU16::new(settings.ports.inbound).filter(|_| serves);
    Rules {
        uid: settings.uid.get(),
        outbound: NonZeroU16::new(settings.ports.outbound),
        inbound: inbound.map(|port| (port, Inbound::Ports(ports(&wish.inbound)))),
        not_inbound: ports(&[&wish.not_inbound[..], &[settings.ports.admin]].concat()),
        not_outbound: ports(&wish.not_outbound),
        not_cidrs: wish.not_cidrs.clone(),
    }
}

/// Leads the pod's connections to the sidecar, then ends. Runs after the pod's own init containers, which call for
/// themselves.
pub(crate) fn init(rules: &Rules, settings: &Settings) -> Json {
    let mut container =
        before(INIT_CONTAINER, [String::from("redirect")].into_iter().chain(rules.flags()), settings);
    // iptables needs these, for as long as this container runs. Where a cluster forbids them, have the node do it
    // (`cni: true`), or write `tidegate.io/interception: none` and do it some other way.
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "runAsUser": 0,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    // The lock of iptables.
    container["env"] = json!([{ "name": "XTABLES_LOCKFILE", "value": format!("{STATE_DIR}/xtables.lock") }]);
    container["volumeMounts"] = json!([{ "name": STATE_VOLUME, "mountPath": STATE_DIR }]);
    container
}

/// Sees whether the node's CNI plugin has led the pod's connections to the sidecar, without any rights. The pod begins only
/// if it has.
pub(crate) fn verify(rules: &Rules, settings: &Settings) -> Json {
    let words = ["redirect", "--verify"].map(String::from);
    let mut container = before(VERIFY_CONTAINER, words.into_iter().chain(rules.flags()), settings);
    // Anybody but the sidecar, whose connections are led nowhere.
    let user = if settings.uid.get() == NOBODY { NOBODY - 1 } else { NOBODY };
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "runAsGroup": user,
        "runAsNonRoot": true,
        "runAsUser": user,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    // `kubectl describe pod` says why.
    container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    container
}

/// A container that runs `tidegate` once, before the sidecar.
fn before(name: &str, args: impl Iterator<Item = String>, settings: &Settings) -> Json {
    json!({
        "name": name,
        "image": settings.init_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["tidegate"],
        "args": args.collect::<Vec<_>>(),
        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
    })
}

pub(crate) fn proxy(wish: &Wish, workload: Option<&str>, settings: &Settings) -> Json {
    let ready = |period: u32, failures: u32| {
        json!({
            "httpGet": { "path": "/ready", "port": settings.ports.admin },
            "periodSeconds": period,
            "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.proxy_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": args(wish, workload, settings),
        // The node's zone is not to be had here: the downward API knows the pod alone.
        "env": [
            { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "POD_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
        ],
        "ports": [{ "name": "tidegate-admin", "containerPort": settings.ports.admin, "protocol": "TCP" }],
        "readinessProbe": ready(2, 3),
        "resources": wish.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
            "runAsGroup": settings.uid,
            "runAsNonRoot": true,
            "runAsUser": settings.uid,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            { "name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true },
            { "name": STATE_VOLUME, "mountPath": STATE_DIR },
        ],
    });
    if wish.native {
        // The application starts once the hook has ended, and is gone before this container is stopped: so it drains last, and
        // a Job ends when its own containers have.
        container["restartPolicy"] = json!("Always");
        // Not a startup probe: after one, the kubelet looks at the pod again only in its own time, up to a second later.
        let admin = format!("--admin=127.0.0.1:{}", settings.ports.admin);
        container["lifecycle"] =
            json!({ "postStart": { "exec": { "command": [PROGRAM, "wait-ready", admin] } } });
    } else {
        // No pod is taken where this is not less than what it may take to end.
        let seconds = PRE_STOP_SECONDS.min(wish.grace.saturating_sub(1));
        if seconds > 0 {
            container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": seconds } } });
        }
    }
    container
}

fn args(wish: &Wish, workload: Option<&str>, settings: &Settings) -> Vec<String> {
    let (listen, ports) = (&settings.listen_address, settings.ports);
    let mut args = vec![
        String::from("--sidecar"),
        format!("--control-plane={}", settings.control_plane),
        String::from("--node=$(POD_NAME).$(POD_NAMESPACE)"),
        String::from("--namespace=$(POD_NAMESPACE)"),
        format!("--outbound={listen}:{}", ports.outbound),
        format!("--admin={listen}:{}", ports.admin),
        format!("--state-dir={STATE_DIR}"),
        format!("--drain-timeout={}s", settings.drain_seconds),
    ];
    if settings.has_identity() {
        args.push(format!("--identity-token={TOKEN_DIR}/{TOKEN}"));
        args.push(format!("--trust-root={TOKEN_DIR}/{ROOT}"));
        // The application begins when this is ready: nothing that it says is said without a certificate.
        args.push(String::from("--wait-for-identity"));
        args.extend(settings.trust_domain.as_ref().map(|domain| format!("--trust-domain={domain}")));
    }
    args.extend(workload.map(|name| format!("--workload={name}")));
    if let Some((port, others)) = wish.app_ports.split_first() {
        args.push(format!("--inbound={listen}:{}", ports.inbound));
        args.push(format!("--app=127.0.0.1:{port}"));
        args.extend(wish.app_protocol.as_ref().map(|protocol| format!("--app-protocol={protocol}")));
        args.extend((!others.is_empty()).then(|| format!("--app-port={}", joined(others))));
        args.extend(wish.probes.iter().map(|probe| format!("--probe={probe}")));
    }
    args.push(String::from("--pod=$(POD_NAME)"));
    // A sidecar costs what its application calls, not what the mesh holds.
    args.push(String::from("--on-demand"));
    args.extend(wish.services.iter().map(|service| format!("--service={service}")));
    args.extend(settings.extra_args.iter().cloned());
    args
}

/// Says to the control plane, and to nobody else, whose workload this is; and beside it, by what the control plane is known.
/// That comes out of the pod itself: nothing has to be in its namespace before, and nobody needs a right to write there.
pub(crate) fn token_volume(settings: &Settings) -> Json {
    let mut sources = vec![json!({
        "serviceAccountToken": {
            "audience": settings.token_audience,
            "expirationSeconds": settings.token_expiration_seconds,
            "path": TOKEN,
        },
    })];
    if settings.has_identity() {
        let of_annotation = json!({ "fieldPath": format!("metadata.annotations['{TRUST_ROOT}']") });
        sources.push(json!({ "downwardAPI": { "items": [{ "path": ROOT, "fieldRef": of_annotation }] } }));
    }
    json!({ "name": TOKEN_VOLUME, "projected": { "defaultMode": 420, "sources": sources } })
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
