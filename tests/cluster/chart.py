#!/usr/bin/env python3
"""What a real API server says of our definitions, rules, rights and manifests. Tier one: no nodes are needed.

Takes the cluster of $KUBECONFIG, and leaves it without anything of Tidegate: not for one that is in use. Without
$KUBECONFIG it is skipped, and says so. Helm and kubectl are those of .ci/chart.py.

    KUBECONFIG=… python3 tests/cluster/chart.py [path of tidegate]
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Others each time: without a controller manager, namespaces are never quite gone.
NAMESPACE, SHOP = (f"tidegate-test-{os.getpid()}-{name}" for name in ("system", "shop"))
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:tidegate-control-plane"
SELECTOR = "app.kubernetes.io/name=tidegate"
KINDS = "crd,clusterrole,clusterrolebinding,validatingwebhookconfigurations,mutatingwebhookconfigurations"

#: Specs that a rule refuses, and what is said.
BROKEN = [
    ("HealthCheckPolicy", {"checks": [{"tcp": {}, "grpc": {}}]}, "write one of `http`, `grpc` and `tcp`"),
    ("TimeoutPolicy", {"targetRefs": [{"kind": "Namespace", "name": "a", "sectionName": "b"}], "request": "1s"},
     "leave out `sectionName`"),
    ("RateLimitPolicy", {"scope": "Local", "mesh": {}, "limits": [{"name": "a", "requests": 1, "per": "1s"}]},
     "`mesh` goes with scope Mesh only"),
    ("CohortPolicy", {"targetRefs": [{"kind": "Service", "name": "a"}], "key": [{"type": "ClientAddress"}]},
     'supported values: "Gateway", "HTTPRoute", "GRPCRoute"'),
    ("RetryPolicy", {"attempts": 100}, "should be less than or equal to 10"),
    ("RetryPolicy", {"atempts": 1}, 'unknown field "spec.atempts"'),
]

#: Verb, group, resource, name, namespace; and whether the control plane may.
RIGHTS = [
    (("watch", "gateway.networking.k8s.io", "httproutes", "", ""), True),
    (("patch", "gateway.networking.k8s.io", "httproutes", "", ""), False),
    (("patch", "tidegate.io", "ratelimitpolicies", "", SHOP), False),
    (("list", "discovery.k8s.io", "endpointslices", "", ""), True),
    (("create", "authentication.k8s.io", "tokenreviews", "", ""), True),
    (("update", "", "secrets", "tidegate-ca", NAMESPACE), True),
    (("update", "", "secrets", "other", NAMESPACE), False),
    (("update", "", "secrets", "tidegate-ca", SHOP), False),
    (("create", "coordination.k8s.io", "leases", "", NAMESPACE), True),
    (("create", "coordination.k8s.io", "leases", "", SHOP), False),
    (("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "tidegate", ""), True),
    (("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "other", ""), False),
    (("create", "", "pods", "", SHOP), False),
    (("delete", "apps", "deployments", "", SHOP), False),
]

WEB = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": SHOP},
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "app", "image": "web:1", "ports": [{"containerPort": 3000}]}]}}},
}


def run(*command, text=None, fine=True):
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True)
    if fine and done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout if fine else done.stdout + done.stderr


def definitions(chart, binary):
    kubectl = chart.tool("kubectl")
    run(kubectl, "apply", "--server-side", "-f", "-", text=run(binary, "crds"))
    run(kubectl, "wait", "--for=condition=Established", "--timeout=60s", "crd", "-l", "gateway.networking.k8s.io/policy")
    found = json.loads(run(kubectl, "get", "crd", "-o", "json"))["items"]
    ours = [crd for crd in found if crd["spec"]["group"] == "tidegate.io"]
    chart.check(f"{len(ours)} definitions are taken", len(ours) >= 11)
    bad = [crd["metadata"]["name"] for crd in ours for c in crd["status"]["conditions"]
           if (c["type"], c["status"]) not in (("NamesAccepted", "True"), ("Established", "True"))]
    chart.check("and every schema is structural", not bad, str(bad))
    run(kubectl, "create", "namespace", SHOP)
    for crd in ours:
        kind = crd["spec"]["names"]["kind"]
        text = (ROOT / "policies" / "examples" / f"{kind}.yaml").read_text().replace("namespace: shop", f"namespace: {SHOP}")
        run(kubectl, "apply", "--validate=strict", "-f", "-", text=text)
        chart.check(f"the examples of {kind} are taken as they are written", True)
    for kind, spec, wanted in BROKEN:
        bad = {"apiVersion": "tidegate.io/v1alpha1", "kind": kind, "metadata": {"name": "bad", "namespace": SHOP}, "spec": spec}
        told = run(kubectl, "apply", "--validate=strict", "-f", "-", text=json.dumps(bad), fine=False)
        chart.check(f"{kind} {json.dumps(spec)} is refused", wanted in told, told)
    shown = run(kubectl, "get", "tgrl", "--namespace", SHOP).splitlines()[0].split()
    chart.check("kubectl shows whether a policy is in force", shown == ["NAME", "ACCEPTED", "PROGRAMMED", "MODE", "AGE"])
    run(kubectl, "delete", "crd", *(crd["metadata"]["name"] for crd in ours))


def installation(chart, binary):
    kubectl = chart.tool("kubectl")
    chart.helm("install", "tidegate", str(chart.CHART), "--namespace", NAMESPACE, "--create-namespace")
    chart.check("helm install", True)
    for (verb, group, resource, name, namespace), may in RIGHTS:
        asked = {"verb": verb, "group": group, "resource": resource, "name": name, "namespace": namespace}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": ACCOUNT, "resourceAttributes": asked}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        told = json.loads(run(kubectl, "create", "--raw", path, "-f", "-", text=json.dumps(review)))["status"]["allowed"]
        where = f" in {namespace}" if namespace else ""
        chart.check(f"the control plane may {'' if may else 'not '}{verb} {resource} {name}{where}", told == may)
    injected = run(binary, "inject", "-f", "-", text=json.dumps(WEB))
    run(kubectl, "apply", "--dry-run=server", "-f", "-", text=injected)
    chart.check("an injected Deployment is taken", True)
    chart.helm("upgrade", "tidegate", str(chart.CHART), "--namespace", NAMESPACE, "--set", "gateways.manage=false")
    chart.helm("uninstall", "tidegate", "--namespace", NAMESPACE)
    left = run(kubectl, "get", KINDS, "-l", SELECTOR, "-o", "name").split()
    chart.check("uninstalled, the definitions stay", left and all(name.startswith("customresource") for name in left), str(left))
    left = run(kubectl, "get", "all,configmap,poddisruptionbudget,role,networkpolicy", "-l", SELECTOR, "-n", NAMESPACE, "-o", "name")
    chart.check("and nothing else", not left, left)
    chart.helm("install", "tidegate", str(chart.CHART), "--namespace", NAMESPACE)
    chart.check("they are taken over by the next installation", True)
    chart.helm("uninstall", "tidegate", "--namespace", NAMESPACE)
    run(kubectl, "delete", "crd", "-l", SELECTOR)


def manifests(chart, binary):
    kubectl = chart.tool("kubectl")
    text = run(binary, "install", "--namespace", NAMESPACE, "--without-gateway-class")
    for _ in range(2):
        run(kubectl, "apply", "--server-side", "-f", "-", text=text)
    chart.check("kubectl apply takes what `tidegate install` prints, twice", True)
    run(kubectl, "delete", "--wait=false", "-f", "-", text=text)


def main():
    if "KUBECONFIG" not in os.environ:
        print("SKIPPED: tests on a cluster need KUBECONFIG")
        return
    spec = importlib.util.spec_from_file_location("chart", ROOT / ".ci" / "chart.py")
    chart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chart)
    binary = sys.argv[1] if len(sys.argv) > 1 else chart.common.TARGET / "release" / "tidegate"
    try:
        definitions(chart, binary)
        installation(chart, binary)
        manifests(chart, binary)
    finally:
        run(chart.tool("kubectl"), "delete", "namespace", SHOP, "--wait=false", "--ignore-not-found", fine=False)


if __name__ == "__main__":
    main()
