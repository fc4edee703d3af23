//! A pod -> the same with a sidecar.

use serde_json::{Map, Value as Json, json};

use crate::containers::{self, STATE_VOLUME, TOKEN_VOLUME};
use crate::decide::Because;
use crate::document::workload_of;
use crate::settings::Settings;
use crate::wish::{DEFAULT_GRACE_SECONDS, INJECTED, MESH_PORTS, REDIRECT, TRUST_ROOT, Wish};
use crate::{INIT_CONTAINER, Outcome, PROXY_CONTAINER, Refusal, VERIFY_CONTAINER};

/// What the application has for itself, before the sidecar drains.
const APP_GRACE_SECONDS: u64 = 20;

/// Injects a pod as the API server hands it in.
///
/// # Errors
/// What it asks for cannot be done.
pub fn pod(pod: &Json, because: Because, settings: &Settings) -> Result<Outcome, Refusal> {
    of_workload(pod, because, None, settings)
}

/// `named`: the workload that it is the template of.
pub(crate) fn of_workload(
    pod: &Json,
    because: Because,
    named: Option<&str>,
    settings: &Settings,
) -> Result<Outcome, Refusal> {
    if has_sidecar(pod) {
        return Ok(Outcome::AlreadyThere);
    }
    if pod.pointer("/spec/containers").and_then(Json::as_array).is_none_or(Vec::is_empty) {
        return Err(Refusal(vec![String::from("spec.containers: a pod has one at least")]));
    }
    if settings.has_identity() && settings.trust_root.as_deref().is_none_or(str::is_empty) {
        return Err(Refusal(vec![String::from(
            "settings.trustRoot: a sidecar knows a control plane at https:// by its root certificate, in PEM",
        )]));
    }
    let mut obstacles = obstacles(pod, settings);
    let wish = match Wish::of(pod, settings) {
        Ok(wish) => Some(wish),
        Err(faults) => {
            return Err(Refusal(faults.into_iter().map(|f| format!("metadata.annotations: {f}")).collect()));
        }
    };
    let Some(wish) = wish.filter(|wish| {
        let ends = pod.pointer("/spec/restartPolicy").is_some_and(|policy| policy != "Always");
        if ends && !wish.native {
            obstacles.push(String::from(
                "spec.restartPolicy: a plain sidecar never ends, nor would the Job: use a native one",
            ));
        }
        obstacles.is_empty()
    }) else {
        return match because {
            Because::ItSaysSo => Err(Refusal(obstacles)),
            Because::OfWhereItIs => Ok(Outcome::Skipped(obstacles.join("; "))),
        };
    };
    let workload = wish.workload.clone().or_else(|| named.map(str::to_owned)).or_else(|| workload_of(pod));
    Ok(Outcome::Injected(injected(pod, &wish, workload.as_deref(), settings)))
}

pub(crate) fn each_container(pod: &Json) -> impl Iterator<Item = (String, &Json)> {
    ["initContainers", "containers"].into_iter().flat_map(move |list| {
        let containers = pod.get("spec").and_then(|spec| spec.get(list)).and_then(Json::as_array);
        containers
            .into_iter()
            .flatten()
            .enumerate()
            .map(move |(i, container)| (format!("spec.{list}[{i}]"), container))
    })
}

fn has_sidecar(pod: &Json) -> bool {
    each_container(pod).any(|(_, container)| container["name"] == PROXY_CONTAINER)
}

/// Why this pod cannot have one, whatever it says.
fn obstacles(pod: &Json, settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    if pod.pointer("/spec/hostNetwork") == Some(&Json::Bool(true)) {
        found.push(String::from(
            "spec.hostNetwork: the connections of the whole node would be redirected: it can have no sidecar",
        ));
    }
    let uid = u64::from(settings.uid.get());
    let is_ours =
        |place: &Json| place.pointer("/securityContext/runAsUser").and_then(Json::as_u64) == Some(uid);
    let taken = || format!("{uid} is the sidecar's user: its connections would not be redirected");
    if pod.get("spec").is_some_and(is_ours) {
        found.push(format!("spec.securityContext.runAsUser: {}", taken()));
    }
    let ports = [settings.ports.outbound, settings.ports.inbound, settings.ports.admin];
    for (at, container) in each_container(pod) {
        if is_ours(container) {
            found.push(format!("{at}.securityContext.runAsUser: {}", taken()));
        }
        if let Some(name) = [INIT_CONTAINER, VERIFY_CONTAINER].iter().find(|name| container["name"] == **name)
        {
            found.push(format!("{at}.name: {name} is the sidecar's"));
        }
        for (n, port) in container.get("ports").and_then(Json::as_array).into_iter().flatten().enumerate() {
            if let Some(port) =
                port["containerPort"].as_u64().filter(|port| ports.iter().any(|p| u64::from(*p) == *port))
            {
                found.push(format!("{at}.ports[{n}].containerPort: {port} is the sidecar's"));
            }
        }
    }
    let volumes = pod.pointer("/spec/volumes").and_then(Json::as_array).into_iter().flatten().enumerate();
    for (i, volume) in
        volumes.filter(|(_, volume)| [TOKEN_VOLUME, STATE_VOLUME].iter().any(|name| volume["name"] == *name))
    {
        found.push(format!("spec.volumes[{i}].name: {} is the sidecar's", volume["name"]));
    }
    found
}

fn injected(pod: &Json, wish: &Wish, workload: Option<&str>, settings: &Settings) -> Json {
    let mut pod = pod.clone();
    let rules = wish.redirects.then(|| containers::rules(wish, settings));
    let spec = object(&mut pod, "spec");
    let proxy = containers::proxy(wish, workload, settings);
    match rules.as_ref().filter(|_| settings.cni) {
        // Connections are led to the sidecar from the very beginning, so everybody comes after it.
        Some(rules) => {
            let verify = containers::verify(rules, settings);
            let first = if wish.native { vec![verify, proxy.clone()] } else { vec![verify] };
            prepend(spec, "initContainers", first);
        }
        None => {
            if let Some(rules) = &rules {
                append(spec, "initContainers", containers::init(rules, settings));
            }
            if wish.native {
                append(spec, "initContainers", proxy.clone());
            }
        }
    }
    if !wish.native {
        append(spec, "containers", proxy);
    }
    append(spec, "volumes", containers::token_volume(settings));
    append(spec, "volumes", json!({ "name": STATE_VOLUME, "emptyDir": { "sizeLimit": "64Mi" } }));
    // The sidecar drains once the application is gone, out of the same time.
    let needed = u64::from(settings.drain_seconds) + APP_GRACE_SECONDS;
    if needed > DEFAULT_GRACE_SECONDS && !spec.contains_key("terminationGracePeriodSeconds") {
        spec.insert(String::from("terminationGracePeriodSeconds"), json!(needed));
    }
    let metadata = object(&mut pod, "metadata");
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[INJECTED] = json!(settings.proxy_image);
    if let Some(rules) = rules.filter(|_| settings.cni) {
        annotations[REDIRECT] = json!(json!(rules).to_string());
    }
    if settings.has_identity() {
        annotations[TRUST_ROOT] = json!(settings.trust_root);
        let meshed: Vec<_> = wish.meshed().iter().map(u16::to_string).collect();
        if !meshed.is_empty() {
            annotations[MESH_PORTS] = json!(meshed.join(","));
        }
    }
    // By which the control plane finds the pods that have one, and reads no other.
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[INJECTED] = json!("true");
    pod
}

fn object<'a>(of: &'a mut Json, field: &str) -> &'a mut Map<String, Json> {
    if !of[field].is_object() {
        of[field] = json!({});
    }
    match &mut of[field] {
        Json::Object(map) => map,
        _ => unreachable!("it was made one"),
    }
}

fn append(spec: &mut Map<String, Json>, list: &str, item: Json) {
    match spec.entry(list).or_insert_with(|| json!([])) {
        Json::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

fn prepend(spec: &mut Map<String, Json>, list: &str, items: Vec<Json>) {
    match spec.entry(list).or_insert_with(|| json!([])) {
        Json::Array(before) => drop(before.splice(0..0, items)),
        other => *other = json!(items),
    }
}
