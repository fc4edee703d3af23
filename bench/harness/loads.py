"""The loads, each on the second processor: {"requests": n, …figures}.

A load whose answers were wrong ends everything; one that lost connections raises `Unclean`, and its round is dropped.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import common
from harness.scenarios import BODY

#: Connections of a saturating load; more would only wait.
CONNECTIONS = 32
H2_CONNECTIONS = 8
H2_STREAMS = 8
#: Large bodies fill any pipe from a few connections.
BODY_CONNECTIONS = 4

UPLOAD = 'wrk.method = "POST"; wrk.body = string.rep("x", {size})'


class Unclean(Exception):
    """Connections were lost or answers missing."""


def wrong(who, what):
    sys.exit(f"bench: {who} answered wrongly: {what}")


def run(command):
    done = subprocess.run(common.pinned(1, command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unclean(f"{pathlib.Path(command[0]).name}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def wrk(contest, seconds):
    """HTTP/1.1 in a closed loop: as many requests as can be answered."""
    scheme = "https" if contest.features.tls else "http"
    connections = BODY_CONNECTIONS if contest.scenario.echo else CONNECTIONS
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if contest.variant in contest.scenario.uploads:
            script.write(UPLOAD.format(size=BODY))
            script.flush()
            command += ["-s", script.name]
        out = run([*command, f"{scheme}://127.0.0.1:{contest.port}{contest.path}"])
    if "Socket errors" in out:
        raise Unclean(re.search("Socket errors.*", out).group())
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    others = int(other.group(1)) if other else 0
    refused = contest.scenario.status == 429
    if (requests - others if refused else others) > 0:
        wrong(contest, f"{others} of {requests} were not 2xx")
    return {"requests": requests, "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))}


def h2load(contest, seconds):
    """The same over HTTP/2."""
    command = ["h2load", "-t1", f"-c{H2_CONNECTIONS}", f"-m{H2_STREAMS}", f"-D{max(1, round(seconds))}"]
    with tempfile.NamedTemporaryFile("wb") as message:
        if contest.features.grpc:
            message.write(bytes(5))
            message.flush()
            command += ["-d", message.name, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        out = run([*command, f"http://127.0.0.1:{contest.port}{contest.path}"])
    counts = dict((name, int(number)) for number, name in re.findall(r"(\d+) (\w+)[,\n]", grep("requests:", out)))
    good = int(re.search(r"status codes: (\d+) 2xx", out).group(1))
    if counts["failed"] or counts["errored"] or counts["timeout"]:
        raise Unclean(grep("requests:", out))
    if not 0 <= good - counts["done"] <= H2_CONNECTIONS * H2_STREAMS:
        wrong(contest, grep("status codes:", out))
    return {"requests": counts["done"], "rps": float(re.search(r"([\d.]+) req/s", out).group(1))}


def grep(word, text):
    return next(line for line in text.splitlines() if line.startswith(word)) + "\n"


def pace(contest, rate, seconds):
    """An open loop at a fixed rate: latency counts from when a request was due."""
    features = contest.features
    command = [common.binary("tidegate-bench"), "pace", f"127.0.0.1:{contest.port}", "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--path", contest.path, *(["--grpc"] if features.grpc else [])]
    command += ["--connections", str(H2_CONNECTIONS if features.http2 else CONNECTIONS)]
    command += ["--protocol", "h2" if features.http2 else "h1", *trusted(contest)]
    return told(contest, run(command))


def churn(contest, seconds):
    """A new connection for every request."""
    command = [common.binary("tidegate-bench"), "churn", f"127.0.0.1:{contest.port}"]
    return told(contest, run([*command, "--seconds", str(seconds), *trusted(contest)]))


def trusted(contest):
    return ["--ca", str(contest.certificate / "cert.pem")] if contest.features.tls else []


def told(contest, out):
    report = json.loads(out)
    if report["errors"]:
        raise Unclean(f"{report['errors']} errors, the first: {report['first_error']}")
    if set(report["statuses"]) != {str(contest.scenario.status)}:
        wrong(contest, report["statuses"])
    return report
