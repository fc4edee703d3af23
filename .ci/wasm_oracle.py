#!/usr/bin/env python3
"""The same plugins in Tidegate and in a real Envoy: the same requests must have the same answers, and reach the same backends.

Takes a folder of modules (`.ci/plugins.py` builds ours) and asks each, by the cases of oracle_cases.py, through Envoy with
V8 and through `tidegate run`, each before a backend of its own. Compared are status, headers and body of answers, and
method, path, headers and body of everything that backends were asked, those that plugins ask included. Ends with 1 when
anything differs. Needs `ENVOY` or PyPI.
"""

import argparse
import collections
import contextlib
import http.client
import http.server
import json
import pathlib
import sys
import tempfile
import threading
import time

import envoy
import oracle_cases
from envoy import TYPED, common

#: What the proxies say of themselves or of one connection, and plugins have no part in: none of it is compared.
PROXYS_OWN = {
    "date", "server", "connection", "via", "transfer-encoding", "content-length", "host", "x-request-id", "forwarded",
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "traceparent", "tracestate", "user-agent",
    "accept-encoding", "keep-alive",
}
PREFIXES = ("x-envoy-", "x-tidegate-")

#: What is said in place of a plugin that has no HTTP part, or failed: Envoy says nothing.
FAILED = "a plugin failed\n"

#: Names by which the SDKs' examples call others.
CALLED = ["other", "httpbin", "grpcbin"]


def told(headers):
    """Those that are compared."""
    pairs = [(name.lower(), value) for name, value in headers]
    return sorted(pair for pair in pairs if pair[0] not in PROXYS_OWN and not pair[0].startswith(PREFIXES))


class Backend(http.server.ThreadingHTTPServer):
    """Answers by the path, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked, self.turn, self.lock = [], 0, threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def read(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self):
        body, path = self.read(), self.path
        with self.server.lock:
            asked = (self.command, path, told(self.headers.items()), body.decode("latin-1"))
            self.server.asked.append(asked)
            self.server.turn += path == "/bytes/1"
            turn = self.server.turn
        status, kind, text = self.said(path, body, turn)
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("x-backend", "1")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def said(self, path, body, turn):
        plain = path.split("?")[0]
        texts = {
            "/secret": b"a secret text", "/empty": b"", "/large": b"large and secret " * 4000,
            # An even one first, then an odd one.
            "/bytes/1": bytes([turn % 2 + 1]), "/echo": body,
        }
        if plain == "/json":
            return 200, "application/json", b'{"card": 7, "a": [{"iban": 1}, "card"], "b": "\\u00e4"}'
        if plain == "/judge":
            return (403 if b"bad" in body or "bad" in str(self.headers) else 200), "text/plain", b""
        if plain == "/missing":
            return 404, "text/plain", b"there is none"
        return 200, "text/plain", texts.get(plain, b"a plain text")

    do_GET = do_POST = answer


def wasm(module, root, configuration):
    code = {"local": {"filename": str(module)}}
    text = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration}
    config = {"name": "plugin", "root_id": root, "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": code}}
    if configuration:
        config["configuration"] = text
    return {"name": "wasm", "typed_config": {"@type": f"{TYPED}.http.wasm.v3.Wasm", "config": config}}


@contextlib.contextmanager
def by_envoy(case, backend, folder):
    module, root, configuration = case
    [port] = common.free_ports(1)
    config = envoy.config(port, backend.port, backend.port, (wasm(module, root, configuration), []), answers=False)
    clusters = config["static_resources"]["clusters"]
    plain = next(cluster for cluster in clusters if cluster["name"] == "backend")
    for name in CALLED:
        cluster = json.loads(json.dumps(plain))
        cluster["name"] = cluster["load_assignment"]["cluster_name"] = name
        clusters.append(cluster)
    (folder / "envoy.json").write_text(json.dumps(config))
    with common.process(envoy.command(str(folder / "envoy.json")), folder / "envoy.log"):
        yield port


MESH = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: tidegate, listeners: [{{name: http, port: {port}, protocol: HTTP}}]}}
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: app}}
spec: {{endpoints: [{{address: 127.0.0.1, port: {backend}}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{name: edge}}]
  rules: [{{backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {backend}}}]}}]
---
"""


@contextlib.contextmanager
def by_tidegate(case, backend, folder):
    module, root, configuration = case
    port, admin = common.free_ports(2)
    ref = {"group": "tidegate.io", "kind": "Backend", "name": "app", "port": backend.port}
    spec = {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "app"}],
        "source": {"file": str(module)},
        "capabilities": {"upstreams": [{"name": name, "backendRef": ref} for name in CALLED]},
    }
    spec |= {"pluginName": root} if root else {}
    spec |= {"configuration": configuration} if configuration else {}
    policy = {"apiVersion": "tidegate.io/v1alpha1", "kind": "WasmPlugin", "metadata": {"name": "plugin"}, "spec": spec}
    (folder / "policies").mkdir()
    (folder / "policies" / "mesh.yaml").write_text(MESH.format(port=port, backend=backend.port) + json.dumps(policy))
    command = [common.binary("tidegate"), "run", "--policies", str(folder / "policies"), "--status", "127.0.0.1:0"]
    command += ["--admin", f"127.0.0.1:{admin}", "--workers", "1", "--access-log", "off"]
    with common.process(command, folder / "tidegate.log"):
        until(lambda: b'"loaded": true' in fetched(admin, "/status"), folder / "tidegate.log")
        yield port


def ask(port, request):
    method, path, headers, body = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body or None, {"host": "shop.example", **headers})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, told(answer.getheaders()), text.decode("latin-1")


def fetched(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().read()


def listens(port):
    http.client.HTTPConnection("127.0.0.1", port, timeout=10).connect()
    return True


def until(holds, log):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if holds():
                return
        time.sleep(0.05)
    sys.exit(f"it does not get ready:\n{log.read_text()[-2000:]}")


def recorded(start, case, requests, name):
    """What was answered to each request, and what backends were asked meanwhile."""
    backend = Backend()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with start(case, backend, folder) as port:
            until(lambda: listens(port), folder / f"{name}.log")
            found = []
            for request in requests:
                answer = ask(port, request)
                with backend.lock:
                    asked, backend.asked = backend.asked, []
                found.append((answer, asked))
    backend.shutdown()
    return found


def differences(theirs, ours):
    """What differs, in words."""
    (status, headers, body), asked = theirs
    (our_status, our_headers, our_body), our_asked = ours
    if (status, our_status, our_body) == (503, 503, FAILED):
        return
    if status != our_status:
        yield f"status {status} in Envoy, {our_status} here"
    missing = collections.Counter(headers) - collections.Counter(our_headers)
    more = collections.Counter(our_headers) - collections.Counter(headers)
    yield from (f"answer without {name}: {value}" for name, value in missing.elements())
    yield from (f"answer with {name}: {value}" for name, value in more.elements())
    if body != our_body:
        yield f"body {body[:80]!r} in Envoy, {our_body[:80]!r} here"
    if asked != our_asked:
        yield f"backends were asked {asked} by Envoy, {our_asked} here"


def compare(path, root, configuration, requests):
    case = (path, root, configuration)
    theirs = recorded(by_envoy, case, requests, "envoy")
    ours = recorded(by_tidegate, case, requests, "tidegate")
    found = []
    for request, one, other in zip(requests, theirs, ours):
        found += [f"{request[0]} {request[1]} {request[2] or ''}: {what}" for what in differences(one, other)]
    shown = f"{path.stem}{' ' + repr(configuration) if configuration else ''}"
    print(f"{shown}: {len(requests)} requests, " + ("alike" if not found else f"{len(found)} differences"))
    for what in found:
        print(f"    {what}")
    return not found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=pathlib.Path, help="a folder with *.wasm")
    parser.add_argument("--bin-dir", type=pathlib.Path, help="where `tidegate` was built already")
    args = parser.parse_args()
    common.BINARIES = args.bin_dir
    common.build()
    here = {path.stem: path.resolve() for path in args.modules.glob("*.wasm")}
    known = [case for case in oracle_cases.OWN + oracle_cases.OTHERS if case[0] in here]
    if not known:
        sys.exit(f"{args.modules}: none of the modules of oracle_cases.py is there")
    alike = [compare(here[name], *case) for name, *case in known]
    sys.exit(0 if all(alike) else 1)


if __name__ == "__main__":
    main()
