"""kubernetes.Applier: manifests that last as long as their test."""

from __future__ import annotations

from typing import Any

from ..cluster.cluster import Cluster
from ..golang import types as go
from ..golib.testing import T
from .client import Client


class Applier:
    def __init__(self, cluster: Cluster, client: Client) -> None:
        self.cluster = cluster
        self.client = client

    def MustApplyWithCleanup(self, t: T, _client: Any, _config: Any, location: str, cleanup: bool) -> None:
        for manifest in self.cluster.manifests(location):
            self.cluster.apply(manifest)
            if cleanup:
                key = self.cluster.store.key(manifest)
                t.Cleanup(lambda key=key: self.cluster.delete(key))

    def MustApplyObjectsWithCleanup(
        self, t: T, _client: Any, _config: Any, resources: list[go.Ref], cleanup: bool
    ) -> None:
        for resource in resources:
            error = self.client.Create(None, resource)
            if error is not None and error.kind != "already exists":
                t.Fatalf("error creating resource: %v", error)
            if cleanup:
                t.Cleanup(lambda resource=resource: self.client.Delete(None, resource))
