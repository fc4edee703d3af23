#!/usr/bin/env python3
"""What becomes of a shared limit when whoever counts it is lost: killed, or stopped without a word.

One proxy, a limit of so many requests a second for all, and twice as many requests. Envoy asks a rate limit service (the
control plane of Tidegate), failing open or closed; Tidegate asks the same service, or a Redis, or spends what its control
plane has lent. Writes its table into bench/README.md unless --dry is given. Needs redis-server.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import threading
import time

import common
from limits import TIDEGATE, replace

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / ".ci"))
import envoy  # noqa: E402

LIMIT = 100
OFFERED = 2 * LIMIT
CLIENTS = 20
BEFORE = 3
WINDOWS = 10

LIMITS = """\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: edge}}
spec:
  domain: edge
  limits: [{{name: user, requests: {limit}, per: 1s, key: [{{type: Descriptor, name: x-user}}]}}]
"""

SERVICE = """\
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: limits}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {port}}}]
"""

#: What is written beside `scope`, for each.
BLOCKS = {
    "Exact": "exact: {fallbackPercent: 10}",
    "Mesh": "mesh: {fallbackPercent: 10}",
    "Service": "service: {backendRef: {kind: Backend, name: limits}, domain: edge, fallbackPercent: 10}",
}


def load(port, seconds):
    """Requests at their times, whatever became of those before. The times and fates of those that came back."""
    begun, results, lock = time.monotonic() + 0.1, [], threading.Lock()
    interval = CLIENTS / OFFERED

    def client(number):
        connection, due = http.client.HTTPConnection("127.0.0.1", port, timeout=10), begun + number / OFFERED
        while due < begun + seconds:
            time.sleep(max(0, due - time.monotonic()))
            sent = time.monotonic()
            connection.request("GET", "/", headers={"host": "app", "x-user": "ann"})
            answer = connection.getresponse()
            answer.read()
            with lock:
                results.append((answer.status, time.monotonic() - sent))
            due += interval

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def passed(results, seconds):
    return sum(status == 200 for status, _ in results) / (LIMIT * seconds)


def milliseconds(results, percent):
    return statistics.quantiles([took * 1000 for _, took in results], n=100)[percent - 1]


def service(folder, stack):
    """The control plane as a rate limit service: its process and port."""
    (folder / "limits").mkdir()
    (folder / "limits" / "edge.yaml").write_text(LIMITS.format(limit=LIMIT))
    return control_plane(folder / "limits", folder, stack)


def control_plane(policies, folder, stack):
    grpc, admin = common.free_ports(2)
    command = [common.binary("tidegate-control-plane"), "--policies", policies]
    command += ["--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
    child = stack.enter_context(common.process(command, folder / "log"))
    common.wait_until_answers(admin, path="/ready", seconds=60)
    return child, grpc


def redis(folder, stack):
    [port] = common.free_ports(1)
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder, "--bind", "127.0.0.1"]
    return stack.enter_context(common.process(command, folder / "log")), f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def tidegate(scope, app):
    """Who is to be lost, and the port of the proxy."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        (folder / "policies").mkdir()
        text = TIDEGATE.format(app=app, edit=0, limit=LIMIT, scope=scope).replace("per: 1h", "per: 1s")
        text = text.replace(f"scope: {scope}", f"scope: {scope}\n  {BLOCKS[scope]}")
        lost, arguments = None, []
        if scope == "Exact":
            lost, address = redis(folder, stack)
            arguments = ["--redis", address]
        if scope == "Service":
            lost, port = service(folder, stack)
            text += SERVICE.format(port=port)
        replace(folder / "policies" / "app.yaml", text)
        plane, grpc = control_plane(folder / "policies", folder, stack)
        port, admin = common.free_ports(2)
        command = [common.binary("tidegate-proxy"), "--control-plane", f"http://127.0.0.1:{grpc}", "--gateway"]
        command += ["--node", "loss", "--port-offset", str(port - 80), "--workers", "1", "--access-log", "off"]
        command += ["--admin", f"127.0.0.1:{admin}", *arguments]
        stack.enter_context(common.process(command, folder / "log"))
        common.wait_until_answers(port, path="/free", seconds=60)
        # A control plane that just started lends nothing until shares of one before it have run out.
        time.sleep(8 if scope == "Mesh" else 0)
        yield lost or plane, port


@contextlib.contextmanager
def asking_envoy(deny, app):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        lost, limits = service(folder, stack)
        [port] = common.free_ports(1)
        action = {"request_headers": {"header_name": "x-user", "descriptor_key": "x-user"}}
        limit = {
            "@type": f"{envoy.TYPED}.http.ratelimit.v3.RateLimit",
            "domain": "edge",
            "failure_mode_deny": deny,
            "rate_limit_service": {"transport_api_version": "V3", "grpc_service": envoy.SERVICE},
        }
        filtered = {"name": "envoy.filters.http.ratelimit", "typed_config": limit}, [{"actions": [action]}]
        config = envoy.config(port, app, limits, filtered, answers=False)
        (folder / "envoy.json").write_text(json.dumps(config))
        stack.enter_context(common.process(envoy.command(folder / "envoy.json"), folder / "log"))
        common.wait_until_answers(port, path="/free", seconds=60)
        yield lost, port


#: Named as in the table; `running` gives who is to be lost and the port of the proxy.
PEERS = [
    ("Envoy, rate limit service, fails open", lambda app: asking_envoy(False, app)),
    ("Envoy, rate limit service, `failure_mode_deny`", lambda app: asking_envoy(True, app)),
    ("Tidegate, `scope: Service`, falls back to 10 %", lambda app: tidegate("Service", app)),
    ("Tidegate, `scope: Exact`, falls back to 10 %", lambda app: tidegate("Exact", app)),
    ("Tidegate, `scope: Mesh`, keeps its share 4 s, then 10 %", lambda app: tidegate("Mesh", app)),
]


def measure(running, app):
    row = []
    for loss in (signal.SIGKILL, signal.SIGSTOP):
        with running(app) as (lost, port):
            before = load(port, BEFORE)
            if loss == signal.SIGKILL:
                row += [f"{passed(before, BEFORE):.2f}"]
            os.kill(lost.pid, loss)
            after = load(port, WINDOWS)
            row += [f"{passed(after, WINDOWS):.2f}"]
            if loss == signal.SIGSTOP:
                calm = [milliseconds(before, percent) for percent in (50, 99)]
                row += [f"{milliseconds(after, percent):.1f} ({calm[i]:.1f})" for i, percent in enumerate((50, 99))]
                os.kill(lost.pid, signal.SIGCONT)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    parser.add_argument("--bin-dir", type=pathlib.Path, help="where the programs are, if somebody has built them")
    parser.add_argument("--only", default="", help="those with this in their name")
    args = parser.parse_args()
    common.need("redis-server")
    common.BINARIES = args.bin_dir and args.bin_dir.resolve()
    common.build()
    with tempfile.TemporaryDirectory() as folder:
        [app] = common.free_ports(1)
        echo = [common.binary("tidegate-bench"), "echo", "--listen", f"127.0.0.1:{app}"]
        with common.process(echo, pathlib.Path(folder, "echo.log")):
            rows = []
            for name, running in PEERS:
                if args.only in name:
                    rows.append([name, *measure(running, app)])
                    print(rows[-1], flush=True)
    heads = ["who counts", "before", "killed", "stopped", "stopped: p50, ms (before)", "stopped: p99, ms (before)"]
    text = common.table(heads, rows)
    print(text)
    if not args.dry:
        common.write_section("loss", text)


if __name__ == "__main__":
    main()
