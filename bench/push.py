#!/usr/bin/env python3
"""From the write of a policy file to its effect: one control plane, three proxies, live load.

Each edit renames a new version of a route over the old one; the time is taken until each proxy answers with it.
Meanwhile clients keep asking; every answer that is not 200 counts as failed. Writes its table into bench/README.md
unless --dry is given.
"""

import argparse
import contextlib
import http.client
import pathlib
import tempfile
import threading
import time

import common

PROXIES = 3

MESH = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: tidegate
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {{name: app}}
spec:
  endpoints: [{{address: 127.0.0.1, port: {app}}}]
"""

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {{set: [{{name: x-edit, value: "{edit}"}}]}}
    backendRefs: [{{group: tidegate.io, kind: Backend, name: app, port: {app}}}]
"""


class Load(threading.Thread):
    """One client that asks one proxy until told to stop."""

    def __init__(self, port, stop):
        super().__init__(daemon=True)
        self.port, self.stop, self.sent, self.failed = port, stop, 0, []

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        while not self.stop.is_set():
            self.sent += 1
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    self.failed.append(response.status)
            except OSError as error:
                self.failed.append(repr(error))
                connection.close()
            time.sleep(0.002)


def seen(port, edit):
    """Waits until the proxy answers with this edit; the moment it was seen."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(20_000):
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        if response.getheader("x-edit") == str(edit):
            return time.monotonic()
        time.sleep(0.001)
    raise SystemExit(f"bench: edit {edit} never reached 127.0.0.1:{port}")


def write(folder, edit, app):
    new = pathlib.Path(folder, ".route.new")
    new.write_text(ROUTE.format(edit=edit, app=app))
    new.rename(pathlib.Path(folder, "route.yaml"))
    return time.monotonic()


def one_edit(folder, edit, app, ports):
    """Milliseconds until the last of the proxies enforces the edit."""
    moments = [0.0] * len(ports)

    def watch(i):
        moments[i] = seen(ports[i], edit)

    watchers = [threading.Thread(target=watch, args=(i,)) for i in range(len(ports))]
    written = write(folder, edit, app)
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    return (max(moments) - written) * 1000


def start(stack, folder, log, app):
    grpc, admin, *offsets = common.free_ports(2 + PROXIES)
    admins = common.free_ports(PROXIES)
    command = [common.binary("tidegate-control-plane"), "--policies", folder]
    command += ["--listen", f"127.0.0.1:{grpc}", "--admin", f"127.0.0.1:{admin}"]
    stack.enter_context(common.process(command, log))
    ports = []
    for i, offset in enumerate(offsets):
        command = [common.binary("tidegate-proxy"), "--control-plane", f"http://127.0.0.1:{grpc}", "--gateway"]
        command += ["--node", f"edge-{i}", "--port-offset", str(offset - 80), "--workers", "1"]
        command += ["--admin", f"127.0.0.1:{admins[i]}", "--access-log", "off"]
        stack.enter_context(common.process(command, log))
        ports.append(offset)
    for port in ports:
        common.wait_until_answers(port)
    return ports


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds of load between two edits")
    parser.add_argument("--dry", action="store_true", help="print only; leave README.md alone")
    args = parser.parse_args()
    common.build()
    [app] = common.free_ports(1)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as logs, contextlib.ExitStack() as stack:
        pathlib.Path(folder, "mesh.yaml").write_text(MESH.format(app=app))
        write(folder, 0, app)
        log = pathlib.Path(logs, "log")
        server = [common.binary("tidegate"), "demo-service", "checkout-v1", "--listen", f"127.0.0.1:{app}"]
        stack.enter_context(common.process(server, log))
        ports = start(stack, folder, log, app)
        stop = threading.Event()
        load = [Load(port, stop) for port in ports]
        for client in load:
            client.start()
        times = []
        for edit in range(1, args.edits + 1):
            time.sleep(args.pause)
            times.append(one_edit(folder, edit, app, ports))
        time.sleep(args.pause)
        stop.set()
        for client in load:
            client.join()
    report(times, load, args)


def report(times, load, args):
    failed = [f for client in load for f in client.failed]
    sent = sum(client.sent for client in load)
    header = ["", "p50 ms", "p99 ms", "max ms", "requests meanwhile", "failed"]
    figures = [f"{common.percentile(times, p):.0f}" for p in (50, 99, 100)]
    text = common.table(header, [[f"{args.edits} edits, {PROXIES} proxies", *figures, str(sent), str(len(failed))]])
    text += "\n\nFrom the rename of the file until the last of the proxies answered with the new version."
    print(text)
    if failed:
        print("failed:", failed[:10])
    if not args.dry:
        common.write_section("push", text)


if __name__ == "__main__":
    main()
