#!/usr/bin/env python3
"""Two real Envoys that share a limit by quotas (RLQS) of the control plane.

Both are asked for more than the limit, by one user. What they let through together is the limit, and what they refuse gets
429. The assertions are tolerant: an Envoy begins with its part of the burst, and counts its share from when it heard of it.
"""

import collections
import json
import pathlib
import tempfile
import threading
import time

import envoy
from envoy import TYPED, ask, common

REQUESTS, BURST = 40, 20
POLICY = f"""\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: edge}}
spec:
  domain: edge
  limits:
  - name: per-user
    requests: {REQUESTS}
    per: 1s
    burst: {BURST}
    key: [{{type: Descriptor, name: user}}]
"""
#: Long enough for two reports of an Envoy, which come every five seconds.
SECONDS = 12
#: Each Envoy is asked more often than the limit allows both.
PAUSE = 0.01


def filtered():
    user = {
        "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
        "header_name": "x-user",
    }
    bucket = {
        "@type": f"{TYPED}.http.rate_limit_quota.v3.RateLimitQuotaBucketSettings",
        "bucket_id_builder": {"bucket_id_builder": {"user": {"custom_value": {"name": "user", "typed_config": user}}}},
        "reporting_interval": "5s",
        # Nothing passes that is not lent. (A token bucket is no fallback that Envoy could begin with.)
        "no_assignment_behavior": {"fallback_rate_limit": {"blanket_rule": "DENY_ALL"}},
        "deny_response_settings": {"http_status": {"code": "TooManyRequests"}},
    }
    matcher = {
        "predicate": {
            "single_predicate": {
                "input": {"name": "user", "typed_config": user},
                "value_match": {"safe_regex": {"google_re2": {}, "regex": ".+"}},
            }
        },
        "on_match": {"action": {"name": "quota", "typed_config": bucket}},
    }
    quota = {
        "@type": f"{TYPED}.http.rate_limit_quota.v3.RateLimitQuotaFilterConfig",
        "domain": "edge",
        "rlqs_server": envoy.SERVICE,
        "bucket_matchers": {"matcher_list": {"matchers": [matcher]}},
    }
    return {"name": "envoy.filters.http.rate_limit_quota", "typed_config": quota}, []


class Load:
    """Asks one Envoy, as one user, all the time."""

    def __init__(self, port):
        self.port, self.met, self.stopped = port, collections.Counter(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.wait(PAUSE):
            self.met[ask(self.port, "ann")[0]] += 1


def until(what, seconds, holds):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def check(ports):
    for port in ports:
        status, _ = envoy.until_it_answers(port)
        assert status == 200, f"what no limit counts passes, but: {status}"
    loads = [Load(port) for port in ports]
    # A control plane that starts lends nothing as long as one before it could have.
    until("both have a share", 60, lambda: all(load.met[200] for load in loads))
    before, began = [load.met[200] for load in loads], time.monotonic()
    time.sleep(SECONDS)
    admitted = [load.met[200] - first for load, first in zip(loads, before)]
    limit = REQUESTS * (time.monotonic() - began)
    for load in loads:
        load.stopped.set()
        load.thread.join()
        assert set(load.met) == {200, 429}, load.met
        assert load.met[429] > 0, load.met
    total = sum(admitted)
    print(f"two Envoys let through {admitted[0]} and {admitted[1]}, of {limit:.0f} that the limit allows")
    assert total <= 1.1 * limit + BURST, "more than a tenth above the limit and a burst"
    assert total >= 0.6 * limit, "much less than the limit"
    assert min(admitted) >= limit / 8, "one has next to nothing"


def main():
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        (directory / "policies").mkdir()
        (directory / "policies" / "edge.yaml").write_text(POLICY)
        *ports, backend, grpc, admin = common.free_ports(5)
        commands = [envoy.control_plane(directory / "policies", grpc, admin)]
        for i, port in enumerate(ports):
            config = directory / f"envoy-{i}.json"
            config.write_text(json.dumps(envoy.config(port, backend, grpc, filtered(), answers=i == 0)))
            commands.append(envoy.command(config))
        with envoy.running(commands):
            check(ports)


if __name__ == "__main__":
    main()
