#!/usr/bin/env python3
"""Direct against one Tidegate proxy with one worker: HTTP/1.1 keep-alive, in interleaved rounds.

Once as a sidecar without a policy, once as a gateway with a keyed limit and a breaker that never trip. Reports requests/s, CPU microseconds of the proxy per request, and added latency; then the memory of a sidecar at
rest. Writes its tables into bench/README.md unless --dry is given.
"""

import argparse
import contextlib
import pathlib
import re
import subprocess
import tempfile
import time

import common

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok\\n"; }} }} }}
"""

POLICIES = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: tidegate
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {app}}}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: app}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {app}}}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: per-client}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}}]
  limits:
  - name: per-client
    requests: 1000000
    per: 1s
    key: [{{type: ClientAddress}}]
---
apiVersion: tidegate.io/v1alpha1
kind: CircuitBreakerPolicy
metadata: {{name: app}}
spec:
  targetRefs: [{{group: tidegate.io, kind: Backend, name: app}}]
  caps: [{{scope: Backend, connections: 1000, requests: 1000}}]
  breakers: [{{name: endpoint, scope: Endpoint, consecutiveFailures: 5, open: 1s}}]
"""

UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}


def wrk(port, connections, seconds):
    """Runs wrk on the second processor: {rps, requests, p50, p99}, latencies in microseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}/"]
    out = subprocess.run(common.pinned(1, command), capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"bench: the run was not clean:\n{out}")

    def latency(p):
        value, unit = re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * UNITS[unit]

    return {
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
        "requests": int(re.search(r"(\d+) requests in", out).group(1)),
        "p50": latency(50),
        "p99": latency(99),
    }


def one_round(peers, seconds):
    """One turn of each, saturated and with a single connection. `peers`: name -> (port, proxy or None)."""
    result = {}
    for name, (port, proxy) in peers.items():
        before = common.cpu_seconds(proxy.pid) if proxy else 0
        result[name] = wrk(port, 32, seconds)
        spent = common.cpu_seconds(proxy.pid) - before if proxy else 0
        result[name]["cpu"] = spent / result[name]["requests"] * 1e6
        result[name + " 1"] = wrk(port, 1, seconds)
    return result


def start_proxy(stack, log, arguments):
    """A proxy with one worker and a processor to itself; its admin port is of no interest."""
    [admin] = common.free_ports(1)
    command = [common.binary("tidegate-proxy"), *arguments, "--workers", "1", "--access-log", "off"]
    command += ["--admin", f"127.0.0.1:{admin}"]
    return stack.enter_context(common.process(common.pinned(0, command), log))


def start_gateway(stack, folder, log, app):
    """A control plane with the policies above and a gateway that follows it: (port, process)."""
    policies = pathlib.Path(folder, "policies")
    policies.mkdir()
    pathlib.Path(policies, "mesh.yaml").write_text(POLICIES.format(app=app))
    grpc, admin, port = common.free_ports(3)
    command = [common.binary("tidegate-control-plane"), "--policies", str(policies)]
    command += ["--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
    stack.enter_context(common.process(command, log))
    arguments = ["--gateway", "--control-plane", f"http://127.0.0.1:{grpc}", "--port-offset", str(port - 80)]
    return port, start_proxy(stack, log, arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    args = parser.parse_args()
    common.need("wrk", "nginx")
    common.build()
    app, sidecar = common.free_ports(2)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config = pathlib.Path(folder, "nginx.conf")
        config.write_text(NGINX.format(dir=folder, port=app))
        log = pathlib.Path(folder, "log")
        stack.enter_context(common.process(common.pinned(1, ["nginx", "-c", str(config)]), log))
        proxy = start_proxy(stack, log, ["--inbound", f"127.0.0.1:{sidecar}", "--app", f"127.0.0.1:{app}"])
        common.wait_until_answers(sidecar)
        time.sleep(2)
        rest = common.rss_mib(proxy.pid)
        gateway = start_gateway(stack, folder, log, app)
        common.wait_until_answers(gateway[0])
        peers = {"direct": (app, None), "sidecar": (sidecar, proxy), "policies": gateway}
        rounds = [one_round(peers, args.seconds) for _ in range(args.rounds)]
        busy = common.rss_mib(proxy.pid)
    report(rounds, rest, busy, args)


def report(rounds, rest, busy, args):
    def mid(run, figure):
        return common.median([r[run][figure] for r in rounds])

    def row(name, run):
        one = run + " 1"
        cpu = "-" if run == "direct" else f"{mid(run, 'cpu'):.1f}"
        figures = [f"{mid(one, p):.0f}" for p in ("p50", "p99")]
        if run != "direct":
            figures = [f"{f} (+{added(one, p):.0f})" for f, p in zip(figures, ("p50", "p99"))]
        return [name, f"{mid(run, 'rps'):.0f}", cpu, *figures]

    def added(one, figure):
        return common.median([r[one][figure] - r["direct 1"][figure] for r in rounds])

    header = ["", "requests/s, 32 connections", "proxy CPU µs/request", "p50 µs, 1 connection", "p99 µs, 1 connection"]
    rows = [row("direct", "direct"), row("through a sidecar", "sidecar")]
    rows.append(row("through a gateway with a keyed limit, caps and a breaker", "policies"))
    text = common.table(header, rows)
    text += f"\n\nMedians of {args.rounds} interleaved rounds of {args.seconds} s each. "
    text += f"Resident memory of the sidecar: {rest:.1f} MiB at rest, {busy:.1f} MiB after the load."
    print(text)
    if not args.dry:
        common.write_section("sidecar", text)


if __name__ == "__main__":
    main()
