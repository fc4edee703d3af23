"""What Python stands for in the suite: the packages of others that it imports, and the few functions of its own that
reach for the network or the API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..cluster.cluster import Cluster
from ..golang import types as go
from ..golang.program import Program
from ..golib import clock, collections, errors, net, testing, text, threads
from ..golib.testing import T
from . import certificates, grpc_client
from .client import Client, echo_logs, packages as client_packages
from .mesh_client import requester
from .websocket import Message, WebSocket

SUITE = "sigs.k8s.io/gateway-api"
UTILS = f"{SUITE}/conformance/utils"
DECLARATIONS = Path(__file__).parent.parent / "decls"


def program(cluster: Cluster, client: Client) -> Program:
    natives: dict[str, dict[str, Any]] = {}
    for packages in (
        errors.PACKAGES, text.PACKAGES, collections.PACKAGES, clock.PACKAGES, threads.PACKAGES, testing.PACKAGES,
        net.packages(cluster.network), grpc_client.PACKAGES, client_packages(client, cluster),
        {"golang.org/x/net/websocket": {"Message": Message, "Conn": WebSocket}, "k8s.io/client-go/rest": {}},
    ):
        natives.update(packages)
    made = Program({SUITE: cluster.suite}, DECLARATIONS, natives, {})
    key_of = natives["sigs.k8s.io/controller-runtime/pkg/client"]
    plain = key_of["ObjectKeyFromObject"]
    key_of["ObjectKeyFromObject"] = lambda target: plain(target, made.load)
    key_of["ObjectKey"] = made.load("k8s.io/apimachinery/pkg/types").member("NamespacedName")
    made.replaced = replacements(cluster, made)
    return made


def replacements(cluster: Cluster, made: Program) -> dict[str, dict[str, Any]]:
    def config_map(_t: T, namespace: str, name: str) -> tuple[Any, Any, Any]:
        issuer = certificates.authority()
        written = certificates.ca_config_map(namespace, name, issuer)
        kind = made.load("k8s.io/api/core/v1").member("ConfigMap")
        return go.Ref(net.decode(written, kind)), issuer.certificate, issuer.key

    def parents_field(_t: T, route: go.Ref) -> str:
        return route.get().type.name  # type: ignore[no-any-return]

    return {
        f"{UTILS}/kubernetes": {
            "DumpEchoLogs": echo_logs(cluster),
            "MustCreateCACertConfigMap": config_map,
            "RouteTypeMustHaveParentsField": parents_field,
        },
        f"{UTILS}/grpc": grpc_client.replaced(cluster.network, made.load),
        f"{UTILS}/echo": {"MeshPod.request": requester(cluster, made.load)},
    }
