"""What the measurements share: processes that end with the script, free ports, medians, tables."""

import contextlib
import http.client
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
README = ROOT / "bench" / "README.md"


def need(*programs):
    """Ends with a hint when a program is not installed."""
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        sys.exit(f"bench: install {' '.join(missing)} first (Debian packages of the same names)")


def build():
    packages = ["-p", "tidegate-proxy", "-p", "tidegate-control-plane", "-p", "tidegate"]
    subprocess.run(["cargo", "build", "--release", *packages], cwd=ROOT, check=True)


def binary(name):
    return str(TARGET / "release" / name)


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
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


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


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
