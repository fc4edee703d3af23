"""The objects of the emulated cluster: what an API server stamps on them, and their files in the policies' folder."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator, Optional

Manifest = dict[str, Any]
Key = tuple[str, str, str]

CLUSTER_SCOPED = {"Namespace", "GatewayClass"}
#: What no mesh reads: pods are known by EndpointSlices.
UNWRITTEN = {"Deployment", "Pod", "ReplicaSet"}
_SPECLESS = {"Secret", "ConfigMap", "EndpointSlice"}


class Store:
    def __init__(self, folder: Path, status_file: Path) -> None:
        self.folder = folder
        self.status_file = status_file
        self.objects: dict[Key, Manifest] = {}
        self.version = 0
        self.lock = threading.RLock()
        self.status_read: tuple[Any, dict[Key, Any]] = (None, {})
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def key(manifest: Manifest) -> Key:
        kind = manifest["kind"]
        namespace = "" if kind in CLUSTER_SCOPED else manifest["metadata"].get("namespace") or "default"
        return kind, namespace, manifest["metadata"]["name"]

    def put(self, manifest: Manifest) -> None:
        """Creates or replaces an object. Its generation counts the changes of what is not metadata."""
        with self.lock:
            manifest = copy.deepcopy(manifest)
            key = self.key(manifest)
            metadata = manifest["metadata"]
            before = self.objects.get(key)
            if key[1]:
                metadata["namespace"] = key[1]
            manifest.pop("status", None)
            if before is None:
                metadata["uid"] = str(uuid.uuid4())
                metadata["creationTimestamp"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
                metadata["generation"] = 1
            else:
                for name in ("uid", "creationTimestamp"):
                    metadata[name] = before["metadata"][name]
                same = content(before) == content(manifest)
                metadata["generation"] = before["metadata"]["generation"] + (0 if same else 1)
            self.version += 1
            metadata["resourceVersion"] = str(self.version)
            self.objects[key] = manifest
            self.write(key, manifest)

    def remove(self, key: Key) -> bool:
        with self.lock:
            if self.objects.pop(key, None) is None:
                return False
            self.path(key).unlink(missing_ok=True)
            return True

    def get(self, key: Key) -> Optional[Manifest]:
        """With the status that the mesh gives it."""
        with self.lock:
            found = copy.deepcopy(self.objects.get(key))
        if found is not None and "status" not in found:
            status = self.statuses().get(key)
            if status is not None:
                found["status"] = status
        return found

    def list(self, kind: str, namespace: Optional[str] = None) -> Iterator[Manifest]:
        for key in sorted(self.objects):
            if key[0] == kind and namespace in (None, "", key[1]):
                found = self.get(key)
                if found is not None:
                    yield found

    def path(self, key: Key) -> Path:
        """Names of objects may be as long as those of files."""
        name = "_".join(part for part in key if part)
        return self.folder / f"{name[:120]}-{hashlib.sha1(name.encode()).hexdigest()[:8]}.json"

    def write(self, key: Key, manifest: Manifest) -> None:
        if key[0] in UNWRITTEN:
            return
        fresh = self.folder / f".{uuid.uuid4()}"
        fresh.write_text(json.dumps(manifest, indent=1))
        os.replace(fresh, self.path(key))

    def statuses(self) -> dict[Key, Any]:
        try:
            stamp = os.stat(self.status_file)
        except FileNotFoundError:
            return {}
        mark = (stamp.st_ino, stamp.st_mtime_ns)
        if self.status_read[0] != mark:
            items = json.loads(self.status_file.read_text()).get("items", [])
            self.status_read = (mark, {self.key(item): item.get("status") for item in items})
        return self.status_read[1]


def content(manifest: Manifest) -> Manifest:
    kept = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    if manifest["kind"] in _SPECLESS:
        return {}
    return kept
