"""The registry of scenarios. A new one is one entry here, and whatever feature it needs in the peers.

A scenario has variants (what is asked of the peers) and loads (what is measured). All peers and variants of one
scenario take turns in the same rounds, so that a ratio never compares two different minutes.
"""

import dataclasses

from peers.features import Features


@dataclasses.dataclass(frozen=True)
class Scenario:
    title: str
    #: Name of a variant -> what it asks; the name of an only one is empty.
    variants: dict
    #: Names of loads, see loads.py.
    loads: tuple
    status: int = 200
    #: Variant -> path, for other paths than the one of the variant's route.
    paths: dict = dataclasses.field(default_factory=dict)
    #: Variants whose requests carry a large body.
    uploads: frozenset = frozenset()
    #: The backend: nginx answers HTTP/1.1 cheapest; our own takes and gives any body.
    echo: bool = False
    #: Whether the clients also ask the backend itself.
    direct: bool = False
    #: Whether the plot shows it.
    plotted: bool = True


BODY = 10 * 1024 * 1024

SCENARIOS = {
    "plain": Scenario(
        "HTTP/1.1, keep-alive, no policy",
        {"": Features()},
        ("saturate", "steady", "latency"),
        direct=True,
    ),
    "policies": Scenario(
        "limit per client, caps and breaker, canary 90/10 with a header match, access log, metrics",
        {"": Features(limit="never", breaker=True, canary=True, log=True)},
        ("saturate", "steady", "latency"),
        direct=True,
    ),
    "log": Scenario("access log", {"": Features(log=True)}, ("saturate", "steady")),
    "canary": Scenario("canary 90/10 with a header match", {"": Features(canary=True)}, ("saturate",)),
    "refused": Scenario(
        "requests beyond a limit (429)",
        {"": Features(limit="trips")},
        ("saturate",),
        status=429,
    ),
    "h2c": Scenario(
        "HTTP/2 without TLS on both sides",
        {"": Features(http2=True)},
        ("saturate", "steady", "latency"),
        echo=True,
        direct=True,
    ),
    "grpc": Scenario(
        "gRPC, unary",
        {"": Features(http2=True, grpc=True)},
        ("saturate", "steady", "latency"),
        echo=True,
        direct=True,
    ),
    "tls": Scenario("TLS 1.3 ended here, keep-alive", {"": Features(tls=True)}, ("saturate",)),
    "churn": Scenario("a new connection per request", {"": Features()}, ("churn",)),
    "churn-tls": Scenario(
        "a new TLS 1.3 connection per request",
        {"": Features(tls=True)},
        ("churn",),
    ),
    "tracing": Scenario(
        "tracing",
        {"off": Features(), "1 %": Features(traced=1), "100 %": Features(traced=100)},
        ("saturate", "steady"),
        plotted=False,
    ),
    "plugin": Scenario(
        "a plugin that adds a header each way",
        {"without": Features(plugin=False), "with": Features(plugin=True)},
        ("saturate", "steady"),
        plotted=False,
    ),
    "routes": Scenario(
        "one of many routes",
        {"10": Features(routes=10), "1000": Features(routes=1_000), "10000": Features(routes=10_000)},
        ("saturate",),
        plotted=False,
    ),
    "bodies": Scenario(
        "bodies of 10 MiB",
        {"down": Features(), "up": Features()},
        ("saturate",),
        paths={"down": f"/bytes/{BODY}"},
        uploads=frozenset({"up"}),
        echo=True,
        plotted=False,
    ),
    "life": Scenario(
        "start, rest, 1 000 idle connections",
        {"": Features()},
        ("life",),
        plotted=False,
    ),
}
