#!/usr/bin/env python3
"""A refused request, read back from a real tracing backend.

Installs the tracing backend arize-phoenix into target/peers (once), starts it on loopback, sends it the traces of
`tidegate run`, and asks it for the span of a request that a limit refused: the span must name the policy, the rule
and the line of YAML.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
import common  # noqa: E402

PEERS = common.TARGET / "peers"

POLICY = """\
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  ports: [{port: 80}]
---
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: polite}
spec:
  targetRefs: [{group: "", kind: Service, name: shop}]
  limits:
  - name: twice-a-minute
    requests: 2
    per: 1m
"""
RULE_LINE = 1 + POLICY.splitlines().index("  - name: twice-a-minute")


def install():
    python = PEERS / "bin" / "python"
    if not (PEERS / "bin" / "phoenix").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "arize-phoenix"], check=True)
    return str(PEERS / "bin" / "phoenix")


def status(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def until(what, log, attempt):
    """Asks again until the answer is there; the limit is only for a run that is broken."""
    for _ in range(600):
        found = attempt()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"traces: {what} never came\n{pathlib.Path(log).read_text(errors='replace')[-4000:]}")


def refused_span(base):
    with urllib.request.urlopen(f"{base}/v1/projects/default/spans?limit=100", timeout=5) as answer:
        spans = json.load(answer)["data"]
    return next((s for s in spans if s["attributes"].get("tidegate.decision") == "refused"), None)


def main():
    phoenix = install()
    web, otlp, app, listen, admin, control = common.free_ports(6)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        log = folder / "log"
        mesh = folder / "mesh"
        mesh.mkdir()
        (mesh / "limits.yaml").write_text(POLICY)
        stack.enter_context(common.process(
            [phoenix, "serve"], log, PHOENIX_WORKING_DIR=str(folder), PHOENIX_HOST="127.0.0.1", PHOENIX_PORT=str(web),
            PHOENIX_GRPC_PORT=str(otlp), PHOENIX_TELEMETRY_ENABLED="false",
        ))
        serve = [sys.executable, "-m", "http.server", str(app), "--bind", "127.0.0.1", "--directory", str(mesh)]
        stack.enter_context(common.process(serve, log))
        base = f"http://127.0.0.1:{web}"
        until("the tracing backend", log, lambda: status(base) == 200)
        until("the application", log, lambda: status(f"http://127.0.0.1:{app}/") == 200)
        command = [common.binary("tidegate"), "run", "--policies", str(mesh), "--service", "shop"]
        command += ["--app", f"127.0.0.1:{app}", "--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}"]
        command += ["--status", f"127.0.0.1:{control}"]
        stack.enter_context(common.process(command, log, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{otlp}"))
        until("a refusal", log, lambda: status(f"http://127.0.0.1:{listen}/") == 429)
        span = until("the refused request's span", log, lambda: refused_span(base))
    seen = {k: v for k, v in span["attributes"].items() if k.startswith(("tidegate.", "http.response"))}
    print(json.dumps(seen, indent=2, sort_keys=True))
    expected = {
        "http.response.status_code": 429,
        "tidegate.reason": "rate_limited",
        "tidegate.policy.kind": "RateLimitPolicy",
        "tidegate.policy.namespace": "default",
        "tidegate.policy.name": "polite",
        "tidegate.policy.rule": "twice-a-minute",
        "tidegate.policy.source": f"{mesh}/limits.yaml:{RULE_LINE}",
    }
    wrong = {k: (v, seen.get(k)) for k, v in expected.items() if seen.get(k) != v}
    if wrong:
        sys.exit(f"traces: expected and got: {wrong}")
    if not any(event["name"] == "tidegate.decision" for event in span["events"]):
        sys.exit("traces: the span has no tidegate.decision event")
    print("traces: the tracing backend shows the refusal, its policy, rule and line")


if __name__ == "__main__":
    main()
