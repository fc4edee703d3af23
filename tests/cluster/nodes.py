#!/usr/bin/env python3
"""The mesh on a cluster that has nodes: what the README promises, done with Helm and kubectl as its reader would.

Takes the cluster of $KUBECONFIG and leaves it without anything of Tidegate: not for one that is in use. The nodes must be
able to have our images (`--set images.registry=…` is passed on to Helm) and one with a shell, httpd and wget. Without
$KUBECONFIG it is skipped, and says so. Gateway API's definitions must be there.

    KUBECONFIG=… python3 tests/cluster/nodes.py [--app-image IMAGE] [--only PART] [--set KEY=VALUE]…

Figures are printed with the word `figure`; nothing fails for being slow.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import shop  # noqa: E402
from shop import SHOP, SYSTEM, check, figure, kubectl, get, until  # noqa: E402


def installed(options):
    """Namespaces, the release, and how long that took."""
    kubectl("create", "namespace", SHOP)
    kubectl("label", "namespace", SHOP, "tidegate.io/inject=enabled")
    begun = time.monotonic()
    shop.helm("install", "tidegate", str(shop.chart.CHART), "--namespace", SYSTEM, "--create-namespace", "--wait", *options.values)
    figure("seconds that `helm install --wait` takes", time.monotonic() - begun)
    told = shop.helm("test", "tidegate", "--namespace", SYSTEM)
    check("helm test succeeds", "Phase:          Succeeded" in told, str(told))


def workloads(options):
    shop.apply(*shop.web(options.image), *shop.client("client", options.image), *shop.client("stranger", options.image))
    for name in ("web", "client", "stranger"):
        shop.rolled_out(name)
    pod = shop.pods("web")[0]
    names = [container["name"] for container in pod["spec"]["initContainers"]]
    check("a pod of the labelled namespace has its sidecar as a native one", names[-1] == "tidegate-proxy", str(names))
    check("nothing of it has restarted", not shop.restarts("web"))
    told = shop.call("client")
    check("one workload calls another", told.status == 200 and told.body.startswith("web-"), str(told))


def policies(_):
    told = shop.apply(shop.limit("web-limit", 5), fine=False)
    until("the policy is in force everywhere", lambda: shop.programmed("ratelimitpolicy", "web-limit"))
    statuses = [shop.call("client").status for _ in range(8)]
    check("what kubectl has applied is enforced", 429 in statuses and statuses[0] == 200, f"{statuses} {told}")
    row = kubectl("get", "tgrl", "web-limit", "-n", SHOP, "--no-headers").split()
    check("kubectl get tells the truth about it", row[1] == "True" and row[2].split("/")[0] == row[2].split("/")[1] != "0", str(row))
    bad = shop.limit("bad", 5)
    bad["spec"]["targetRefs"][0]["kind"] = "Pod"
    told = shop.apply(bad, fine=False)
    check("what does not compile is refused as it is applied", "admission webhook" in told or "Unsupported value" in told, str(told))
    kubectl("delete", "ratelimitpolicy", "web-limit", "-n", SHOP)
    until("a policy that is deleted is gone", lambda: {shop.call("client").status for _ in range(8)} == {200})


def identity(options):
    with shop.outside(options.image):
        check("a pod without a sidecar is served while mTLS is permissive", shop.call("outside").status == 200)
        shop.apply(shop.strict())
        until("mTLS is strict everywhere", lambda: shop.programmed("meshtlspolicy", "web-strict"))
        until("then a pod without a sidecar is not served", lambda: shop.call("outside").status != 200)
        check("one of the mesh is", shop.call("client").status == 200)
    shop.apply(shop.only("client"))
    until("who may call is in force", lambda: shop.programmed("authorizationpolicy", "web-callers"))
    until("another workload of the mesh is forbidden", lambda: shop.call("stranger").status == 403)
    check("the one that is named is served", shop.call("client").status == 200)
    # Three times as long as the kubelet takes to see a probe fail.
    steady = time.monotonic() + 10
    until("that time has passed", lambda: time.monotonic() > steady)
    check("the kubelet's probes are still answered", shop.ready("web") == 2, str(shop.ready("web")))
    kubectl("rollout", "restart", "deployment/web", "-n", SHOP)
    shop.rolled_out("web")
    check("and new pods get ready under these policies", shop.ready("web") == 2)
    kubectl("delete", "authorizationpolicy/web-callers", "meshtlspolicy/web-strict", "-n", SHOP)


def jobs(options):
    shop.apply(shop.job(options.image))
    kubectl("wait", "--for=condition=Complete", "--timeout=60s", "job/once", "-n", SHOP)
    check("a Job ends when its own container has, and has called through the mesh", True)


def plain(options):
    """A sidecar that is an ordinary container."""
    account, made = shop.client("plain", options.image)
    made["spec"]["template"]["metadata"]["annotations"] = {"tidegate.io/sidecar": "plain"}
    shop.apply(account, made)
    shop.rolled_out("plain")
    names = [container["name"] for container in shop.pods("plain")[0]["spec"]["containers"]]
    check("a sidecar may be a plain container", "tidegate-proxy" in names, str(names))
    until("and calls go through it as well", lambda: shop.call("plain").status == 200)


def rotation(options):
    """Certificates that last a minute: three times as long, nobody notices."""
    shop.helm("upgrade", "tidegate", str(shop.chart.CHART), "--namespace", SYSTEM, "--wait",
              "--set", "identity.certificateLifetime=1m", *options.values)
    shop.apply(shop.strict())
    kubectl("rollout", "restart", "deployment/web", "deployment/client", "-n", SHOP)
    for name in ("web", "client"):
        shop.rolled_out(name)
    until("mTLS is strict everywhere", lambda: shop.programmed("meshtlspolicy", "web-strict"))
    with shop.Loop("client", shop.WEB) as loop:
        ended = time.monotonic() + 180
        until("three minutes have passed", lambda: time.monotonic() > ended, 200)
        loop.end()
    figure("requests while certificates were renewed each half minute", loop.sent)
    check("none of them failed", loop.sent and not loop.failed, loop.said)
    kubectl("delete", "meshtlspolicy/web-strict", "-n", SHOP)
    shop.helm("upgrade", "tidegate", str(shop.chart.CHART), "--namespace", SYSTEM, "--wait",
              "--set", "identity.certificateLifetime=24h", *options.values)


def startup(options):
    """Seconds from the order to readiness, with a sidecar and without one, in turns."""
    took = {"enabled": [], "disabled": []}
    for turn in range(2 * options.rounds):
        inject = ["enabled", "disabled"][turn % 2]
        pod = shop.alone(f"alone-{turn}", options.image, inject)
        begun = time.monotonic()
        shop.apply(pod)
        kubectl("wait", "--for=condition=Ready", "--timeout=120s", f"pod/alone-{turn}", "-n", SHOP)
        took[inject].append(time.monotonic() - begun)
        kubectl("delete", "pod", f"alone-{turn}", "-n", SHOP, "--grace-period=0", "--force")
    with_it, without = (statistics.median(took[key]) for key in ("enabled", "disabled"))
    figure("seconds to readiness without a sidecar (median)", without)
    figure("seconds to readiness with one (median)", with_it)
    figure("what a sidecar adds, in seconds", with_it - without)


def gateway(options):
    shop.apply(*shop.edge())
    until("a Gateway of our class has an address and is programmed", lambda: shop.condition("gateway", "edge", "Programmed"))
    with shop.outside(options.image):
        until("it serves from outside of the mesh", lambda: shop.call("outside", shop.EDGE).status == 200)


def restarts(options):
    """Everything is replaced while somebody calls."""
    callers = [("client", shop.WEB)] * 2
    with contextlib.ExitStack() as stack:
        stack.enter_context(shop.outside(options.image))
        callers += [("outside", shop.EDGE)] * 2
        loops = [stack.enter_context(shop.Loop(*caller)) for caller in callers]
        for what, where in shop.replaced():
            kubectl("rollout", "restart", what, "-n", where)
            kubectl("rollout", "status", what, "-n", where, "--timeout=180s")
            check(f"{what} is replaced", True)
        for loop in loops:
            loop.end()
    sent, failed = (sum(getattr(loop, of) for loop in loops) for of in ("sent", "failed"))
    figure("requests while everything was replaced", sent)
    check("none of them failed", sent and not failed, f"{failed} of {sent}: {[loop.said for loop in loops]}")


def alone(_):
    """No control plane at all: what is in force stays, and what comes after is heard."""
    control_plane = ("deployment/tidegate-control-plane", "-n", SYSTEM)
    with shop.Loop("client", shop.WEB) as loop:
        kubectl("scale", *control_plane, "--replicas=0")
        ended = time.monotonic() + 20
        until("there is no control plane for a while", lambda: time.monotonic() > ended)
        kubectl("scale", *control_plane, "--replicas=2")
        kubectl("rollout", "status", *control_plane, "--timeout=120s")
        shop.apply(shop.limit("web-limit", 1_000_000))
        until("a policy that comes after it is in force", lambda: shop.programmed("ratelimitpolicy", "web-limit"))
        loop.end()
    figure("requests while there was none", loop.sent)
    check("none of them failed", loop.sent and not loop.failed, loop.said)
    kubectl("delete", "ratelimitpolicy", "web-limit", "-n", SHOP)


def memory(_):
    for where in (SYSTEM, SHOP):
        for name, used in shop.resident(where):
            figure(f"MiB of {name}", used)


def node_plugin(options):
    """Pods without any right, in a namespace that would not have them with one."""
    shop.helm("upgrade", "tidegate", str(shop.chart.CHART), "--namespace", SYSTEM, "--wait", "--set", "cni.enabled=true", *options.values)
    kubectl("rollout", "status", "daemonset/tidegate-cni", "-n", SYSTEM, "--timeout=60s")
    kubectl("label", "namespace", SHOP, "pod-security.kubernetes.io/enforce=restricted")
    for name in ("web", "client"):
        kubectl("rollout", "restart", f"deployment/{name}", "-n", SHOP)
    for name in ("web", "client"):
        shop.rolled_out(name)
    names = [container["name"] for container in shop.pods("web")[0]["spec"]["initContainers"]]
    check("pods of a restricted namespace have a sidecar", names[0] == "tidegate-verify" and names[-1] == "tidegate-proxy", str(names))
    check("and the node's plugin leads them to it", shop.call("client").status == 200)
    kubectl("label", "namespace", SHOP, "pod-security.kubernetes.io/enforce-")
    # Said, for an upgrade that is told no value keeps those of before.
    shop.helm("upgrade", "tidegate", str(shop.chart.CHART), "--namespace", SYSTEM, "--wait", "--set", "cni.enabled=false", *options.values)
    until("the plugin is gone from the node", lambda: not get("pods", SYSTEM, "-l", "app.kubernetes.io/component=cni"))
    kubectl("rollout", "restart", "deployment/web", "-n", SHOP)
    shop.rolled_out("web")
    check("without it, pods start as before", True)


def uninstalled():
    shop.helm("uninstall", "tidegate", "--namespace", SYSTEM, "--wait")
    left = kubectl("get", "crd", "-l", "app.kubernetes.io/name=tidegate", "-o", "name").split()
    check("uninstalled, the definitions stay", bool(left))
    kinds = "clusterrole,clusterrolebinding,validatingwebhookconfigurations,mutatingwebhookconfigurations"
    left = kubectl("get", kinds, "-l", "app.kubernetes.io/name=tidegate", "-o", "name").split()
    check("and nothing of the cluster's", not left, str(left))


PARTS = {
    "workloads": workloads, "policies": policies, "identity": identity, "jobs": jobs, "plain": plain, "startup": startup,
    "gateway": gateway, "restarts": restarts, "alone": alone, "memory": memory, "node-plugin": node_plugin, "rotation": rotation,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--app-image", dest="image", default="docker.io/library/busybox:1", help="with sh, httpd and wget")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts alone; the first one is always done")
    parser.add_argument("--set", action="append", default=[], help="as Helm has it")
    parser.add_argument("--rounds", type=int, default=5, help="pods of each kind whose start is timed")
    parser.add_argument("--keep", action="store_true", help="leave everything as it is in the end")
    options = parser.parse_args()
    options.values = [word for value in options.set for word in ("--set", value)]
    return options


def main():
    options = arguments()
    if "KUBECONFIG" not in os.environ:
        print("SKIPPED: tests on a cluster need KUBECONFIG")
        return
    if not get("nodes", None):
        print("SKIPPED: this cluster has no nodes")
        return
    try:
        installed(options)
        for name, part in PARTS.items():
            if name == "workloads" or not options.only or name in options.only:
                part(options)
        if not options.keep:
            kubectl("delete", "namespace", SHOP)
            uninstalled()
    finally:
        if not options.keep:
            shop.clean()


if __name__ == "__main__":
    main()
