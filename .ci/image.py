#!/usr/bin/env python3
"""An image that no container engine has made: valid, the same each time, and its binary runs where there is nothing else.

Builds the proxy statically, unless the path of one is given, and puts it into an OCI image layout. Reads that with skopeo
and umoci, unpacks it, and starts the proxy with the image as its root, as the image's user, in a network namespace with a
name server of its own: a static glibc that could not look up names would be found out here.

Needs root, and skopeo and umoci, which it installs on Debian.
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
NAME = "control-plane.mesh.test"


def check(what, is_so, why=""):
    print(("ok      " if is_so else "FAILED  ") + what + (f": {why}" if why and not is_so else ""))
    if not is_so:
        sys.exit(1)


def static_binary():
    flags = {**os.environ, "RUSTFLAGS": "-C target-feature=+crt-static"}
    command = ["cargo", "build", "--release", "--package", "tidegate-proxy", "--target", TARGET]
    subprocess.run(command, cwd=common.ROOT, env=flags, check=True)
    return common.TARGET / TARGET / "release" / "tidegate-proxy"


def oci(*arguments):
    return subprocess.run([sys.executable, str(OCI), *map(str, arguments)], capture_output=True, text=True)


def of_another_machine(binary, folder):
    """The same for arm64, as far as its header goes."""
    data = bytearray(binary.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    path = folder / "arm64"
    path.write_bytes(data)
    return path


def valid(binary, folder):
    first, second = folder / "proxy.tar", folder / "again.tar"
    for path in (first, second):
        done = oci("proxy", "--binary", f"amd64={binary}", "--out", path)
        check("an image is made of the binary", done.returncode == 0, done.stderr)
    check("the same each time, byte for byte", first.read_bytes() == second.read_bytes())
    done = oci("--check", first)
    check("every digest and size in it is right", "linux/amd64: /tidegate-proxy as 65532:65532" in done.stdout, done.stderr)
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    check("and one bit that is not is found", oci("--check", second).returncode != 0)
    told = oci("proxy", "--binary", "amd64=/bin/true", "--out", second).stderr
    check("a binary that is not static is refused", "not static" in told, told)
    told = oci("proxy", "--binary", f"arm64={binary}", "--out", second).stderr
    check("and one of another machine", "of another machine than arm64" in told, told)
    return first


def both_machines(binary, folder):
    path = folder / "both.tar"
    arm = of_another_machine(binary, folder)
    done = oci("proxy", "--binary", f"amd64={binary}", "--binary", f"arm64={arm}", "--out", path)
    check("one image for two machines", done.returncode == 0, done.stderr)
    for arch in ("amd64", "arm64"):
        command = ["skopeo", "inspect", "--override-arch", arch, f"oci-archive:{path}"]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        check(f"skopeo finds the one for {arch}", told["Architecture"] == arch)


def by_others(path, folder):
    told = json.loads(subprocess.run(["skopeo", "inspect", f"oci-archive:{path}"], check=True, capture_output=True).stdout)
    check("skopeo reads it", told["Os"] == "linux" and len(told["Layers"]) == 1)
    layout = folder / "layout"
    with tarfile.open(path) as archive:
        archive.extractall(layout, filter="data")
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:0.1.0", str(folder / "bundle")], check=True, capture_output=True)
    root = folder / "bundle" / "rootfs"
    check("umoci unpacks it", os.access(root / "tidegate-proxy", os.X_OK))
    user = json.loads((folder / "bundle" / "config.json").read_text())["process"]["user"]
    check("it runs as nobody", (user["uid"], user["gid"]) == (65532, 65532))
    libraries = [found for found in root.rglob("*") if ".so" in found.name]
    check("there is no library in it", not libraries)
    return root


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
def started(root, *flags):
    command = ["chroot", "--userspec=65532:65532", str(root), "/tidegate-proxy", *flags]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def runs(root):
    """In a namespace of its own, so that its name server may have port 53."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (root / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=name_server, args=(names,), daemon=True).start()
    control_plane = socket.create_server(("127.0.0.1", 0))
    control_plane.settimeout(30)
    at = control_plane.getsockname()[1]
    version = subprocess.run(["chroot", str(root), "/tidegate-proxy", "--version"], capture_output=True, text=True)
    check("the binary runs without a libc", version.stdout.startswith("tidegate-proxy "), version.stderr)
    flags = ["--admin=127.0.0.1:15020", f"--control-plane=http://{NAME}:{at}", "--sidecar", "--outbound=127.0.0.1:15001"]
    with started(root, *flags):
        with contextlib.closing(control_plane.accept()[0]) as connection:
            check(f"it looks up {NAME} and calls it", connection.recv(3) == b"PRI")
        check("and tells how it is", until_it_answers() in (200, 503))


def until_it_answers():
    end = time.monotonic() + 30
    while True:
        try:
            return urllib.request.urlopen("http://127.0.0.1:15020/ready", timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def main():
    if INSIDE in os.environ:
        return runs(pathlib.Path(sys.argv[1]))
    if os.geteuid() != 0:
        print("SKIPPED: an image is unpacked and run by root only")
        return None
    if not all(map(shutil.which, ("skopeo", "umoci"))):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", "skopeo", "umoci"], stdout=subprocess.DEVNULL, check=True)
    binary = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else static_binary()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        path = valid(binary, folder)
        both_machines(binary, folder)
        root = by_others(path, folder)
        again = ["unshare", "--net", sys.executable, __file__, str(root)]
        sys.exit(subprocess.run(again, env={**os.environ, INSIDE: "1"}).returncode)


if __name__ == "__main__":
    main()
