#!/usr/bin/env python3
"""What plugins cost: one that adds a header, ones that mean harm, and reloads.

One `tidegate run` on one processor, its load on the other. Two routes: one without a plugin, which is measured, and one with.
CPU that a plugin adds is the difference between them. Of hostile plugins, the route without one is loaded to its limit while the
other gets twenty requests a second, in rounds that alternate with a harmless plugin. Reloads change the plugin's
configuration and wait for its effect. Prints tables. Needs h2load, wat2wasm, nginx and taskset.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import common
from peers.tidegate import GATEWAY, ROUTE

HOSTILE = {
    "loop": "an endless loop",
    "memory": "a memory bomb",
    "hostcalls": "a flood of hostcalls",
    "panics": "a trap in every callback",
}

RULE = """\
  - matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]
    backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {app}}}]
"""


def policy(module, configuration=None, name="p0"):
    spec = {
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "with"}],
        "source": {"file": str(module)},
    }
    if configuration is not None:
        spec["configuration"] = configuration
    return json.dumps({"apiVersion": "tidegate.io/v1alpha1", "kind": "WasmPlugin", "metadata": {"name": name}, "spec": spec})


class Mesh:
    """One process with a plugin, before a backend that answers at once."""

    def __init__(self, stack, app, plugins):
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.port, self.admin = common.free_ports(2)
        self.policies = self.folder / "policies"
        self.policies.mkdir()
        listener = f"{{name: http, port: {self.port}, protocol: HTTP}}"
        routes = "".join((ROUTE + RULE).format(name=name, app=app) for name in ("without", "with"))
        (self.policies / "mesh.yaml").write_text(GATEWAY.format(listener=listener, app=app, canary=app) + routes)
        self.write(plugins)
        command = [common.binary("tidegate"), "run", "--policies", str(self.policies), "--status", "127.0.0.1:0"]
        command += ["--admin", f"127.0.0.1:{self.admin}", "--workers", "1", "--access-log", "off"]
        self.process = stack.enter_context(common.process(common.pinned(0, command), self.folder / "log"))
        common.wait_until_answers(self.port, "/without")
        while b'"loaded": true' not in self.get("/status", self.admin)[1]:
            time.sleep(0.02)

    def write(self, text):
        """As editors do: the file is there whole, or not at all."""
        new = self.folder / "new"
        new.write_text(text)
        new.rename(self.policies / "plugin.yaml")

    def get(self, path, port=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def load(self, path, seconds):
        """Requests a second at most, and the proxy's CPU for each in microseconds."""
        before = common.cpu_nanoseconds([self.process.pid])
        command = ["h2load", "--h1", "-t1", "-c16", "-D", str(seconds), f"http://127.0.0.1:{self.port}{path}"]
        said = subprocess.run(common.pinned(1, command), capture_output=True, text=True, check=True).stdout
        spent = common.cpu_nanoseconds([self.process.pid]) - before
        done = int(re.search(r"(\d+) succeeded", said).group(1))
        if not done:
            sys.exit(f"wasm: nothing was answered:\n{said}")
        return done / seconds, spent / 1e3 / done


@contextlib.contextmanager
def asked(mesh, rate):
    """Meanwhile the route with the plugin gets so many requests a second."""
    over = threading.Event()

    def ask():
        while not over.wait(1 / rate):
            with contextlib.suppress(OSError, http.client.HTTPException):
                mesh.get("/with")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def backend(stack, folder):
    [port] = common.free_ports(1)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; error_log /dev/null crit; pid {folder}/pid; events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; keepalive_requests 100000000; server {{ listen 127.0.0.1:{port}; "
        f"location / {{ return 200 ok; }} }} }}\n"
    )
    stack.enter_context(common.process(common.pinned(1, ["nginx", "-c", str(config)]), folder / "nginx.log"))
    common.wait_until_answers(port)
    return port


def assembled(folder):
    for source in sorted((common.ROOT / "bench" / "hostile").glob("*.wat")):
        subprocess.run(["wat2wasm", str(source), "-o", str(folder / f"{source.stem}.wasm")], check=True)
    return lambda name: folder / f"{name}.wasm"


def header(app, module, args):
    """CPU per request with and without, in turn."""
    with contextlib.ExitStack() as stack:
        mesh = Mesh(stack, app, policy(module))
        mesh.load("/with", 1)
        costs = {"/without": [], "/with": []}
        for _ in range(args.rounds):
            for path, seen in costs.items():
                seen.append(mesh.load(path, args.seconds)[1])
    without, plugged = (common.median(costs[path]) for path in ("/without", "/with"))
    more = [b - a for a, b in zip(costs["/without"], costs["/with"])]
    row = ["adds a header", f"{without:.1f}", f"{plugged:.1f}", f"{common.median(more):.1f}"]
    return common.table(["CPU per request, µs", "without", "with", "more"], [row])


def hostile(app, module, args):
    rows = []
    for name, title in HOSTILE.items():
        with contextlib.ExitStack() as stack:
            meshes = [Mesh(stack, app, policy(module(which))) for which in ("harmless", name)]
            seen = ([], [])
            for mesh in meshes:
                mesh.load("/without", 1)
            for _ in range(args.rounds):
                for mesh, loads in zip(meshes, seen):
                    with asked(mesh, 20):
                        loads.append(mesh.load("/without", args.seconds))
            if meshes[1].process.poll() is not None:
                sys.exit(f"wasm: {title} has ended the process")
            (well, _), (rate, _) = (map(sum, zip(*loads)) for loads in seen)
            rounds = [hit / still for (still, _), (hit, _) in zip(*seen)]
            shown = [rate / well, common.median(rounds), rounds[0]]
            row = [title, *(f"{ratio:.3f}" for ratio in shown), f"{common.rss_mib(meshes[1].process.pid):.0f}"]
            rows.append(row)
    span = args.rounds * args.seconds
    heads = ["Other traffic, ÷ beside a harmless plugin", f"in {span} s", "median of rounds", "the first", "resident MiB then"]
    return common.table(heads, rows)


def share(app, module, args):
    """How long a hostile plugin's callbacks keep a thread while it is asked, by the proxy's own account, one after the other."""
    rows = []
    for name, title in HOSTILE.items():
        with contextlib.ExitStack() as stack:
            mesh = Mesh(stack, app, policy(module(name)))
            with asked(mesh, 20):
                time.sleep(args.span)
            page = mesh.get("/metrics", mesh.admin)[1].decode()

        def value(metric, page=page):
            found = re.findall(rf"^tidegate_plugin_{metric}.* (\S+)$", page, re.M)
            return sum(map(float, found))

        taken = value("time_seconds_total")
        shown = [f"{1e3 * taken:.0f}", f"{100 * taken / args.span:.2f} %", f"{value('quarantines_total'):.0f}"]
        rows.append([title, *shown])
    return common.table([f"In {args.span} s at 20 requests/s", "in its callbacks, ms", "of a thread", "quarantines"], rows)


def tokens(at, of=0):
    """Lets one token pass, which no other reload does."""
    return {"header": f"x-token-{of}", "tokens": {f"t{at}": "ann"}}


def reloads(app, module, args):
    """By configurations that let other tokens pass: a request passes when every plugin has the newest."""
    with contextlib.ExitStack() as stack:
        def written(at):
            return "\n---\n".join(policy(module, tokens(at, of), f"p{of}") for of in range(args.together))

        mesh = Mesh(stack, app, written(0))
        rounds = -(-args.reloads // args.together)
        warm, memory = -(-rounds // 10), 0
        for at in range(1, rounds + warm + 1):
            mesh.write(written(at))
            end = time.monotonic() + 30
            while mesh.get("/with", **{f"x_token_{of}": f"t{at}" for of in range(args.together)})[0] != 200:
                if time.monotonic() > end:
                    sys.exit(f"wasm: reload {at} has no effect")
                time.sleep(0.001)
            if at == warm:
                time.sleep(3)
                memory = common.rss_mib(mesh.process.pid)
        time.sleep(3)
        after = common.rss_mib(mesh.process.pid)
    row = [f"{rounds * args.together}", f"{memory:.1f}", f"{after:.1f}", f"{after / memory:.3f}"]
    return common.table(["reloads", f"resident after the first {warm * args.together}, MiB", "at the end", "ratio"], [row])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=6, help="of each round")
    parser.add_argument("--span", type=int, default=60, help="seconds for which hostile plugins are asked")
    parser.add_argument("--reloads", type=int, default=10_000)
    parser.add_argument("--together", type=int, default=16, help="plugins that one change of a file reloads")
    parser.add_argument("--only", choices=["header", "hostile", "share", "reloads"])
    parser.add_argument("--auth", type=pathlib.Path, default=common.ROOT / "plugins/target/modules/header_auth.wasm",
                        help="header_auth.wasm, as .ci/plugins.py builds it")
    parser.add_argument("--bin-dir", type=pathlib.Path, help="where `tidegate` was built already")
    args = parser.parse_args()
    common.need("h2load", "taskset", "wat2wasm", "nginx")
    common.BINARIES = args.bin_dir
    common.build()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        module, app = assembled(folder), backend(stack, folder)
        parts = {
            "header": lambda: header(app, module("harmless"), args),
            "hostile": lambda: hostile(app, module, args),
            "share": lambda: share(app, module, args),
            "reloads": lambda: reloads(app, args.auth.resolve(), args),
        }
        for name, part in parts.items():
            if args.only in (None, name):
                print(part(), flush=True)


main()
