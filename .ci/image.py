#!/usr/bin/env python3
"""Images that no container engine has made: valid, the same each time, and their binaries run where there is nothing else.

Builds all programs, statically but for `tidegate`, unless the folder of them is given, and puts each into an OCI image layout.
Reads that with skopeo and umoci, unpacks it, and starts what is in it with the image as its root and as the image's user, in a
network namespace: the proxy with a name server of its own, for a static glibc that could not look up names would be found
out here; the control plane with a policy; the CNI plugin with the directories of a node; and the command, on a Debian that
is made for it, sets rules with the iptables of its image, as an init container does.

Needs root, and skopeo, umoci and mmdebstrap, which it installs on Debian.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import common  # noqa: E402

INSIDE = "TIDEGATE_IN_NAMESPACE"
TARGET = "x86_64-unknown-linux-gnu"
OCI = common.ROOT / "images" / "oci.py"
sys.path.insert(0, str(OCI.parent))
from oci import IMAGES  # noqa: E402

NAME = "control-plane.mesh.test"


def check(what, is_so, why=""):
    print(("ok      " if is_so else "FAILED  ") + what + (f": {why}" if why and not is_so else ""))
    if not is_so:
        sys.exit(1)


def built():
    """The folder of all four."""
    flags = {**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static"}
    packages = [f"--package={name}" for name in ("tidegate", "tidegate-proxy", "tidegate-cluster", "tidegate-cni")]
    subprocess.run(["cargo", "build", "--release", *packages, "--target", TARGET], cwd=common.ROOT, env=flags, check=True)
    return common.TARGET / TARGET / "release"


def oci(*arguments):
    return subprocess.run([sys.executable, str(OCI), *map(str, arguments)], capture_output=True, text=True)


def of_another_machine(binary, folder):
    """The same for arm64, as far as its header goes."""
    data = bytearray(binary.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    path = folder / "arm64"
    path.write_bytes(data)
    return path


def valid(name, binary, folder, *base):
    first, second = folder / f"{name}.tar", folder / "again.tar"
    for path in (first, second):
        done = oci(name, "--binary", f"amd64={binary}", *base, "--out", path)
        check(f"{name}: an image is made of the binary", done.returncode == 0, done.stderr)
    check("the same each time, byte for byte", first.read_bytes() == second.read_bytes())
    done = oci("--check", first)
    check("every digest and size in it is right", f"linux/amd64: /{IMAGES[name]} as 65532:65532" in done.stdout, done.stderr)
    return first


def wrong(binary, image, folder):
    second = folder / "again.tar"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    check("and one bit that is not is found", oci("--check", second).returncode != 0)
    told = oci("proxy", "--binary", "amd64=/bin/true", "--out", second).stderr
    check("a binary that is not static is refused", "not static" in told, told)
    told = oci("proxy", "--binary", f"arm64={binary}", "--out", second).stderr
    check("and one of another machine", "of another machine than arm64" in told, told)


def both_machines(binary, folder):
    path = folder / "both.tar"
    arm = of_another_machine(binary, folder)
    done = oci("proxy", "--binary", f"amd64={binary}", "--binary", f"arm64={arm}", "--out", path)
    check("one image for two machines", done.returncode == 0, done.stderr)
    for arch in ("amd64", "arm64"):
        command = ["skopeo", "inspect", "--override-arch", arch, f"oci-archive:{path}"]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        check(f"skopeo finds the one for {arch}", told["Architecture"] == arch)


def by_others(name, path, folder, layers=1):
    """The root file system, as others unpack it."""
    told = json.loads(subprocess.run(["skopeo", "inspect", f"oci-archive:{path}"], check=True, capture_output=True).stdout)
    check("skopeo reads it", told["Os"] == "linux" and len(told["Layers"]) == layers)
    layout, bundle = folder / f"{name}-layout", folder / f"{name}-bundle"
    with tarfile.open(path) as archive:
        archive.extractall(layout, filter="data")
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:0.1.0", str(bundle)], check=True, capture_output=True)
    root = bundle / "rootfs"
    check("umoci unpacks it", os.access(root / IMAGES[name], os.X_OK))
    user = json.loads((bundle / "config.json").read_text())["process"]["user"]
    check("it runs as nobody", (user["uid"], user["gid"]) == (65532, 65532))
    libraries = [found for found in root.rglob("*") if ".so" in found.name]
    check("there is no library in it but those of a base", bool(libraries) == (layers > 1))
    version = subprocess.run(inside(root, name, "--version"), capture_output=True, text=True)
    check("the binary runs there", version.stdout.startswith("tidegate"), version.stderr)
    return root


def inside(root, name, *flags, user=65532):
    return ["chroot", f"--userspec={user}:{user}", str(root), f"/{IMAGES[name]}", *map(str, flags)]


def name_server(server):
    """Answers every question for an IPv4 address with 127.0.0.1, others with nothing."""
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4 : end - 2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if is_a else b""
        counts = b"\0\1" + (1 if is_a else 0).to_bytes(2, "big") + b"\0\0\0\0"
        server.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + answer, client)


@contextlib.contextmanager
def started(root, name, *flags, user=65532):
    process = subprocess.Popen(inside(root, name, *flags, user=user), stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def proxy(root):
    """In a namespace of its own, so that its name server may have port 53."""
    (root / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=name_server, args=(names,), daemon=True).start()
    control_plane = socket.create_server(("127.0.0.1", 0))
    control_plane.settimeout(30)
    at = control_plane.getsockname()[1]
    flags = ["--admin=127.0.0.1:15020", f"--control-plane=http://{NAME}:{at}", "--sidecar", "--outbound=127.0.0.1:15001"]
    with started(root, "proxy", *flags):
        with contextlib.closing(control_plane.accept()[0]) as connection:
            check(f"it looks up {NAME} and calls it", connection.recv(3) == b"PRI")
        check("and tells how it is", until_it_answers(15020, "/ready")[0] in (200, 503))


def control_plane(root):
    shutil.copytree(common.ROOT / "policies" / "examples" / "gateway", root / "policies")
    with started(root, "control-plane", "--policies=/policies", "--listen=127.0.0.1:15010", "--admin=127.0.0.1:15014"):
        check("it is ready", until_it_answers(15014, "/ready")[0] == 200)
        status = until_it_answers(15014, "/status")[1]
        check("and has read a directory of policies", "HTTPRoute" in status, status)


def cni(root):
    """A node whose directories are in the image's root, as its pod has them mounted; root, as there."""
    for name in ("host/bin", "host/conf", "account", "proc"):
        (root / name).mkdir(parents=True)
    subprocess.run(["mount", "-t", "proc", "none", str(root / "proc")], check=True)
    (root / "account" / "token").write_text("t")
    (root / "account" / "ca.crt").write_text("")
    before = {"cniVersion": "1.0.0", "name": "main", "plugins": [{"type": "ptp"}]}
    conflist = root / "host" / "conf" / "10-main.conflist"
    conflist.write_text(json.dumps(before))
    place = ["--bin-dir=/host/bin", "--conf-dir=/host/conf", "--service-account-dir=/account", "--api-server=https://127.0.0.1:1"]
    is_there = lambda: subprocess.run(inside(root, "cni", "installed", *place, user=0), capture_output=True).returncode == 0  # noqa: E731
    with started(root, "cni", "install", *place, user=0):
        until(is_there)
        call = subprocess.run([str(root / "host" / "bin" / "tidegate-cni")], env={"CNI_COMMAND": "VERSION"}, input="{}",
                              capture_output=True, text=True)
        check("what it has copied answers on the node itself", "1.1.0" in json.loads(call.stdout)["supportedVersions"])
        check("and is in the node's configuration", "tidegate-cni" in conflist.read_text())
    check("which is as it was afterwards", json.loads(conflist.read_text()) == before)


def cli(root):
    """As the init containers run it: first with rights, then without."""
    (root / "proc").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "proc", "none", str(root / "proc")], check=True)
    subprocess.run(["ip", "route", "add", "192.0.2.0/24", "dev", "lo"], check=True)
    flags = ["redirect", "--uid=15001", "--outbound-port=15001"]

    def verify():
        return subprocess.run(inside(root, "cli", *flags, "--verify"), capture_output=True, text=True)

    check("where nothing is redirected, a pod without rights finds that out", verify().returncode == 1, verify().stderr)
    done = subprocess.run(inside(root, "cli", *flags, user=0), capture_output=True, text=True)
    check("the image's own iptables redirects", done.returncode == 0, done.stderr)
    check("and now a pod without rights finds that", verify().returncode == 0, verify().stderr)


RUNS = {"proxy": proxy, "control-plane": control_plane, "cni": cni, "cli": cli}


def until(wanted):
    end = time.monotonic() + 30
    while not wanted():
        if time.monotonic() > end:
            sys.exit("waited for 30 seconds in vain")
        time.sleep(0.1)


def until_it_answers(port, path):
    end = time.monotonic() + 30
    while True:
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5)
            return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def debian(folder):
    """What images/README.md puts under `cli`."""
    base = folder / "base.tar"
    text = (OCI.parent / "README.md").read_text()
    command, = [line for line in text.splitlines() if line.startswith("mmdebstrap ")]
    done = subprocess.run([*command.split()[:-1], str(base)], capture_output=True, text=True)
    check("Debian is made as images/README.md says", done.returncode == 0, done.stderr[-2000:])
    return base


def each(binaries, folder):
    for name, path in IMAGES.items():
        binary = binaries / pathlib.Path(path).name
        if not binary.exists():
            print(f"SKIPPED: {name}: there is no {binary}")
            continue
        base = [f"--base=amd64={debian(folder)}"] if name == "cli" else []
        image = valid(name, binary, folder, *base)
        if name == "proxy":
            wrong(binary, image, folder)
            both_machines(binary, folder)
        root = by_others(name, image, folder, 1 + len(base))
        again = ["unshare", "--net", "--mount", sys.executable, __file__, name, str(root)]
        done = subprocess.run(again, env={**os.environ, INSIDE: "1"})
        if done.returncode:
            sys.exit(done.returncode)


def main():
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return RUNS[sys.argv[1]](pathlib.Path(sys.argv[2]))
    if os.geteuid() != 0:
        print("SKIPPED: an image is unpacked and run by root only")
        return None
    tools = ["skopeo", "umoci", "mmdebstrap"]
    if not all(map(shutil.which, tools)):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", *tools], stdout=subprocess.DEVNULL, check=True)
    binaries = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else built()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        each(binaries.resolve(), folder)


if __name__ == "__main__":
    main()
