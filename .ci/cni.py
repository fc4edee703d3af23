#!/usr/bin/env python3
"""The CNI plugin on a node: a network namespace that has the plugin installed into it, and pods made by others.

Starts itself again in namespaces of its own, which stand for a node. There `tidegate-cni install` is added to a network
configuration of the CNI project's `ptp` plugin, and the CNI project's library, which containerd and CRI-O are made with,
makes pods by it: one that `tidegate inject` has injected, which a scripted API server shows, and others. Then sees that real
iptables leads connections to a real sidecar, both ways and in both families; that CHECK misses a rule that is gone; that
DEL takes back what ADD did; that nothing of the mesh starts while the API server is away; and that a pod that was made
before the plugin was there finds that out by itself, without any rights.

Needs root, and Debian's containernetworking-plugins, golang-go, golang-github-appc-cni-dev, iptables, iproute2 and
util-linux, which it installs on Debian, and PyYAML; says why where it is skipped. Argument: the folder of the binaries.
"""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import interception  # noqa: E402
from interception import DualStack, Pod, check, common, lines, run, until  # noqa: E402

PLUGINS = pathlib.Path("/usr/lib/cni")
LIBRARY = pathlib.Path("/usr/share/gocode/src/github.com/containernetworking/cni/libcni")
PACKAGES = ["containernetworking-plugins", "golang-go", "golang-github-appc-cni-dev", "iptables", "iproute2", "util-linux"]
SIDECAR_USER = 15001
#: What the Service leads to: an address of the node, which every pod has a route to.
BACKEND = "203.0.113.9"
MESH = interception.MESH.replace(interception.PODS[0], BACKEND)
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "node",
    "plugins": [{
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    }],
}
WEB = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"containers": [{"name": "app", "image": "web:1", "ports": [{"containerPort": interception.APP}]}]},
}


class Api(http.server.BaseHTTPRequestHandler):
    """Knows pods by (namespace, name), and who has asked for what."""

    pods, asked = {}, []

    def do_GET(self):
        parts = self.path.split("/")
        Api.asked.append((parts[4], parts[6], self.headers["authorization"]))
        pod = Api.pods.get((parts[4], parts[6]))
        body = json.dumps(pod or {"kind": "Status", "code": 404}).encode()
        self.send_response(200 if pod else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Node:
    """The directories of one, and what its container runtime does."""

    def __init__(self, folder, binaries):
        self.folder, self.binaries = folder, binaries
        self.bin, self.conf, self.account = (folder / name for name in ("bin", "net.d", "account"))
        for path in (self.bin, self.conf, self.account):
            path.mkdir()
        (self.account / "token").write_text("node-token")
        (self.account / "ca.crt").write_text("")
        self.list = self.conf / "10-node.conflist"
        NETWORK["plugins"][0]["ipam"]["dataDir"] = str(folder / "leases")
        self.write_network()
        self.program = folder / "runtime"
        go = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "go")}
        source = pathlib.Path(__file__).with_name("cni_runtime.go")
        subprocess.run(["go", "build", "-o", str(self.program), str(source)], check=True, env=go)

    def write_network(self, version="1.0.0"):
        beside = self.conf / "beside"
        beside.write_text(json.dumps({**NETWORK, "cniVersion": version}))
        beside.rename(self.list)

    def call(self, command, netns, name, namespace="shop"):
        """Exit code, and what was said."""
        env = {**os.environ, "CNI_PATH": f"{self.bin}:{PLUGINS}",
               "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"}
        done = subprocess.run([str(self.program), command, str(self.list), netns, f"id-{name}", str(self.folder / "cache")],
                              env=env, capture_output=True, text=True, timeout=120)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr

    def installer(self, word, api):
        return [str(self.binaries / "tidegate-cni"), word, f"--bin-dir={self.bin}", f"--conf-dir={self.conf}",
                f"--node-conf-dir={self.conf}", f"--service-account-dir={self.account}", f"--api-server={api}",
                "--exclude-namespaces=kube-system"]

    @contextlib.contextmanager
    def installed(self, api):
        process = subprocess.Popen(self.installer("install", api))
        try:
            until(lambda: subprocess.run(self.installer("installed", api), stderr=subprocess.DEVNULL).returncode == 0)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)

    def types(self):
        return [plugin["type"] for plugin in json.loads(self.list.read_text())["plugins"]]


@contextlib.contextmanager
def namespace(name):
    run(f"ip netns add {name}")
    # By a configuration of its own in a runtime.
    run(f"ip -n {name} link set lo up")
    try:
        yield f"/run/netns/{name}"
    finally:
        run(f"ip netns del {name}")


def inside(netns, *command, user=None):
    become = ["setpriv", f"--reuid={user}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"] if user else []
    return ["nsenter", f"--net={netns}", *become, *map(str, command)]


def tables(netns):
    saved = [subprocess.run(inside(netns, f"{name}-save", "-t", "nat"), check=True, capture_output=True, text=True).stdout
             for name in ("iptables", "ip6tables")]
    return "".join(saved)


def injected(binaries, folder):
    """A pod as the admission webhook makes it where the CNI plugin is."""
    import yaml  # PyYAML's, see main.

    settings = folder / "injection.json"
    settings.write_text(json.dumps({"cni": True, "uid": SIDECAR_USER}))
    command = [str(binaries / "tidegate"), "inject", "--settings", str(settings), "-f", "-"]
    done = subprocess.run(command, input=json.dumps(WEB), check=True, capture_output=True, text=True)
    return yaml.safe_load(done.stdout)


def verified(node, netns, pod):
    """What the pod's first container says, run as it would be: its user, no capability, its arguments."""
    container = pod["spec"]["initContainers"][0]
    user = container["securityContext"]["runAsUser"]
    program = shutil.copy(node.binaries / "tidegate", node.folder)
    done = subprocess.run(inside(netns, program, *container["args"], user=user), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@contextlib.contextmanager
def application(netns):
    """What the pod is for; its own process, for it is in the pod's namespace."""
    code = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import interception as i; " \
           f"i.DualStack(('::', {interception.APP}), i.Pod).serve_forever()"
    process = subprocess.Popen(inside(netns, sys.executable, "-c", code))
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def sidecar(node, netns):
    mesh = node.folder / "mesh"
    mesh.mkdir()
    (mesh / "mesh.yaml").write_text(MESH)
    log = open(node.folder / "access.log", "w+")
    process = subprocess.Popen(
        inside(netns, node.folder / "tidegate", "run", "--sidecar", "--policies", mesh, "--namespace", "shop", "--workload", "web",
               "--outbound", "[::]:15001", "--listen", "[::]:15006", "--app", f"127.0.0.1:{interception.APP}",
               "--status", "127.0.0.1:0", "--admin", "[::]:15020", user=SIDECAR_USER),
        stdout=log, stdin=subprocess.DEVNULL)
    try:
        ready = "import urllib.request as u; u.urlopen('http://127.0.0.1:15020/ready', timeout=5)"
        until(lambda: from_pod(netns, ready)[0] == 0)
        yield log
    finally:
        process.terminate()
        process.wait(timeout=30)


def from_pod(netns, code):
    done = subprocess.run(inside(netns, sys.executable, "-c", code, user=1000), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout or done.stderr


def traffic(node, netns, addresses):
    """Both ways through the sidecar, by connections that know nothing of it."""
    with application(netns), sidecar(node, netns) as log:
        for service in interception.CLUSTER_IPS:
            url = f"http://[{service}]/routed" if ":" in service else f"http://{service}/routed"
            code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=10).headers['x-routed'])"
            told = from_pod(netns, code)
            check(f"a call of the application to {service} has the Service's route", told == (0, "yes\n"), told)
        for i, address in enumerate(addresses):
            path = f"/from-outside-{i}"
            until(lambda address=address, path=path: interception.get(address, interception.APP, path, "web")[0] == 200)
            until(lambda path=path: any(line.get("url.path") == path for line in lines(log)))
            check(f"{address}:{interception.APP} is reached by way of the sidecar", True)


def a_pod_of_the_mesh(node, pod):
    with namespace("web") as netns:
        code, result = node.call("ADD", netns, "web")
        check("a pod is made by ptp and the plugin after it", code == 0, result)
        addresses = [one["address"].split("/")[0] for one in result["ips"]]
        check("whose result is that of ptp, unchanged", len(addresses) == 2 and len(result["interfaces"]) == 2, result)
        check("the API server was asked for it, with the node's token", ("shop", "web", "Bearer node-token") in Api.asked)
        check("both families have their chains", tables(netns).count("-A OUTPUT -p tcp -j TIDEGATE_OUTPUT") == 2)
        code, told = verified(node, netns, pod)
        check("its first container sees that, without any rights", code == 0, told)
        traffic(node, netns, addresses)
        once = tables(netns)
        check("CHECK finds all as it should be", node.call("CHECK", netns, "web") == (0, ""), node.call("CHECK", netns, "web"))
        for rule in ("-D OUTPUT -p tcp -j TIDEGATE_OUTPUT", "-F TIDEGATE_INBOUND"):
            subprocess.run(inside(netns, "ip6tables", "-t", "nat", *rule.split()), check=True)
            code, told = node.call("CHECK", netns, "web")
            check(f"and misses what `{rule}` took away", code != 0 and told["code"] == 101, told)
            direct(node, "ADD", netns)
            check("which another ADD puts back", tables(netns).count("TIDEGATE") == once.count("TIDEGATE"))
        code, told = node.call("DEL", netns, "web")
        check("DEL takes back what ADD did", code == 0 and "TIDEGATE" not in tables(netns), told)
        check("and doing so again is no error", node.call("DEL", netns, "web")[0] == 0)
    check("nor is it when the namespace is gone", node.call("DEL", netns, "web")[0] == 0)


def direct(node, command, netns, version="1.1.0"):
    """The plugin alone, as a runtime of a newer version calls it than the library here."""
    plugin = json.loads(node.list.read_text())["plugins"][-1]
    conf = {**plugin, "name": "node", "cniVersion": version, "prevResult": {"cniVersion": version, "ips": []}}
    env = {"PATH": "/nowhere", "CNI_COMMAND": command, "CNI_CONTAINERID": "x", "CNI_IFNAME": "eth0", "CNI_NETNS": netns,
           "CNI_PATH": str(node.bin), "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web"}
    done = subprocess.run([str(node.bin / "tidegate-cni")], input=json.dumps(conf), env=env, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def others(node):
    with namespace("others") as netns:
        for name, where in (("plain", "shop"), ("by-host", "shop"), ("web", "kube-system")):
            before = len(Api.asked)
            code, told = node.call("ADD", netns, name, where)
            check(f"pod {where}/{name} is left alone", code == 0 and "TIDEGATE" not in tables(netns), told)
            check("and only asked about where it could be of the mesh", (len(Api.asked) > before) == (where == "shop"))
            node.call("DEL", netns, name, where)
        code, told = node.call("ADD", netns, "wrong")
        check("a pod whose wish cannot be read does not start", code != 0 and told["code"] == 102, told)
        node.call("DEL", netns, "wrong")
        code, told = node.call("ADD", netns, "unknown")
        check("nor one that the API server does not know (yet)", code != 0 and told["code"] == 11, told)
        node.call("DEL", netns, "unknown")
    code, told = direct(node, "ADD", "/proc/self/ns/net")
    check("the node itself is never redirected", code == 1 and told["code"] == 4 and "node's own" in told["msg"], told)


def versions(node):
    for version in ("0.3.1", "0.4.0", "1.0.0"):
        node.write_network(version)
        until(lambda: "tidegate-cni" in node.types())
        check(f"the configuration of version {version} is written anew, and the plugin is back in it", True)
        with namespace("old") as netns:
            code, told = node.call("ADD", netns, "web")
            check(f"a pod of version {version} is led", code == 0 and "TIDEGATE_INBOUND" in tables(netns), told)
            node.call("DEL", netns, "web")
    with namespace("new") as netns:
        check("1.1.0: STATUS is well", direct(node, "STATUS", netns) == (0, ""), direct(node, "STATUS", netns))
        check("1.1.0: GC has nothing to do", direct(node, "GC", netns) == (0, ""))


def on_a_node(binaries):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        node = Node(folder, binaries)
        pod = injected(binaries, folder)
        wrong = {**pod, "metadata": {**pod["metadata"], "annotations": {"tidegate.io/redirect": "{"}}}
        of_host = {**pod, "spec": {**pod["spec"], "hostNetwork": True}}
        Api.pods = {("shop", "web"): pod, ("shop", "plain"): WEB, ("shop", "wrong"): wrong, ("shop", "by-host"): of_host}
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = f"http://127.0.0.1:{server.server_port}"
        with namespace("early") as netns:
            check("a pod that is made before the plugin is there starts", node.call("ADD", netns, "web")[0] == 0)
            code, told = verified(node, netns, pod)
            check("but not beyond its first container", code == 1 and "Delete the pod" in told, told)
        node.call("DEL", netns, "web")
        with node.installed(api):
            check("the plugin comes last", node.types() == ["ptp", "tidegate-cni"])
            with node.installed(api):
                pass
            until(lambda: "tidegate-cni" in node.types() and list(node.conf.glob("*.kubeconfig")))
            check("where one pod of it takes the place of another, what that one takes away is put back", True)
            a_pod_of_the_mesh(node, pod)
            others(node)
            versions(node)
            server.shutdown()
            server.server_close()
            with namespace("away") as netns:
                code, told = node.call("ADD", netns, "web")
                check("while nobody can be asked, no pod starts", code != 0 and told["code"] == 11 and "must not start" in told["msg"], told)
                check("but what runs can end", node.call("DEL", netns, "web")[0] == 0)
        check("the plugin goes with its pod", node.types() == ["ptp"] and not list(node.conf.glob("*.kubeconfig")))


def missing():
    if os.geteuid() != 0:
        return "this needs root"

    def absent():
        tools = [tool for tool in ("unshare", "nsenter", "ip", "iptables", "setpriv", "go") if not shutil.which(tool)]
        return tools + [str(path) for path in (PLUGINS / "ptp", LIBRARY) if not path.exists()]

    if absent() and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES], stdout=subprocess.DEVNULL)
    return f"not installed: {', '.join(absent())}" if absent() else None


def main():
    why = missing()
    if why:
        print(f"SKIPPED: the CNI plugin is not tried here: {why}")
        return
    binaries = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else common.TARGET / "release"
    sys.path.append(str(common.python_package("pyyaml", "lib/python3*/site-packages/yaml").parent))
    if interception.INSIDE not in os.environ:
        again = ["unshare", "--net", "--mount", sys.executable, __file__, str(binaries.resolve())]
        sys.exit(subprocess.run(again, env={**os.environ, interception.INSIDE: "1"}).returncode)
    # Names of namespaces are mounts: those of this node alone.
    pathlib.Path("/run/netns").mkdir(exist_ok=True)
    run("mount -t tmpfs none /run/netns")
    run("ip link set lo up")
    run(f"ip addr add {BACKEND}/32 dev lo")
    for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        pathlib.Path(f"/proc/sys/net/{family}").write_text("1")
    threading.Thread(target=DualStack(("::", 8080), Pod).serve_forever, daemon=True).start()
    on_a_node(binaries)


if __name__ == "__main__":
    main()
