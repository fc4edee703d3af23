"""What we want to be, as ratios: what must hold, what we aim at, and what was measured."""

import common
from harness.figures import ratio

#: (what, scenario, variant, figure, must, aim): ours over Envoy's.
TO_ENVOY = [
    ("CPU, HTTP/1.1 plain, saturated", "plain", "", "cpu_max", 0.75, 0.60),
    ("CPU, HTTP/1.1 plain, 8 000 requests/s", "plain", "", "cpu_steady", 0.85, 0.75),
    ("CPU, all policies, saturated", "policies", "", "cpu_max", 0.85, 0.70),
    ("CPU, HTTP/2, saturated", "h2c", "", "cpu_max", 0.95, 0.85),
    ("CPU, gRPC, saturated", "grpc", "", "cpu_max", 0.95, 0.85),
    ("CPU, refused by a limit", "refused", "", "cpu_max", 0.80, 0.60),
    ("CPU, with a plugin that adds a header each way", "plugin", "with", "cpu_max", 0.85, 0.60),
    ("CPU, new connections", "churn", "", "cpu_conn", 0.85, 0.75),
    ("CPU, new connections, TLS 1.3", "churn-tls", "", "cpu_conn", 1.00, 0.90),
    ("memory at rest", "life", "", "rss", 0.25, 0.16),
    ("memory of 1 000 idle connections", "life", "", "rss_idle", 0.90, 0.50),
    ("start to the first answer", "life", "", "start_ms", 0.60, 0.40),
]
LATENCY = [("p50", 0.75, 0.60), ("p99", 0.90, 0.65)]
ROUTES = [("1000", 1.10, 1.03), ("10000", 1.20, 1.05)]
TRACING = (0.60, 0.30)


def rows(figures):
    """(what, must, aim, got or None)."""
    for what, scenario, variant, figure, must, aim in TO_ENVOY:
        ours, theirs = (figures.rounds(scenario, variant, peer, figure) for peer in ("tidegate", "envoy"))
        yield what, must, aim, ratio(ours, theirs)
    for figure, must, aim in LATENCY:
        ours, theirs = (figures.added("plain", "", peer, figure) for peer in ("tidegate", "envoy"))
        yield f"added latency, {figure}", must, aim, ratio(ours, theirs)
    for variant, must, aim in ROUTES:
        ours, few = (figures.rounds("routes", routes, "tidegate", "cpu_max") for routes in (variant, "10"))
        yield f"CPU, {int(variant):,} routes, to our own 10".replace(",000", " 000"), must, aim, ratio(ours, few)
    ours, theirs = (figures.above("tracing", "100 %", "off", peer, "cpu_steady") for peer in ("tidegate", "envoy"))
    yield "CPU that tracing 100 % adds", *TRACING, ratio(ours, theirs)


def table(figures):
    lines = []
    for what, must, aim, got in rows(figures):
        lines.append([what, f"{must:.2f}", f"{aim:.2f}", "not measured" if got is None else verdict(must, aim, got)])
    return common.table(["Tidegate ÷ Envoy", "must", "aim", "got"], lines)


def verdict(must, aim, got):
    if got <= aim:
        return f"**{got:.2f}** ✓✓"
    return f"**{got:.2f}** ✓" if got <= must else f"**{got:.2f}** ✗"
