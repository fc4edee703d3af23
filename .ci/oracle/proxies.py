"""The two that are compared, each in front of the same backend with the same plugin."""

import contextlib
import json
import pathlib
import re
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "bench")]
import common  # noqa: E402
import envoy  # noqa: E402
from peers.tidegate import GATEWAY  # noqa: E402

TYPES = "type.googleapis.com/envoy.extensions"
#: Neither is asked before it serves, or says that it never will.
PATIENCE = 60


class Refused(Exception):
    """The proxy does not take the plugin; says why."""


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def until(process, log, port, path, attempt):
    """Waits for an answer at an admin port; `attempt` judges it, and may refuse."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Refused(log.read_text(errors="replace")[-600:])
        with contextlib.suppress(OSError):
            if attempt(fetch(port, path)):
                return
        time.sleep(0.03)
    raise Refused(f"not ready in {PATIENCE} s")


def fetch(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
        return answer.read().decode()


class Envoy:
    """As plain as it can be made: what it adds of its own accord is turned off, not left out of the comparison."""

    name = "Envoy"
    #: A level is told in another word.
    levels = {"warning": "warn", "critical": "error"}

    def __init__(self, place):
        self.log = place / "envoy.log"

    def start(self, stack, place, ports, plugins):
        file = place / "envoy.json"
        file.write_text(json.dumps(self.bootstrap(ports, plugins), indent=1))
        command = [envoy.binary(), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        command += ["--component-log-level", "wasm:trace", "--log-format", "%l|%n|%j"]
        self.admin = ports.admin
        process = stack.enter_context(common.process(command, self.log))
        until(process, self.log, ports.admin, "/ready", lambda said: said.strip() == "LIVE")

    def bootstrap(self, ports, plugins):
        kind = "network" if ports.carried else "http"
        filters = [self.filter(plugin, kind) for plugin in plugins]
        named = {"app": ports.app, **ports.upstreams}
        clusters = [self.cluster(name, port, name in ports.grpc) for name, port in named.items()]
        chain = {"filters": [*filters, self.carries()] if ports.carried else [self.serves(filters)]}
        listener = {"name": "edge", "address": address(ports.listen), "filter_chains": [chain]}
        static = {"listeners": [listener], "clusters": clusters}
        return {"admin": {"address": address(ports.admin)}, "static_resources": static}

    def carries(self):
        proxy = {"@type": f"{TYPES}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "edge", "cluster": "app"}
        return {"name": "tcp", "typed_config": proxy}

    def serves(self, filters):
        router = {"@type": f"{TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
        route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}
        manager = {
            "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "edge",
            "generate_request_id": False,
            # As ours does.
            "normalize_path": True,
            "merge_slashes": True,
            "server_header_transformation": "PASS_THROUGH",
            "http_protocol_options": {"enable_trailers": True},
            "http_filters": [*filters, {"name": "router", "typed_config": router}],
            "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        }
        return {"name": "http", "typed_config": manager}

    def filter(self, plugin, kind):
        config = {
            "name": plugin.name,
            "root_id": plugin.root_id,
            "vm_config": {
                "vm_id": plugin.vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": str(plugin.module)}},
            },
        }
        if plugin.config:
            text = "type.googleapis.com/google.protobuf.StringValue"
            config["configuration"] = {"@type": text, "value": plugin.config}
        return {"name": plugin.name, "typed_config": {"@type": f"{TYPES}.filters.{kind}.wasm.v3.Wasm", "config": config}}

    def cluster(self, name, port, grpc=False):
        protocol = {"http2_protocol_options": {}} if grpc else {"http_protocol_options": {"enable_trailers": True}}
        options = {"@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": protocol}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        }

    def logged(self, since):
        """What plugins logged, as (level, message)."""
        found = []
        for line in text_since(self.log, since).splitlines():
            level, _, rest = line.partition("|")
            component, _, message = rest.partition("|")
            said = re.match(r"wasm log(?: [^ :]+)*?: ", message)
            if component == "wasm" and said:
                message = json.loads(f'"{message[said.end():]}"')
                found.append((self.levels.get(level, level), message))
        return found

    def failed(self, since):
        """Whether a plugin has trapped. Then it answers nothing any more: told to start it anew, Envoy may crash."""
        return "error|wasm|Function: " in text_since(self.log, since)

    def counted(self):
        """What plugins count themselves."""
        lines = fetch(self.admin, "/stats?filter=wasmcustom").splitlines()
        pairs = (line.split(": ", 1) for line in lines if line)
        # In one spelling; of histograms Envoy tells other figures.
        return {re.sub(r"\W", "_", name.removeprefix("wasmcustom.")): value for name, value in pairs if value.isdigit()}


ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: all}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {app}}}]
"""

BACKEND = """\
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: {name}}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {port}}}]
"""


class Tidegate:
    name = "Tidegate"
    levels = {}

    def __init__(self, place):
        self.log = place / "tidegate.log"

    def start(self, stack, place, ports, plugins):
        folder = place / "policies"
        folder.mkdir()
        kind, protocol = ("TCPRoute", "TCP") if ports.carried else ("HTTPRoute", "HTTP")
        listener = f"{{name: edge, port: {ports.listen}, protocol: {protocol}}}"
        text = GATEWAY.format(listener=listener, app=ports.app, canary=ports.app) + ROUTE.format(kind=kind, app=ports.app)
        text += "".join(BACKEND.format(name=f"up{i}", port=port) for i, port in enumerate(ports.upstreams.values()))
        for order, plugin in enumerate(plugins):
            text += "---\n" + json.dumps(self.document(plugin, order, ports)) + "\n"
        (folder / "mesh.yaml").write_text(text)
        command = [common.binary("tidegate"), "run", "--policies", str(folder), "--workers", "1", "--access-log", "off"]
        command += ["--admin", f"127.0.0.1:{ports.admin}", "--status", "127.0.0.1:0", "--stall-timeout", "10s"]
        self.admin = ports.admin
        process = common.process(command, self.log, TIDEGATE_LOG="warn,plugin=trace", NO_COLOR="1")
        process = stack.enter_context(process)
        until(process, self.log, ports.admin, "/ready", lambda _: True)
        until(process, self.log, ports.admin, "/metrics", lambda said: self.loaded(said, len(plugins)))

    def document(self, plugin, order, ports):
        upstreams = [
            {"name": name, "backendRef": {"group": "tidegate.io", "kind": "Backend", "name": f"up{i}", "port": port}}
            for i, (name, port) in enumerate(ports.upstreams.items())
        ]
        spec = {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
            "source": {"file": str(plugin.module)},
            "pluginName": plugin.root_id,
            "configuration": plugin.config,
            "order": order,
            # The comparison is of what is done, on a machine that may be busy.
            "budgets": {"callback": "1s", "logLines": 10000},
            "capabilities": {"upstreams": upstreams},
        }
        if plugin.vm_id:
            spec["vmId"] = plugin.vm_id
        return {
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "WasmPlugin",
            "metadata": {"name": plugin.name},
            "spec": spec,
        }

    def loaded(self, metrics, count):
        if re.search(r"(?m)^tidegate_plugin_failing\{.*\} 1$", metrics):
            raise Refused(self.log.read_text(errors="replace")[-600:])
        return len(re.findall(r"(?m)^tidegate_plugin_loaded\{.*\} 1$", metrics)) == count

    def logged(self, since):
        found = []
        # A message may have lines of its own; each record begins with a time.
        for record in re.split(r"(?m)^(?=\d{4}-\d\d-\d\dT)", text_since(self.log, since)):
            fields = r' plugin="[^"]*"(?: request_id=.*)?(?: dropped=\d+)?\s*\Z'
            said = re.match(rf"\S+\s+(\w+) plugin: (.*?){fields}", record, re.S)
            if said:
                found.append((said[1].lower(), said[2]))
        return found

    def failed(self, since):
        return False

    def counted(self):
        found = re.findall(r"(?m)^wasmcustom_(\w+?)(?:_total)? (\d+)$", fetch(self.admin, "/metrics"))
        return {name: value for name, value in found if not name.endswith(("_count", "_sum"))}


def text_since(log, since):
    with log.open("rb") as file:
        file.seek(since)
        return file.read().decode(errors="replace")
