#!/usr/bin/env python3
"""What the checks on files cost: 10 000 documents validated with all lints, and logs replayed on one core and on all.

Prints medians of several rounds, and the peak of memory, which must not grow with the log. Needs nothing but cargo and taskset.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import common

SERVICE = """\
---
apiVersion: v1
kind: Service
metadata: {{name: s{i}, namespace: n{n}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{i}-1, namespace: n{n}, labels: {{kubernetes.io/service-name: s{i}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.0.0.1]}}, {{addresses: [10.0.0.2]}}]
"""
ROUTE = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r{i}, namespace: n{n}}}
spec:
  parentRefs: [{{name: edge, namespace: front}}]
  hostnames: ["h{i}.example"]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: /a{i}}}}}, {{headers: [{{name: x-v, value: "{i}"}}]}}]
      backendRefs: [{{name: s{i}, port: 80}}]
    - backendRefs: [{{name: s{i}, port: 80, weight: 3}}]
"""
POLICY = """\
---
apiVersion: tidegate.io/v1alpha1
kind: {kind}
metadata: {{name: p{k}, namespace: n{n}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r{i}}}]
  {spec}
"""
SPECS = {
    "RateLimitPolicy": "limits: [{name: each, requests: 50, per: 1s, key: [{type: Header, name: x-user}]}]",
    "TimeoutPolicy": "request: 5s",
    "AuthorizationPolicy": (
        "rules: [{name: methods, action: Deny, when: \"request.method == 'DELETE'\"}]"
    ),
}
GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: front}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
"""


def documents(folder, routes, policies, files):
    """A gateway, `routes` routes with a Service and its slice each, and `policies` policies on them; in so many files."""
    texts = [""] * files
    for i in range(routes):
        place = {"i": i, "n": i % 50}
        texts[i % files] += SERVICE.format(**place) + ROUTE.format(**place)
    kinds = list(SPECS.items())
    for k in range(policies):
        i = k % routes
        kind, spec = kinds[(i + k // routes) % len(kinds)]
        texts[i % files] += POLICY.format(kind=kind, spec=spec, k=k, i=i, n=i % 50)
    folder.mkdir()
    (folder / "gateway.yaml").write_text(GATEWAY)
    for at, text in enumerate(texts):
        (folder / f"{at}.yaml").write_text(text)
    return 1 + 3 * routes + policies


def log(path, lines, routes):
    with path.open("w") as out:
        for at in range(lines):
            second, route = at // 5000, at * 7919 % routes
            out.write(
                json.dumps(
                    {
                        "start_time": f"2026-03-01T10:{second // 60 % 60:02}:{second % 60:02}.{at % 5000 // 5:03}Z",
                        "method": "GET",
                        "path": f"/a{route}/{at % 97}",
                        "authority": f"h{route}.example",
                        "response_code": 200,
                        "duration": 12,
                        "x-user": f"u{at * 31 % 1000}",
                    }
                )
                + "\n"
            )


def run(command, well=(0,)):
    """Seconds by the clock, seconds of processor time, MiB at most, and what was printed."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if child.returncode not in well:
        sys.exit(f"offline: {command[0]} ended with {child.returncode}:\n{text[-2000:]}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def median(rounds, command):
    """Medians of the three numbers of [`run`]."""
    seen = [run(command)[:3] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*seen)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the shorter log; the longer has three times as many")
    parser.add_argument("--bin-dir", type=pathlib.Path, help="where `tidegate` was built already")
    args = parser.parse_args()
    common.need("taskset")
    common.BINARIES = args.bin_dir
    if not args.bin_dir:
        common.build()
    tidegate = common.binary("tidegate")
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        count = documents(place / "many", 1800, 4599, 100)
        took, cpu, memory = median(args.rounds, [tidegate, "validate", str(place / "many")])
        print(f"validate: {count} documents in {took:.2f} s ({cpu:.2f} s of processor time, {memory:.0f} MiB)")
        documents(place / "few", 50, 20, 5)
        for lines in (args.lines, 3 * args.lines):
            traffic = place / "access.log"
            log(traffic, lines, 50)
            command = [tidegate, "simulate", "--policies", str(place / "few"), "--traffic", str(traffic)]
            command += ["--format", "envoy", "--header", "x-user=x-user", "--json"]
            for pinned, where in ((["taskset", "-c", "0"], "one core"), ([], "all cores")):
                took, cpu, memory = median(args.rounds, [*pinned, *command])
                print(
                    f"simulate: {lines} requests of a log in {took:.2f} s on {where} ({lines / took / 1e6:.2f} million "
                    f"a second; {cpu:.2f} s of processor time, {memory:.0f} MiB)"
                )


main()
