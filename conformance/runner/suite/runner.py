"""Runs the suite's tests on one emulated cluster, by the suite's own code."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cluster.cluster import CONTROLLER, GATEWAY_CLASS, Cluster
from ..cluster.process import Options
from ..golang import types as go
from ..golang.faults import GoError, GoPanic
from ..golib.collections import Set
from ..golib.testing import T
from ..network import Network
from . import certificates
from .applier import Applier
from .client import Client
from .features import UNSUPPORTED
from .natives import SUITE, UTILS, program
from .roundtrip import RoundTripper
from .websocket import Dialer

#: Seconds. Shorter than the suite's own, which are for clouds: what is not so within these fails here.
CONSISTENT, OBSERVED, REQUEST = 10, 10, 10
_WAITS = (
    "GatewayMustHaveAddress", "GatewayMustHaveCondition", "GatewayStatusMustHaveListeners",
    "GatewayListenersMustHaveConditions", "ListenerSetMustHaveCondition", "ListenerSetListenersMustHaveConditions",
    "GWCMustBeAccepted", "HTTPRouteMustNotHaveParents", "HTTPRouteMustHaveCondition", "TLSRouteMustHaveCondition",
    "TCPRouteMustHaveCondition", "UDPRouteMustHaveCondition", "RouteMustHaveParents", "NamespacesMustBeReady",
    "LatestObservedGenerationSet",
)
_BASES = {"Gateway": "base/manifests.yaml", "Mesh": "mesh/manifests.yaml"}


@dataclass
class Result:
    name: str
    features: list[str]
    provisional: bool
    outcome: str  # passed, failed or skipped
    reason: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class Clientset:
    """Only handed on; pods are reached otherwise here."""

    def CoreV1(self) -> "Clientset":
        return self

    def RESTClient(self) -> "Clientset":
        return self


class Suite:
    """confsuite.ConformanceTestSuite, as far as tests look into it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.Client = Client(cluster)
        self.program = program(cluster, self.Client)
        config = self.program.load(f"{UTILS}/config")
        timeouts = config.member("DefaultTimeoutConfig")()
        timeouts.fields.update({name: OBSERVED * 10**9 for name in _WAITS})
        timeouts.fields.update(MaxTimeToConsistency=CONSISTENT * 10**9, RequestTimeout=REQUEST * 10**9)
        self.TimeoutConfig = timeouts
        self.RoundTripper = RoundTripper(cluster.network, self.program.load(f"{UTILS}/roundtripper"), REQUEST)
        self.Applier = Applier(cluster, self.Client)
        self.WebSocketDialer = Dialer(cluster.network)
        self.Clientset = Clientset()
        self.RestConfig = None
        self.GRPCClient = None
        self.ControllerName = CONTROLLER
        self.GatewayClassName = GATEWAY_CLASS
        self.CleanupTestResources = True
        address = self.program.load(f"{SUITE}/apis/v1").member("GatewaySpecAddress")
        self.UsableNetworkAddresses = [net_address(address, cluster.usable)]
        self.UnusableNetworkAddresses = [net_address(address, cluster.unusable)]
        every = self.program.load(f"{SUITE}/pkg/features").member("AllFeatures")
        self.SupportedFeatures = Set(*(each.fields["Name"] for each in every)).Difference(set(UNSUPPORTED))
        self.deployed: set[str] = set()

    def tests(self) -> dict[str, go.Value]:
        found = self.program.load(f"{SUITE}/conformance/tests").member("ConformanceTests")
        return {test.fields["ShortName"]: test for test in found}

    def prepare(self, test: go.Value) -> None:
        """The base manifests of what the test is about, once."""
        for base in _BASES.keys() & set(test.fields["Features"]):
            if base in self.deployed:
                continue
            self.deployed.add(base)
            made = certificates.suite_objects() if base == "Gateway" else []
            for manifest in [*made, *self.cluster.manifests(_BASES[base])]:
                self.cluster.apply(manifest)

    def run(self, test: go.Value) -> Result:
        fields = test.fields
        result = Result(fields["ShortName"], list(fields["Features"]), fields["Provisional"], "passed")
        missing = [name for name in fields["Features"] if name in UNSUPPORTED]
        if missing:
            result.outcome, result.reason = "skipped", f"{missing[0]}: {UNSUPPORTED[missing[0]]}"
            return result
        begun = time.monotonic()
        t = T(result.name)
        try:
            self.prepare(test)
            t.execute(lambda: self.body(test, t))
            if t.failed:
                result.outcome = "failed"
            elif t.skipped:
                result.outcome, result.reason = "skipped", t.skipped
        except (GoError, GoPanic) as error:
            result.outcome, result.reason = "skipped", f"the runner cannot execute it: {error}"
            result.log = traceback.format_exc().splitlines()[-12:]
        except Exception as error:  # noqa: BLE001 - a fault of the runner is no verdict on the mesh
            result.outcome, result.reason = "skipped", f"the runner failed: {type(error).__name__}: {error}"
            result.log = traceback.format_exc().splitlines()[-12:]
        result.seconds = round(time.monotonic() - begun, 2)
        collect(t, result)
        return result

    def body(self, test: go.Value, t: T) -> None:
        for location in test.fields["Manifests"] or []:
            self.Applier.MustApplyWithCleanup(t, self.Client, self.TimeoutConfig, location, True)
        test.fields["Test"](t, self)


def net_address(kind: go.Struct, value: str) -> go.Value:
    made = kind.zero()
    made.fields.update(Type=go.Cell.holding("IPAddress"), Value=value)
    return made


def collect(t: T, result: Result) -> None:
    for fault in t.faults:
        result.faults.append(f"{t.name}: {fault}")
    if t.faults:
        result.log += t.logs[-8:]
    for inner in t.subtests:
        collect(inner, result)


def start(suite: Path, work: Path, binary: Path) -> Suite:
    network = Network.claimed(20000)
    folder = work / str(network.number)
    cluster = Cluster(suite, folder, network, Options(binary, GATEWAY_CLASS, CONTROLLER))
    cluster.start()
    return Suite(cluster)
