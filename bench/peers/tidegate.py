"""Tidegate: a sidecar where nothing is asked but to forward, else a gateway with a control plane.

The control plane is a process of its own on the other processor; traffic never waits for it, and its CPU is not
counted, as Envoy's configuration is not.
"""

import subprocess

import common
from peers.features import NEVER

TITLE = "Tidegate"

GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: tidegate
  listeners: [{listener}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: app}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {app}}}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: canary}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {canary}}}]
"""

ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
"""

LIMIT = """\
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: per-client}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  limits:
  - name: per-client
    requests: {most}
    per: {period}
    key: [{{type: ClientAddress}}]
"""

BREAKER = """\
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: tidegate.io, kind: Backend, name: {name}}}]
  caps: [{{scope: Backend, connections: 1000, pending: 1000, requests: 1000}}]
  breakers: [{{name: endpoint, scope: Endpoint, consecutiveFailures: 5, open: 1s}}]
"""

PLUGIN = """\
---
apiVersion: tidegate.io/v1alpha1
kind: WasmPlugin
metadata: {{name: adds-header}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}}]
  source: {{file: {module}}}
"""

SECRET = """\
---
apiVersion: v1
kind: Secret
metadata: {name: certificate}
type: kubernetes.io/tls
stringData:
"""


def cannot(_features):
    return None


def missing():
    return None


def prepare():
    pass


def version():
    """The last commit that changed what is measured, with a mark if it has been edited since."""
    parts = ["--", "proxy", "policies"]
    commit = git("log", "-1", "--format=%h", *parts) or "unknown"
    return commit + ("-dirty" if git("status", "--porcelain", *parts) else "")


def git(*arguments):
    found = subprocess.run(["git", *arguments], cwd=common.ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def start(stack, features, place):
    environment = {}
    if features.traced is not None:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{place.collector}"
        environment["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
        environment["OTEL_TRACES_SAMPLER_ARG"] = str(features.traced / 100)
    policies = features.limit or features.breaker or features.canary or features.tls or features.routes > 1
    policies = policies or features.plugin is not None
    arguments = gateway(stack, features, place) if policies else sidecar(features, place)
    arguments += ["--workers", "1", "--access-log", str(place.log) if features.log else "off"]
    arguments += ["--admin", "127.0.0.1:0", "--max-connections", "20000"]
    command = common.pinned(0, [common.binary("tidegate-proxy"), *arguments])
    return stack.enter_context(common.process(command, place.folder / "log", **environment))


def sidecar(features, place):
    arguments = ["--inbound", f"127.0.0.1:{place.port}", "--app", f"127.0.0.1:{place.app}"]
    return arguments + (["--app-protocol", "h2c"] if features.http2 else [])


def gateway(stack, features, place):
    policies = place.folder / "policies"
    policies.mkdir()
    (policies / "mesh.yaml").write_text(documents(features, place))
    [grpc] = common.free_ports(1)
    command = [common.binary("tidegate-control-plane"), "--policies", str(policies)]
    command += ["--listen", f"127.0.0.1:{grpc}", "--admin", "127.0.0.1:0"]
    stack.enter_context(common.process(common.pinned(1, command), place.folder / "control-plane.log"))
    return ["--gateway", "--control-plane", f"http://127.0.0.1:{grpc}", "--port-offset", str(place.port - 80)]


def documents(features, place):
    listener = "{name: http, port: 80, protocol: HTTP}"
    if features.tls:
        listener = "{name: https, port: 80, protocol: HTTPS, tls: {certificateRefs: [{name: certificate}]}}"
    text = GATEWAY.format(listener=listener, app=place.app, canary=place.canary)
    text += routes(features, place)
    if features.limit:
        trips = features.limit == "trips"
        text += LIMIT.format(most=1 if trips else NEVER, period="1h" if trips else "1s")
    if features.breaker:
        text += BREAKER.format(name="app") + BREAKER.format(name="canary")
    if features.plugin:
        text += PLUGIN.format(module=place.plugin)
    if features.tls:
        text += SECRET
        for key, name in (("tls.crt", "cert.pem"), ("tls.key", "key.pem")):
            lines = (place.certificate / name).read_text().splitlines()
            text += f"  {key}: |\n" + "".join(f"    {line}\n" for line in lines)
    return text


def routes(features, place):
    def backend(name, port, weight=1):
        return f"{{group: tidegate.io, kind: Backend, name: {name}, port: {port}, weight: {weight}}}"

    app = backend("app", place.app)
    if features.routes > 1:
        rule = "  - {{matches: [{{path: {{type: PathPrefix, value: {}}}}}], backendRefs: [{}]}}\n"
        rules = ((prefix.strip("/"), rule.format(prefix, app)) for prefix in features.prefixes)
        return "".join(ROUTE.format(name=name) + text for name, text in rules)
    if features.canary:
        asked = "{headers: [{name: x-canary, value: always}]}"
        shares = f"{backend('app', place.app, 90)}, {backend('canary', place.canary, 10)}"
        everybody = f"  - backendRefs: [{shares}]\n"
        return ROUTE.format(name="app") + everybody + (
            f"  - matches: [{asked}]\n    backendRefs: [{backend('canary', place.canary)}]\n"
        )
    return ROUTE.format(name="app") + f"  - backendRefs: [{app}]\n"
