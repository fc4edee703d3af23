#!/usr/bin/env python3
"""Connections that real iptables leads to a sidecar, in a network namespace of their own.

Starts itself again in a new network namespace, and has `tidegate redirect` set what an init container would: every outgoing
connection but the sidecar's own, and incoming ones for the application's ports. Then calls a Service and a pod by their
addresses, over IPv4 and IPv6, by HTTP and by a protocol in which the server speaks first; and calls the application from
another namespace, as another pod would. Nothing outside of the namespaces is touched.

Needs root, unshare, nsenter, ip, iptables and setpriv, which it installs on Debian; says why where it is skipped.
"""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import common  # noqa: E402

INSIDE = "TIDEGATE_IN_NAMESPACE"
# The user that the sidecar runs as: the rule tells its connections by it.
SIDECAR_USER = "65534"
OUTBOUND, INBOUND = 15001, 15006
APP, SECOND, EXCLUDED = 8080, 9090, 3307
# This pod as others see it, and another one.
HERE, OUTSIDE = ("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")
# ClusterIPs and pods; nobody answers at a ClusterIP itself.
CLUSTER_IPS, PODS = ("10.96.0.7", "fd00:96::7"), ("10.244.0.9", "fd00:244::9")

MESH = f"""\
apiVersion: v1
kind: Service
metadata: {{name: cart, namespace: shop}}
spec:
  clusterIP: {CLUSTER_IPS[0]}
  clusterIPs: [{CLUSTER_IPS[0]}, "{CLUSTER_IPS[1]}"]
  ports: [{{name: http, port: 80}}, {{name: greeter, port: 3306}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: cart, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}, {{name: greeter, port: 3306}}]
endpoints: [{{addresses: [{PODS[0]}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: cart, namespace: shop}}
spec:
  parentRefs: [{{group: "", kind: Service, name: cart, port: 80}}]
  rules:
  - matches: [{{path: {{value: /routed}}}}]
    filters:
    - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-routed, value: "yes"}}]}}}}
    backendRefs: [{{name: cart, port: 80}}]
"""


class Pod(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.headers["host"].encode()
        if self.path == "/port":
            body = str(self.server.server_port).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class DualStack(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def absent():
    return [tool for tool in ("unshare", "nsenter", "ip", "iptables", "ip6tables", "setpriv") if not shutil.which(tool)]


def missing():
    if os.geteuid() != 0:
        return "this needs root"
    if absent() and shutil.which("apt-get"):
        packages = ["iptables", "iproute2", "util-linux"]
        subprocess.run(["apt-get", "install", "--yes", "--quiet", *packages], stdout=subprocess.DEVNULL)
    return f"not installed: {', '.join(absent())}" if absent() else None


def run(command):
    subprocess.run(command.split(), check=True)


def addresses():
    run("ip link set lo up")
    for address in (*CLUSTER_IPS, *PODS):
        family = "-6" if ":" in address else "-4"
        # ClusterIPs are routed and nobody's; pods are addresses of this machine.
        bits = 128 if ":" in address else 32
        what = "addr" if address in PODS else "route"
        run(f"ip {family} {what} add {address}/{bits} dev lo" + (" nodad" if what == "addr" and bits == 128 else ""))


@contextlib.contextmanager
def another_pod():
    """A network namespace with a link to this one; its process id."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        own = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own)
        enter = f"nsenter --target {process.pid} --net "
        run(f"ip link add eth0 type veth peer name eth0 netns {process.pid}")
        for prefix, both in (("", HERE), (enter, OUTSIDE)):
            run(f"{prefix}ip link set lo up")
            run(f"{prefix}ip addr add {both[0]}/24 dev eth0")
            run(f"{prefix}ip addr add {both[1]}/64 dev eth0 nodad")
            run(f"{prefix}ip link set eth0 up")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def tables():
    """Both families' rules, without the counters and times that iptables prints."""
    saved = [subprocess.run([f"{name}-save", "-t", "nat"], check=True, capture_output=True, text=True).stdout
             for name in ("iptables", "ip6tables")]
    return [[line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")] for text in saved]


def redirect(binary, *flags):
    subprocess.run([binary, "redirect", *flags], check=True)


def intercept(binary):
    flags = [f"--uid={SIDECAR_USER}", f"--outbound-port={OUTBOUND}", f"--inbound-port={INBOUND}", f"--inbound={APP},{SECOND}",
             f"--exclude-outbound={EXCLUDED}", "--exclude-inbound=15020", "--exclude-cidr=203.0.113.0/24,2001:db8:9::/48"]
    before = tables()
    redirect(binary, *flags)
    once = tables()
    check("both families have their chains", all("-A OUTPUT -p tcp -j TIDEGATE_OUTPUT" in rules for rules in once))
    redirect(binary, *flags)
    check("to redirect twice is to redirect once", tables() == once)
    redirect(binary, "--cleanup")
    left = [rule for rules in tables() for rule in rules if "TIDEGATE" in rule]
    check("cleaning up leaves nothing behind", not left and len(before) == 2)
    redirect(binary, "--cleanup")
    redirect(binary, *flags)
    check("and it can be set again", tables() == once)


def greet(server):
    while True:
        client, _ = server.accept()
        client.sendall(b"5.7.0-tide\n")
        client.close()


def serve():
    for port in (APP, SECOND):
        threading.Thread(target=DualStack(("::", port), Pod).serve_forever, daemon=True).start()
    for port in (3306, EXCLUDED):
        greeter = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=greet, args=(greeter,), daemon=True).start()


@contextlib.contextmanager
def sidecar(binary):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (pathlib.Path(folder) / "mesh.yaml").write_text(MESH)
        # Where a user without rights can run it.
        command = shutil.copy(binary, folder)
        log = open(pathlib.Path(folder) / "access.log", "w+")
        process = subprocess.Popen(
            ["setpriv", f"--reuid={SIDECAR_USER}", "--clear-groups", command, "run", "--sidecar", "--policies", folder,
             "--namespace", "shop", "--workload", "web", "--outbound", f"[::]:{OUTBOUND}",
             "--listen", f"[::]:{INBOUND}", "--app", f"127.0.0.1:{APP}", "--app-port", str(SECOND),
             "--status", "127.0.0.1:0", "--admin", "127.0.0.1:15020"],
            stdout=log, stdin=subprocess.DEVNULL)
        try:
            until(lambda: urllib.request.urlopen("http://127.0.0.1:15020/ready", timeout=5).status == 200)
            yield log
        finally:
            process.terminate()
            process.wait(timeout=30)


def until(wanted):
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            if wanted():
                return
        if time.monotonic() > end:
            sys.exit("waited for 30 seconds in vain")
        time.sleep(0.1)


def get(address, port, path, host):
    url = f"http://[{address}]" if ":" in address else f"http://{address}"
    request = urllib.request.Request(f"{url}:{port}{path}", headers={"host": host})
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read().decode()


def check(what, is_so, why=""):
    print(("ok      " if is_so else "FAILED  ") + what + (f": {why}" if why and not is_so else ""))
    if not is_so:
        sys.exit(1)


def calls(log):
    for service, pod in zip(CLUSTER_IPS, PODS):
        status, headers, body = get(service, 80, "/routed", "anybody.example")
        check(f"{service}:80 has the Service's route, whatever the Host",
              (status, headers["x-routed"], body) == (200, "yes", "anybody.example"))
        status, headers, _ = get(service, 80, "/other", "cart")
        check(f"{service}:80 refuses what no route matches", (status, headers["x-tidegate-reason"]) == (404, "no_route"))
        status, headers, body = get(pod, 8080, "/other", "cart")
        check(f"{pod}:8080 is reached itself, past the routes", (status, headers["x-routed"], body) == (200, None, "cart"))
        for address in (service, pod):
            greeting = socket.create_connection((address, 3306), timeout=10).makefile().read()
            check(f"{address}:3306 greets a client that waits for it", greeting == "5.7.0-tide\n")
        status, headers, _ = get(pod, 8081, "/", "cart")
        check(f"{pod}:8081, where nobody listens, is 503 with the reason",
              (status, headers["x-tidegate-reason"]) == (503, "connect_failed"))
        greeting = socket.create_connection((pod, EXCLUDED), timeout=10).makefile().read()
        check(f"{pod}:{EXCLUDED} is excluded, and greets all the same", greeting == "5.7.0-tide\n")
    status, headers, _ = get("127.0.0.1", OUTBOUND, "/routed", "cart.shop")
    check("a connection that was not redirected is routed by its Host", (status, headers["x-routed"]) == (200, "yes"))

    until(lambda: {line["server.address"] for line in opaque(log)} >= {*CLUSTER_IPS, *PODS})
    check("the access log names the destination of every opaque connection", True)
    check("but not of those that never came to the sidecar", EXCLUDED not in {line["server.port"] for line in opaque(log)})


def lines(log):
    log.seek(0)
    return [json.loads(line) for line in log]


def opaque(log):
    return [line for line in lines(log) if line.get("network.transport") == "tcp"]


def from_outside(pid, code):
    """What a program says that runs in the other pod."""
    command = ["nsenter", "--target", str(pid), "--net", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else done.stderr


def incoming(log, pid):
    for i, address in enumerate(HERE):
        host = f"[{address}]" if ":" in address else address
        path = f"/from-outside-{i}"
        code = f"import urllib.request as u; print(u.urlopen('http://{host}:{APP}{path}', timeout=10).status)"
        told = from_outside(pid, code)
        check(f"{address}:{APP} is reached by another pod", told == "200\n")
        until(lambda path=path: any(line.get("url.path") == path for line in lines(log)))
        check("by way of the sidecar", True)
        for port in (APP, SECOND):
            code = f"import urllib.request as u; print(u.urlopen('http://{host}:{port}/port', timeout=10).read().decode())"
            check(f"{address}:{port} is reached at that port of the application", from_outside(pid, code) == f"{port}\n")
        code = f"import socket; print(socket.create_connection(('{address}', 3306), 10).makefile().read(), end='')"
        check(f"{address}:3306 is reached directly", from_outside(pid, code) == "5.7.0-tide\n")


def main():
    why = missing()
    if why:
        print(f"SKIPPED: interception by iptables is not tried here: {why}")
        return
    binary = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else common.TARGET / "release" / "tidegate"
    if INSIDE not in os.environ:
        again = ["unshare", "--net", sys.executable, __file__, str(binary.resolve())]
        sys.exit(subprocess.run(again, env={**os.environ, INSIDE: "1"}).returncode)
    addresses()
    intercept(binary)
    serve()
    with another_pod() as pid, sidecar(binary) as log:
        calls(log)
        incoming(log, pid)


if __name__ == "__main__":
    main()
