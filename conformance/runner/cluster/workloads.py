"""What a cluster makes of Deployments and Services: pods that answer, addresses, EndpointSlices."""

from __future__ import annotations

import base64
import copy
import uuid
from typing import Any, Optional

from ..echo.answers import Pod
from ..echo.server import EchoServer, Identity, Port
from ..network import PODS, SERVICES, Network
from .store import Manifest, Store


class Workloads:
    def __init__(self, store: Store, network: Network) -> None:
        self.store = store
        self.network = network
        self.server = EchoServer()
        self.pods: dict[tuple[str, str], list[Pod]] = {}

    # Deployments ------------------------------------------------------------------------------------------------------

    def deploy(self, deployment: Manifest) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        namespace, name = metadata["namespace"], metadata["name"]
        if (namespace, name) in self.pods:
            return
        container = spec["template"]["spec"]["containers"][0]
        image = container.get("image", "")
        if "echo-basic" not in image and "echo-advanced" not in image:
            return
        labels = spec["template"]["metadata"]["labels"]
        made = []
        for _ in range(spec.get("replicas", 1)):
            suffix = uuid.uuid4().hex
            pod = Pod(f"{name}-{suffix[:9]}-{suffix[9:14]}", namespace, self.network.address(PODS), labels)
            self.server.start(pod, self.ports(namespace, image, spec["template"]["spec"]))
            self.store.put(pod_manifest(pod))
            self.store.objects["Pod", namespace, pod.name]["status"] = pod_status(pod)
            made.append(pod)
        self.pods[namespace, name] = made
        self.refresh()

    def undeploy(self, namespace: str, name: str) -> None:
        for pod in self.pods.pop((namespace, name), []):
            self.server.stop(pod)
            self.store.remove(("Pod", namespace, pod.name))
        self.refresh()

    def ports(self, namespace: str, image: str, spec: dict[str, Any]) -> list[Port]:
        """What the image listens on, by its environment."""
        if "echo-advanced" in image:
            return [Port(8080, "http"), Port(7070, "grpc"), Port(9090, "tcp")]
        env = {each["name"]: each.get("value", "") for each in spec["containers"][0].get("env", [])}
        key = env.get("TLS_SERVER_PRIVKEY") or env.get("TLS_SERVER_PRIV_KEY")
        identity = None
        if env.get("TLS_SERVER_CERT") and key:
            files = self.mounted(namespace, spec)
            identity = Identity(
                files[env["TLS_SERVER_CERT"]], files[key], files.get(env.get("TLS_CLIENT_CACERTS", ""), b"")
            )
        for kind in ("GRPC", "TCP"):
            if env.get(f"{kind}_ECHO_SERVER"):
                speaks = kind.lower()
                return [Port(3000, speaks)] + ([Port(8443, speaks, identity)] if identity else [])
        return [Port(3000, "http"), Port(3001, "h2c")] + ([Port(8443, "http", identity)] if identity else [])

    def mounted(self, namespace: str, spec: dict[str, Any]) -> dict[str, bytes]:
        """Files of the pod, by path."""
        mounts = {each["name"]: each["mountPath"] for each in spec["containers"][0].get("volumeMounts", [])}
        files: dict[str, bytes] = {}
        for volume in spec.get("volumes", []):
            secret, config = volume.get("secret"), volume.get("configMap")
            source = ("Secret", namespace, secret["secretName"]) if secret else ("ConfigMap", namespace, config["name"])
            data = self.store.objects[source]["data"]
            for item in (secret or config).get("items", []):
                value = data[item["key"]]
                files[f"{mounts[volume['name']]}/{item['path']}"] = (
                    base64.b64decode(value) if secret else value.encode()
                )
        return files

    # Services ---------------------------------------------------------------------------------------------------------

    def serve(self, service: Manifest) -> Manifest:
        """Gives a Service its address."""
        service = copy.deepcopy(service)
        before = self.store.objects.get(Store.key(service))
        spec = service["spec"]
        if "clusterIP" not in spec:
            spec["clusterIP"] = before["spec"]["clusterIP"] if before else self.network.address(SERVICES)
            spec["clusterIPs"] = [spec["clusterIP"]]
        spec.setdefault("type", "ClusterIP")
        for port in spec.get("ports", []):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
        return service

    def refresh(self) -> None:
        """Writes the EndpointSlice of every Service with a selector."""
        for service in list(self.store.list("Service")):
            selector = service["spec"].get("selector")
            key = ("EndpointSlice", service["metadata"]["namespace"], f"{service['metadata']['name']}-auto")
            if not selector:
                continue
            slice_ = endpoint_slice(service, self.selected(service["metadata"]["namespace"], selector), key[2])
            before = self.store.objects.get(key)
            if before is None or before["endpoints"] != slice_["endpoints"] or before["ports"] != slice_["ports"]:
                self.store.put(slice_)

    def selected(self, namespace: str, selector: dict[str, str]) -> list[Pod]:
        return [
            pod
            for (there, _), pods in self.pods.items()
            for pod in pods
            if there == namespace and selector.items() <= pod.labels.items()
        ]

    def pod(self, namespace: str, name: str) -> Optional[Pod]:
        every = (pod for pods in self.pods.values() for pod in pods)
        return next((pod for pod in every if pod.namespace == namespace and pod.name == name), None)


def pod_manifest(pod: Pod) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "labels": pod.labels},
        "spec": {"nodeName": "node"},
    }


def pod_status(pod: Pod) -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": pod.address,
        "podIPs": [{"ip": pod.address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }


def endpoint_slice(service: Manifest, pods: list[Pod], name: str) -> Manifest:
    metadata = service["metadata"]
    ports = []
    for port in service["spec"].get("ports", []):
        entry = {"name": port.get("name", ""), "protocol": port["protocol"], "port": port["targetPort"]}
        if "appProtocol" in port:
            entry["appProtocol"] = port["appProtocol"]
        ports.append(entry)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {"kubernetes.io/service-name": metadata["name"]},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [
            {
                "addresses": [pod.address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
            }
            for pod in pods
        ],
    }
