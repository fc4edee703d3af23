"""controller-runtime's client, on the emulated cluster."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Optional

from ..cluster.cluster import Cluster
from ..cluster.store import CLUSTER_SCOPED, Manifest
from ..golang import types as go
from ..golib.clock import Time
from ..golib.errors import Error
from ..golib.objects import decode, encode

#: Of the kinds that are not the Gateway API's: a Go value does not say.
_API_VERSIONS = {
    "ConfigMap": "v1", "Secret": "v1", "Namespace": "v1", "Service": "v1", "EndpointSlice": "discovery.k8s.io/v1",
}


@dataclass
class ListOptions:
    Namespace: str = ""
    LabelSelector: Optional[dict[str, str]] = None


@dataclass
class MatchingLabelsSelector:
    Selector: dict[str, str]

    Namespace = ""

    @property
    def LabelSelector(self) -> dict[str, str]:
        return self.Selector


@dataclass
class MergeFrom:
    original: Manifest = field(default_factory=dict)


class Client:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def Get(self, _context: Any, name: go.Value, target: go.Ref, *_options: Any) -> Optional[Error]:
        kind = target.get().type
        namespace = "" if kind.name in CLUSTER_SCOPED else name.fields["Namespace"]
        found = self.cluster.store.get((kind.name, namespace, name.fields["Name"]))
        if found is None:
            return Error(f'{kind.name} "{name.fields["Name"]}" not found', kind="not found")
        target.set(decode(found, kind))
        return None

    def List(self, _context: Any, target: go.Ref, *options: Any) -> Optional[Error]:
        value = target.get()
        item = value.type.fields["Items"].type.element
        namespace, labels = "", {}
        for option in options:
            option = option.get() if hasattr(option, "get") and not isinstance(option, dict) else option
            namespace = option.Namespace or namespace
            labels = option.LabelSelector or labels
        value.fields["Items"] = [
            decode(found, item)
            for found in self.cluster.store.list(item.name, namespace)
            if labels.items() <= (found["metadata"].get("labels") or {}).items()
        ]
        return None

    def manifest(self, target: Any) -> Manifest:
        written: Manifest = encode(target)
        written["kind"] = target.get().type.name
        if written["kind"] in CLUSTER_SCOPED:
            written["metadata"].pop("namespace", None)
        written.setdefault("apiVersion", self.api_version(written))
        return written

    def api_version(self, written: Manifest) -> str:
        before = self.cluster.store.objects.get(self.cluster.store.key(written))
        return before["apiVersion"] if before else _API_VERSIONS.get(written["kind"], "gateway.networking.k8s.io/v1")

    def stored(self, target: Any) -> Optional[Error]:
        written = self.manifest(target)
        self.cluster.apply(written)
        kind = target.get().type
        target.set(decode(self.cluster.store.get(self.cluster.store.key(written)), kind))
        return None

    def Create(self, _context: Any, target: Any, *_options: Any) -> Optional[Error]:
        key = self.cluster.store.key(self.manifest(target))
        if key in self.cluster.store.objects:
            return Error(f"{key[0]} {key[2]} already exists", kind="already exists")
        return self.stored(target)

    def Update(self, _context: Any, target: Any, *_options: Any) -> Optional[Error]:
        return self.stored(target)

    def Patch(self, _context: Any, target: Any, patch: MergeFrom, *_options: Any) -> Optional[Error]:
        """A merge patch: what differs between the original and the target, on what the server has."""
        written = self.manifest(target)
        key = self.cluster.store.key(written)
        current = self.cluster.store.objects.get(key)
        if current is None:
            return Error(f"{key[0]} {key[2]} not found", kind="not found")
        self.cluster.apply(merged(current, difference(patch.original, written)))
        target.set(decode(self.cluster.store.get(key), target.get().type))
        return None

    def Delete(self, _context: Any, target: Any, *_options: Any) -> Optional[Error]:
        key = self.cluster.store.key(self.manifest(target))
        return None if self.cluster.delete(key) else Error(f"{key[0]} {key[2]} not found", kind="not found")


def difference(before: Any, after: Any) -> Any:
    """RFC 7396."""
    patch: dict[str, Any] = {}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(before[key], dict):
            inner = difference(before[key], value)
            if inner:
                patch[key] = inner
        elif value != before[key]:
            patch[key] = value
    patch.update({key: None for key in before if key not in after})
    return patch


def merged(current: Any, patch: Any) -> Any:
    found = copy.deepcopy(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value) if isinstance(value, dict) else value
    return found


def packages(client: Client, cluster: Cluster) -> dict[str, dict[str, Any]]:
    def key_of(target: Any, load: Any) -> go.Value:
        metadata = encode(target)["metadata"]
        made = load("k8s.io/apimachinery/pkg/types").member("NamespacedName").zero()
        made.fields.update(Name=metadata["name"], Namespace=metadata.get("namespace", ""))
        return made  # type: ignore[no-any-return]

    return {
        "sigs.k8s.io/controller-runtime/pkg/client": {
            "InNamespace": lambda name: ListOptions(Namespace=name),
            "MatchingLabelsSelector": MatchingLabelsSelector,
            "ListOptions": ListOptions,
            "MergeFrom": lambda original: MergeFrom(client.manifest(original)),
            "ObjectKeyFromObject": key_of,
            "Client": Client,
            "Object": go.Interface([]),
        },
        "k8s.io/apimachinery/pkg/labels": {
            "SelectorFromSet": dict,
            "Parse": lambda text: (dict(pair.split("=") for pair in text.split(",")), None),
        },
    }


def echo_logs(cluster: Cluster) -> Any:
    """kubernetes.DumpEchoLogs."""

    def dump(_context: Any, namespace: str, app: str, _client: Any, _set: Any, since: Time) -> tuple[Any, Any]:
        lines: list[str] = []
        for pod in cluster.workloads.selected(namespace, {"app": app}):
            lines += pod.log.since(since.seconds)
        return lines, None

    return dump


