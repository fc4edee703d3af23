"""The emulated cluster: `apply` and `delete` as kubectl would have it, around one real `tidegate run`."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any, Optional

import yaml

from ..network import GATEWAYS, Network
from .mesh import Mesh
from .process import Options, Process, gateway_arguments
from .store import Key, Manifest, Store
from .workloads import Workloads

GATEWAY_CLASS = "gateway-conformance"
CONTROLLER = "gateway-conformance.tidegate.io/controller"


class Cluster:
    def __init__(self, suite: Path, work: Path, network: Network, options: Options) -> None:
        self.suite = suite
        self.network = network
        self.store = Store(work / "policies", work / "status.json")
        self.workloads = Workloads(self.store, network)
        self.gateway_addresses: dict[Key, str] = {}
        self.usable = network.address(GATEWAYS)
        self.unusable = "192.0.2.1"  # TEST-NET-1: an address that no machine has.
        self.options = options
        self.work = work
        self.process = Process(work / "tidegate.log", gateway_arguments(options, self.store, network))
        self.mesh = Mesh(self)

    def start(self) -> None:
        self.apply({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": GATEWAY_CLASS}, "spec": {"controllerName": CONTROLLER},
        })
        self.process.start()
        due = time.monotonic() + 20
        while not self.store.statuses():
            if time.monotonic() > due or self.process.has_ended():
                raise RuntimeError(f"tidegate did not write its status; see {self.process.log}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.mesh.stop()
        self.process.stop()

    # Manifests --------------------------------------------------------------------------------------------------------

    def manifests(self, location: str) -> list[Manifest]:
        """A file of the suite, with its placeholders filled in."""
        text = (self.suite / "conformance" / location).read_text()
        return [self.prepared(document) for document in yaml.safe_load_all(text) if document]

    def prepared(self, manifest: Manifest) -> Manifest:
        kind, spec = manifest["kind"], manifest.get("spec", {})
        if kind == "GatewayClass":
            spec["controllerName"] = CONTROLLER
        if kind == "Gateway":
            spec["gatewayClassName"] = GATEWAY_CLASS
            if "addresses" in spec:
                spec["addresses"] = self.overlaid(spec["addresses"])
        return manifest

    def overlaid(self, addresses: list[dict[str, str]]) -> list[dict[str, str]]:
        values = [address.get("value") for address in addresses]
        found = [address for address in addresses if address.get("type") == "test/fake-invalid-type"]
        if "PLACEHOLDER_UNUSABLE_ADDRS" in values:
            found.append({"type": "IPAddress", "value": self.unusable})
        if "PLACEHOLDER_USABLE_ADDRS" in values:
            found.append({"type": "IPAddress", "value": self.usable})
        return found or addresses

    def apply(self, manifest: Manifest) -> None:
        manifest = copy.deepcopy(manifest)
        kind = manifest["kind"]
        key = Store.key(manifest)
        if kind == "Service":
            manifest = self.workloads.serve(manifest)
        if kind == "Gateway":
            self.place(key, manifest)
        self.store.put(manifest)
        if kind == "Service":
            self.workloads.refresh()
        if kind == "Deployment":
            self.workloads.deploy(self.store.objects[key])

    def place(self, key: Key, gateway: Manifest) -> None:
        """What a load balancer would do: an address of its own for each Gateway that asks for none."""
        if not gateway["spec"].get("addresses"):
            address = self.gateway_addresses.setdefault(key, self.network.address(GATEWAYS))
            gateway["spec"]["addresses"] = [{"type": "IPAddress", "value": address}]

    def delete(self, key: Key) -> bool:
        if key[0] == "Deployment":
            self.workloads.undeploy(key[1], key[2])
        removed = self.store.remove(key)
        if key[0] == "Service":
            self.store.remove(("EndpointSlice", key[1], f"{key[2]}-auto"))
        if key[0] == "Namespace":
            for inner in [each for each in self.store.objects if each[1] == key[2]]:
                self.delete(inner)
        return removed

    def service(self, namespace: str, name: str) -> Optional[Manifest]:
        return self.store.objects.get(("Service", namespace, name))

    def status_of(self, key: Key) -> Any:
        return self.store.statuses().get(key)
