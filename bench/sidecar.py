#!/usr/bin/env python3
"""Direct against one Tidegate sidecar with one worker: HTTP/1.1 keep-alive, in interleaved rounds.

Reports requests/s, CPU microseconds of the proxy per request, and added latency; then the memory of a sidecar at
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


def one_round(ports, proxy, seconds):
    """One turn of each: direct and proxied, saturated and with a single connection."""
    result = {}
    for name, port in ports.items():
        before = common.cpu_seconds(proxy.pid)
        result[name] = wrk(port, 32, seconds)
        result[name]["cpu"] = (common.cpu_seconds(proxy.pid) - before) / result[name]["requests"] * 1e6
        result[name + " 1"] = wrk(port, 1, seconds)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    args = parser.parse_args()
    common.need("wrk", "nginx")
    common.build()
    app, sidecar, admin = common.free_ports(3)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config = pathlib.Path(folder, "nginx.conf")
        config.write_text(NGINX.format(dir=folder, port=app))
        log = pathlib.Path(folder, "log")
        stack.enter_context(common.process(common.pinned(1, ["nginx", "-c", str(config)]), log))
        command = [common.binary("tidegate-proxy"), "--inbound", f"127.0.0.1:{sidecar}", "--app", f"127.0.0.1:{app}"]
        command += ["--workers", "1", "--access-log", "off", "--admin", f"127.0.0.1:{admin}"]
        proxy = stack.enter_context(common.process(common.pinned(0, command), log))
        common.wait_until_answers(sidecar)
        time.sleep(2)
        rest = common.rss_mib(proxy.pid)
        ports = {"direct": app, "tidegate": sidecar}
        rounds = [one_round(ports, proxy, args.seconds) for _ in range(args.rounds)]
        busy = common.rss_mib(proxy.pid)
    report(rounds, rest, busy, args)


def report(rounds, rest, busy, args):
    def mid(run, figure):
        return common.median([r[run][figure] for r in rounds])

    def row(name, run):
        cpu = f"{mid(run, 'cpu'):.1f}" if run == "tidegate" else "-"
        one = run + " 1"
        return [name, f"{mid(run, 'rps'):.0f}", cpu, f"{mid(one, 'p50'):.0f}", f"{mid(one, 'p99'):.0f}"]

    header = ["", "requests/s, 32 connections", "proxy CPU µs/request", "p50 µs, 1 connection", "p99 µs, 1 connection"]
    added = ["added", "", "", *(f"{common.median([r['tidegate 1'][p] - r['direct 1'][p] for r in rounds]):.0f}" for p in ("p50", "p99"))]
    text = common.table(header, [row("direct", "direct"), row("through a sidecar", "tidegate"), added])
    text += f"\n\nMedians of {args.rounds} interleaved rounds of {args.seconds} s each. "
    text += f"Resident memory of the sidecar: {rest:.1f} MiB at rest, {busy:.1f} MiB after the load."
    print(text)
    if not args.dry:
        common.write_section("sidecar", text)


if __name__ == "__main__":
    main()
