#!/usr/bin/env python3
"""A real Envoy that asks the control plane for its limits.

Starts a control plane with a policy for a domain, and an Envoy whose HTTP filter asks it by Envoy's rate limit protocol:
each user has three requests, and the fourth is refused with what the control plane says.
"""

import json
import pathlib
import tempfile

import envoy
from envoy import TYPED, ask, common

POLICY = """\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: edge}
spec:
  domain: edge
  limits:
  - name: per-user
    requests: 3
    per: 1h
    key: [{type: Descriptor, name: user}]
"""


def filtered():
    action = {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}
    limit = {
        "@type": f"{TYPED}.http.ratelimit.v3.RateLimit",
        "domain": "edge",
        "failure_mode_deny": True,
        "timeout": "5s",
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "rate_limit_service": {"transport_api_version": "V3", "grpc_service": envoy.SERVICE},
    }
    return {"name": "envoy.filters.http.ratelimit", "typed_config": limit}, [{"actions": [action]}]


def check(port):
    status, _ = envoy.until_it_answers(port)
    assert status == 200, f"what no limit counts passes, but: {status}"
    met = [ask(port, "ann") for _ in range(5)]
    assert [status for status, _ in met] == [200, 200, 200, 429, 429], met
    left = [fields.get("x-ratelimit-remaining") for _, fields in met]
    assert left == ["2", "1", "0", "0", "0"], left
    assert 1 <= int(met[3][1]["retry-after"]) <= 1200, met[3]
    assert ask(port, "bob")[0] == 200, "another user has a budget of its own"
    print("envoy: three of five let through, and told how many were left:", ", ".join(left))


def main():
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        (directory / "policies").mkdir()
        (directory / "policies" / "edge.yaml").write_text(POLICY)
        port, backend, grpc, admin = common.free_ports(4)
        (directory / "envoy.json").write_text(json.dumps(envoy.config(port, backend, grpc, filtered())))
        commands = [
            envoy.control_plane(directory / "policies", grpc, admin),
            envoy.command(directory / "envoy.json"),
        ]
        with envoy.running(commands):
            check(port)


if __name__ == "__main__":
    main()
