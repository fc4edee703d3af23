#!/usr/bin/env python3
"""One limit, ten sidecars: how near the mesh as a whole comes to what is written.

Real processes: a control plane, ten sidecars of one Service, and half as many requests again as the limit lets through,
nine tenths of them at one sidecar. Then the load moves to another sidecar, the control plane is killed, and started
again. Beside it, what a mesh-wide limit costs a request that passes, against a local one. Writes its table into
bench/README.md unless --dry is given.
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import tempfile
import time

import common

SIDECARS = 10
LIMIT = 2_000
KEEP = 3
FALLBACK = 5

POLICIES = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{kind: Service, name: {name}}}]
  scope: {scope}
  limits:
  - {{name: all, requests: {limit}, per: 1s, burst: {burst}}}
"""
MESH = "  mesh: {{keepShare: {keep}s, fallbackPercent: {fallback}}}\n"


class Plane:
    """A control plane that can be killed."""

    def __init__(self, folder, log, grpc, admin):
        self.command = [common.binary("tidegate-control-plane"), "--policies", folder]
        self.command += ["--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
        self.log, self.running = log, None

    def start(self):
        with open(self.log, "a") as log:
            self.running = subprocess.Popen(self.command, stdout=log, stderr=log)

    def kill(self):
        if self.running:
            self.running.kill()
            self.running.wait()
            self.running = None


def sidecar(stack, log, service, app, grpc):
    port, admin = common.free_ports(2)
    command = [common.binary("tidegate-proxy"), "--sidecar", "--service", service, "--node", f"{service}-{port}"]
    command += ["--inbound", f"127.0.0.1:{port}", "--app", f"127.0.0.1:{app}", "--workers", "1"]
    command += ["--control-plane", f"http://127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}", "--access-log", "off"]
    stack.enter_context(common.process(command, log))
    return port


def pace(port, rate, seconds, connections=4):
    command = [common.binary("tidegate-bench"), "pace", f"127.0.0.1:{port}", "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--connections", str(connections)]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)


def told(load):
    out, _ = load.communicate()
    return json.loads(out)


def window(ports, busy, seconds):
    """What passed, in parts of what the limit lets pass in that time."""
    offered = LIMIT * 3 // 2
    quiet = offered // 10 // (len(ports) - 1)
    loads = [pace(port, offered * 9 // 10 if i == busy else quiet, seconds) for i, port in enumerate(ports)]
    passed = sum(told(load)["statuses"].get("200", 0) for load in loads)
    return passed / (LIMIT * seconds)


def stages(ports, plane, seconds):
    window(ports, 0, 3)
    yield "nine tenths at one sidecar", window(ports, 0, seconds)
    for second in (1, 2, 3):
        yield f"the load has moved to another: second {second}", window(ports, 5, 1)
    yield "then", window(ports, 5, seconds)
    plane.kill()
    yield f"control plane killed: the last shares, {KEEP} s", window(ports, 5, KEEP)
    time.sleep(2)
    yield f"then {FALLBACK} % of the limit at each sidecar", window(ports, 5, seconds)
    plane.start()
    window(ports, 5, KEEP + 6)
    yield "control plane back", window(ports, 5, seconds)


def latencies(ports, rounds):
    """Of requests that pass, in microseconds: medians of interleaved rounds."""
    figures = {name: {"p50": [], "p99": []} for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            report = told(pace(port, 1_000, 2, 8))
            for quantile, values in figures[name].items():
                values.append(report[quantile])
    return {name: {q: common.median(v) for q, v in of.items()} for name, of in figures.items()}


def policy(name, scope, limit, burst):
    text = POLICIES.format(name=name, scope=scope, limit=limit, burst=burst)
    return text + (MESH.format(keep=KEEP, fallback=FALLBACK) if scope == "Mesh" else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of one window")
    parser.add_argument("--rounds", type=int, default=5, help="of the latencies")
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    parser.add_argument("--check", action="store_true", help="fail where a figure is far from its goal")
    args = parser.parse_args()
    common.build()
    app, grpc, admin = common.free_ports(3)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as logs, contextlib.ExitStack() as stack:
        policies = [policy("shop", "Mesh", LIMIT, LIMIT // 10)]
        policies += [policy("lent", "Mesh", 100_000, 100_000), policy("own", "Local", 100_000, 100_000)]
        pathlib.Path(folder, "mesh.yaml").write_text("---\n".join(policies))
        log = pathlib.Path(logs, "log")
        stack.enter_context(common.process([common.binary("tidegate-bench"), "echo", "--listen", f"127.0.0.1:{app}"], log))
        plane = Plane(folder, log, grpc, admin)
        stack.callback(plane.kill)
        plane.start()
        ports = [sidecar(stack, log, "shop", app, grpc) for _ in range(SIDECARS)]
        beside = {scope: sidecar(stack, log, name, app, grpc) for scope, name in (("Mesh", "lent"), ("Local", "own"))}
        for port in [*ports, *beside.values()]:
            common.wait_until_answers(port, seconds=30)
        # Until a control plane that just started knows that nobody holds a share of one before.
        time.sleep(KEEP + 3)
        shares = list(stages(ports, plane, args.seconds))
        with common.awake() if hasattr(common, "awake") else contextlib.nullcontext():
            times = latencies(beside, args.rounds)
    report(shares, times, args)


def report(shares, times, args):
    rows = [[stage, f"{share:.3f}"] for stage, share in shares]
    text = common.table([f"limit {LIMIT}/s, {SIDECARS} sidecars", "admitted/limit"], rows)
    text += "\n\n" + common.table(
        ["1 000 requests/s at one sidecar", "p50 µs", "p99 µs"],
        [[f"scope: {name}", f"{of['p50']:.0f}", f"{of['p99']:.0f}"] for name, of in times.items()],
    )
    print(text)
    if not args.dry:
        common.write_section("mesh", text)
    if args.check:
        check(dict(shares))


def check(shares):
    """Wide enough for a busy machine, narrow enough to notice a limit that multiplies or starves."""
    for stage in ("nine tenths at one sidecar", "then", "control plane back"):
        assert 0.9 <= shares[stage] <= 1.05, (stage, shares[stage])
    fallback = shares[f"then {FALLBACK} % of the limit at each sidecar"]
    assert 0 < fallback <= SIDECARS * FALLBACK / 100 + 0.1, fallback


if __name__ == "__main__":
    main()
