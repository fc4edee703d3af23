#!/usr/bin/env python3
"""What many sidecars and many Services cost: one control plane, a fleet of sidecars without proxies, and one real sidecar.

A thousand clients of one process (`control-plane/examples/fleet.rs`), each of which asks for five Services, stay connected
while a policy is rewritten: one that concerns them all, and one of a single Service. Times are taken from the write of the
file to the acknowledgement; the control plane's CPU is what its threads ran. Beside ten thousand Services, a real sidecar
then calls five of them. Writes its tables into bench/README.md unless --dry is given; needs nothing but cargo.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import pathlib
import subprocess
import tempfile
import threading
import time

import common

CALLED = 5

SERVICE = """\
---
apiVersion: v1
kind: Service
metadata: {{name: s{i}, namespace: mesh}}
spec: {{clusterIP: 10.{a}.{b}.{c}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s{i}, namespace: mesh, labels: {{kubernetes.io/service-name: s{i}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"""


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def write(folder, services, port):
    """A hundred Services in a file."""
    for first in range(0, services, 100):
        numbers = range(first, min(first + 100, services))
        texts = [SERVICE.format(i=i, a=100 + i // 65536, b=i // 256 % 256, c=i % 256, port=port) for i in numbers]
        (folder / f"mesh-{first:06}.yaml").write_text("".join(texts))


@contextlib.contextmanager
def control_plane(folder, log):
    grpc, admin = common.free_ports(2)
    command = [common.binary("tidegate-control-plane"), "--policies", str(folder),
               "--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
    with common.process(command, log) as child:
        common.wait_until_answers(admin, "/ready", seconds=60)
        yield child.pid, grpc, admin


def fleet(services, nodes, rounds, port, log):
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder), services, port)
        with control_plane(pathlib.Path(folder), log) as (pid, grpc, _):
            alone = common.rss_mib(pid)
            command = [str(common.TARGET / "release" / "examples" / "fleet"), f"http://127.0.0.1:{grpc}", folder,
                       str(pid), str(nodes), str(services), str(CALLED), str(rounds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
            return {**json.loads(done.stdout), "alone_mib": alone}


def sidecar(services, port, log, on_demand=True):
    """A real one: its memory, and how many resources it was told of."""
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder), services, port)
        with control_plane(pathlib.Path(folder), log) as (_, grpc, admin):
            outbound, status = common.free_ports(2)
            command = [common.binary("tidegate-proxy"), "--sidecar", "--control-plane", f"http://127.0.0.1:{grpc}",
                       "--namespace", "mesh", "--outbound", f"127.0.0.1:{outbound}", "--admin", f"127.0.0.1:{status}",
                       "--access-log", "off", *(["--on-demand"] if on_demand else [])]
            with common.process(command, log) as child:
                common.wait_until_answers(status, "/ready", seconds=60)
                for i in range(CALLED):
                    for _ in range(100):
                        client = http.client.HTTPConnection("127.0.0.1", outbound, timeout=10)
                        client.request("GET", "/", headers={"host": f"s{i}.mesh"})
                        assert client.getresponse().status == 200
                        client.close()
                time.sleep(1)
                asked = http.client.HTTPConnection("127.0.0.1", admin, timeout=60)
                asked.request("GET", "/status?kind=Service&name=s0")
                node = json.loads(asked.getresponse().read())["nodes"][0]
                return common.rss_mib(child.pid), node["of"]


def figures(args, port, log):
    rows = ["| Services | the control plane alone | sidecars | resources each | what changes | concerns | p50 | p99 | all have it, at worst | CPU | memory |",
            "|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|"]
    for services in args.services:
        told = fleet(services, args.nodes, args.rounds, port, log)
        for which, what in (("all", "a policy of all"), ("one", "a policy of one Service")):
            one = told[which]
            rows.append(f"| {services} | {told['alone_mib']:.0f} MiB | {told['nodes']} | {told['resources']} | {what} | {one['concerned']} | "
                        f"{one['p50_ms']} ms | {one['p99_ms']} ms | {one['by_all_ms']} ms | {one['cpu_ms']} ms | "
                        f"{told['memory_after_kib'] / 1024:.0f} MiB |")
            print(rows[-1], flush=True)
    table = ["", "| Services in the mesh | called | resources that the sidecar was told | its memory |", "|--:|--:|--:|--:|"]
    for services in args.services:
        for on_demand in (True, False) if services <= 1000 else (True,):
            memory, told = sidecar(services, port, log, on_demand)
            how = "" if on_demand else " (without `--on-demand`)"
            table.append(f"| {services}{how} | {CALLED} | {told} | {memory:.1f} MiB |")
    return "\n".join(rows + table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--services", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--built", action="store_true", help="the programs and the example are there already")
    parser.add_argument("--dry", action="store_true", help="print only")
    args = parser.parse_args()
    if not args.built:
        common.build()
        subprocess.run(["cargo", "build", "--release", "-p", "tidegate-control-plane", "--example", "fleet"],
                       cwd=common.ROOT, check=True)
    app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=app.serve_forever, daemon=True).start()
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        text = figures(args, app.server_port, log.name)
    print(text)
    if not args.dry:
        common.write_section("scale", f"{text}\n\n{common.machine()}.")


if __name__ == "__main__":
    main()
